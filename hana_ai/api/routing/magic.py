"""`%%together` in notebooks: asks a model, and shows the answer as it is made."""

from __future__ import annotations

import difflib
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hana_ai.api.errors import TogetherAIError
from hana_ai.api.hana.searching import Found, searcher, source_lines, with_passages

if TYPE_CHECKING:
    from langchain_core.messages import AIMessageChunk, BaseMessage

    from hana_ai.api.together_ai import TogetherAIClient

NAME = "together"
_HANA_ML = "hana_ml.dataframe"
_BETWEEN_FLUSHES = 0.1
"""Seconds: each flush is a message of its own from the kernel to the page."""
_WORD = re.compile(r"""\s*(?:(--?[\w-]+)(?:=|\s+|$))""")
_VALUE = re.compile(r"""\s*("[^"]*"|'[^']*'|\S+)""")
_SHORT = {"-m": "--model", "-s": "--system", "-o": "--output", "-t": "--table"}

_HELP = """Ask a model; the answer appears as it is made.

    %%together [options]
    The prompt, in as many lines as it takes.

    %together [options] The prompt, in one line.

-m, --model NAME    A model or an endpoint; default: TOGETHER_DEFAULT_MODEL, else the catalogue's choice.
-s, --system TEXT   Instructions that come first.
-t, --table NAME    Answer from a vector table in SAP HANA, and show the passages.
--schema NAME       The table's; default: HANA_SCHEMA, else the user's own.
-k, --k NUMBER      Passages to take from the table; default: 4.
--temperature NUMBER
--max-tokens NUMBER
--no-stream         Show the answer when it is whole.
-o, --output NAME   Keep the answer, a message of LangChain's, in a variable; its text is NAME.text."""


class MagicError(Exception):
    """What is wrong, in one line."""


@dataclass
class _Asked:
    """What the line says."""

    prompt: str = ""
    model: str | None = None
    system: str | None = None
    table: str | None = None
    schema: str | None = None
    k: int = 4
    temperature: float | None = None
    max_tokens: int | None = None
    stream: bool = True
    output: str | None = None


_VALUES: dict[str, Callable[[str], object]] = {
    "--model": str,
    "--system": str,
    "--table": str,
    "--schema": str,
    "--k": int,
    "--temperature": float,
    "--max-tokens": int,
    "--output": str,
}


def register(shell: Any) -> None:
    """Add `%together` and `%%together` to a shell of IPython."""
    from IPython.core.error import UsageError

    def together(line: str, cell: str | None = None) -> None:
        try:
            _run(shell, line, cell)
        except MagicError as exc:
            # IPython shows it in one line, and does not go on to the next cell.
            raise UsageError(str(exc)) from None

    together.__doc__ = _HELP
    shell.register_magic_function(together, "line_cell", NAME)
    logging.getLogger(_HANA_ML).addFilter(_without_jwcrypto)


def unregister(shell: Any) -> None:
    """Take the magics away again."""
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop(NAME, None)
    logging.getLogger(_HANA_ML).removeFilter(_without_jwcrypto)


def _without_jwcrypto(record: logging.LogRecord) -> bool:
    """Whether a line of hana-ml's log is shown: one that opens every notebook's output is about nothing in it."""
    return not str(record.msg).startswith("jwcrypto is not installed")


def _run(shell: Any, line: str, cell: str | None) -> None:
    asked = _read(line, cell)
    with _one_line_errors(), _searching(asked) as search:
        from hana_ai.api.together_ai import TogetherAIClient

        fields: dict[str, Any] = {"temperature": asked.temperature, "max_tokens": asked.max_tokens}
        found = search(asked.prompt)
        with TogetherAIClient() as client:
            given = {name: value for name, value in fields.items() if value is not None}
            model = client.chat_model(asked.model, **given)
            answer = _shown(model, _messages(asked, found), stream=asked.stream)
            for told in [*source_lines(found), _facts(client, answer)]:
                print(told)  # noqa: T201 - the answer of a cell
    if asked.output is not None:
        shell.push({asked.output: answer})


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise MagicError("Stopped.") from None
    except (TogetherAIError, OSError, ModuleNotFoundError) as exc:
        raise MagicError(" ".join(str(exc).split())) from exc


# --- the line ---


