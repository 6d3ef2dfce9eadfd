"""The turns of a chat around a prompt, as the model's chat template writes them."""

from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from arc_experiments.prompts.templates import PICTURE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Some chat templates (Llama 3's) write today's date into the prompt, which must not change from day to day.
# They take it from `date_string`, or from a clock function, which a macro of the same name overrides.
TEMPLATE_DATE = "26 Jul 2024"
NO_CLOCK = f"{{% macro strftime_now(format) %}}{TEMPLATE_DATE}{{% endmacro %}}"


def render(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], *, add_generation_prompt: bool
) -> str:
    """Write a conversation with the tokenizer's chat template, independently of the date.

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


def render_parts(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], *, add_generation_prompt: bool
) -> str:
    """Write a conversation whose contents are lists of parts, of text and pictures.

    Some templates want the system text as a string all the same, and some leave out what they do not expect.

    Raises:
        TemplateError: the template refuses these turns, or leaves out a text of theirs.
    """
    texts = [part["text"] for each in messages for part in each["content"] if part["type"] == "text"]
    refusals: list[str] = []
    for strings in ((), ("system",)):
        typed = [
            {**each, "content": "".join(part.get("text", "") for part in each["content"])}
            if each["role"] in strings
            else each
            for each in messages
        ]
        try:
            written = render(tokenizer, typed, add_generation_prompt=add_generation_prompt)
        except TemplateError as error:
            refusals.append(str(error))
            continue
        lost = next((text for text in texts if text.strip() not in written), None)
        if lost is None:
            return written
        refusals.append(f"it leaves out {lost[:40]!r}")
    raise TemplateError(refusals[0])


class Chat:
    """Wraps the user's text in the tokenizer's chat template, or in a begin token and the system text.

    Args:
        use_template: use the chat template if the tokenizer has one.
        placeholder: what chat templates write for a picture; None for a prompt without pictures.

    Attributes:
        end_id: the token that ends an answer: the chat template's end of turn, else the end of text.
        end: its text.

    Raises:
        ValueError: the tokenizer has no such token, or its chat template refuses these turns.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        system: str | None,
        use_template: bool,
        placeholder: str | None = None,
    ) -> None:
        self._tokenizer, self._system, self._placeholder = tokenizer, system, placeholder
        self._use_template = use_template and tokenizer.chat_template is not None
        self.end_id = self._find_end()
        self.end = str(tokenizer.decode([self.end_id]))

    def around(self, user: str) -> str:
        """Return the whole text up to where the model continues."""
        if self._use_template:
            text = self._render([("user", user)], add_generation_prompt=True)
            return text if self._placeholder is None else _with_marks(text, self._placeholder, user)
        begin = self._tokenizer.bos_token or ""
        return f"{begin}{self._system}\n\n{user}" if self._system else f"{begin}{user}"

    def _render(self, turns: list[tuple[str, str]], *, add_generation_prompt: bool) -> str:
        turns = [("system", self._system), *turns] if self._system else turns
        has_pictures = self._placeholder is not None
        write, content = (render_parts, _parts) if has_pictures else (render, str)
        messages = [{"role": role, "content": content(text)} for role, text in turns]
        try:
            return write(self._tokenizer, messages, add_generation_prompt=add_generation_prompt)
        except TemplateError as error:
            raise ValueError(
                f"the model's chat template refuses the prompt ({error}): some accept no system text, so "
                "try prompt.system=null, or switch the template off with prompt.chat=never"
            ) from error

    def _find_end(self) -> int:
        if self._use_template:
            answer = "\ue003"
            turns = [("user", "."), ("assistant", answer)]
            after = self._render(turns, add_generation_prompt=False).split(answer)[1].strip()
            if after:
                return int(self._tokenizer(after, add_special_tokens=False)["input_ids"][0])
        if self._tokenizer.eos_token_id is None:
            raise ValueError("model: its tokenizer has no end-of-text token, so no answer could ever end")
        return int(self._tokenizer.eos_token_id)


def _parts(text: str) -> list[dict[str, str]]:
    """Write a turn as parts of text and pictures."""
    texts = PICTURE.split(text)[::3]
    parts: list[dict[str, str]] = []
    for number, part in enumerate(texts):
        parts += [{"type": "image"}] if number else []
        parts += [{"type": "text", "text": part}] if part else []
    return parts


def _with_marks(rendered: str, placeholder: str, user: str) -> str:
    """Put the marks of pictures back where a chat template wrote a placeholder for each.

    Raises:
        ValueError: it wrote more or fewer.
    """
    marks = [match.group() for match in PICTURE.finditer(user)]
    texts = rendered.split(placeholder)
    if len(texts) != len(marks) + 1:
        raise ValueError(
            f"the model's chat template writes {len(texts) - 1} pictures of {len(marks)}: switch it off with "
            "prompt.chat=never"
        )
    return "".join(text + mark for text, mark in zip(texts, [*marks, ""], strict=True))
