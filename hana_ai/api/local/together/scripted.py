"""An engine for tests and benchmarks: it echoes, and does on demand what a real service does on a bad day.

Without a script it answers by simple rules that depend on the request alone: a chat is answered by the last
user message, a tool is called with arguments that fit its schema, a response format is filled, an embedding
is made from a hash of its text. `reply`, `always` and `on` script anything else:

>>> engine = ScriptedEngine()
>>> engine.reply(Reply(status=429, headers={"x-ratelimit-reset": "1"}), Reply(text="At last."))
>>> engine.on("/v1/embeddings", lambda request: Reply(status=413) if len(request.body["input"]) > 8 else None)
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .engine import (
    JSON,
    Embedded,
    EngineBase,
    FinishReason,
    LocalModel,
    Piece,
    Ranked,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    context_overflow,
)
from .hashing import hashed_vectors, word_overlap
from .replies import request_id, tool_call_id
from .requests import ChatBody, CompletionBody, JsonObjectFormat, JsonSchemaFormat, UserMessage, message_text
from .schemas import example
from .wire import cut_connection


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
        The whole body, sent as it is: str or bytes raw, anything else as JSON.
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


Rule: TypeAlias = "Reply | Callable[[Received], Reply | None]"

_PLAIN = Reply()
_CURRENT: ContextVar[Reply] = ContextVar("scripted_reply", default=_PLAIN)
_DEFAULT_ERROR = {
    400: ("invalid_request_error", "The request is not valid."),
    401: ("invalid_request_error", "Invalid API key provided."),
    402: ("credit_limit", "Credit limit exceeded, please navigate to your billing settings to add credit."),
    429: ("rate_limit", "You have reached the rate limit specific to this model."),
    503: ("service_unavailable", "The server is overloaded or not ready yet."),
}


class ScriptedEngine(EngineBase):
    """Answers as it is told, fast, and remembers what it was asked.

    Parameters
    ----------
    dimensions
        Length of its embeddings.
    latency
        Seconds before the first byte of every answer.
    chunk_delay
        Seconds between the chunks of every stream.
    context_length
        Tokens (here: words) of prompt and answer together.
    models
        Instead of its own models; embeddings take `dimensions` of the model where it has one.
    keep
        How many requests to remember; benchmarks set 0.
    """

    CHAT = "local/scripted-chat"
    EMBEDDING = "local/scripted-embedding"
    RERANK = "local/scripted-rerank"

    def __init__(
        self,
        *,
        dimensions: int = 256,
        latency: float = 0.0,
        chunk_delay: float = 0.0,
        context_length: int = 8192,
        models: Sequence[LocalModel] | None = None,
        keep: int = 10_000,
    ) -> None:
        self._dimensions = dimensions
        self.latency = latency
        self.chunk_delay = chunk_delay
        features = ("FEATURE_TOOL_CALLING", "FEATURE_STRUCTURED_OUTPUT", "FEATURE_REASONING")
        about = "A scripted stand-in for tests; not a model."
        self._models: Sequence[LocalModel] = models or (
            LocalModel(self.CHAT, "chat", context_length, features=features, description=about),
            LocalModel(self.EMBEDDING, "embedding", context_length, dimensions=dimensions, description=about),
            LocalModel(self.RERANK, "rerank", context_length, description=about),
        )
        self._lock = threading.Lock()
        self._queue: deque[Reply] = deque()
        self._rules: list[tuple[str | None, Rule]] = []
        self.requests: deque[Received] = deque(maxlen=keep)
        """The last requests, oldest first."""

    @property
    def models(self) -> Sequence[LocalModel]:
        """The models it answers for."""
        return self._models

    def reply(self, *replies: Reply) -> None:
        """Answer the next POST requests with these, one after the other."""
        with self._lock:
            for reply in replies:
                self._queue.extend([reply] * reply.repeat)

    def always(self, rule: Rule) -> None:
        """Answer every POST request for which nothing else is scripted with this, or by this function."""
        self.on(None, rule)

    def on(self, path: str | None, rule: Rule) -> None:
        """Answer every request to a path, GET too, by a reply or a function; a later rule goes first.

        The function gets the request and returns None to leave it to the next rule.
        """
        with self._lock:
            self._rules.insert(0, (path, rule))

    def reset(self) -> None:
        """Forget all scripts and requests."""
        with self._lock:
            self._queue.clear()
            self._rules.clear()
            self.requests.clear()

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application with the scripted behaviour around it."""
        return _Scripted(app, self)

    def next_reply(self, request: Received) -> Reply:
        """What to do with a request: the queue first (POST only), then the rules, else nothing special."""
        with self._lock:
            if self.requests.maxlen:
                self.requests.append(request)
            if self._queue and request.method == "POST":
                return self._queue.popleft()
            rules = list(self._rules)
        for path, rule in rules:
            if path != request.path and not (path is None and request.method == "POST"):
                continue
            made = rule if isinstance(rule, Reply) else rule(request)
            if made is not None:
                return made
        return _PLAIN

    async def chat(self, body: ChatBody) -> AsyncGenerator[Piece, None]:
        """Answer by the script, else call a tool, fill the response format, or echo the last user message."""
        scripted = _CURRENT.get()
        prompt_tokens = sum(len(_words(message_text(message.content))) for message in body.messages)
        limit = self._room(body.model, prompt_tokens, body)
        text = scripted.text
        calls = list(scripted.tool_calls)
        if text is None and scripted.chunks is not None:
            text = "".join(scripted.chunks)
        if text is None and not calls:
            calls = _calls(body)
        if text is None:
            text = "" if calls else _formatted(body)
        for piece in self._say(body, scripted, text=text, calls=calls, prompt_tokens=prompt_tokens, limit=limit):
            yield piece

    async def complete(self, body: CompletionBody) -> AsyncGenerator[Piece, None]:
        """Answer by the script, else echo the prompt."""
        scripted = _CURRENT.get()
        prompt_tokens = len(_words(body.prompt))
        limit = self._room(body.model, prompt_tokens, body)
        text = scripted.text if scripted.text is not None else "".join(scripted.chunks or [body.prompt])
        for piece in self._say(body, scripted, text=text, prompt_tokens=prompt_tokens, limit=limit):
            yield piece

    async def embed(self, model: str, texts: Sequence[str]) -> Embedded:
        """Vectors of length 1 made from a hash of each text: equal texts, equal vectors."""
        listed = next(entry for entry in self._models if entry.id == model)
        dimensions = listed.dimensions or self._dimensions
        return Embedded(hashed_vectors(texts, dimensions), sum(text.count(" ") + 1 for text in texts))

    async def rank(self, model: str, query: str, documents: Sequence[str]) -> Ranked:
        """Scores by the share of the query's words that a document holds."""
        tokens = sum(len(_words(text)) for text in (query, *documents))
        return Ranked([word_overlap(query, document) for document in documents], tokens)

    def _room(self, model: str, prompt_tokens: int, body: ChatBody | CompletionBody) -> int:
        listed = next(entry for entry in self._models if entry.id == model)
        room = listed.context_length - prompt_tokens
        truncate = isinstance(body, ChatBody) and body.context_length_exceeded_behavior == "truncate"
        if room < 1 or (body.max_tokens is not None and body.max_tokens > room and not truncate):
            raise context_overflow(listed.context_length, prompt_tokens, body.max_tokens or 1)
        return min(body.max_tokens or room, room)

    def _say(
        self,
        body: ChatBody | CompletionBody,
        scripted: Reply,
        *,
        text: str,
        calls: Sequence[Call] = (),
        prompt_tokens: int,
        limit: int,
    ) -> Sequence[Piece]:
        whole = text
        for stop in body.stop or []:
            text = text.partition(stop)[0]
        stopped = len(text) < len(whole)
        parts = list(scripted.chunks) if scripted.chunks is not None and not stopped else _words(text)
        cut = len(parts) > limit and scripted.chunks is None
        parts = parts[:limit] if cut else parts
        reason: FinishReason = "tool_calls" if calls else "length" if cut else "stop"
        reasoning = _words(scripted.reasoning)
        said = len(parts) + len(reasoning) + sum(1 + len(_words(_arguments(call))) for call in calls)
        choices = body.n or 1
        usage = scripted.usage or Usage(
            prompt_tokens, said * choices, reasoning_tokens=len(reasoning) if reasoning else None
        )
        made: list[Piece] = []
        for index in range(choices):
            made.extend(Piece(index, reasoning=part) for part in reasoning)
            made.extend(
                Piece(index, part, token_id=_token_id(part), logprobs=_logprobs(part, body)) for part in parts
            )
            for number, call in enumerate(calls):
                made.append(
                    Piece(index, tool_call=ToolCallDelta(number, call.id or tool_call_id(), call.name, ""))
                )
                made.extend(
                    Piece(index, tool_call=ToolCallDelta(number, arguments=part))
                    for part in _words(_arguments(call))
                )
            last = index == choices - 1
            made.append(
                Piece(index, finish_reason=scripted.finish_reason or reason, usage=usage if last else None)
            )
        return made