def _read(line: str, cell: str | None) -> _Asked:
    """Options stand first; a line's prompt is what follows, apostrophes included."""
    asked, rest = _Asked(), line.strip()
    while (option := _WORD.match(rest)) is not None:
        name = _SHORT.get(option[1], "--k" if option[1] == "-k" else option[1])
        rest = rest[option.end() :]
        if name == "--no-stream":
            asked.stream = False
            continue
        if name not in _VALUES:
            raise MagicError(f"There is no option {name}.{_suggested(name)} See: %together?")
        value = _VALUE.match(rest)
        if value is None:
            raise MagicError(f"{name} needs a value. See: %together?")
        rest = rest[value.end() :].lstrip()
        setattr(asked, name.removeprefix("--").replace("-", "_"), _typed(name, value[1]))
    if cell is not None and rest:
        raise MagicError(f"The prompt belongs into the cell, not after %%together: {rest}")
    asked.prompt = (rest if cell is None else cell).strip()
    if not asked.prompt:
        raise MagicError("There is no prompt. Write it into the cell below %%together, or after %together.")
    if asked.output is not None and not asked.output.isidentifier():
        raise MagicError(f"--output needs the name of a variable, not {asked.output!r}.")
    return asked


def _typed(name: str, text: str) -> object:
    quotes = text[0] in "\"'" and len(text) > 1 and text[-1] == text[0]
    plain = text[1:-1] if quotes else text
    try:
        return _VALUES[name](plain)
    except ValueError:
        raise MagicError(f"{name} needs a number, not {plain!r}.") from None


def _suggested(name: str) -> str:
    close = difflib.get_close_matches(name, [*_VALUES, "--no-stream"], 1)
    return f" Did you mean {close[0]}?" if close else ""


# --- asking ---


@contextmanager
def _searching(asked: _Asked) -> Iterator[Callable[[str], Found]]:
    """What searches the table that was named; nothing is found where none was."""
    if asked.table is None:
        yield lambda _: []
        return
    from hdbcli import dbapi  # type: ignore[import-untyped]

    from hana_ai.api.hana.connections import connect, reason_of
    from hana_ai.api.settings import TogetherAISettings

    try:
        connection = connect(TogetherAISettings(), connectTimeout=10_000)
        try:
            yield searcher(connection, asked.table, asked.schema, asked.k)
        finally:
            connection.close()
    except dbapi.Error as exc:
        raise MagicError(f"SAP HANA refused: {reason_of(exc)} To check: hana-ai-together doctor") from exc


def _messages(asked: _Asked, found: Found) -> list[BaseMessage]:
    from langchain_core.messages import HumanMessage, SystemMessage

    first: list[BaseMessage] = [] if asked.system is None else [SystemMessage(asked.system)]
    return [*with_passages(first, found), HumanMessage(asked.prompt)]


def _shown(model: Any, messages: list[BaseMessage], *, stream: bool) -> AIMessageChunk:
    """Write an answer as it is made, as text: what a model writes is never run as HTML in the page."""
    from langchain_core.messages import AIMessageChunk

    whole, flushed = AIMessageChunk(content=""), time.monotonic()
    try:
        for chunk in model.stream(messages):
            whole = whole + chunk
            if stream:
                sys.stdout.write(chunk.text)
                if time.monotonic() - flushed >= _BETWEEN_FLUSHES:
                    sys.stdout.flush()
                    flushed = time.monotonic()
    finally:
        if stream and whole.text:
            sys.stdout.write("\n")
            sys.stdout.flush()
    if not stream:
        print(whole.text)  # noqa: T201
    return whole


def _facts(client: TogetherAIClient, answer: AIMessageChunk) -> str:
    from hana_ai.api.wire.token_counts import Tokens

    name = str(answer.response_metadata.get("model_name") or "an unnamed model")
    usage = answer.usage_metadata
    try:
        info = client.catalog.models().get(name)
    except TogetherAIError:
        info = None
    cost = None
    if usage is not None and info is not None:
        cached = (usage.get("input_token_details") or {}).get("cache_read")
        cost = info.cost_of(Tokens(usage["input_tokens"], usage["output_tokens"], cached))
    tokens = (
        "tokens unknown" if usage is None else f"{usage['input_tokens']:,} + {usage['output_tokens']:,} tokens"
    )
    cut = "; cut off at --max-tokens" if answer.response_metadata.get("finish_reason") == "length" else ""
    return f"({name}, {tokens}, {'cost unknown' if cost is None else f'${cost:.6f}'}{cut})"
