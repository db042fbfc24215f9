"""Who is told of calls, and who is asked for advice: all that the transport knows of ledger and catalogue.

Watchers and advisers are called in the thread or task that makes the call, never in the engine's, so they may
block, and they see the caller's context variables.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from pydantic import SecretStr

from hana_ai.api.errors import TogetherAIModelNotFoundError
from hana_ai.api.transport.call import Call

if TYPE_CHECKING:
    from hana_ai.api.wire.events import EventReader

OK = "ok"
CANCELLED = "cancelled"
LEFT_EARLY = "left early"


@dataclass(slots=True, eq=False)
class Ended:
    """How a call ended. What can wait is not computed here: tokens are read and priced when they are needed."""

    call: Call
    """Its `model` is the one that was asked last."""
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


class Observers:
    """The watchers and the adviser of one transport."""

    def __init__(self, watchers: Sequence[Watcher], adviser: Adviser | None) -> None:
        self._watchers = watchers
        self._adviser = adviser

    def admit(self, call: Call) -> None:
        """Ask every watcher; raises the error of the first that refuses the call."""
        for watcher in self._watchers:
            if not watcher.admits(call):
                watcher.admit(call)

    async def aadmit(self, call: Call) -> None:
        """Ask every watcher from a coroutine; raises the same errors as `admit`."""
        for watcher in self._watchers:
            if not watcher.admits(call):
                await watcher.aadmit(call)

    def watch(self, call: Call, base_url: str, api_key: SecretStr) -> Watched:
        """Let every watcher watch a call that begins."""
        watches = [watch for watcher in self._watchers if (watch := watcher.begin(call)) is not None]
        return Watched(watches, call, base_url, api_key)

    def suggest(self, error: TogetherAIModelNotFoundError, call: Call) -> TogetherAIModelNotFoundError:
        """Name available models in the error for a missing one, if somebody knows them."""
        if self._adviser is None or call.model is None:
            return error
        return self._adviser.suggest(error, call)

    async def asuggest(self, error: TogetherAIModelNotFoundError, call: Call) -> TogetherAIModelNotFoundError:
        """Name available models from a coroutine; raises nothing, as `suggest`."""
        if self._adviser is None or call.model is None:
            return error
        return await self._adviser.asuggest(error, call)


class Watched:
    """Tells watchers of one call, however it ends; as a context manager, so that it sees every way to end."""

    __slots__ = (
        "_call",
        "_first_chunk",
        "_reply",
        "_request_id",
        "_watches",
        "api_key",
        "base_url",
        "reader",
    )

    def __init__(self, watches: Sequence[Watch], call: Call, base_url: str, api_key: SecretStr) -> None:
        self._call = call
        self._watches = watches
        self._first_chunk: float | None = None
        self._reply: Mapping[str, object] = {}
        self._request_id: str | None = None
        self.base_url = base_url
        self.api_key = api_key
        self.reader: EventReader | None = None
        """Of a stream that has begun."""

    def replied(self, data: object, request_id: str | None) -> None:
        """Note a whole reply."""
        self._request_id = request_id
        if isinstance(data, dict):
            self._reply = data

    def chunks_came(self) -> None:
        """Note that chunks of a stream have come."""
        if self._first_chunk is None:
            self._first_chunk = time.monotonic() - self._call.started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._watches:
            return
        seconds = time.monotonic() - self._call.started
        reader = self.reader
        if reader is not None:
            self._reply, self._request_id = reader.last, reader.request_id
        # A stream that was read to its end is whole, even if nobody asked for its last chunk.
        whole = exc is None or (reader is not None and reader.done and isinstance(exc, GeneratorExit))
        status, http_status = (OK, None) if whole else _status(exc)
        ended = Ended(
            call=self._call,
            seconds=seconds,
            first_chunk=self._first_chunk,
            status=status,
            http_status=http_status,
            request_id=self._request_id or getattr(exc, "request_id", None),
            reply=self._reply,
            usage=self._reply.get("usage") if reader is None else reader.usage,
            base_url=self.base_url,
            api_key=self.api_key,
        )
        for watch in self._watches:
            watch.ended(ended)


def _status(exc: BaseException | None) -> tuple[str, int | None]:
    if isinstance(exc, GeneratorExit):
        return LEFT_EARLY, None
    if isinstance(exc, (CancelledError, KeyboardInterrupt)):
        return CANCELLED, None
    public = next(cls.__name__ for cls in type(exc).__mro__ if not cls.__name__.startswith("_"))
    return public, getattr(exc, "status", None)
