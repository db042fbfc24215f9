"""An engine for tests and benchmarks: it echoes, and does on demand what a real service does on a bad day.

Without a script it answers by simple rules that depend on the request alone: a chat is answered by the last
user message, a tool is called with arguments that fit its schema, a response format is filled, an embedding
is made from a hash of its text. `reply`, `always` and `on` script anything else:

>>> engine = ScriptedEngine()
>>> engine.reply(Reply(status=429, headers={"x-ratelimit-reset": "1"}), Reply(text="At last."))
>>> engine.on("/v1/embeddings", lambda request: Reply(status=413) if len(request.body["input"]) > 8 else None)
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import AsyncGenerator, Sequence

import orjson
from starlette.types import ASGIApp

from ..engine import (
    Embedded,
    EngineBase,
    FinishReason,
    LocalModel,
    Piece,
    Ranked,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from ..engines.hashing import hashed_json, word_overlap
from ..refusal import context_overflow
from ..replies import tool_call_id
from ..requests import (
    ChatBody,
    CompletionBody,
    JSONObject,
    JsonObjectFormat,
    JsonSchemaFormat,
    UserMessage,
    message_text,
)
from .faults import ScriptedWire
from .schemas import example
from .script import CURRENT, PLAIN, Call, Received, Reply, Rule


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
        """The last requests, oldest first, the ledger's and the catalogue's questions for prices among them."""

    @property
    def posts(self) -> list[Received]:
        """The last POST requests, oldest first: the calls of models, whatever else asked for the catalogue."""
        with self._lock:
            return [request for request in self.requests if request.method == "POST"]

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
        return ScriptedWire(app, self)

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
        return PLAIN

    async def chat(self, body: ChatBody) -> AsyncGenerator[Piece, None]:
        """Answer by the script, else call a tool, fill the response format, or echo the last user message."""
        scripted = CURRENT.get()
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
        scripted = CURRENT.get()
        prompt_tokens = len(_words(body.prompt))
        limit = self._room(body.model, prompt_tokens, body)
        text = scripted.text if scripted.text is not None else "".join(scripted.chunks or [body.prompt])
        for piece in self._say(body, scripted, text=text, prompt_tokens=prompt_tokens, limit=limit):
            yield piece

    async def embed(self, model: str, texts: Sequence[str]) -> Embedded:
        """Vectors of length 1 made from a hash of each text: equal texts, equal vectors."""
        listed = next(entry for entry in self._models if entry.id == model)
        dimensions = listed.dimensions or self._dimensions
        vectors = [orjson.Fragment(vector) for vector in hashed_json(texts, dimensions)]
        return Embedded(vectors, sum(text.count(" ") + 1 for text in texts))

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
        for stop in filter(None, body.stop or ()):
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
    schema: JSONObject | None = None
    if isinstance(wanted, JsonSchemaFormat):
        schema = wanted.json_schema.schema_ or {}
    elif isinstance(wanted, JsonObjectFormat):
        schema = wanted.schema_ or {}
    if schema is None:
        return text
    return orjson.dumps(example(schema, hint=text) if schema else {"answer": text}).decode()
