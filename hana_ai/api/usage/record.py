"""What the ledger notes of one call, when it has ended or a cache answered it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from pydantic import SecretStr

from hana_ai.api.transport.watching import Ended
from hana_ai.api.usage.clock import now
from hana_ai.api.usage.tags import current_tags

OPERATIONS: Mapping[str, str] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/embeddings": "embedding",
    "/v1/rerank": "rerank",
}
"""What is noted: requests that cost tokens, by their path."""

BATCH = "batch"
"""What a whole batch is noted as, once it has ended."""

CACHED = "cached"
"""The status of a call that a cache answered: nothing was sent."""

_NO_TOKENS: Mapping[str, int] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@dataclass(slots=True, eq=False, kw_only=True)
class UsageRecord:
    """One call as it ended. Neither the prompt nor the answer is kept."""

    called_at: float
    """Seconds since 1970 by the ledger's clock, when the call began."""
    operation: str
    """chat, completion, embedding, rerank or batch."""
    model: str
    """The model that was asked."""
    answering: str | None = None
    """The model that the reply names."""
    tags: tuple[str, ...]
    usage: object
    """The reply's `usage` as it came; None when there was none."""
    latency: float
    """Seconds until the end, retries included."""
    first_token: float | None = None
    """Seconds until the first chunk of a stream; None for other calls."""
    status: str
    """ok, cached, left early, cancelled, or the class of the error."""
    http_status: int | None = None
    """Of the error; None when there was none, or no reply."""
    retries: int = 0
    request_id: str | None = None
    price_share: Decimal = Decimal(1)
    """What is paid of the catalogue's prices."""
    base_url: str
    """The address that was asked last: its catalogue has the prices."""
    api_key: SecretStr
    """For that address."""

    @classmethod
    def of(cls, ended: Ended) -> Self:
        """Note a call that has ended."""
        call = ended.call
        answering = ended.reply.get("model")
        return cls(
            called_at=now() - ended.seconds,
            operation=OPERATIONS[call.path],
            model=call.model or "",
            answering=answering if isinstance(answering, str) else None,
            tags=call.tags + current_tags(),
            usage=ended.usage,
            latency=ended.seconds,
            first_token=ended.first_chunk,
            status=ended.status,
            http_status=ended.http_status,
            retries=call.retries,
            request_id=ended.request_id,
            base_url=ended.base_url,
            api_key=ended.api_key,
        )

    @classmethod
    def of_hit(
        cls,
        operation: str,
        model: str,
        *,
        tags: tuple[str, ...],
        seconds: float,
        base_url: str,
        api_key: SecretStr,
    ) -> Self:
        """Note a call that a cache answered within some seconds."""
        return cls(
            called_at=now() - seconds,
            operation=operation,
            model=model,
            tags=tags + current_tags(),
            usage=_NO_TOKENS,
            latency=seconds,
            status=CACHED,
            base_url=base_url,
            api_key=api_key,
        )

    @property
    def may_cost(self) -> bool:
        """Whether tokens may have been generated: not when the server refused with an error status."""
        return self.http_status is None or self.status == "TogetherAIStreamError"
