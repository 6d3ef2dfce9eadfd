"""The encoders of a prompt: one for each kind of question, number of demonstrations and language."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from arc_experiments.pictures.writer import PictureWriter
from arc_experiments.prompts.chat import Chat
from arc_experiments.prompts.encoding import Encoder, tokenize
from arc_experiments.prompts.grid_text import GridText
from arc_experiments.prompts.kinds import Kind
from arc_experiments.prompts.templates import Template
from arc_experiments.prompts.tokens import TokenTable
from arc_experiments.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Encoders:
    """Makes each encoder when it is first asked for.

    Args:
        languages: what {language} becomes in a template, by language.
        language: of the programs that are asked for where a task's own is unknown; None: unknown.
        learns_demonstrations: whether all demonstrations but the first have a loss, too.
        pictures: writes the pictures of templates that have some.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        grid: GridText,
        chat: Chat,
        templates: Mapping[Kind, Template],
        languages: Mapping[str, str],
        *,
        language: str | None,
        learns_demonstrations: bool,
        pictures: PictureWriter | None = None,
    ) -> None:
        self._tokenizer, self._grid, self._chat, self._templates = tokenizer, grid, chat, templates
        self._languages, self._language = dict(languages), language
        self._learns_demonstrations, self._pictures = learns_demonstrations, pictures
        self.table = TokenTable(grid, partial(tokenize, tokenizer))
        self._made: dict[tuple[Kind, int, str], Encoder] = {}

    def of(self, task: Task, kind: Kind) -> Encoder:
        """Return the encoder for a question about this task.

        Raises:
            ValueError: the question names the language of the program, which is unknown or has no text.
        """
        template = self._templates[kind]
        said = ""
        if template.names_language:
            said = self._said_of(self.language if task.program is None else task.program.language)
        num_demonstrations = len(task.train) if template.demonstration else 0
        key = (kind, num_demonstrations, said)
        if key not in self._made:
            self._made[key] = Encoder(
                prompt=self._chat.around(template.write_prompt(num_demonstrations, self._chat.end, said)),
                answer=template.write_answer(),
                learnt=template.learnt if self._learns_demonstrations else None,
                grid_text=self._grid,
                table=self.table,
                tokenizer=self._tokenizer,
                end_id=self._chat.end_id,
                end=self._chat.end,
                pictures=self._pictures,
            )
        return self._made[key]

    @property
    def language(self) -> str:
        """Return the language of the programs that are asked for where a task's own is unknown.

        Raises:
            ValueError: nobody said which.
        """
        if self._language is None:
            raise ValueError(
                "prompt.language=null: a program is asked for, and the data's programs do not say in which "
                f"language: name one of {', '.join(self._languages)}"
            )
        return self._language

    def _said_of(self, language: str) -> str:
        if language not in self._languages:
            raise ValueError(
                f"prompt.languages has no text for {language}, the language of a task's program: "
                f"+prompt.languages.{language}=... says what is expected"
            )
        return self._languages[language]
