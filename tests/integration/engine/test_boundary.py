"""What crosses the boundary of the engine, and what does not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from hana_ai.api import ChatTogetherAI, RetryEvent, TogetherAIConnector
from hana_ai.api.errors import TogetherAIConnectionError, TogetherAIError, TogetherAIServerError
from hana_ai.api.local.together import Reply, ScriptedEngine
from hana_ai.api.transport import RetryPolicy, Transport
from hana_ai.api.transport.call import Call
from hana_ai.api.transport.destinations import destinations_of
from hana_ai.api.transport.engine import Crossing, Engine, get_engine
from hana_ai.api.transport.native_threads import handshake_seconds, new_event_loop
from hana_ai.api.transport.tls import ssl_context
from hana_ai.api.transport.waiters import blocking_waiter
from tests.conftest import ScriptedTogether, eventually
from tests.faults.server import silent_port

MODEL = ScriptedEngine.CHAT
PATH = "/v1/chat/completions"


def call(text: str = "hello you", **fields: Any) -> Call:
    fields.setdefault("max_retries", 0)
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": fields.get("stream", False)}
    return Call(PATH, body, model=MODEL, **fields)


@pytest.fixture
def transport(together: ScriptedTogether) -> Iterator[Transport]:
    made = Transport(base_url=together.base_url, api_key=SecretStr(str(together.api_key)))
    yield made
    made.close()


def _in_use(transport: Transport) -> int:
    return destinations_of(get_engine()).at(transport.base_url, transport.api_key).in_use


def _frames(exc: BaseException) -> Iterator[FrameType]:
    seen: set[int] = set()
    links: list[BaseException | None] = [exc]
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        links += [link.__cause__, link.__context__]
        for frame, _ in traceback.walk_tb(link.__traceback__):
            yield frame


def _check_frames(exc: BaseException, key: str) -> None:
    """No frame of the engine or of an HTTP library, and the key in no variable."""
    for frame in _frames(exc):
        module = frame.f_globals.get("__name__", "")
        assert module.partition(".")[0] not in ("aiohttp", "httpx", "httpcore", "together"), module
        assert key not in repr(list(frame.f_locals.values())), (module, frame.f_code.co_name)
    assert key not in "".join(traceback.TracebackException.from_exception(exc, capture_locals=True).format())


SOME: ContextVar[str] = ContextVar("some", default="nothing")


class _Interrupt(Exception):
    """What a signal's handler raises."""


@contextlib.contextmanager
def _alarm(seconds: float, error: BaseException) -> Iterator[None]:
    """Raise an error in the main thread after some time, as a soft limit or Ctrl-C does.

    If the handler happens to run inside a weak reference's callback or a finalizer, Python reports the error as
    unraisable and goes on: no code can change that, so it is not reported here.
    """

    def ring(*_: object) -> None:
        raise error

    def unraisable(event: sys.UnraisableHookArgs, /) -> None:
        if event.exc_value is not error:
            report(event)

    report, sys.unraisablehook = sys.unraisablehook, unraisable
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.unraisablehook = report


@pytest.mark.parametrize("error", [_Interrupt("soft limit"), KeyboardInterrupt(), TimeoutError("mine")], ids=repr)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_a_signals_handler_raises_is_the_callers_and_cancels_the_call(
    transport: Transport, together: ScriptedTogether, error: BaseException, stream: bool
) -> None:
    together.engine.reply(Reply(stall=True))
    with pytest.raises(type(error)) as caught, _alarm(0.2, error):
        if stream:
            next(transport.stream(call(stream=True)))
        else:
            transport.request(call())
    assert caught.value is error
    assert caught.value.__cause__ is None
    _check_frames(caught.value, str(together.api_key))
    asyncio.run(eventually(lambda: _in_use(transport) == 0 and together.statistics.open_connections == 0))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("how", ["timeout", "wait_for", "cancel"])
async def test_a_caller_that_gives_up_sees_its_own_error_without_the_key(
    transport: Transport, together: ScriptedTogether, how: str, stream: bool
) -> None:
    together.engine.reply(Reply(stall=True))

    async def ask() -> None:
        if stream:
            await anext(transport.astream(call(stream=True)))
        else:
            await transport.arequest(call())

    expected: type[BaseException] = asyncio.CancelledError if how == "cancel" else TimeoutError
    with pytest.raises(expected) as caught:
        if how == "timeout":
            async with asyncio.timeout(0.1):
                await ask()
        elif how == "wait_for":
            await asyncio.wait_for(ask(), 0.1)
        else:
            task = asyncio.create_task(ask())
            await asyncio.sleep(0.1)
            task.cancel()
            await task
    assert not isinstance(caught.value, TogetherAIError)
    _check_frames(caught.value, str(together.api_key))
    await eventually(lambda: _in_use(transport) == 0 and together.statistics.open_connections == 0)


