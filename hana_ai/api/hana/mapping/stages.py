"""The stages of a map that do no I/O: a row to a request, a reply to values. Everything here can be pickled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from string import Formatter
from typing import TYPE_CHECKING

import orjson

from hana_ai.api.errors import TogetherAIInputError, TogetherAIResponseError
from hana_ai.api.hana.mapping.shapes import Shape
from hana_ai.api.langchain.messages import chat_result
from hana_ai.api.wire.token_counts import Tokens, read_tokens

if TYPE_CHECKING:
    from hana_ai.api.wire.schemas import JSONObject

LONGEST_ERROR = 2000
"""Characters of an error that are kept."""

_UNKNOWN = Tokens()

Key = tuple[object, ...]


@dataclass(frozen=True)
class Prompt:
    """A template over columns, such as ``Is this about {TOPIC}? {TEXT}``.

    `{NAME}` is the column's value, a NULL an empty text; braces are doubled to stand for themselves.
    """

    template: str
    system: str | None = None

    def columns(self) -> tuple[str, ...]:
        """The columns that it names, each once.

        Raises
        ------
        TogetherAIInputError
            It is no template, or names none.
        """
        names: dict[str, None] = {}
        for text in (self.template, self.system or ""):
            try:
                fields = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
            except ValueError as exc:
                raise TogetherAIInputError(
                    f"The prompt is no template: {exc}. Write {{{{ and }}}} for braces that stand for themselves."
                ) from None
            names.update(dict.fromkeys(fields))
        if not names:
            raise TogetherAIInputError(
                "The prompt names no column, so every row would be asked the same. Write {COLUMN} "
                "where its value goes."
            )
        return tuple(names)

    def messages(self, row: Mapping[str, object]) -> list[dict[str, str]]:
        """The messages for a row."""
        values = {name: "" if value is None else str(value) for name, value in row.items()}
        said = [] if self.system is None else [{"role": "system", "content": _filled(self.system, values)}]
        return [*said, {"role": "user", "content": _filled(self.template, values)}]


def _filled(template: str, values: Mapping[str, str]) -> str:
    return "".join(
        text + (values[name] if name is not None else "") for text, name, _, _ in Formatter().parse(template)
    )


@dataclass(frozen=True)
class Answer:
    """What came of a row."""

    values: tuple[object, ...]
    """In the order of the shape's columns; all None where there is an error."""
    error: str | None
    tokens: Tokens = _UNKNOWN


@dataclass(frozen=True)
class RowTask:
    """What is asked about each row."""

    prompt: Prompt
    shape: Shape
    body: Mapping[str, object]
    """A request's fields but for its messages; the model among them."""

    @property
    def model(self) -> str:
        """The model that is asked."""
        return str(self.body["model"])

    @property
    def digest(self) -> str:
        """Tells this task from any other."""
        whole = [self.prompt.template, self.prompt.system, dict(self.body)]
        return hashlib.sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]

    def request(self, row: Mapping[str, object]) -> JSONObject:
        """The body of the request about a row."""
        return {**self.body, "messages": self.prompt.messages(row)}

    def read(self, data: object) -> Answer:
        """What a reply says."""
        tokens = read_tokens(data.get("usage") if isinstance(data, Mapping) else None)
        try:
            generation = chat_result(data, request_id=None, model=self.model).generations[0]
            values = self.shape.read(generation.text)
        except (TogetherAIResponseError, ValueError) as exc:
            message = str(exc)
            if isinstance(data, Mapping) and _finish_reason(data) == "length":
                message = f"the answer was cut off: raise max_tokens ({message})"
            return self.failed(message, tokens)
        return Answer(values, None, tokens)

    def failed(self, error: str, tokens: Tokens = _UNKNOWN) -> Answer:
        """What is kept of a row that failed."""
        return Answer((None,) * len(self.shape.columns), " ".join(error.split())[:LONGEST_ERROR], tokens)


def _finish_reason(data: Mapping[str, object]) -> object:
    choices = data.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("finish_reason") if isinstance(first, Mapping) else None


def custom_id(key: Key) -> str:
    """A name for a row in a batch, made of its key."""
    return "row-" + hashlib.sha256(orjson.dumps([_text(value) for value in key])).hexdigest()[:40]


def _text(value: object) -> list[str]:
    return [type(value).__name__, str(value)]


def check_columns(wanted: Sequence[str], there: Sequence[str], what: str) -> None:
    """Refuse columns that a source does not have.

    Raises
    ------
    TogetherAIInputError
        The message names those that are close.
    """
    for name in wanted:
        if name not in there:
            folded = {column.upper(): column for column in there}
            near = get_close_matches(name.upper(), list(folded), 1)
            advice = f"did you mean {folded[near[0]]}?" if near else f"there are: {', '.join(there)}."
            raise TogetherAIInputError(
                f"{what} names the column {name!r:.80}, which the source does not have; {advice}"
            )
