"""A Together that allows only so much: a token bucket whose rate changes, and that counts what it allowed.

It runs in a process of its own: ``python -m benchmarks.limited PLAN`` takes a `Plan` as JSON and prints the port
that it listens on. Its clock starts with the first request for embeddings. `GET /statistics` tells what has
happened until then; clients are told apart by their keys. `limited_server` starts it and ends it.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal
from urllib.request import urlopen

import orjson

from benchmarks.process import running, serve

Named = Literal["nothing", "exact", "seconds"]

_REFUSAL = orjson.dumps(
    {
        "error": {
            "message": "You have exceeded the dynamic request limit of this model. Please try again later.",
            "type": "rate_limit_exceeded",
            "param": None,
            "code": "dynamic_request_limited",
        },
        "error_type": "dynamic_request_limited",
    }
)


@dataclass
class Plan:
    """What the server allows, and how it says no."""

    rates: list[float]
    """Requests a second, one rate after the other."""
    seconds: float = 30.0
    """For which each rate holds; the last one holds to the end."""
    depth: float = 1.0
    """Seconds of requests that the bucket holds."""
    named: Named = "nothing"
    """The wait that a refusal names: none, the exact time until the next token, or whole seconds."""
    latency: float = 0.02
    """Seconds until an answer; a refusal comes at once."""


@dataclass
class Statistics:
    """What has happened so far."""

    seconds: float = 0.0
    """Since the first request."""
    allowed: float = 0.0
    """Requests that a client could have had answered: the bucket's first filling, and the rate since."""
    answered: int = 0
    refused: int = 0
    clients: dict[str, int] = field(default_factory=dict)
    """Answers by key."""

    @property
    def share(self) -> float:
        """Part of the allowed requests that was used."""
        return self.answered / self.allowed

    @property
    def refused_share(self) -> float:
        """Part of the requests that was refused."""
        return self.refused / max(1, self.answered + self.refused)


class Bucket:
    """The token bucket of a plan; it counts what it gives out."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.statistics = Statistics()
        self._tokens = plan.rates[0] * plan.depth
        self._begin: float | None = None
        self._now = 0.0
        self.statistics.allowed = self._tokens

    def advance(self, now: float) -> None:
        """Fill up until `now`, in seconds of any clock."""
        if self._begin is None:
            return
        until = now - self._begin
        while self._now < until:
            step = min(until, self._change_after(self._now)) - self._now
            rate = self._rate()
            self.statistics.allowed += rate * step
            self._tokens = min(max(1.0, rate * self.plan.depth), self._tokens + rate * step)
            self._now += step
        self.statistics.seconds = self._now

    def take(self, now: float, client: str) -> float | None:
        """Take a token; else return the seconds until there is one."""
        if self._begin is None:
            self._begin = now
        self.advance(now)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            self.statistics.answered += 1
            self.statistics.clients[client] = self.statistics.clients.get(client, 0) + 1
            return None
        self.statistics.refused += 1
        return (1.0 - self._tokens) / self._rate()

    def _rate(self) -> float:
        return self.plan.rates[min(int(self._now / self.plan.seconds + 1e-9), len(self.plan.rates) - 1)]

    def _change_after(self, moment: float) -> float:
        stage = int(moment / self.plan.seconds + 1e-9) + 1
        return stage * self.plan.seconds if stage < len(self.plan.rates) else math.inf


def _reply(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@cache
def _vectors(count: int) -> bytes:
    rows = [
        {"object": "embedding", "index": index, "embedding": [0.25, -0.5, 0.125, 1.0]} for index in range(count)
    ]
    usage = {"prompt_tokens": count, "total_tokens": count}
    return _reply("200 OK", orjson.dumps({"object": "list", "model": "limited", "data": rows, "usage": usage}))


class _Connection(asyncio.Protocol):
    """One connection; requests are answered in their order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bucket: Bucket) -> None:
        self._loop = loop
        self._bucket = bucket
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            head, separator, rest = self._received.partition(b"\r\n\r\n")
            if not separator:
                return
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            length = int(fields.get(b"content-length", b"0"))
            if len(rest) < length:
                return
            self._received = rest[length:]
            self._answer(head.split(b" ", 2)[1], fields.get(b"authorization", b"").decode(), rest[:length])

    def _answer(self, path: bytes, key: str, raw: bytes) -> None:
        now = self._loop.time()
        if path == b"/statistics":
            self._bucket.advance(now)
            self._write(_reply("200 OK", orjson.dumps(asdict(self._bucket.statistics))))
        elif path != b"/v1/embeddings":
            self._write(_reply("404 Not Found", b"{}"))
        else:
            wait = self._bucket.take(now, key.removeprefix("bearer "))
            if wait is None:
                given = orjson.loads(raw)["input"]
                reply = _vectors(1 if isinstance(given, str) else len(given))
                self._loop.call_later(self._bucket.plan.latency, self._write, reply)
            else:
                self._write(_reply("429 Too Many Requests", _REFUSAL, *self._named(wait)))

    def _named(self, wait: float) -> list[str]:
        if self._bucket.plan.named == "nothing":
            return []
        named = f"{math.ceil(wait)}" if self._bucket.plan.named == "seconds" else f"{wait:.6f}"
        return [f"x-ratelimit-reset: {named}"]

    def _write(self, reply: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(reply)


async def _serve(plan: Plan) -> None:
    loop = asyncio.get_running_loop()
    bucket = Bucket(plan)
    await serve(lambda: _Connection(loop, bucket))


@contextmanager
def limited_server(plan: Plan) -> Iterator[str]:
    """Run the server in a process of its own and give its address."""
    with running("benchmarks.limited", orjson.dumps(asdict(plan)).decode()) as url:
        yield url


def statistics_of(url: str) -> Statistics:
    """Ask the server what has happened."""
    with urlopen(f"{url}/statistics", timeout=10) as reply:
        told: dict[str, Any] = orjson.loads(reply.read())
    return Statistics(**told)


if __name__ == "__main__":
    asyncio.run(_serve(Plan(**orjson.loads(sys.argv[1]))))