@pytest.mark.parametrize(
    "reply", [Reply(status=500), Reply(drop=True), Reply(stall=True)], ids=["500", "drop", "stall"]
)
@pytest.mark.parametrize("way", ["sync", "async"])
async def test_an_error_holds_no_frame_of_the_engine_and_no_key(
    transport: Transport, together: ScriptedTogether, reply: Reply, way: str
) -> None:
    together.engine.reply(reply)
    with pytest.raises(TogetherAIError) as caught:
        if way == "sync":
            await asyncio.to_thread(transport.request, call(timeout=0.3))
        else:
            await transport.arequest(call(timeout=0.3))
    _check_frames(caught.value, str(together.api_key))


def test_a_loop_that_is_closed_under_a_call_cancels_it(transport: Transport, together: ScriptedTogether) -> None:
    together.engine.reply(Reply(stall=True))
    loop = asyncio.new_event_loop()
    task = loop.create_task(transport.arequest(call()))
    loop.run_until_complete(asyncio.sleep(0.1))
    assert _in_use(transport) == 1
    loop.close()
    # The task is still referred to: nothing but the engine itself can notice.
    asyncio.run(eventually(lambda: _in_use(transport) == 0 and together.statistics.open_connections == 0))
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_generator_that_is_dropped_cancels_its_stream(transport: Transport, together: ScriptedTogether) -> None:
    together.check_answers = False
    together.engine.reply(Reply(text="one two three", stall_at_chunk=1))
    stream = transport.stream(call(stream=True))
    next(stream)
    del stream
    gc.collect()
    asyncio.run(eventually(lambda: _in_use(transport) == 0 and together.statistics.open_connections == 0))


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_callbacks_run_where_the_call_was_made_and_may_call_a_model(
    transport: Transport, together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(Transport, "retry_policy", RetryPolicy(first_wait=0.01))
    chat = ChatTogetherAI(model=MODEL, **together.client)
    seen: list[object] = []

    def on_retry(event: RetryEvent) -> None:
        seen.extend([threading.get_ident(), SOME.get(), chat.invoke("from the callback").content])

    together.engine.reply(Reply(status=503))

    def ask() -> int:
        SOME.set("the caller's")
        transport.request(call(max_retries=1, on_retry=on_retry))
        return threading.get_ident()

    if way == "sync":
        asked = await asyncio.to_thread(ask)
    else:
        SOME.set("the caller's")
        await transport.arequest(call(max_retries=1, on_retry=on_retry))
        asked = threading.get_ident()
    assert seen == [asked, "the caller's", "from the callback"]


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_what_a_callback_raises_ends_the_call(
    transport: Transport, together: ScriptedTogether, way: str
) -> None:
    together.engine.reply(Reply(status=503, repeat=5))

    def on_retry(event: RetryEvent) -> None:
        assert isinstance(event.error, TogetherAIServerError)
        raise _Interrupt("enough")

    asked = call(max_retries=3, on_retry=on_retry)
    with pytest.raises(_Interrupt, match="enough"):
        if way == "sync":
            await asyncio.to_thread(transport.request, asked)
        else:
            await transport.arequest(asked)
    assert len(together.engine.posts) == 1
    await eventually(lambda: _in_use(transport) == 0)


async def test_a_slow_reader_bounds_what_waits_for_it(transport: Transport, together: ScriptedTogether) -> None:
    together.check_answers = False
    together.engine.reply(Reply(text=" ".join(["word"] * 8_000)))
    stream = transport.astream(call(stream=True))
    first = await anext(stream)
    await asyncio.sleep(0.5)
    rest = [chunk async for chunk in stream]
    text = "".join(
        chunk["choices"][0]["delta"].get("content") or "" for chunk in [first, *rest] if chunk["choices"]
    )
    assert text.split() == ["word"] * 8_000


def test_after_closing_a_call_is_refused(transport: Transport) -> None:
    transport.close()
    with pytest.raises(TogetherAIConnectionError, match="closed"):
        transport.request(call())
    with pytest.raises(TogetherAIConnectionError, match="closed"):
        asyncio.run(transport.arequest(call()))


@contextlib.contextmanager
def _own_engine() -> Iterator[Engine]:
    engine = Engine()
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        yield engine
    finally:
        engine.closed = False
        engine.close()
        thread.join()


def test_a_call_that_meets_a_closing_engine_is_refused() -> None:
    async def answer(_: Crossing[int]) -> int:
        return 1

    with _own_engine() as engine:
        assert Crossing(engine, answer, blocking_waiter()).wait() == 1
        engine.closed = True
        refused: list[TogetherAIConnectionError] = []

        def ask() -> None:
            with pytest.raises(TogetherAIConnectionError, match="closed") as info:
                Crossing(engine, answer, blocking_waiter()).wait()
            refused.append(info.value)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(10)
        assert refused


def test_a_call_begins_after_those_that_were_cancelled_before_it() -> None:
    order: list[str] = []
    holds, done = threading.Event(), threading.Event()

    async def hold(_: Crossing[None]) -> None:
        try:
            holds.set()
            await asyncio.get_running_loop().create_future()
        finally:
            order.append("given back")

    async def take(_: Crossing[None]) -> None:
        order.append("taken")
        done.set()

    with _own_engine() as engine:
        first, second = (Crossing(engine, work, blocking_waiter()) for work in (hold, take))
        first.begin()
        assert holds.wait(10)

        def both() -> None:
            # As they come when the caller is quick: in one round of the engine's loop.
            first._cancel()
            second._start()

        engine.call_soon(both)
        assert done.wait(10)
        third = Crossing(engine, take, blocking_waiter())
        third.wait()
        assert not engine._cancelled
    assert order == ["given back", "taken", "taken"]


def test_a_tls_handshake_is_given_up_in_the_time_of_its_task() -> None:
    async def shake_hands(host: str, port: int) -> None:
        handshake_seconds.set(0.1)
        await asyncio.get_running_loop().create_connection(asyncio.Protocol, host, port, ssl=ssl_context())

    with silent_port("https") as address, asyncio.Runner(loop_factory=new_event_loop) as runner:
        port = urlsplit(address).port
        assert port is not None
        with pytest.raises(ConnectionAbortedError, match=r"0\.1"):
            runner.run(shake_hands("127.0.0.1", port))


# --- many ways to leave, in any order ---


def _whole(transport: Transport, moment: float) -> None:
    with contextlib.suppress(_Interrupt), _alarm(moment, _Interrupt()):
        transport.request(call())


def _interrupted_stream(transport: Transport, moment: float) -> None:
    with contextlib.suppress(KeyboardInterrupt), _alarm(moment, KeyboardInterrupt()):
        for _ in transport.stream(call("one two three four", stream=True)):
            pass


def _dropped_stream(transport: Transport, moment: float) -> None:
    stream = transport.stream(call("one two three four", stream=True))
    next(stream)
    del stream


def _cancelled(transport: Transport, moment: float) -> None:
    async def run() -> None:
        tasks = [asyncio.create_task(transport.arequest(call())) for _ in range(3)]
        await asyncio.sleep(moment)
        for task in tasks:
            task.cancel()
        for end in await asyncio.gather(*tasks, return_exceptions=True):
            assert not isinstance(end, Exception), end

    asyncio.run(run())


def _timed_out(transport: Transport, moment: float) -> None:
    async def run() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(moment):
                async for _ in transport.astream(call("one two three four", stream=True)):
                    pass

    asyncio.run(run())


def _closed_loop(transport: Transport, moment: float) -> None:
    async def read() -> None:
        async for _ in transport.astream(call("one two three four", stream=True)):
            pass

    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(transport.arequest(call())), loop.create_task(read())]
    loop.run_until_complete(asyncio.sleep(moment))
    loop.close()
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


