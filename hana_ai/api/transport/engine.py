"""The engine: one event loop in one background thread, in which every request to Together runs.

Threads wait for it, and coroutines of any loop await it, through one boundary, a `Crossing`. It hands the caller's
context variables in, strips the engine's frames from what comes out, and cancels the work when its caller leaves:
by an interrupt, a cancellation, a stream that is dropped, or a loop that is closed. What a caller raises stays the
caller's. What the engine wants called, such as `on_retry`, the caller's thread or task calls.

Limiters, breakers and connections live in the engine's thread and need no locks; connections outlive the caller's
event loops. A forked child makes an engine of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, ClassVar, Generic, TypeVar, cast

from hana_ai.api.errors import TogetherAIConnectionError
from hana_ai.api.process import Stage, on_exit, on_fork
from hana_ai.api.transport.native_threads import GreenletWaiter, allocate_lock, new_event_loop, start_thread
from hana_ai.api.transport.waiters import Letterbox, LoopWaiter, ThreadWaiter, Waiter, blocking_waiter
from hana_ai.api.wire.failures import forget_frames
from hana_ai.api.wire.schemas import JSONObject

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Chunk = JSONObject

MOST_WAITING = 64
"""Batches of a stream that wait for its caller before no more is read from the network."""
_LONGEST_END = 5.0
_LOOPS_SWEPT = 0.5


def closed_error() -> TogetherAIConnectionError:
    """The error of a call whose connections were closed under it."""
    error = TogetherAIConnectionError("this client was closed", hint="Make a new one.")
    error.is_retryable = False
    return error


Work = Callable[["Crossing[_T]"], Coroutine[Any, Any, _T]]


class Crossing(Generic[_T]):
    """Work that one caller wants done in the engine.

    Parameters
    ----------
    engine : Engine
    work : callable
        Gets this crossing and returns a coroutine. `hand_over` and `tell` are for it.
    waiter : Waiter
        The caller's; several crossings of one caller may share it.
    context : Context, optional
        The work's context variables. Default: a copy of the caller's.
    """

    __slots__ = (
        "_batches",
        "_callbacks",
        "_context",
        "_engine",
        "_error",
        "_left",
        "_result",
        "_room",
        "_task",
        "_waiter",
        "_work",
        "ended",
    )

    def __init__(self, engine: Engine, work: Work[_T], waiter: Waiter, context: Context | None = None) -> None:
        self._engine = engine
        self._work = work
        self._waiter = waiter
        self._context = copy_context() if context is None else context
        self._batches: deque[list[_Chunk]] = deque()
        self._callbacks: deque[Callable[[], None]] = deque()
        self._room: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._result: _T | None = None
        self._error: BaseException | None = None
        self._left = False
        self.ended = False
        """Whether the work is done; `result` then gives what came of it."""

    # --- in the caller's thread ---

    def begin(self) -> None:
        """Let the work begin."""
        try:
            if isinstance(self._waiter, LoopWaiter):
                self._engine.post(self._start)
            else:
                self._engine.call_soon(self._start)
        except RuntimeError as exc:
            raise closed_error() from exc

    def leave(self) -> None:
        """Cancel the work, if it is not done; nobody waits for it any more."""
        if not self.ended:
            self._left = True
            with contextlib.suppress(RuntimeError):
                # The engine may have been closed, and the work with it.
                self._engine.call_soon(self._cancel)

    def take(self) -> list[_Chunk] | None:
        """Return the chunks that have come, and call what the engine wants called; None when there are none.

        Raises
        ------
        TogetherAIConnectionError
            The process was forked meanwhile, and the engine is the parent's.
        """
        if self._engine.lost:
            raise TogetherAIConnectionError("this call belongs to the parent process", hint="Call again.")
        while self._callbacks:
            self._callbacks.popleft()()
        if not self._batches:
            return None
        chunks = self._batches.popleft()
        while self._batches:
            chunks += self._batches.popleft()
        if self._room is not None:
            self._engine.call_soon(self._make_room)
        return chunks

    def result(self) -> _T:
        """Return what came of the work, or raise its error, without the frames of the engine."""
        error, self._error = self._error, None
        if error is None:
            return cast("_T", self._result)
        try:
            forget_frames(error)
            raise error
        finally:
            # Else the error, its traceback and this frame would hold each other.
            del error

    def wait(self) -> _T:
        """Do the work and wait for its end in a thread."""
        for _ in self.chunks():
            pass
        return self.result()

    async def await_(self) -> _T:
        """Do the work and wait for its end in a coroutine; raises the same errors as `wait`."""
        async for _ in self.achunks():
            pass
        return self.result()

    def chunks(self) -> Generator[list[_Chunk], None, None]:
        """Do the work and yield batches of chunks, in a thread; `result` is to follow."""
        waiter, batches = self._waiter, self._taken()
        assert isinstance(waiter, (ThreadWaiter, GreenletWaiter))
        try:
            for batch in batches:
                if batch is not None:
                    yield batch
                else:
                    waiter.wait()
        finally:
            batches.close()

    async def achunks(self) -> AsyncGenerator[list[_Chunk], None]:
        """Do the work and yield batches of chunks, in a coroutine; `result` is to follow."""
        waiter, batches = self._waiter, self._taken()
        assert isinstance(waiter, LoopWaiter)
        try:
            for batch in batches:
                if batch is not None:
                    yield batch
                else:
                    await waiter.wait()
        finally:
            batches.close()

    def _taken(self) -> Generator[list[_Chunk] | None, None, None]:
        """Do the work and yield batches of chunks, and None where the caller is to wait."""
        try:
            self.begin()
            while True:
                # Asked first: what came before the end is taken afterwards.
                ended = self.ended
                batch = self.take()
                if ended and batch is None:
                    return
                yield batch
        finally:
            self.leave()

    # --- in the engine's thread ---

    async def hand_over(self, chunks: list[_Chunk]) -> None:
        """Give chunks to the caller; waits while too many are waiting already."""
        self._batches.append(chunks)
        self._waiter.wake()
        while len(self._batches) >= MOST_WAITING:
            self._room = asyncio.get_running_loop().create_future()
            # Asked again, since the caller may have taken them before it could see that it has to make room.
            if len(self._batches) >= MOST_WAITING:
                await self._room
            self._room = None

    async def tell(self, function: Callable[[], None]) -> None:
        """Have the caller call a function, and wait until it has."""
        loop = asyncio.get_running_loop()
        told = loop.create_future()

        def call() -> None:
            function()
            self._engine.call_soon(lambda: None if told.done() else told.set_result(None))

        self._callbacks.append(call)
        self._waiter.wake()
        await told

    @property
    def abandoned(self) -> bool:
        """Whether the caller's event loop was closed."""
        return isinstance(self._waiter, LoopWaiter) and self._waiter.loop.is_closed()

    def _start(self) -> None:
        if self._left:
            return
        if self._engine.closed:
            # A task that is cancelled before its first step would tell nobody.
            self._error = closed_error()
            self._tell_of_the_end()
        else:
            self._task = self._engine.begun(self._run(), self._context)

    async def _run(self) -> None:
        self._engine.enter(self)
        try:
            self._result = await self._work(self)
        except asyncio.CancelledError:
            if not self._left:
                self._error = closed_error()
        except BaseException as exc:  # noqa: BLE001 - raised by `result`, in the caller's thread
            self._error = exc
        finally:
            self._engine.leave(self)
            self._tell_of_the_end()

    def _tell_of_the_end(self) -> None:
        self.ended = True
        with contextlib.suppress(RuntimeError):
            # The caller's loop was closed: nobody is left to wake.
            self._waiter.wake()

    def _cancel(self) -> None:
        self._left = True
        if self._task is not None:
            self._engine.cancel(self._task)

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