def _words(text: str) -> list[str]:
    """A text in parts of one word each, with the space before it; joined they are the text again."""
    return re.findall(r"\s*\S+|\s+$", text)


def _token_id(part: str) -> int:
    return sum(part.encode()) % 128_000


def _logprobs(part: str, body: ChatBody | CompletionBody) -> tuple[TokenLogprob, ...]:
    if not body.logprobs:
        return ()
    top = tuple((part if rank == 0 else f"{part}~{rank}", -0.5 - rank) for rank in range(body.logprobs))
    return (TokenLogprob(part, -0.5, _token_id(part), top),)


def _arguments(call: Call) -> str:
    return call.arguments if isinstance(call.arguments, str) else orjson.dumps(dict(call.arguments)).decode()


def _last_user_text(body: ChatBody) -> str:
    users = [message for message in body.messages if isinstance(message, UserMessage)]
    return message_text((users or body.messages)[-1].content)


def _calls(body: ChatBody) -> list[Call]:
    """A call of the first tool that may be called, unless the choice is free and a tool has just answered."""
    wanted = body.calls()
    if wanted == "none" or (wanted == "auto" and body.messages[-1].role != "user"):
        return []
    function = body.callable_tools()[0].function
    made = example(function.parameters or {}, hint=_last_user_text(body))
    return [Call(function.name, made if isinstance(made, dict) else {})]


