"""The faults: what is done to a reply, and what has to come of it."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import orjson

from hana_ai.api.errors import (
    TogetherAIAuthenticationError,
    TogetherAIConflictError,
    TogetherAIConnectionError,
    TogetherAIInvalidRequestError,
    TogetherAIModelNotFoundError,
    TogetherAIPaymentRequiredError,
    TogetherAIPermissionDeniedError,
    TogetherAIRateLimitError,
    TogetherAIRequestError,
    TogetherAIResponseError,
    TogetherAIServerError,
    TogetherAISettingsError,
    TogetherAIStatusError,
    TogetherAIStreamError,
    TogetherAITimeoutError,
)
from tests.faults.server import Exchange, Good, Play, chunk, head

RETRIES = 1
SHORT = 0.6
"""Seconds for a call that a fault holds up."""
AMPLE = 4.0
"""The same, where a part of the answer has to arrive before, on a busy machine as well."""
LONG = 20.0
BOUND = 64 * 1024
"""What the bound of a reply is set to, so that a giant is soon told."""


@dataclass(frozen=True)
class Expected:
    """The right end of a call."""

    error: type[Exception] | tuple[type[Exception], ...] | None = None
    """None for the right answer."""
    tries: int | None = 1
    """Requests that the server gets; None where that can't be told."""
    words: str = ""
    """A regular expression that the message matches."""
    any_answer: bool = False
    """An answer is right, though it need not be the server's: nobody can tell."""


ANSWER = Expected()


def fails(*errors: type[Exception], retried: bool = False, words: str = "", tries: int | None = -1) -> Expected:
    """An error, after one try or after all."""
    return Expected(errors, (1 + RETRIES if retried else 1) if tries == -1 else tries, words)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong."""

    name: str
    play: Play
    plain: Expected | None = ANSWER
    """For a whole reply; None where the fault has no meaning."""
    stream: Expected | None = ANSWER
    account: Expected | None = None
    """For the management API; the same as `plain` where it is not named."""
    timeout: float = LONG
    bounded: bool = False
    """Whether the bounds of size are made small."""
    slow: bool = False
    """Whether it is left to the long run, since others are much like it."""
    skip: tuple[str, ...] = ()
    """Parts or kinds of faces for which it has no meaning, or another one."""


# --- helpers that make plays ---


def script(do: Callable[[Exchange, Good], Awaitable[None]]) -> Play:
    """A play that begins with the good reply."""

    async def play(exchange: Exchange) -> None:
        await do(exchange, await exchange.good())

    return play


def says(raw: bytes, then: str = "close") -> Play:
    """Send these bytes in place of the reply, and close, reset, stall or go on."""

    async def play(exchange: Exchange) -> None:
        await exchange.send(raw)
        if then != "keep":
            await getattr(exchange, then)()

    return play


def answers(status: int, body: bytes = b"", content_type: str = "application/json", **headers: str) -> Play:
    """Answer with a status, in good form."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    given = {"content-type": content_type, "x-request-id": "the-request", **named}
    return says(head(status, {**given, "content-length": str(len(body))}) + body, "keep")


def error_body(status: int) -> bytes:
    """An error in Together's shape."""
    return orjson.dumps(
        {"error": {"message": f"a made-up {status}", "type": "made_up", "param": None, "code": None}}
    )


def once(play: Play) -> Play:
    """Do it to the first request alone."""

    async def first(exchange: Exchange) -> None:
        if exchange.number == 0:
            await play(exchange)
        else:
            await exchange.send((await exchange.good()).wire())

    return first


def cut(where: Callable[[bytes], int], how: str) -> Play:
    """Send the good reply up to an offset, and close, reset or stall."""

    async def do(exchange: Exchange, good: Good) -> None:
        raw = good.wire()
        await exchange.send(raw[: where(raw)])
        if how != "stall":
            await asyncio.sleep(0.02)  # for what was sent to arrive before a reset overtakes it
        await getattr(exchange, how)()

    return script(do)


def in_headers(raw: bytes) -> int:
    return 25


