"""Work that is written once, as a generator of steps, and done by a thread or by a coroutine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from hana_ai.api.transport.call import Call
from hana_ai.api.transport.engine import Crossing, get_engine
from hana_ai.api.transport.waiters import blocking_waiter

if TYPE_CHECKING:
    from together import AsyncTogether

    from hana_ai.api.settings import TogetherAISettings
    from hana_ai.api.transport.transport import Transport

_T = TypeVar("_T")


@dataclass(frozen=True)
class Ask:
    """Ask the management API, through the SDK's client."""

    operation: Callable[[AsyncTogether], Awaitable[object]]
    timeout: float | None = None
    """Seconds; default: the settings'."""
    once: bool = False
    """Whether a failure is not to be tried again, since the first try may have done its work."""


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Do something that may block, such as reading files."""

    function: Callable[[], object]


Step = Ask | Pause | Work
Steps = Generator[Step, Any, _T]
"""Each step's result is what its `yield` gives; what a step raises, the `yield` raises."""


class Doer:
    """Does steps over one transport.

    Parameters
    ----------
    transport : callable
        Gives the transport at each step, since it may have been closed meanwhile.
    settings : TogetherAISettings
        For deadlines and retries.
    """

    def __init__(self, transport: Callable[[], Transport], settings: TogetherAISettings) -> None:
        self._transport = transport
        self._settings = settings

    def do(self, steps: Steps[_T]) -> _T:
        """Do all steps in this thread."""
        # A coroutine that blocks where it would wait is done at once.
        try:
            self._do(steps, self._block).send(None)
        except StopIteration as stop:
            value: _T = stop.value
            return value
        raise AssertionError("a step in a thread waits for an event loop")

    async def ado(self, steps: Steps[_T]) -> _T:
        """Do all steps in this coroutine."""
        return await self._do(steps, self._wait)

    @staticmethod
    async def _do(steps: Steps[_T], perform: Callable[[Step], Awaitable[object]]) -> _T:
        try:
            step = next(steps)
            while True:
                try:
                    result = await perform(step)
                except BaseException as exc:  # noqa: BLE001 - raised where the step was asked for
                    step = steps.throw(exc)
                else:
                    step = steps.send(result)
        except StopIteration as stop:
            value: _T = stop.value
            return value
        finally:
            steps.close()

    async def _block(self, step: Step) -> object:
        return self._perform(step)

    def _perform(self, step: Step) -> object:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if isinstance(step, Work):
            return step.function()
        transport, call = self._transport(), self._call(step)
        crossing: Crossing[object] = Crossing(
            get_engine(), lambda _: transport.use_sdk(call, step.operation), blocking_waiter()
        )
        return crossing.wait()

    async def _wait(self, step: Step) -> object:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if isinstance(step, Work):
            return await asyncio.to_thread(step.function)
        return await self._transport().use_sdk(self._call(step), step.operation)

    def _call(self, step: Ask) -> Call:
        settings = self._settings
        return Call(
            "SDK",
            timeout=settings.together_timeout if step.timeout is None else step.timeout,
            connect_timeout=settings.together_connect_timeout,
            max_retries=0 if step.once else settings.together_max_retries,
        )