class Engine:
    """An event loop in a thread of its own, which makes it; `get_engine` gives the process's."""

    def __init__(self) -> None:
        self.lost = False
        """Whether this is a forked child, in which the engine's thread does not run."""
        self.closed = False
        self.loop = new_event_loop()
        self._letters = Letterbox(self.loop)
        self._crossings: set[Crossing[Any]] = set()
        self._cancelled: set[asyncio.Task[None]] = set()
        """Those that have not come to their end yet."""
        self._sweep: asyncio.TimerHandle | None = None
        self._closing: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._ended = allocate_lock()
        self._ended.acquire()

    def run(self) -> None:
        """Run until `close` is called."""
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            # What was asked for while the loop ended is refused, and not left waiting.
            self.loop.run_until_complete(self._refuse_the_rest())
        finally:
            self.loop.close()
            self._ended.release()

    def post(self, letter: Callable[[], None]) -> None:
        """Call a function in the engine's thread; one wake-up for as many as come before it.

        Raises
        ------
        RuntimeError
            The engine was closed, or is the parent's of a forked process; as `call_soon`.
        """
        if self.lost:
            raise RuntimeError("the engine is that of the parent process")
        self._letters.post(letter)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call a function in the engine's thread, with a wake-up of its own.

        For callers that a signal's handler may interrupt: no other caller's wake-up depends on this one's.
        """
        if self.lost:
            raise RuntimeError("the engine is that of the parent process")
        self.loop.call_soon_threadsafe(function)

    def on_close(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await a function in the engine's thread before it ends."""
        self._closing.append(function)

    def begun(self, work: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
        """A task that has taken its first step, where asyncio can do so: else the loop goes round once more.

        A task that was cancelled before gives back first what it holds. Called in the engine's thread.
        """
        if sys.version_info < (3, 12) or self._cancelled:
            return self.loop.create_task(work, context=context)
        return asyncio.Task(work, loop=self.loop, context=context, eager_start=True)

    def cancel(self, task: asyncio.Task[None]) -> None:
        """Cancel a task; called in the engine's thread."""
        if task.cancel():
            self._cancelled.add(task)
            task.add_done_callback(self._cancelled.discard)

    def enter(self, crossing: Crossing[Any]) -> None:
        """Note work that begins; called in the engine's thread."""
        self._crossings.add(crossing)
        if self._sweep is None:
            self._sweep = self.loop.call_later(_LOOPS_SWEPT, self._sweep_loops)

    def leave(self, crossing: Crossing[Any]) -> None:
        """Note work that ended; called in the engine's thread."""
        self._crossings.discard(crossing)

    def _sweep_loops(self) -> None:
        """Cancel the work of callers whose event loop was closed under them."""
        self._sweep = self.loop.call_later(_LOOPS_SWEPT, self._sweep_loops) if self._crossings else None
        for crossing in list(self._crossings):
            if crossing.abandoned:
                crossing._cancel()

    def close(self) -> None:
        """Cancel what is under way, close the connections and end the thread, in that order."""
        if self.closed or self.lost:
            return
        self.closed = True
        self.call_soon(self._begin_to_end)
        if not self._ended.acquire(timeout=_LONGEST_END):
            logger.warning("the engine did not end in %g s", _LONGEST_END)

    def _begin_to_end(self) -> None:
        self._ending = self.loop.create_task(self._end())

    async def _end(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for function in self._closing:
            try:
                await function()
            except Exception:
                logger.exception("could not close a connection")
        await self.loop.shutdown_asyncgens()
        self.loop.stop()

    async def _refuse_the_rest(self) -> None:
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.gather(*tasks, return_exceptions=True)


class _Own:
    """What belongs to this process."""

    lock = allocate_lock()
    """For threads that start an engine."""
    engine: Engine | None = None
    left_behind: ClassVar[list[Engine]] = []


def get_engine() -> Engine:
    """The engine of this process, started when it is first needed."""
    while (engine := running_engine()) is None:
        start = _Start(blocking_waiter())
        start_thread(start, "together-ai-engine")
        start.waiter.wait()
        if start.error is not None:
            raise start.error
    return engine


def running_engine() -> Engine | None:
    """The engine of this process, if it has started."""
    engine = _Own.engine
    return None if engine is None or engine.closed else engine


class _Start:
    """Starts the engine in the thread that runs it, where no signal's handler can leave half of one behind."""

    def __init__(self, waiter: ThreadWaiter | GreenletWaiter) -> None:
        self.waiter = waiter
        self.error: Exception | None = None

    def __call__(self) -> None:
        engine = None
        try:
            with _Own.lock:
                if running_engine() is None:
                    engine = _Own.engine = Engine()
        except Exception as exc:  # noqa: BLE001 - raised by `get_engine`, in the caller's thread
            self.error = exc
        self.waiter.wake()
        if engine is not None:
            engine.run()


def _close() -> None:
    if _Own.engine is not None:
        _Own.engine.close()


def _begin_anew() -> None:
    _Own.lock = allocate_lock()
    # The parent's engine stays as it is: to close its sockets here would reach into the parent's.
    if _Own.engine is not None:
        _Own.engine.lost = True
        _Own.left_behind.append(_Own.engine)
        _Own.engine = None


on_exit(Stage.ENGINE, _close)
on_fork(in_child=_begin_anew)
