"""The transport over real sockets: retries, deadlines, broken replies, event loops, connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from hana_ai.api import __version__
from hana_ai.api.errors import (
    TogetherAIAuthenticationError,
    TogetherAIConnectionError,
    TogetherAIContextOverflowError,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIModelNotFoundError,
    TogetherAIPaymentRequiredError,
    TogetherAIRateLimitError,
    TogetherAIRequestError,
    TogetherAIResponseError,
    TogetherAIServerError,
    TogetherAIStatusError,
    TogetherAIStreamError,
    TogetherAITimeoutError,
)
from hana_ai.api.local.together import Reply, ScriptedEngine
from hana_ai.api.service import get_transport
from hana_ai.api.transport.attempts import RetryPolicy
from hana_ai.api.transport.call import Call, RetryEvent
from hana_ai.api.transport.transport import Transport
from tests.conftest import ScriptedTogether, eventually

PATH = "/v1/chat/completions"
KEY = "tgp_v1_watched-the-key-of-the-tests"

Ask = Callable[[Transport, Call], Any]


def _ask(transport: Transport, call: Call) -> Any:
    return transport.request(call).data["choices"][0]["message"]["content"]


def _aask(transport: Transport, call: Call) -> Any:
    async def run() -> Any:
        return (await transport.arequest(call)).data["choices"][0]["message"]["content"]

    return asyncio.run(run())


def _stream(transport: Transport, call: Call) -> Any:
    call.body = {**(call.body or {}), "stream": True}
    call.stream = True
    return _text(transport.stream(call))


def _astream(transport: Transport, call: Call) -> Any:
    call.body = {**(call.body or {}), "stream": True}
    call.stream = True

    async def run() -> Any:
        return _text([chunk async for chunk in transport.astream(call)])

    return asyncio.run(run())


def _text(chunks: Any) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


FACES = pytest.mark.parametrize(
    "ask", [_ask, _aask, _stream, _astream], ids=["sync", "async", "stream", "astream"]
)
PLAIN = pytest.mark.parametrize("ask", [_ask, _aask], ids=["sync", "async"])
STREAMS = pytest.mark.parametrize("ask", [_stream, _astream], ids=["stream", "astream"])


@pytest.fixture
def transport(together: ScriptedTogether) -> Iterator[Transport]:
    transport = Transport(base_url=together.base_url, api_key=SecretStr(str(together.api_key)))
    yield transport
    transport.close()


def call(text: str = "hello you", **fields: Any) -> Call:
    body = {"model": ScriptedEngine.CHAT, "messages": [{"role": "user", "content": text}]}
    return Call(PATH, body, model=ScriptedEngine.CHAT, **{"timeout": 20.0, **fields})


@FACES
def test_the_answer_belongs_to_the_question(transport: Transport, ask: Ask) -> None:
    assert ask(transport, call("the question")) == "the question"


@FACES
@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 524, 529])
def test_a_passing_failure_is_tried_again(
    transport: Transport, engine: ScriptedEngine, ask: Ask, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "retry_policy", RetryPolicy(first_wait=0.01))
    engine.reply(Reply(status=status), Reply(status=status))
    seen: list[RetryEvent] = []
    assert ask(transport, call("at last", on_retry=seen.append)) == "at last"
    assert [(event.attempt, event.error.status) for event in seen] == [(1, status), (2, status)]
    assert {event.path for event in seen} == {PATH}


@FACES
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_a_lasting_failure_is_not(transport: Transport, engine: ScriptedEngine, ask: Ask, status: int) -> None:
    engine.reply(Reply(status=status))
    with pytest.raises(TogetherAIStatusError) as caught:
        ask(transport, call(on_retry=lambda event: pytest.fail(f"tried again: {event}")))
    assert caught.value.status == status
    assert caught.value.request_id
    assert str(caught.value).startswith(f"Error code: {status} - ")
    assert len([request for request in engine.posts if request.path == PATH]) == 1


@FACES
@pytest.mark.parametrize(
    ("header", "value"), [("retry-after-ms", "300"), ("retry-after", "0.3"), ("x-ratelimit-reset", "0.3")]
)
def test_a_429_waits_as_long_as_the_server_says(
    transport: Transport, engine: ScriptedEngine, ask: Ask, header: str, value: str
) -> None:
    engine.reply(Reply(status=429, headers={header: value}))
    seen: list[RetryEvent] = []
    begin = time.monotonic()
    assert ask(transport, call("now", on_retry=seen.append)) == "now"
    assert time.monotonic() - begin >= 0.3
    assert seen[0].wait == pytest.approx(0.3)


@FACES
def test_a_wait_beyond_the_deadline_is_not_begun(transport: Transport, engine: ScriptedEngine, ask: Ask) -> None:
    engine.always(Reply(status=429, headers={"retry-after": "30"}))
    begin = time.monotonic()
    with pytest.raises(TogetherAIRateLimitError) as caught:
        ask(transport, call(timeout=2.0))
    assert time.monotonic() - begin < 2.0
    assert caught.value.retry_after == 30.0


@FACES
def test_tries_end_after_the_retries(
    transport: Transport, engine: ScriptedEngine, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "retry_policy", RetryPolicy(first_wait=0.01))
    engine.always(Reply(status=500))
    with pytest.raises(TogetherAIServerError):
        ask(transport, call(max_retries=2))
    assert len(engine.posts) == 3


@PLAIN
def test_the_server_may_forbid_a_retry(transport: Transport, engine: ScriptedEngine, ask: Ask) -> None:
    engine.always(Reply(status=500, headers={"x-should-retry": "false"}))
    with pytest.raises(TogetherAIServerError):
        ask(transport, call())
    assert len(engine.posts) == 1


@FACES
def test_a_dropped_connection_is_tried_again(
    transport: Transport, together: ScriptedTogether, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "retry_policy", RetryPolicy(first_wait=0.01))
    together.engine.reply(Reply(drop=True), Reply(drop=True))
    errors: list[TogetherAIRequestError] = []
    assert ask(transport, call("back", on_retry=lambda event: errors.append(event.error))) == "back"
    assert [type(error) for error in errors] == [TogetherAIConnectionError] * 2


@FACES
def test_a_server_that_is_not_there_is_a_connection_error(ask: Ask) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    transport = Transport(base_url=url, api_key=SecretStr(KEY))
    with pytest.raises(TogetherAIConnectionError, match=url) as caught:
        ask(transport, call(max_retries=0))
    assert "TOGETHER_BASE_URL" in str(caught.value)
    transport.close()


@FACES
def test_a_server_that_says_nothing_ends_at_the_deadline(
    transport: Transport, together: ScriptedTogether, ask: Ask
) -> None:
    together.engine.always(Reply(stall=True))
    begin = time.monotonic()
    with pytest.raises(TogetherAITimeoutError, match="TOGETHER_TIMEOUT"):
        ask(transport, call(timeout=0.5, max_retries=0))
    assert 0.4 < time.monotonic() - begin < 5.0


@STREAMS
def test_a_gap_in_a_stream_ends_it_with_what_was_received(
    transport: Transport, together: ScriptedTogether, ask: Ask
) -> None:
    together.engine.reply(Reply(text="one two three", stall_at_chunk=2))
    with pytest.raises(TogetherAIStreamError, match="timed out"):
        ask(transport, call(stream_idle_timeout=0.5))


@STREAMS
def test_the_deadline_of_a_stream_ends_with_its_first_chunk(
    transport: Transport, together: ScriptedTogether, ask: Ask
) -> None:
    together.engine.reply(Reply(text="slow but steady", chunk_delay=0.4))
    begin = time.monotonic()
    assert ask(transport, call(timeout=1.0, stream_idle_timeout=5.0)) == "slow but steady"
    assert time.monotonic() - begin > 1.0


@STREAMS
@pytest.mark.parametrize("broken", [{"break_at_chunk": 0}, {"error_at_chunk": 0}], ids=["cut off", "error event"])
@pytest.mark.usefixtures("quick_retries")
def test_a_stream_that_breaks_before_its_first_chunk_is_tried_again(
    transport: Transport, together: ScriptedTogether, ask: Ask, broken: dict[str, int]
) -> None:
    together.check_answers = False
    together.engine.reply(Reply(text="whole answer", **broken))
    assert ask(transport, call("whole answer")) == "whole answer"


@STREAMS
@pytest.mark.parametrize("broken", [{"break_at_chunk": 2}, {"error_at_chunk": 2}], ids=["cut off", "error event"])
def test_a_stream_that_breaks_later_is_not(
    transport: Transport, together: ScriptedTogether, ask: Ask, broken: dict[str, int]
) -> None:
    together.check_answers = False
    together.engine.reply(Reply(text="one two three four", **broken))
    with pytest.raises(TogetherAIStreamError) as caught:
        ask(transport, call())
    assert isinstance(caught.value.__cause__, Exception)
    assert len(together.engine.posts) == 1


@STREAMS
@pytest.mark.parametrize(
    "body",
    [
        b"data: not json\n\n",
        b"data: [1]\n\n",
        b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\ndata: {broken\n\n',
    ],
)
def test_a_stream_of_something_else_is_refused(
    transport: Transport, together: ScriptedTogether, ask: Ask, body: bytes
) -> None:
    together.check_answers = False
    together.engine.reply(Reply(body=body, content_type="text/event-stream"))
    with pytest.raises((TogetherAIResponseError, TogetherAIStreamError), match="no JSON object"):
        ask(transport, call())


@STREAMS
def test_a_stream_that_just_ends_is_not_taken_for_a_whole_answer(
    transport: Transport, together: ScriptedTogether, ask: Ask
) -> None:
    together.check_answers = False
    together.engine.reply(
        Reply(
            body=b'data: {"choices":[{"index":0,"delta":{"content":"half"},"finish_reason":null}]}\n\n',
            content_type="text/event-stream",
        )
    )
    with pytest.raises(TogetherAIStreamError, match="ended before the answer was complete"):
        ask(transport, call())


@STREAMS
@pytest.mark.parametrize(
    "end",
    [
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n',
        b"data: [DONE]\n\ndata: {ignored\n\n",
    ],
    ids=["finish reason", "usage", "done"],
)
def test_a_compatible_servers_ends_are_understood(
    transport: Transport, together: ScriptedTogether, ask: Ask, end: bytes
) -> None:
    together.check_answers = False
    begin = b'data: {"choices":[{"index":0,"delta":{"content":"whole"},"finish_reason":null}]}\n\n'
    together.engine.reply(Reply(body=begin + end, content_type="text/event-stream"))
    assert ask(transport, call()) == "whole"


@STREAMS
def test_an_answer_that_is_no_stream_is_named(transport: Transport, together: ScriptedTogether, ask: Ask) -> None:
    together.check_answers = False
    together.engine.reply(Reply(body={"choices": []}))
    with pytest.raises(TogetherAIResponseError, match="content type is application/json"):
        ask(transport, call())


@PLAIN
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(body="<html>Welcome to the proxy</html>"), "Welcome to the proxy"),
        (Reply(body=b'{"choices": [', content_type="application/json"), "not JSON"),
        (Reply(body=b"", content_type="application/json"), "0 bytes"),
    ],
)
def test_a_reply_that_is_not_json_shows_its_beginning(
    transport: Transport, together: ScriptedTogether, ask: Ask, reply: Reply, words: str
) -> None:
    together.check_answers = False
    together.engine.reply(reply)
    with pytest.raises(TogetherAIResponseError, match=words):
        ask(transport, call())
    assert len(together.engine.posts) == 1


@PLAIN
def test_a_reply_that_is_too_large_is_refused_while_it_is_read(
    transport: Transport, together: ScriptedTogether, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "max_reply_bytes", 1000)
    together.engine.reply(Reply(text="x" * 100_000))
    with pytest.raises(TogetherAIResponseError, match="larger than 1000 bytes"):
        ask(transport, call())


@PLAIN
def test_a_reply_that_breaks_in_the_middle_is_tried_again(
    transport: Transport, together: ScriptedTogether, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "retry_policy", RetryPolicy(first_wait=0.01))
    together.check_answers = False
    together.engine.reply(Reply(text="one two three four five", break_at_byte=40))
    assert ask(transport, call("again")) == "again"
    assert len(together.engine.posts) == 2


@FACES
def test_a_redirect_is_not_followed(
    transport: Transport, together: ScriptedTogether, engine: ScriptedEngine, ask: Ask
) -> None:
    engine.reply(Reply(status=307, headers={"location": f"{together.base_url}/elsewhere"}))
    with pytest.raises(TogetherAIStatusError, match="Redirects are not followed"):
        ask(transport, call(max_retries=0))
    assert len(engine.posts) == 1


@FACES
def test_a_missing_model_names_close_available_ones(together: ScriptedTogether, ask: Ask) -> None:
    transport = get_transport(base_url=together.base_url, api_key=SecretStr(str(together.api_key)))
    asked = call()
    asked.model = "local/scripted-chad"
    asked.body = {**(asked.body or {}), "model": asked.model}
    with pytest.raises(TogetherAIModelNotFoundError, match=ScriptedEngine.CHAT) as caught:
        ask(transport, asked)
    assert caught.value.alternatives == (ScriptedEngine.CHAT,)
    assert "TOGETHER_DEFAULT_MODEL" in str(caught.value)


@FACES
def test_a_model_without_endpoint_is_missing_too_even_when_the_catalogue_is_down(
    transport: Transport, engine: ScriptedEngine, ask: Ask
) -> None:
    engine.on("/v2/supported-models", Reply(status=404))
    engine.on("/v1/models", Reply(status=404))
    engine.reply(
        Reply(
            status=400,
            body={
                "error": {
                    "message": "Unable to access non-serverless model X.",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "model_not_available",
                }
            },
        )
    )
    with pytest.raises(TogetherAIModelNotFoundError, match="non-serverless") as caught:
        ask(transport, call())
    assert caught.value.alternatives == ()


@pytest.mark.parametrize(
    ("status", "message", "cls"),
    [
        (401, "bad key", TogetherAIAuthenticationError),
        (402, "insufficient balance", TogetherAIPaymentRequiredError),
        (403, "context length exceeded", TogetherAIContextOverflowError),
    ],
)
def test_errors_of_the_account_have_classes_and_advice(
    transport: Transport, engine: ScriptedEngine, status: int, message: str, cls: type[TogetherAIRequestError]
) -> None:
    engine.reply(Reply(status=status, error={"message": message}))
    with pytest.raises(cls) as caught:
        _ask(transport, call())
    assert caught.value.hint


def test_what_is_no_json_is_refused_before_it_is_sent(transport: Transport, engine: ScriptedEngine) -> None:
    for value, words in ((object(), "object"), ("\ud800", "surrogate"), (2**70, "Integer")):
        with pytest.raises(TogetherAIInputError, match=words):
            transport.request(Call(PATH, {"x": value}))
    assert not engine.posts


def test_the_key_shows_nowhere(together: ScriptedTogether, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="hana_ai")
    transport = Transport(base_url=together.base_url, api_key=SecretStr(KEY))
    shown = repr(transport) + str(vars(transport))
    for ask in (_ask, _aask, _stream, _astream):
        with pytest.raises(TogetherAIAuthenticationError) as caught:
            ask(transport, call())
        shown += repr(caught.value) + str(caught.value) + str(vars(caught.value))
    assert KEY not in shown + caplog.text
    transport.close()


# --- event loops, threads, connections ---


def test_a_second_event_loop_works(transport: Transport) -> None:
    for number in range(3):
        assert _aask(transport, call(f"loop {number}")) == f"loop {number}"


def test_loops_in_threads_have_clients_of_their_own(transport: Transport) -> None:
    answers: dict[int, str] = {}

    def run(number: int) -> None:
        answers[number] = _aask(transport, call(f"thread {number}"))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: f"thread {number}" for number in range(8)}


async def test_closing_from_a_coroutine_closes_everything(
    together: ScriptedTogether,
) -> None:
    transport = Transport(base_url=together.base_url, api_key=SecretStr(str(together.api_key)))
    await transport.arequest(call())
    await asyncio.to_thread(transport.request, call())
    # Threads and event loops share what is open.
    assert together.statistics.open_connections == 1
    await transport.aclose()
    assert transport.closed
    await eventually(lambda: together.statistics.open_connections == 0)
    with pytest.raises(TogetherAIConnectionError, match="closed"):
        await transport.arequest(call(max_retries=0))
    with pytest.raises(TogetherAIConnectionError, match="closed"):
        await asyncio.to_thread(transport.request, call(max_retries=0))


def test_the_same_address_and_key_share_a_transport() -> None:
    first = get_transport(base_url="http://127.0.0.1:9", api_key=SecretStr("a"))
    assert get_transport(base_url="http://127.0.0.1:9", api_key=SecretStr("a")) is first
    assert get_transport(base_url="http://127.0.0.1:9", api_key=SecretStr("b")) is not first
    first.close()
    assert get_transport(base_url="http://127.0.0.1:9", api_key=SecretStr("a")) is not first


_LEAVES_WITHOUT_CLOSING = """
import asyncio, sys
from pydantic import SecretStr
from hana_ai.api.transport.call import Call
from hana_ai.api.service import get_transport
t = get_transport(base_url=sys.argv[1], api_key=SecretStr(sys.argv[2]))
def call():
    return Call("/v1/chat/completions", {"model": sys.argv[3], "messages": [{"role": "user", "content": "x"}]})
