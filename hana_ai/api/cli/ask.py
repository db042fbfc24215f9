"""`hana-ai-together chat`, `complete`, `embed` and `rerank`: the arguments; their work is in `asking`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

_Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON, for programs.")]
_Model = Annotated[str | None, Parameter(help="A model's name, or an endpoint's; default: as in the settings.")]


@dataclass(frozen=True)
class Answer:
    """How a model answers, and how that is shown."""

    temperature: float | None = None
    """Randomness of the answer, 0 to 2."""
    max_tokens: int | None = None
    """Most tokens of the answer."""
    json: _Json = False


_AS_USUAL = Answer()


def chat(
    *message: str,
    model: _Model = None,
    system: str | None = None,
    table: str | None = None,
    schema: Annotated[
        str | None, Parameter(help="The table's; default: HANA_SCHEMA, else the user's own.")
    ] = None,
    k: int = 4,
    tools: Annotated[bool, Parameter(negative=())] = False,
    answer: Annotated[Answer, Parameter(name="*")] = _AS_USUAL,
) -> int:
    """Ask a chat model. The answer appears as it is made; without a message it is a conversation.

    Parameters
    ----------
    message
        What to ask; default: what is piped in, or typed.
    system
        Instructions that come first.
    table
        Answer from a vector table in SAP HANA, and show the passages.
    schema
        The table's; default: HANA_SCHEMA, else the user's own.
    k
        Passages to take from the table.
    tools
        Let the model use the toolkit's tools over SAP HANA.
    """
    from .asking import Asking, Knowledge, run_chat

    asking = Asking(model, answer.temperature, answer.max_tokens, answer.json)
    knowledge = None if table is None else Knowledge(table, schema, k)
    return run_chat(message, asking, system=system, knowledge=knowledge, tools=tools)


def complete(
    *prompt: str,
    model: _Model = None,
    stop: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    answer: Annotated[Answer, Parameter(name="*")] = _AS_USUAL,
) -> int:
    """Let a language model continue a text.

    Parameters
    ----------
    prompt
        The text; default: what is piped in.
    stop
        End before this; may be repeated.
    """
    from .asking import Asking, run_complete

    return run_complete(prompt, Asking(model, answer.temperature, answer.max_tokens, answer.json), stop)


def embed(*text: str, model: _Model = None, json: _Json = False) -> int:
    """Embed texts; prints a vector a line.

    Parameters
    ----------
    text
        What to embed; default: the lines that are piped in.
    """
    from .asking import run_embed

    return run_embed(text, model, as_json=json)


def rerank(query: str, /, *text: str, model: _Model = None, top_n: int | None = None, json: _Json = False) -> int:
    """Order texts by how well they answer a query, the best first.

    Parameters
    ----------
    text
        What to order; default: the lines that are piped in.
    top_n
        How many to print.
    """
    from .asking import run_rerank

    return run_rerank(query, text, model, top_n, as_json=json)
