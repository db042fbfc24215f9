"""What the server and an engine agree on: models, pieces of an answer, usage, and how an engine refuses.

`app` turns HTTP bodies into the requests of `requests` and the pieces that an engine yields into Together's
shapes; an engine never sees HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

import orjson

from .refusal import JSON, Refusal
from .requests import ChatBody, CompletionBody

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from starlette.types import ASGIApp

    Vectors: TypeAlias = NDArray[np.float32]

ModelType: TypeAlias = Literal["chat", "language", "embedding", "rerank"]
FinishReason: TypeAlias = Literal["stop", "eos", "length", "tool_calls"]


@dataclass(frozen=True)
class LocalModel:
    """A model that the server lists and answers for.

    Attributes
    ----------
    context_length
        Tokens of prompt and answer together.
    dimensions
        Length of an embedding; None for other types.
    price_input, price_output, price_cached_input
        USD per 1M tokens; None for an unknown price of cached input.
    serverless
        False lists the model but refuses calls as Together refuses a model that needs a dedicated endpoint.
    """

    id: str
    type: ModelType = "chat"
    context_length: int = 2048
    display_name: str = ""
    organization: str = "local"
    dimensions: int | None = None
    price_input: float = 0.0
    price_output: float = 0.0
    price_cached_input: float | None = None
    features: tuple[str, ...] = ()
    description: str = ""
    license: str = ""
    serverless: bool = True
    deprecated: bool = False


@dataclass(frozen=True)
class Usage:
    """Tokens of one call, counted by the engine's own tokenizer."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int | None = None

    def wire(self) -> dict[str, JSON]:
        """Together's shape, with the total; reasoning tokens only where the engine reasons."""
        wire: dict[str, JSON] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "cached_tokens": self.cached_tokens,
        }
        if self.reasoning_tokens is not None:
            wire["completion_tokens_details"] = {"reasoning_tokens": self.reasoning_tokens}
        return wire


@dataclass(frozen=True)
class ToolCallDelta:
    """Part of a tool call: the first part carries id and name, later ones only more of the arguments."""

    index: int = 0
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True)
class TokenLogprob:
    """One generated token with its log probability and those of the likeliest alternatives."""

    token: str
    logprob: float
    token_id: int | None = None
    top: tuple[tuple[str, float], ...] = ()


@dataclass
class Piece:
    """The next part of choice number `index`.

    The last piece of a choice has a finish reason; the last piece of an answer has the usage.
    """

    index: int = 0
    text: str = ""
    reasoning: str = ""
    tool_call: ToolCallDelta | None = None
    token_id: int | None = None
    logprobs: Sequence[TokenLogprob] = field(default=())
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    error: dict[str, JSON] | None = None
    """An error event in the middle of a stream, sent as `{"error": ...}`; only test engines yield it."""


@dataclass(frozen=True)
class Embedded:
    """Embeddings of some texts and the tokens they took.

    The vectors are float32 of shape `(texts, dimensions)`, or one JSON array a text, already written.
    """

    vectors: Vectors | Sequence[orjson.Fragment]
    tokens: int


@dataclass(frozen=True)
class Ranked:
    """Relevance scores, one a document in the order of the request, and the tokens they took."""

    scores: Sequence[float]
    tokens: int


class Engine(Protocol):
    """What answers for one or more models.

    A method that an engine's models have no use for raises `Refusal`; the server only calls the methods that
    fit the type of the model asked for.
    """

    @property
    def models(self) -> Sequence[LocalModel]:
        """The models this engine answers for."""
        ...

    def chat(self, body: ChatBody) -> AsyncGenerator[Piece, None]:
        """Answer a chat; closing the iterator stops the computation."""
        ...

    def complete(self, body: CompletionBody) -> AsyncGenerator[Piece, None]:
        """Continue a prompt; closing the iterator stops the computation."""
        ...

    async def embed(self, model: str, texts: Sequence[str]) -> Embedded:
        """Embed texts, in their order."""
        ...

    async def rank(self, model: str, query: str, documents: Sequence[str]) -> Ranked:
        """Score documents by their relevance to a query."""
        ...

    def close(self) -> None:
        """Free what the engine holds."""
        ...


class EngineBase:
    """Base of engines: everything is refused until a subclass answers it."""

    def chat(self, body: ChatBody) -> AsyncGenerator[Piece, None]:
        raise self._refusal(body.model, "chat")

    def complete(self, body: CompletionBody) -> AsyncGenerator[Piece, None]:
        raise self._refusal(body.model, "completion")

    async def embed(self, model: str, texts: Sequence[str]) -> Embedded:
        raise self._refusal(model, "embedding")

    async def rank(self, model: str, query: str, documents: Sequence[str]) -> Ranked:
        raise self._refusal(model, "rerank")

    def close(self) -> None:
        """Nothing is held."""

    @staticmethod
    def _refusal(model: str, kind: str) -> Refusal:
        return Refusal(400, f"Model {model} does not support {kind} requests.", param="model")


@runtime_checkable
class WireWrapper(Protocol):
    """An engine that also acts on the wire itself: delays, broken streams, raw replies."""

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application with this engine's behaviour around it."""
        ...