WAYS: list[Callable[[Transport, float], None]] = [
    _whole,
    _interrupted_stream,
    _dropped_stream,
    _cancelled,
    _timed_out,
    _closed_loop,
]


def _leave_often(transport: Transport, together: ScriptedTogether, times: int) -> None:
    chance = random.Random(7)
    for _ in range(times):
        chance.choice(WAYS)(transport, chance.choice([0.0005, 0.002, 0.004, 0.008]))
    gc.collect()
    asyncio.run(eventually(lambda: _in_use(transport) == 0))
    # Nobody's wake-up was lost: the engine still answers.
    assert transport.request(call("still there")).data["choices"][0]["message"]["content"] == "still there"
    assert asyncio.run(transport.arequest(call("and here"))).retries == 0
    transport.close()
    asyncio.run(eventually(lambda: together.statistics.open_connections == 0))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")
def test_whoever_leaves_in_any_way_leaves_nothing_behind(transport: Transport, together: ScriptedTogether) -> None:
    _leave_often(transport, together, 150)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")
def test_whoever_leaves_2000_times_leaves_nothing_behind(transport: Transport, together: ScriptedTogether) -> None:
    _leave_often(transport, together, 2000)


async def test_a_connection_whose_handshake_is_given_up_is_closed() -> None:
    """Of the SDK's client, too: httpcore leaves it to the garbage collector."""
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        gone.set()
        writer.close()

    gc.disable()
    try:
        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            connector = TogetherAIConnector()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await connector.connect({"base_url": f"https://{host}:{port}", "api_key": "a-key"})
            async with asyncio.timeout(20):
                await gone.wait()
    finally:
        gc.enable()
