"""Who is told of calls, and who is asked for advice: all that the transport knows of ledgers, telemetry and catalogues.

Watchers and advisers are called in the thread or task that makes the call, never in the engine's, so they may
block, and they see the caller's context variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from hana_ai.api.errors import TogetherAIModelNotFoundError
from hana_ai.api.transport.call import Call

OK = "ok"
CANCELLED = "cancelled"
LEFT_EARLY = "left early"


@dataclass(slots=True, eq=False)
class Ended:
    """How a call ended. Nothing is computed here that can wait: tokens are read and priced when they are needed."""

    call: Call
    """Its `model` is the one that was asked last."""
    called_at: float
    """Seconds since 1970, when the call began."""
    seconds: float
    """Until the end, retries included."""
    first_chunk: float | None
    """Seconds until the first chunk of a stream; None for other calls, and for a stream without one."""
    status: str
    """`OK`, `CANCELLED`, `LEFT_EARLY`, or the class of the error."""
    http_status: int | None
    """Of the error; None when there was none, or no reply."""
    request_id: str | None
    reply: Mapping[str, object]
    """The whole reply, or the last chunk of a stream; empty when nothing came."""
    usage: object
    """The token counts as the server sent them; None when there were none."""
    base_url: str
    """The address that was asked last."""
    api_key: SecretStr
    """For that address: prices are those of a key's account."""


class Watch(Protocol):
    """Watches one call."""

    def ended(self, ended: Ended) -> None:
        """Take note of the end, however it came."""


class Watcher(Protocol):
    """Is told of every call of a transport."""

    def admits(self, call: Call) -> bool:
        """Whether the call may go without `admit` or `aadmit` being asked, as nearly every one may."""

    def admit(self, call: Call) -> None:
        """Refuse a call by an error, such as when a budget is spent."""

    async def aadmit(self, call: Call) -> None:
        """Refuse a call from a coroutine; raises the same errors as `admit`."""

    def begin(self, call: Call) -> Watch | None:
        """Watch a call that begins; None when it is of no interest."""


class Adviser(Protocol):
    """Knows more about an error than the server says."""

    def suggest(self, error: TogetherAIModelNotFoundError, call: Call) -> TogetherAIModelNotFoundError:
        """Name available models in the error for a missing one."""

    async def asuggest(self, error: TogetherAIModelNotFoundError, call: Call) -> TogetherAIModelNotFoundError:
        """Name available models from a coroutine; raises nothing, as `suggest`."""