def _formatted(body: ChatBody) -> str:
    text = _last_user_text(body)
    wanted = body.response_format
    schema: dict[str, Any] | None = None
    if isinstance(wanted, JsonSchemaFormat):
        schema = wanted.json_schema.schema_ or {}
    elif isinstance(wanted, JsonObjectFormat):
        schema = wanted.schema_ or {}
    if schema is None:
        return text
    return orjson.dumps(example(schema, hint=text) if schema else {"answer": text}).decode()


class _Scripted:
    """The part of the script that acts on the wire."""

    def __init__(self, app: ASGIApp, engine: ScriptedEngine) -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request as scripted."""
        raw = await _read(receive)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        scripted = self._engine.next_reply(Received(scope["method"], scope["path"], _decoded(raw), headers))
        if scripted.stall:
            await _forever(receive)
            return
        if delay := scripted.delay + self._engine.latency:
            await asyncio.sleep(delay)
        if scripted.drop:
            await cut_connection(scope, receive)
            return
        sender = _Sender(scripted, self._engine.chunk_delay, scope, receive, send)
        if scripted.status != 200 or scripted.body is not None:
            await _send_raw(scripted, sender)
            return
        token = _CURRENT.set(scripted)
        try:
            await self._app(scope, _replayed(raw, receive), sender)
        except _CutError:
            return
        finally:
            _CURRENT.reset(token)


class _CutError(Exception):
    """The connection has been closed on purpose."""


class _Sender:
    """Passes an answer on, late, in part, or with an error in the middle."""

    def __init__(self, reply: Reply, chunk_delay: float, scope: Scope, receive: Receive, send: Send) -> None:
        self._reply = reply
        self._chunk_delay = reply.chunk_delay or chunk_delay
        self._scope = scope
        self._receive = receive
        self._send = send
        self._chunk = 0
        self._left = reply.break_at_byte

    async def __call__(self, message: Message) -> None:
        """Send one message of the answer."""
        if message["type"] == "http.response.start":
            more = [(name.lower().encode(), value.encode()) for name, value in self._reply.headers.items()]
            await self._send({**message, "headers": [*message["headers"], *more]})
            return
        body: bytes = message.get("body", b"")
        if body:
            await self._before_chunk()
            self._chunk += 1
        if self._left is not None and len(body) > self._left:
            await self._send({**message, "body": body[: self._left], "more_body": True})
            await self._cut()
        if self._left is not None:
            self._left -= len(body)
        await self._send(message)

    async def _before_chunk(self) -> None:
        reply = self._reply
        if self._chunk_delay and self._chunk:
            await asyncio.sleep(self._chunk_delay)
        if reply.stall_at_chunk == self._chunk:
            await _forever(self._receive)
            raise _CutError
        if reply.break_at_chunk == self._chunk:
            await self._cut()
        if reply.error_at_chunk == self._chunk:
            event = b"data: " + orjson.dumps({"error": _error(reply)}) + b"\n\n"
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
            raise _CutError

    async def _cut(self) -> None:
        await cut_connection(self._scope, self._receive)
        raise _CutError


async def _send_raw(reply: Reply, send: _Sender) -> None:
    raw = isinstance(reply.body, str | bytes)
    if reply.body is None:
        body = orjson.dumps({"id": request_id(), "error": _error(reply)})
    elif isinstance(reply.body, bytes):
        body = reply.body
    else:
        body = reply.body.encode() if isinstance(reply.body, str) else orjson.dumps(reply.body)
    content_type = reply.content_type or ("text/html" if raw else "application/json")
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id().encode()),
    ]
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    except _CutError:
        return


def _error(reply: Reply) -> dict[str, JSON]:
    type, message = _DEFAULT_ERROR.get(reply.status, ("server_error", "The server had an error."))
    return {"message": message, "type": type, "param": None, "code": None, **(reply.error or {})}


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(raw: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _decoded(raw: bytes) -> Any:
    try:
        return orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError:
        return None


async def _forever(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
