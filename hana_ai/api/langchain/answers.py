"""Answers of `TogetherAIClient`, with what they took and cost. Pure functions: no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, overload

from langchain_core.messages.ai import UsageMetadata

from hana_ai.api.catalog.money import plain
from hana_ai.api.langchain.completions import read_choices
from hana_ai.api.langchain.messages import chat_result, usage_from_wire
from hana_ai.api.wire.html import answer
from hana_ai.api.wire.token_counts import read_tokens

if TYPE_CHECKING:
    from hana_ai.api.catalog.model_info import ModelInfo
    from hana_ai.api.langchain.embedding_job import EmbeddingResult
    from hana_ai.api.transport.call import Reply

Models = Mapping[str, "ModelInfo"]
"""A catalogue's models by their names."""
TextReader = Callable[["Reply", str], tuple[str, str | None]]
"""Takes a reply and the model that was asked, and gives the text and the finish reason."""


@dataclass(frozen=True)
class Completion:
    """An answer in text, and what it took. `str()` of it is the text."""

    text: str
    model: str
    """The model that answered."""
    finish_reason: str | None
    usage: UsageMetadata | None
    """Tokens; None when the server did not count them."""
    cost_usd: Decimal | None
    """USD by the catalogue's prices; None when a price or the usage is unknown, which is not zero."""
    latency_ms: float
    """Milliseconds from the first try to the last byte."""
    raw: Mapping[str, object] = field(repr=False)
    """The reply as the server sent it."""

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        facts = _facts(self.model, self.usage, self.cost_usd, self.latency_ms)
        return answer(self.text, facts | {"finish reason": self.finish_reason or "unknown"})


@dataclass(frozen=True)
class Embedded(Sequence[list[float]]):
    """Vectors in the order of their texts, and what they took. A sequence of the vectors."""

    vectors: list[list[float]] = field(repr=False)
    """Shape `(texts, dimension)`."""
    model: str
    usage: UsageMetadata | None
    """Tokens; None when the server did not count them."""
    cost_usd: Decimal | None
    """USD; None when the price or the usage is unknown."""
    latency_ms: float
    """Milliseconds for all requests together, which ran at the same time."""

    def __len__(self) -> int:
        return len(self.vectors)

    @overload
    def __getitem__(self, index: int) -> list[float]: ...

    @overload
    def __getitem__(self, index: slice) -> list[list[float]]: ...

    def __getitem__(self, index: int | slice) -> list[float] | list[list[float]]:
        return self.vectors[index]

    def __iter__(self) -> Iterator[list[float]]:
        return iter(self.vectors)

    @property
    def dimension(self) -> int:
        """Width of the vectors; 0 when there are none."""
        return len(self.vectors[0]) if self.vectors else 0

    def _repr_html_(self) -> str:
        shape = {"vectors": f"{len(self.vectors):,} of {self.dimension:,} numbers"}
        return answer("", shape | _facts(self.model, self.usage, self.cost_usd, self.latency_ms))


def read_completion(reply: Reply, model: str) -> tuple[str, str | None]:
    """Return text and finish reason of the first choice of a completion.

    Raises
    ------
    TogetherAIResponseError
        There is no choice, or one without a text.
    """
    choice = read_choices(reply.data, model=model, request_id=reply.request_id)[0]
    return str(choice.get("text") or ""), choice.get("finish_reason")


def read_chat_completion(reply: Reply, model: str) -> tuple[str, str | None]:
    """Return text and finish reason of the first choice of a chat; raises as `read_completion`."""
    generation = chat_result(reply.data, request_id=reply.request_id, model=model).generations[0]
    return generation.text, generation.message.response_metadata.get("finish_reason")


def completion(reply: Reply, model: str, read: TextReader, models: Models, base_url: str) -> Completion:
    """Put an answer together.

    Parameters
    ----------
    reply : Reply
    model : str
        The model that was asked.
    read : callable
        `read_completion` or `read_chat_completion`.
    models : mapping
        The catalogue, for the price.
    base_url : str
        The catalogue's address: a fallback that answered at another one has no price here.
    """
    text, reason = read(reply, model)
    usage = reply.data.get("usage")
    answering = str(reply.data.get("model") or "")
    if reply.fallback is not None:
        model = reply.fallback["model"]
    at_home = reply.fallback is None or reply.fallback["base_url"] == base_url
    return Completion(
        text=text,
        model=answering or model,
        finish_reason=reason,
        usage=usage_from_wire(usage),
        cost_usd=_cost(models, (model, answering), usage) if at_home else None,
        latency_ms=reply.latency * 1000,
        raw=reply.data,
    )


def embedded(result: EmbeddingResult, models: Models, seconds: float) -> Embedded:
    """Put vectors together with what they took; `seconds` is how long all requests took."""
    return Embedded(
        vectors=result.vectors,
        model=result.model,
        usage=usage_from_wire(result.usage),
        cost_usd=_cost(models, (result.model,), result.usage),
        latency_ms=seconds * 1000,
    )


def _facts(model: str, usage: UsageMetadata | None, cost: Decimal | None, milliseconds: float) -> dict[str, str]:
    return {
        "model": model,
        "tokens": "unknown" if usage is None else f"{usage['input_tokens']:,} in, {usage['output_tokens']:,} out",
        "cost": "unknown" if cost is None else f"${plain(cost)}",
        "latency": f"{milliseconds:,.0f} ms",
    }


def _cost(models: Models, names: Sequence[str], usage: object) -> Decimal | None:
    info = next((models[name] for name in names if name in models), None)
    return None if info is None else info.cost_of(read_tokens(usage))
