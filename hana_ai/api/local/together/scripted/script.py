"""What a `ScriptedEngine` can be told to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..engine import FinishReason, Usage
from ..refusal import JSON


@dataclass(frozen=True)
class Call:
    """A tool call to answer with; `arguments` may be a string to send something that is not JSON."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True)
class Reply:
    """One scripted answer; what is left out follows the engine's rules.

    Attributes
    ----------
    text, reasoning, tool_calls
        The answer; with tool calls and no text, the text is empty.
    chunks
        The parts in which a stream sends the text; else one a word.
    finish_reason, usage
        Overrides of what the engine would say.
    status
        Anything but 200 answers with `body`, or with an error in Together's shape.
    body
        The whole body, sent as it is: str or bytes raw, anything else as JSON. With a `content_type` of
        text/event-stream this replays a recorded stream.
    content_type
        Of `body`; else application/json, or text/html for str and bytes.
    headers
        More headers, such as `retry-after` or `x-ratelimit-reset`.
    delay
        Seconds before the first byte.
    chunk_delay
        Seconds before every chunk of a stream but the first.
    stall
        Never sends a byte, until the client leaves.
    stall_at_chunk, break_at_chunk, error_at_chunk
        Number of the chunk, from 0, before which the stream stalls for ever, the connection is closed, or an
        error event is sent (`error`) and the stream ends.
    break_at_byte
        Number of bytes of the body after which the connection is closed.
    drop
        The connection is closed before the status line.
    error
        The `error` object of the error event or of a status that is not 200.
    repeat
        How many requests this reply answers.
    """

    text: str | None = None
    reasoning: str = ""
    tool_calls: Sequence[Call] = ()
    chunks: Sequence[str] | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    status: int = 200
    body: Any = None
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    chunk_delay: float = 0.0
    stall: bool = False
    stall_at_chunk: int | None = None
    break_at_chunk: int | None = None
    error_at_chunk: int | None = None
    break_at_byte: int | None = None
    drop: bool = False
    error: Mapping[str, JSON] | None = None
    repeat: int = 1


@dataclass(frozen=True)
class Received:
    """A request as it came in.

    Attributes
    ----------
    body
        The decoded JSON; None when there was none or it could not be read.
    headers
        By lower-case name; the key is kept, since these are the test's own.
    """

    method: str
    path: str
    body: Any
    headers: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)


Rule: TypeAlias = "Reply | Callable[[Received], Reply | None]"

PLAIN = Reply()
CURRENT: ContextVar[Reply] = ContextVar("scripted_reply", default=PLAIN)
