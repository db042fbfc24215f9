"""The engine, and one request through it."""

from __future__ import annotations

from hana_ai.api import resolve_lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hana_ai.api.transport.attempts import RetryPolicy
    from hana_ai.api.transport.call import Call, OnRetry, Reply, RetryEvent
    from hana_ai.api.transport.transport import Transport

_MODULES = {
    **dict.fromkeys(("Call", "OnRetry", "Reply", "RetryEvent"), "call"),
    "Transport": "transport",
    "RetryPolicy": "attempts",
}

__all__ = ["Call", "OnRetry", "Reply", "RetryEvent", "RetryPolicy", "Transport"]


def __getattr__(name: str) -> object:
    return resolve_lazily(globals(), _MODULES, name)
