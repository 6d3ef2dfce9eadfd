"""Templates: what a prompt says around its grids, for each kind of question, and in which turns of a chat."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from jinja2 import TemplateError

from arc_experiments.prompts.layout import TEST, Side, mark

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Kind = Literal["output_from_examples", "input_from_inputs", "output_from_outputs"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MAIN: Kind = "output_from_examples"  # the question of the benchmark; the others are for training beside it
# Some chat templates (Llama 3's) write today's date into the prompt, which must be the same tomorrow. They take it
# from `date_string`, or ask the clock by a function that only another of its name, in the template, keeps away.
TEMPLATE_DATE = "26 Jul 2024"
NO_CLOCK = f"{{% macro strftime_now(format) %}}{TEMPLATE_DATE}{{% endmacro %}}"


@dataclass(frozen=True, kw_only=True)
class Template:
    """The texts of one kind; {input}, {output} and {number} stand for grids and a demonstration's number, {end} for what
    ends an answer.
    """

    introduction: str
    demonstration: str
    question: str
    answer: str

    @property
    def asked(self) -> Side:
        """The side of a pair that is the answer."""
        return "output" if "{output}" in self.answer else "input"

    def write_prompt(self, num_demonstrations: int, end: str) -> str:
        """All but the answer, with marks where grids go."""
        demonstration = self.demonstration.replace("{end}", end)
        shown = [
            _mark(demonstration.replace("{number}", str(number + 1)), number)
            for number in range(num_demonstrations)
        ]
        return self.introduction + "".join(shown) + _mark(self.question, TEST)

    def write_answer(self) -> str:
        return _mark(self.answer, TEST)


def render(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], *, add_generation_prompt: bool
) -> str:
    """A conversation as the tokenizer's chat template writes it, the same on any day.

    Raises:
        TemplateError: the template refuses these turns.
    """
    text = tokenizer.apply_chat_template(
        messages,
        chat_template=NO_CLOCK + tokenizer.get_chat_template(),
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        date_string=TEMPLATE_DATE,
    )
    return str(text)


def _mark(text: str, pair: int) -> str:
    return text.replace("{input}", mark(pair, "input")).replace("{output}", mark(pair, "output"))


class Chat:
    """What stands around the user's text: the tokenizer's chat template, or a begin token and the system text.

    Args:
        use_template: where the tokenizer has a chat template.

    Attributes:
        end_id: the token that ends an answer: the chat template's end of turn, else the end of text.
        end: its text.

    Raises:
        ValueError: the tokenizer has no such token, or its chat template refuses these turns.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", *, system: str | None, use_template: bool
    ) -> None:
        self._tokenizer, self._system = tokenizer, system
        self._use_template = use_template and tokenizer.chat_template is not None
        self.end_id = self._find_end()
        self.end = str(tokenizer.decode([self.end_id]))

    def around(self, user: str) -> str:
        """The whole text up to where the model is to go on."""
        if self._use_template:
            return self._render([{"role": "user", "content": user}], add_generation_prompt=True)
        begin = self._tokenizer.bos_token or ""
        return f"{begin}{self._system}\n\n{user}" if self._system else f"{begin}{user}"

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        if self._system:
            messages = [{"role": "system", "content": self._system}, *messages]
        try:
            return render(self._tokenizer, messages, add_generation_prompt=add_generation_prompt)
        except TemplateError as error:
            raise ValueError(
                f"the model's chat template refuses the prompt ({error}): some take no system text, so try "
                "prompt.system=null, or do without the template by prompt.chat=never"
            ) from error

    def _find_end(self) -> int:
        if self._use_template:
            answer = "\ue002"
            turns = [{"role": "user", "content": "."}, {"role": "assistant", "content": answer}]
            after = self._render(turns, add_generation_prompt=False).split(answer)[1].strip()
            if after:
                return int(self._tokenizer(after, add_special_tokens=False)["input_ids"][0])
        if self._tokenizer.eos_token_id is None:
            raise ValueError("model: its tokenizer has no end-of-text token, so no answer could ever end")
        return int(self._tokenizer.eos_token_id)