t.request(call())
asyncio.run(t.arequest(call()))
async def leave_a_stream():
    async for chunk in t.astream(Call("/v1/chat/completions", {**call().body, "stream": True}, stream=True)):
        break
asyncio.run(leave_a_stream())
loop = asyncio.new_event_loop()
loop.run_until_complete(t.arequest(call()))
if sys.argv[4] == "closed":
    loop.close()
    asyncio.run(t.arequest(call()))
print("done")
"""


@pytest.mark.parametrize("loop", ["closed", "left open"])
def test_a_process_that_closes_nothing_ends_without_a_warning(together: ScriptedTogether, loop: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", _LEAVES_WITHOUT_CLOSING, together.base_url, str(together.api_key),
         ScriptedEngine.CHAT, loop],
        capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
    assert "Unclosed" not in done.stderr
    assert "never awaited" not in done.stderr


def test_a_stream_that_is_left_early_gives_its_connection_and_place_back(
    transport: Transport, together: ScriptedTogether
) -> None:
    together.engine.always(Reply(text="word " * 200, chunk_delay=0.05))
    asked = call()
    asked.body = {**(asked.body or {}), "stream": True}
    stream = transport.stream(asked)
    next(stream)
    assert transport.limiter(asked.model).in_use == 1
    stream.close()
    asyncio.run(eventually(lambda: transport.limiter(asked.model).in_use == 0))
    asyncio.run(eventually(lambda: together.statistics.open_connections == 0))


async def test_a_cancelled_task_gives_its_connection_and_place_back(
    together: ScriptedTogether,
) -> None:
    transport = Transport(base_url=together.base_url, api_key=SecretStr(str(together.api_key)))
    together.engine.always(Reply(stall=True))

    async def drain(stream: AsyncIterator[Any]) -> None:
        async for _ in stream:
            pass

    asked = call()
    streamed = call()
    streamed.body = {**(streamed.body or {}), "stream": True}
    tasks: list[asyncio.Task[Any]] = [
        asyncio.create_task(transport.arequest(asked)),
        asyncio.create_task(drain(transport.astream(streamed))),
    ]
    await eventually(lambda: together.statistics.active == 2)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2
    await eventually(lambda: transport.limiter(ScriptedEngine.CHAT).in_use == 0)
    await eventually(lambda: together.statistics.open_connections == 0)
    await transport.aclose()


def test_waiting_for_a_place_ends_at_the_deadline(together: ScriptedTogether) -> None:
    transport = Transport(base_url=together.base_url, api_key=SecretStr(str(together.api_key)), max_concurrency=1)
    together.engine.reply(Reply(stall=True))

    def take_the_place() -> None:
        with contextlib.suppress(TogetherAIError):
            transport.request(call(timeout=3))

    first = threading.Thread(target=take_the_place)
    first.start()
    asyncio.run(eventually(lambda: transport.limiter(ScriptedEngine.CHAT).in_use == 1))
    waits: list[Callable[[], Awaitable[Any] | Any]] = [
        lambda: transport.request(call(timeout=0.2)),
        lambda: asyncio.run(transport.arequest(call(timeout=0.2))),
    ]
    for wait in waits:
        with pytest.raises(TogetherAITimeoutError, match="earlier requests of this process"):
            wait()
    transport.close()
    first.join(30)


def test_a_429_lowers_the_concurrency_and_a_503_does_not(
    transport: Transport, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "retry_policy", RetryPolicy(first_wait=0.01))
    limiter = transport.limiter(ScriptedEngine.CHAT)
    engine.reply(Reply(status=503))
    _ask(transport, call())
    assert limiter.limit == limiter.ceiling
    engine.reply(Reply(status=429))
    _ask(transport, call())
    assert limiter.limit == int(limiter.ceiling * 0.85)


@STREAMS
def test_streams_one_after_the_other_share_a_connection(
    transport: Transport, together: ScriptedTogether, ask: Ask
) -> None:
    if ask is _stream:
        for number in range(5):
            assert ask(transport, call(f"number {number}")) == f"number {number}"
    else:

        async def run() -> None:
            for number in range(5):
                asked = call(f"number {number}")
                asked.body = {**(asked.body or {}), "stream": True}
                assert _text([chunk async for chunk in transport.astream(asked)]) == f"number {number}"

        asyncio.run(run())
    assert together.statistics.connections == 1


def test_a_server_that_holds_back_the_end_of_a_stream_is_not_waited_for(transport: Transport) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        b"e\r\ndata: [DONE]\n\n\r\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(answer)
            connection.recv(1)  # until the client hangs up
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        own = Transport(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", api_key=SecretStr("k"))
        assert list(own.stream(Call(PATH, {"stream": True}))) == []
        thread.join(5)
        assert not thread.is_alive()
        own.close()


@PLAIN
def test_a_request_tells_nothing_about_this_machine(
    transport: Transport, engine: ScriptedEngine, ask: Ask
) -> None:
    ask(transport, call())
    headers = engine.posts[-1].headers
    assert headers["user-agent"] == f"hana-ai-together/{__version__}"
    assert not [name for name in headers if name.startswith("x-stainless")]
