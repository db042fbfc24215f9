"""Deadlines are kept to the tenth of a second, and whoever leaves a call leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from hana_ai.api.errors import TogetherAIRequestError, TogetherAIStreamError, TogetherAITimeoutError
from hana_ai.api.local.together import ScriptedEngine
from hana_ai.api.service import catalog_for
from hana_ai.api.transport.call import Call
from hana_ai.api.transport.transport import Transport
from tests.conftest import ScriptedTogether, cancel
from tests.faults import catalogue
from tests.faults.catalogue import after_headers, chunk, cut, drips, in_body, in_headers, slowly_endless
from tests.faults.server import Exchange, FaultyServer, Good, Listener, Play, deaf_port, head

PATH = "/v1/chat/completions"
DEADLINE = 0.5
LATE = 1.0
"""Seconds that a busy machine may add; a drip of a byte in 20 ms would add many."""


def _call(timeout: float = 10.0, *, stream: bool = False, idle: float = 10.0, connect: float = 5.0) -> Call:
    body = {
        "model": ScriptedEngine.CHAT,
        "messages": [{"role": "user", "content": "one two three four"}],
        "stream": stream,
    }
    return Call(
        PATH,
        body,
        model=ScriptedEngine.CHAT,
        timeout=timeout,
        stream_idle_timeout=idle,
        connect_timeout=connect,
        max_retries=0,
        stream=stream,
    )


Open = Callable[[str], Transport]


@pytest.fixture(scope="module", autouse=True)
def _warm(good_server: ScriptedTogether) -> None:
    """The first request imports what is heavy."""
    transport = Transport(base_url=good_server.base_url, api_key=SecretStr(str(good_server.api_key)))
    transport.request(_call())
    asyncio.run(transport.arequest(_call()))
    transport.close()


@pytest.fixture
def opened(good_server: ScriptedTogether) -> Iterator[Open]:
    """Makes transports that are closed at the end."""
    made: list[Transport] = []

    def make(url: str) -> Transport:
        made.append(Transport(base_url=url, api_key=SecretStr(str(good_server.api_key))))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


def _ask(transport: Transport, call: Call) -> None:
    transport.request(call)


def _aask(transport: Transport, call: Call) -> None:
    asyncio.run(transport.arequest(call))


def _stream(transport: Transport, call: Call) -> None:
    for _ in transport.stream(call):
        pass


def _astream(transport: Transport, call: Call) -> None:
    async def run() -> None:
        async for _ in transport.astream(call):
            pass

    asyncio.run(run())


FACES = pytest.mark.parametrize(
    "ask", [_ask, _aask, _stream, _astream], ids=["sync", "async", "stream", "astream"]
)
STREAMS = pytest.mark.parametrize("ask", [_stream, _astream], ids=["stream", "astream"])


def _late() -> dict[str, Play]:
    return {
        "stalled before the headers": cut(lambda raw: 0, "stall"),
        "stalled in the headers": cut(in_headers, "stall"),
        "stalled after the headers": cut(after_headers, "stall"),
        "headers in drips": drips(0.02),
        "body in drips": drips(0.02, begin=after_headers),
        "interim answers for ever": slowly_endless(lambda good: b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    }


@FACES
@pytest.mark.parametrize("play", _late().values(), ids=_late())
def test_a_call_ends_at_its_deadline(
    play: Play, ask: Callable[[Transport, Call], None], faulty: FaultyServer, opened: Open
) -> None:
    with faulty.listen(play) as listener:
        call = _call(DEADLINE, stream=ask in (_stream, _astream))
        begin = time.monotonic()
        with pytest.raises(TogetherAITimeoutError, match="TOGETHER_TIMEOUT"):
            ask(opened(listener.url), call)
        assert DEADLINE - 0.01 <= time.monotonic() - begin < DEADLINE + LATE


@FACES
def test_connecting_has_a_deadline_of_its_own(ask: Callable[[Transport, Call], None], opened: Open) -> None:
    with deaf_port() as url:
        begin = time.monotonic()
        with pytest.raises(TogetherAITimeoutError, match="while connecting"):
            ask(opened(url), _call(stream=ask in (_stream, _astream), connect=0.3))
        assert 0.29 <= time.monotonic() - begin < 0.3 + LATE


def _first_then(part: bytes) -> Play:
    return slowly_endless(
        lambda good: head(200, {**good.headers, "transfer-encoding": "chunked"}) + chunk(good.events[0]),
        chunk(part),
    )


@STREAMS
@pytest.mark.parametrize(
    "play",
    [cut(in_body, "stall"), _first_then(b": still here\n\n"), _first_then(b"x")],
    ids=["silence", "comments", "drips"],
)
def test_only_chunks_count_between_chunks(
    play: Play, ask: Callable[[Transport, Call], None], faulty: FaultyServer, opened: Open
) -> None:
    with faulty.listen(play) as listener:
        begin = time.monotonic()
        with pytest.raises(TogetherAIStreamError, match="timed out"):
            ask(opened(listener.url), _call(stream=True, idle=0.4))
        # Half of the answer came before the silence.
        assert time.monotonic() - begin < 0.4 + 3 * LATE


@pytest.mark.parametrize("ask", [_ask, _stream], ids=["sync", "stream"])
def test_a_request_that_is_taken_in_drips_ends_at_its_deadline(
    ask: Callable[[Transport, Call], None], opened: Open
) -> None:
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def sip() -> None:
            connection, _ = listener.accept()
            with connection:
                while not done.wait(0.02) and connection.recv(2048):
                    pass

        thread = threading.Thread(target=sip)
        thread.start()
        call = _call(DEADLINE, stream=ask is _stream)
        call.body = {"text": "x" * 30_000_000}
        begin = time.monotonic()
        with pytest.raises(TogetherAITimeoutError):
            ask(opened(f"http://127.0.0.1:{listener.getsockname()[1]}"), call)
        took = time.monotonic() - begin
        done.set()
        thread.join(5)
    assert took < DEADLINE + 2 * LATE


def test_a_dead_address_leaves_time_for_the_next(
    faulty: FaultyServer, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def passes(exchange: Exchange) -> None:
        await exchange.send((await exchange.good()).wire())

    find = socket.getaddrinfo
    with faulty.listen(passes) as listener, deaf_port("::1", listener.port):

        def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
            if host != "two.test":
                return find(host, *rest, **more)
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", listener.port, 0, 0)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", listener.port)),
            ]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        begin = time.monotonic()
        opened(f"http://two.test:{listener.port}").request(_call(connect=5.0))
        assert time.monotonic() - begin < 0.3 + LATE


# --- leaving ---

TURNS = 3
"""A busy machine may be late once; the quickest turn counts."""


def _slow_stream() -> Play:
    async def play(exchange: Exchange) -> None:
        good = await exchange.good()
        await exchange.send(head(200, {**good.headers, "transfer-encoding": "chunked"}) + chunk(good.events[0]))
        await exchange.stall()

    return play


def _left_within(listener: Listener, begin: float) -> float:
    """Seconds from `begin` until the server saw the connection end."""
    while listener.open:
        assert time.monotonic() < begin + 5, "the connection stays open"
        time.sleep(0.001)
    return listener.left_at - begin


def test_breaking_out_of_a_stream_closes_its_connection_within_100_ms(faulty: FaultyServer, opened: Open) -> None:
    took = []
    with faulty.listen(_slow_stream()) as listener:
        transport = opened(listener.url)
        for _ in range(TURNS):
            stream = transport.stream(_call(stream=True))
            next(stream)
            begin = time.monotonic()
            stream.close()
            took.append(_left_within(listener, begin))
        assert transport.limiter(ScriptedEngine.CHAT).in_use == 0
    assert min(took) < 0.1


async def test_leaving_an_asynchronous_stream_closes_its_connection_within_100_ms(
    faulty: FaultyServer, opened: Open
) -> None:
    took = []
    with faulty.listen(_slow_stream()) as listener:
        transport = opened(listener.url)
        for _ in range(TURNS):
            stream = transport.astream(_call(stream=True))
            await anext(stream)
            begin = time.monotonic()
            await stream.aclose()
            took.append(await asyncio.to_thread(_left_within, listener, begin))
        assert transport.limiter(ScriptedEngine.CHAT).in_use == 0
    assert min(took) < 0.1


@pytest.mark.parametrize("stage", ["headers", "body", "stream"])
async def test_a_cancelled_task_closes_its_connection_within_100_ms(
    stage: str, faulty: FaultyServer, opened: Open
) -> None:
    play = {"headers": cut(lambda raw: 0, "stall"), "body": cut(in_body, "stall"), "stream": _slow_stream()}[stage]
    with faulty.listen(play) as listener:
        transport = opened(listener.url)

        async def ask() -> None:
            if stage == "stream":
                async for _ in transport.astream(_call(stream=True)):
                    pass
            else:
                await transport.arequest(_call())

        took = []
        for turn in range(TURNS):
            task = asyncio.create_task(ask())
            while len(listener.requests) <= turn:  # noqa: ASYNC110 - it happens in the server's thread
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            begin = time.monotonic()
            await cancel(task)
            took.append(await asyncio.to_thread(_left_within, listener, begin))
        assert transport.limiter(ScriptedEngine.CHAT).in_use == 0
    assert min(took) < 0.1


# --- every byte ---


def _small(good: Good) -> bytes:
    """A reply as small as can be."""
    if good.is_stream:
        events = (
            b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
            b'data: {"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}]}\n\n'
            b"data: [DONE]\n\n"
        )
        return Good(200, {"content-type": "text/event-stream"}, events).wire()
    return Good(200, {"content-type": "application/json"}, b'{"choices":[{"message":{"content":"ab"}}]}').wire()


@pytest.mark.parametrize("how", ["reset", "close"])
@FACES
def test_a_reply_that_ends_at_any_byte_is_whole_or_an_error(
    how: str, ask: Callable[[Transport, Call], None], faulty: FaultyServer, opened: Open
) -> None:
    streams = ask in (_stream, _astream)
    kind = "text/event-stream" if streams else "application/json"
    raw = _small(Good(200, {"content-type": kind}, b""))

    async def play(exchange: Exchange) -> None:
        await exchange.send(raw[: int(exchange.request.body)])
        await getattr(exchange, how)()

    async def atext(transport: Transport, call: Call) -> str:
        if not streams:
            return str((await transport.arequest(call)).data["choices"][0]["message"]["content"])
        return "".join([wire["choices"][0]["delta"]["content"] async for wire in transport.astream(call)])

    def text(transport: Transport, call: Call) -> str:
        if not streams:
            return str(transport.request(call).data["choices"][0]["message"]["content"])
        return "".join(wire["choices"][0]["delta"]["content"] for wire in transport.stream(call))

    def at(offset: int) -> Call:
        call = _call(stream=streams)
        call.payload = str(offset).encode()
        return call

    def judge(offset: int, answer: str | Exception) -> None:
        if isinstance(answer, str):
            assert answer == "ab", f"half an answer at byte {offset}"
        else:
            assert isinstance(answer, TogetherAIRequestError), f"{answer!r} at byte {offset}"
            assert offset < len(raw) or how == "reset", f"{answer!r} for a whole reply"

    with faulty.listen(play) as listener:
        transport = opened(listener.url)
        if ask in (_ask, _stream):
            for offset in range(len(raw) + 1):
                try:
                    judge(offset, text(transport, at(offset)))
                except TogetherAIRequestError as exc:
                    judge(offset, exc)
        else:

            async def run() -> None:
                answers = [atext(transport, at(offset)) for offset in range(len(raw) + 1)]
                for offset, answer in enumerate(await asyncio.gather(*answers, return_exceptions=True)):
                    judge(offset, answer)  # type: ignore[arg-type]

            asyncio.run(run())
        assert len(listener.requests) == len(raw) + 1
        assert transport.limiter(ScriptedEngine.CHAT).in_use == 0


def test_a_gigantic_reply_in_drips_ends_at_the_deadline(faulty: FaultyServer, opened: Open) -> None:
    play = slowly_endless(
        lambda good: head(200, {"content-type": "application/json", "content-length": str(10**12)}),
        b" " * 50_000,
        0.01,
    )
    with faulty.listen(play) as listener:
        begin = time.monotonic()
        with pytest.raises(TogetherAITimeoutError):
            opened(listener.url).request(_call(DEADLINE))
        assert time.monotonic() - begin < DEADLINE + LATE


# --- clocks ---


@pytest.mark.parametrize("jump", [-5 * 3600.0, 5 * 3600.0], ids=["back", "forth"])
@FACES
def test_a_clock_that_jumps_changes_no_deadline(
    jump: float,
    ask: Callable[[Transport, Call], None],
    faulty: FaultyServer,
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, calls = time.time, [0]

    def jumping() -> float:
        calls[0] += 1
        return real() + jump * (calls[0] % 2)

    monkeypatch.setattr(time, "time", jumping)
    streams = ask in (_stream, _astream)
    busy = catalogue.once(catalogue.answers(429, b"{}", retry_after="0.05"))
    with faulty.listen(busy) as listener:
        transport = opened(listener.url)
        call = _call(stream=streams)
        call.max_retries = 1
        ask(transport, call)
        assert len(listener.requests) == 2
        assert catalog_for(listener.url, transport.api_key).models()
        assert catalog_for(listener.url, transport.api_key).fresh
    with faulty.listen(cut(in_headers, "stall")) as listener:
        begin = time.monotonic()
        with pytest.raises(TogetherAITimeoutError):
            ask(opened(listener.url), _call(DEADLINE, stream=streams))
        assert time.monotonic() - begin < DEADLINE + LATE


def test_a_clock_that_jumps_leaves_the_ledger_whole(
    together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hana_ai.api import TogetherAIClient

    real, offset = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    with TogetherAIClient() as client:
        for jump in (0.0, -40 * 86_400.0, 40 * 86_400.0, 0.0):
            offset[0] = jump
            client.generate_chat_completion("hello", model=ScriptedEngine.CHAT)
        totals = client.ledger.totals()
    assert totals["total_requests"] == 4
    assert totals["failed_requests"] == 0


# --- certificates ---


def test_certificates_that_cannot_be_read_are_named(
    good_server: ScriptedTogether, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hana_ai.api.errors import TogetherAISettingsError

    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/authority.pem")
    for ask in (_ask, _aask, _stream, _astream):
        with pytest.raises(TogetherAISettingsError, match=r"SSL_CERT_FILE=/nowhere/authority\.pem"):
            ask(opened(good_server.base_url), _call(stream=ask in (_stream, _astream)))
