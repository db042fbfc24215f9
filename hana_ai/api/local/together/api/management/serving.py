"""What an endpoint has served: each request is measured while it is answered, and kept for its analytics."""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...engine import Piece

MOST_KEPT = 10_000
"""Requests that an endpoint remembers."""
_CLIENT_LEFT = 499


@dataclass(frozen=True)
class Served:
    """One request that an endpoint answered.

    Attributes
    ----------
    deployment
        Id of the one that answered; None where there was none to choose.
    seconds, first
        From the request to the end of the answer, and to its first token; None without one.
    gaps
        Seconds between each two tokens.
    """

    at: datetime
    deployment: str | None
    status: int
    seconds: float
    first: float | None
    gaps: array[float]
    input_tokens: int
    output_tokens: int

    @property
    def failed(self) -> bool:
        """Whether it ended with an error."""
        return self.status >= 400


@dataclass
class Measurement:
    """What is known of a request so far.

    Attributes
    ----------
    memory
        Of the endpoint that is asked; None where no endpoint is.
    error
        Status of an error that came in the middle of a stream.
    """

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.perf_counter)
    memory: deque[Served] | None = None
    deployment: str | None = None
    first: float | None = None
    last: float = 0.0
    gaps: array[float] = field(default_factory=lambda: array("f"))
    input_tokens: int = 0
    output_tokens: int = 0
    error: int | None = None

    def count(self, input_tokens: int, output_tokens: int = 0) -> None:
        """Note the tokens of the whole request."""
        self.input_tokens, self.output_tokens = input_tokens, output_tokens

    async def over(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        """Pass the pieces of an answer on, and note when each token came."""
        async with aclosing(pieces):
            async for piece in pieces:
                if piece.text or piece.reasoning or piece.tool_call is not None:
                    now = time.perf_counter() - self.started
                    if self.first is None:
                        self.first = now
                    else:
                        self.gaps.append(now - self.last)
                    self.last = now
                if piece.usage is not None:
                    self.count(piece.usage.prompt_tokens, piece.usage.completion_tokens)
                if piece.error is not None:
                    self.error = 500
                yield piece

    def end(self, status: int) -> None:
        """Give the request to its endpoint."""
        if self.memory is not None:
            self.memory.append(
                Served(
                    self.at,
                    self.deployment,
                    self.error or status,
                    time.perf_counter() - self.started,
                    self.first,
                    self.gaps,
                    self.input_tokens,
                    self.output_tokens,
                )
            )


def kept() -> deque[Served]:
    """An empty memory of an endpoint."""
    return deque(maxlen=MOST_KEPT)


class Measuring:
    """Measures each request from its start to the last byte of its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `Measurement` in its state."""
        measured = Measurement()
        scope.setdefault("state", {})["measured"] = measured
        status = _CLIENT_LEFT
        complete = False

        async def noting(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                # Before the last byte, so that whoever has the answer finds it in the analytics.
                complete = True
                measured.end(status)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            if not complete:
                measured.end(_CLIENT_LEFT)