def after_headers(raw: bytes) -> int:
    return raw.index(b"\r\n\r\n") + 4


def in_body(raw: bytes) -> int:
    """In the middle; of a stream after its first event."""
    begin = raw.index(b"\r\n\r\n") + 4
    return begin + (len(raw) - begin) * 2 // 3


def drips(every: float, size: int = 1, begin: Callable[[bytes], int] = lambda raw: 0) -> Play:
    """Send the good reply a few bytes at a time, from an offset on."""

    async def do(exchange: Exchange, good: Good) -> None:
        raw = good.wire()
        await exchange.send(raw[: begin(raw)])
        await exchange.drip(raw[begin(raw) :], every, size)

    return script(do)


LIST = ("choices", "data", "results")
"""Where the answers are, in chat and completions, embeddings and rerank."""


def reshaped(change: Callable[[Any], Any]) -> Play:
    """Change the JSON of a good reply, or of each event of a stream."""

    async def do(exchange: Exchange, good: Good) -> None:
        if good.is_stream:
            body = b"".join(_reshaped_event(event, change) for event in good.events)
        else:
            body = orjson.dumps(change(good.json))
        await exchange.send(good.wire(body))

    return script(do)


def _reshaped_event(event: bytes, change: Callable[[Any], Any]) -> bytes:
    if event.startswith(b"data: {"):
        return b"data: " + orjson.dumps(change(orjson.loads(event[6:]))) + b"\n\n"
    return event


def with_list(value: Any) -> Play:
    """Put something in the place of the answers."""

    def change(reply: Any) -> Any:
        return {name: value if name in LIST else reply[name] for name in reply}

    return reshaped(change)


def without_list(reply: Any) -> Any:
    return {name: value for name, value in reply.items() if name not in LIST}


def with_usage(value: Any) -> Play:
    """Put something in the place of the token counts."""
    return reshaped(lambda reply: {**reply, "usage": value})


def with_body(raw: Callable[[bytes], bytes], **headers: str) -> Play:
    """Change the bytes of the body (of a stream: all of it, sent with its length)."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def do(exchange: Exchange, good: Good) -> None:
        body = raw(good.body)
        given = {**good.headers, "content-length": str(len(body)), **named}
        await exchange.send(head(good.status, given) + body)

    return script(do)


def events(change: Callable[[list[bytes]], list[bytes]]) -> Play:
    """Change the order and number of a stream's events."""

    async def do(exchange: Exchange, good: Good) -> None:
        await exchange.send(good.wire(b"".join(change(good.events))))

    return script(do)


def ends_with(event: bytes) -> Play:
    """Let a stream end with an event after its second one."""
    return events(lambda all: [*all[:2], event])


def endless(top: Callable[[Good], bytes], part: bytes) -> Play:
    """Send a beginning and then the same bytes for ever."""

    async def do(exchange: Exchange, good: Good) -> None:
        await exchange.send(top(good))
        while True:
            await exchange.send(part)
            await asyncio.sleep(0)

    return script(do)


def slowly_endless(top: Callable[[Good], bytes], part: bytes, every: float = 0.05) -> Play:
    """Send a beginning and then the same bytes for ever, one by one."""

    async def do(exchange: Exchange, good: Good) -> None:
        await exchange.send(top(good))
        while True:
            await exchange.send(part)
            await asyncio.sleep(every)

    return script(do)


def _chunked_head(good: Good, **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return head(good.status, {**good.headers, "transfer-encoding": "chunked", **named})


def _chunked(body: Callable[[bytes], bytes]) -> Play:
    """Send the body with `transfer-encoding: chunked`, damaged."""

    async def do(exchange: Exchange, good: Good) -> None:
        await exchange.send(_chunked_head(good) + body(good.body))
        await exchange.close()

    return script(do)


# --- the faults ---

GONE = fails(TogetherAIConnectionError, retried=True, words="TOGETHER_BASE_URL")
LATE = fails(TogetherAITimeoutError, tries=None, words="timed out.*TOGETHER_")
NOT_ACCOUNT = ("account",)
REFUSED_KEY = fails(TogetherAISettingsError, words="Invalid API key")
BROKE = fails(TogetherAIStreamError, words="partial")
STRANGE = fails(TogetherAIResponseError)
_MAYBE = Expected((TogetherAIResponseError, TogetherAIStreamError), any_answer=True)
STRANGE_STREAM = fails(TogetherAIResponseError, TogetherAIStreamError)
TOO_LARGE = fails(TogetherAIResponseError, TogetherAIStreamError, words="larger than")


def faults() -> Iterator[Fault]:
    """All that happen in HTTP; those of connecting need more than a play."""
    yield from _connections()
    yield from _slowness()
    yield from _framing()
    yield from _shapes()
    yield from _redirects()
    yield from _statuses()
    yield from _hints()
    yield from _giants()
    yield from _streams()


def _connections() -> Iterator[Fault]:
    for how in ("reset", "close"):
        yield Fault(f"{how} before the headers", cut(lambda raw: 0, how), GONE, GONE)
        yield Fault(f"{how} in the headers", cut(in_headers, how), GONE, GONE)
        yield Fault(f"{how} after the headers", cut(after_headers, how), GONE, GONE)
        yield Fault(f"{how} in the body", cut(in_body, how), GONE, BROKE)
        yield Fault(
            f"{how} once before the headers, then good",
            once(cut(lambda raw: 0, how)),
            Expected(tries=2),
            Expected(tries=2),
        )
        yield Fault(
            f"{how} once after the headers, then good",
            once(cut(after_headers, how)),
            Expected(tries=2),
            Expected(tries=2),
        )


def _slowness() -> Iterator[Fault]:
    yield Fault("stalled before the headers", cut(lambda raw: 0, "stall"), LATE, LATE, timeout=SHORT)
    yield Fault("stalled in the headers", cut(in_headers, "stall"), LATE, LATE, timeout=SHORT)
    yield Fault("stalled after the headers", cut(after_headers, "stall"), LATE, LATE, timeout=SHORT)
    yield Fault("stalled in the body", cut(in_body, "stall"), LATE, BROKE, timeout=AMPLE)
    yield Fault("one byte every 20 ms", drips(0.02), LATE, LATE, timeout=SHORT)
    yield Fault("one byte of the body every 20 ms", drips(0.02, begin=after_headers), LATE, LATE, timeout=SHORT)
    yield Fault(
        "one byte every 20 ms after half of the body",
        drips(0.02, begin=in_body),
        LATE,
        # On a busy machine the first chunk comes late as well.
        Expected((TogetherAIStreamError, TogetherAITimeoutError), any_answer=True),
        timeout=SHORT,
    )
    yield Fault("slow, but in time", drips(0.01, 40))
    late = head(200, {"content-type": "application/json"})
    yield Fault(
        "100 Continue for ever",
        slowly_endless(lambda good: b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        LATE,
        LATE,
        timeout=SHORT,
    )
    yield Fault(
        "headers for ever, slowly",
        slowly_endless(lambda good: late[:-2], b"x-more: 1\r\n"),
        LATE,
        LATE,
        timeout=SHORT,
    )
    yield Fault(
        "an error whose body stalls",
        says(head(500, {"content-length": "99"}) + b"{", "stall"),
        fails(TogetherAITimeoutError, TogetherAIServerError, tries=None),
        fails(TogetherAITimeoutError, TogetherAIServerError, tries=None),
        timeout=SHORT,
    )


def _framing() -> Iterator[Fault]:
    yield Fault(
        "longer content-length than body",
        with_body(lambda body: body, content_length="100000"),
        LATE,
        ANSWER,
        timeout=AMPLE,
    )
    yield Fault(
        "shorter content-length than body",
        with_body(lambda body: body, content_length="30"),
        fails(TogetherAIResponseError, TogetherAIConnectionError, tries=None),
        fails(TogetherAIConnectionError, TogetherAIStreamError, tries=None),
    )
    yield Fault(
        "content-length that is no number", with_body(lambda body: body, content_length="many"), GONE, GONE
    )
    yield Fault("negative content-length", with_body(lambda body: body, content_length="-5"), GONE, GONE)
    yield Fault("bytes after the body", script(_and_more))
    yield Fault(
        "chunk size that is no number", _chunked(lambda body: b"zz\r\n" + body + b"\r\n0\r\n\r\n"), GONE, GONE
    )
    yield Fault(
        "chunk of another size",
        _chunked(lambda body: b"5\r\n" + body + b"\r\n0\r\n\r\n"),
        GONE,
        fails(TogetherAIConnectionError, TogetherAIStreamError, tries=None),
    )
    yield Fault("chunks without an end", _chunked(chunk), GONE, Expected(any_answer=True))
    yield Fault("chunk size beyond all memory", _chunked(lambda body: b"f" * 15 + b"\r\n" + body[:20]), GONE, GONE)
    for name, line in (
        ("status line of SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
        ("status line of noise", b"\x00\xff\xfe\r\n\r\n"),
        ("status line without a status", b"HTTP/1.1 \r\n\r\n"),
        ("status of five digits", b"HTTP/1.1 20000 OK\r\ncontent-length: 2\r\n\r\n{}"),
        ("header without a colon", b"HTTP/1.1 200 OK\r\nno colon here\r\ncontent-length: 2\r\n\r\n{}"),
        ("header with a null byte", b"HTTP/1.1 200 OK\r\nx-null: a\x00b\r\ncontent-length: 2\r\n\r\n{}"),
        ("giant header", b"HTTP/1.1 200 OK\r\nx-giant: " + b"x" * 400_000 + b"\r\ncontent-length: 2\r\n\r\n{}"),
    ):
        yield Fault(name, says(line), GONE, GONE)
    yield Fault(
        "headers without end", endless(lambda good: b"HTTP/1.1 200 OK\r\n", b"x-more: 1\r\n" * 500), GONE, GONE
    )
    yield Fault("100 Continue first", script(_after(b"HTTP/1.1 100 Continue\r\n\r\n")))
    yield Fault("103 Early Hints first", script(_after(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")))
    yield Fault("header in letters beyond ASCII", with_body(lambda body: body, x_name="M\xfcller"))


async def _and_more(exchange: Exchange, good: Good) -> None:
    await exchange.send(good.wire() + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong")


def _after(raw: bytes) -> Callable[[Exchange, Good], Awaitable[None]]:
    async def do(exchange: Exchange, good: Good) -> None:
        await exchange.send(raw)
        await asyncio.sleep(0.01)
        await exchange.send(good.wire())

    return do


def _shapes() -> Iterator[Fault]:
    no_json = fails(TogetherAIResponseError, words="JSON")
    no_stream = fails(TogetherAIResponseError, words="asked for a stream|content type")
    for name, body in (
        ("an empty list", b"[]"),
        ("null", b"null"),
        ("a number", b"7"),
        ("a string", b'"hello"'),
        ("an empty object", b"{}"),
    ):
        yield Fault(name, answers(200, body), STRANGE, no_stream)
    for name, body in (
        ("half of the JSON", b'{"choices": [{"index": 0'),
        ("nothing at all", b""),
        ("a page of HTML", b"<html><body>Welcome to the proxy</body></html>"),
        ("bytes of no encoding", b'{"choices": "\xff\xfe"}'),
        ("a number that is none", b'{"choices": NaN}'),
        ("100,000 lists in each other", b"[" * 100_000 + b"]" * 100_000),
        ("100,000 objects in each other", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    ):
        yield Fault(name, answers(200, body), no_json, no_stream)
    yield Fault("no content (204)", says(head(204, {"x-request-id": "r"}), "keep"), no_json, no_stream, STRANGE)
    yield Fault(
        "a page of HTML that says so", answers(200, b"<html>login</html>", "text/html"), no_json, no_stream
    )
    yield Fault(
        "JSON under the name of text",
        with_body(lambda body: body, content_type="text/plain"),
        ANSWER,
        no_stream,
    )
    yield Fault("answers missing", reshaped(without_list), STRANGE, _MAYBE, skip=NOT_ACCOUNT)
    nested: Any = "deep"
    for _ in range(240):
        nested = [nested]
    for name, value in (
        ("null", None),
        ("an empty list", []),
        ("a number", 7),
        ("a string", "x"),
        ("an object", {"a": 1}),
        ("a list of null", [None]),
        ("a list of numbers", [7]),
        ("a list of lists", [[1]]),
        ("a list of empty objects", [{}]),
        ("a list with a message of null", [{"index": 0, "message": None, "text": None}]),
        (
            "a list with a message of numbers",
            [{"index": 0, "message": 7, "delta": 7, "text": 7, "embedding": 7, "relevance_score": "7"}],
        ),
        (
            "a list with contents of numbers",
            [
                {
                    "index": 0,
                    "message": {"content": 7, "tool_calls": 7},
                    "delta": {"content": 7, "tool_calls": 7},
                    "text": [7],
                    "embedding": ["7"],
                    "relevance_score": None,
                }
            ],
        ),
        ("240 lists in each other", nested),
    ):
        # A stream's chunk may well have no choices, and a choice no text: the answer is then incomplete or empty.
        lenient = value in (None, [], [{}]) or name == "a list with a message of null"
        ends = Expected(
            (TogetherAIStreamError, TogetherAIConnectionError, TogetherAIResponseError), None, any_answer=True
        )
        yield Fault(
            f"answers: {name}",
            with_list(value),
            STRANGE,
            ends if lenient else fails(TogetherAIResponseError, TogetherAIStreamError, tries=None),
            skip=NOT_ACCOUNT,
        )
    for name, value in (
        ("a string", "many"),
        ("a list", [1, 2]),
        ("counts of strings", {"prompt_tokens": "many", "completion_tokens": "3", "total_tokens": {}}),
        ("counts below zero", {"prompt_tokens": -1, "completion_tokens": -7, "total_tokens": -8}),
        ("counts beyond bounds", {"prompt_tokens": 1e308, "completion_tokens": 1e308, "total_tokens": 1e308}),
        (
            "details of numbers",
            {
                "prompt_tokens": 1,
                "completion_tokens": 2,
                "total_tokens": 3,
                "prompt_tokens_details": 7,
                "completion_tokens_details": [1],
            },
        ),
    ):
        yield Fault(f"usage: {name}", with_usage(value), skip=NOT_ACCOUNT)
    yield Fault(
        "model and id of other types",
        reshaped(lambda reply: {**reply, "model": [1], "id": {"a": 1}, "created": "then"}),
        skip=NOT_ACCOUNT,
    )


def _redirects() -> Iterator[Fault]:
    for status in (301, 302, 303, 307, 308):
        expected = fails(TogetherAIStatusError, words="Redirects are not followed")
        yield Fault(f"{status} to this host", answers(status, location="/v1/elsewhere"), expected, expected)
        # OTHER_HOST is where the matrix listens for what should not come.
        yield Fault(f"{status} to another host", _elsewhere(status), expected, expected)
    expected = fails(TogetherAIStatusError)
    yield Fault("304 for no reason", says(head(304, {}), "keep"), expected, expected)


OTHER_HOST: list[str] = ["http://127.0.0.1:9"]


def _elsewhere(status: int) -> Play:
    async def play(exchange: Exchange) -> None:
        await answers(status, location=OTHER_HOST[0] + exchange.request.path)(exchange)

    return play


STATUSES: dict[int, tuple[type[TogetherAIRequestError], bool]] = {
    400: (TogetherAIInvalidRequestError, False),
    401: (TogetherAIAuthenticationError, False),
    402: (TogetherAIPaymentRequiredError, False),
    403: (TogetherAIPermissionDeniedError, False),
    404: (TogetherAIModelNotFoundError, False),
    408: (TogetherAITimeoutError, True),
    409: (TogetherAIConflictError, True),
    413: (TogetherAIInvalidRequestError, False),
    415: (TogetherAIStatusError, False),
    418: (TogetherAIStatusError, False),
    422: (TogetherAIInvalidRequestError, False),
    429: (TogetherAIRateLimitError, True),
    500: (TogetherAIServerError, True),
    501: (TogetherAIServerError, True),
    502: (TogetherAIServerError, True),
    503: (TogetherAIServerError, True),
    504: (TogetherAIServerError, True),
    520: (TogetherAIServerError, True),
    521: (TogetherAIServerError, True),
    522: (TogetherAIServerError, True),
    523: (TogetherAIServerError, True),
    524: (TogetherAIServerError, True),
    529: (TogetherAIServerError, True),
}
"""The class for each status, and whether it is tried again."""


def _statuses() -> Iterator[Fault]:
    for status, (error, retried) in STATUSES.items():
        words = rf"Error code: {status} - a made-up {status}"
        expected = fails(error, retried=retried, words=words)
        # Embeddings split a batch that was refused as too large; a conflict of the account has to be read anew.
        account = {401: REFUSED_KEY, 409: fails(error, words=words)}.get(status)
        yield Fault(
            f"{status}",
            answers(status, error_body(status)),
            expected,
            expected,
            account,
            skip=("embeddings",) if status == 413 else (),
        )
        if retried:
            yield Fault(
                f"{status} once, then good",
                once(answers(status, error_body(status))),
                Expected(tries=2),
                Expected(tries=2),
                account,
            )
    for status in (401, 429, 502, 503):
        error, retried = STATUSES[status]
        for name, body, kind in (
            ("text", b"upstream connect error", "text/plain"),
            ("HTML", b"<html><h1>Bad gateway</h1></html>", "text/html"),
            ("no body", b"", "text/html"),
            ("an empty object", b"{}", "application/json"),
            ("a list", b"[[[]]]", "application/json"),
            ("nested objects", b'{"error":' * 900 + b"1" + b"}" * 900, "application/json"),
            ("100,000 nested objects", b'{"error":' * 100_000, "application/json"),
            (
                "an error of numbers",
                b'{"error": {"message": 7, "code": {"a": 1}, "type": [1]}}',
                "application/json",
            ),
        ):
            expected = fails(error, retried=retried, words=f"Error code: {status} - ")
            yield Fault(
                f"{status} with {name}",
                answers(status, body, kind),
                expected,
                expected,
                REFUSED_KEY if status == 401 else None,
                slow=status in (429, 503),
            )
    expected = fails(TogetherAIAuthenticationError)
    yield Fault(
        "401 cut off in its body",
        says(head(401, {"content-length": "500"}) + b'{"error"'),
        expected,
        expected,
        REFUSED_KEY,
    )
    expected = fails(TogetherAIServerError, retried=True)
    yield Fault(
        "500 reset in its body",
        _reset_after(head(500, {"content-length": "500"}) + b'{"error"'),
        expected,
        expected,
    )


def _reset_after(raw: bytes) -> Play:
    async def play(exchange: Exchange) -> None:
        await exchange.send(raw)
        await asyncio.sleep(0.02)
        await exchange.reset()

    return play


def _hints() -> Iterator[Fault]:
    good = Expected(tries=2)
    for status in (429, 503):
        for name, value in (
            ("retry_after", "0.02"),
            ("retry_after", "0"),
            ("retry_after", "-3"),
            ("retry_after", "NaN"),
            ("retry_after", "1e308"),
            ("retry_after", "Infinity"),
            ("retry_after", ""),
            ("retry_after", "soon"),
            ("retry_after", "9" * 400),
            ("retry_after", formatdate(0, usegmt=True)),
            ("retry_after", "Wed, 99 Xxx 20000 99:99:99 GMT"),
            ("retry_after_ms", "20"),
            ("retry_after_ms", "-1"),
            ("x_ratelimit_reset", "0.02s"),
            ("x_ratelimit_reset", "1"),
        ):
            shown = f"{name.replace('_', '-')}: {value[:12]}"
            play = once(answers(status, error_body(status), **{name: value}))
            yield Fault(f"{status} once, {shown}", play, good, good, slow=status == 503)
    too_long = fails(TogetherAIRateLimitError)
    yield Fault(
        "429, retry-after beyond the deadline", answers(429, error_body(429), retry_after="50"), too_long, too_long
    )
    for status, error in ((429, TogetherAIRateLimitError), (500, TogetherAIServerError)):
        expected = fails(error)
        yield Fault(
            f"{status}, x-should-retry: false",
            answers(status, error_body(status), x_should_retry="false"),
            expected,
            expected,
        )


def _bomb(beginning: bytes) -> bytes:
    """What a few thousand bytes swell to."""
    return gzip.compress(beginning + b" " * 8_000_000, 9)


def _giants() -> Iterator[Fault]:
    many = b" " * 16_384
    yield Fault(
        "giant body with its length",
        with_body(lambda body: body + b" " * 2 * BOUND),
        TOO_LARGE,
        # What follows a stream's last event is not read.
        ANSWER,
        bounded=True,
    )
    yield Fault(
        "giant body in chunks without end", endless(_chunked_head, chunk(many)), TOO_LARGE, TOO_LARGE, bounded=True
    )
    yield Fault(
        "giant length that is only claimed",
        with_body(lambda body: body, content_length=str(10**15)),
        fails(TogetherAIResponseError, TogetherAITimeoutError, tries=None),
        ANSWER,
        timeout=AMPLE,
        bounded=True,
    )
    packed = {"content_encoding": "gzip"}
    yield Fault("gzip, in good form", with_body(gzip.compress, **packed))
    yield Fault("deflate, in good form", with_body(zlib.compress, content_encoding="deflate"))
    yield Fault(
        "gzip bomb",
        with_body(_bomb, **packed),
        TOO_LARGE,
        ANSWER,
        bounded=True,
    )
    yield Fault("gzip that is none", with_body(lambda body: body, **packed), STRANGE, STRANGE)
    yield Fault(
        "gzip cut off", with_body(lambda body: gzip.compress(body)[:-20], **packed), STRANGE, STRANGE_STREAM
    )
    yield Fault(
        "encoding that nobody asked for", with_body(lambda body: body, content_encoding="zstd"), STRANGE, STRANGE
    )
    for status, error in ((400, TogetherAIInvalidRequestError), (500, TogetherAIServerError)):
        expected = fails(error, retried=status == 500)
        yield Fault(f"{status} with a giant body", endless(_with_status(status), chunk(many)), expected, expected)
        yield Fault(
            f"{status} with a gzip bomb",
            answers(status, _bomb(b""), content_encoding="gzip"),
            expected,
            expected,
        )


def _with_status(status: int) -> Callable[[Good], bytes]:
    return lambda good: head(status, {**good.headers, "transfer-encoding": "chunked"})


def _error_event(message: str = "a made-up failure", code: object = None) -> bytes:
    return (
        b"data: " + orjson.dumps({"error": {"message": message, "type": "server_error", "code": code}}) + b"\n\n"
    )


def _streams() -> Iterator[Fault]:
    def stream(name: str, play: Play, expected: Expected, **more: Any) -> Fault:
        return Fault(f"stream: {name}", play, None, expected, **more)

    def to_first(good: Good) -> bytes:
        return _chunked_head(good) + chunk(good.events[0])

    whole_or_not = Expected((TogetherAIStreamError, TogetherAIConnectionError), None, any_answer=True)
    yield stream(
        "error event first",
        events(lambda all: [_error_event(), *all]),
        fails(TogetherAIServerError, retried=True, words="made-up"),
    )
    yield stream("error event first, once", once(events(lambda all: [_error_event()])), Expected(tries=2))
    yield stream(
        "error event with 429 first",
        events(lambda all: [_error_event(code=429)]),
        fails(TogetherAIRateLimitError, retried=True),
    )
    yield stream(
        "error event in the middle",
        events(lambda all: [*all[:2], _error_event(), *all[2:]]),
        fails(TogetherAIStreamError, words="made-up"),
    )
    yield stream("error event after the end", events(lambda all: [*all, _error_event()]), ANSWER)
    yield stream(
        "every event twice",
        events(lambda all: [event for event in all for _ in range(2)]),
        Expected(any_answer=True),
    )
    yield stream(
        "events in reverse", events(lambda all: [*reversed(all[:-1]), all[-1]]), Expected(any_answer=True)
    )
    yield stream("[DONE] first", events(lambda all: [all[-1], *all[:-1]]), fails(TogetherAIResponseError))
    yield stream("events after [DONE]", events(lambda all: [*all, all[0], b"data: {broken\n\n"]), ANSWER)
    yield stream("[DONE] missing", events(lambda all: all[:-1]), ANSWER)
    yield stream("end missing", events(lambda all: all[:2]), BROKE)
    yield stream(
        "no event",
        events(lambda all: []),
        fails(TogetherAIConnectionError, retried=True, words="before the answer was complete"),
    )
    yield stream("no event once, then good", once(events(lambda all: [])), Expected(tries=2))
    yield stream(
        "comments alone",
        events(lambda all: [b": keep-alive\n\n"] * 5),
        fails(TogetherAIConnectionError, retried=True),
    )
    yield stream(
        "comments between",
        events(lambda all: [part for event in all for part in (b": keep-alive\n\n", event)]),
        ANSWER,
    )
    yield stream(
        "comments for ever, no event",
        slowly_endless(_chunked_head, chunk(b": keep-alive\n\n")),
        LATE,
        timeout=SHORT,
    )
    yield stream(
        "comments for ever in the middle",
        slowly_endless(to_first, chunk(b": keep-alive\n\n")),
        fails(TogetherAIStreamError, words="timed out"),
        timeout=AMPLE,
    )
    yield stream(
        "one byte at a time for ever in the middle",
        slowly_endless(to_first, chunk(b"x")),
        fails(TogetherAIStreamError, words="timed out"),
        timeout=AMPLE,
    )
    for name, event, words in (
        ("error event of a string", b'data: {"error": "overloaded"}\n\n', "overloaded"),
        ("event that is no JSON", b"data: {broken\n\n", "JSON"),
        ("event that is a list", b"data: [1]\n\n", "JSON"),
        ("event of 100,000 lists in each other", b"data: " + b"[" * 100_000 + b"\n\n", ""),
        ("event of no encoding", b'data: {"a": "\xff"}\n\n', ""),
    ):
        yield stream(name, ends_with(event), fails(TogetherAIStreamError, words=words))
    yield stream(
        "giant event without end", endless(to_first, chunk(b"data: " + b"x" * 16_384)), TOO_LARGE, bounded=True
    )
    yield stream("events without end", endless(to_first, chunk(b"data: {}\n\n" * 200)), TOO_LARGE, bounded=True)
    yield stream(
        "lines ending in CRLF", events(lambda all: [event.replace(b"\n", b"\r\n") for event in all]), ANSWER
    )
    yield stream("lines ending in CR", events(lambda all: [b"".join(all).replace(b"\n", b"\r")]), whole_or_not)
    yield stream("everything in one chunk", _chunked(lambda body: chunk(body) + chunk(b"")), ANSWER)
    yield stream(
        "everything in chunks of one byte",
        _chunked(lambda body: b"".join(chunk(body[i : i + 1]) for i in range(len(body))) + chunk(b"")),
        ANSWER,
    )
    yield stream(
        "an answer that is no stream",
        answers(200, b'{"choices": []}'),
        fails(TogetherAIResponseError, words="content type"),
    )
    yield stream("stalled after [DONE]", _held_back(), ANSWER)


def _held_back() -> Play:
    async def do(exchange: Exchange, good: Good) -> None:
        await exchange.send(_chunked_head(good) + b"".join(map(chunk, good.events)))
        await exchange.stall()

    return script(do)
