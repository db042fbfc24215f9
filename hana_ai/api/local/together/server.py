"""`LocalTogether`: the server in a thread of its own, or in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final

import uvicorn
from starlette.routing import BaseRoute

from .api.app import build_app
from .api.batches import Batches
from .api.evaluations import Evaluations
from .api.files import FileStore
from .api.fine_tunes import FineTunes
from .api.management import Management
from .engine import Engine, LocalModel
from .wire import Exchange, Observed, Statistics, Transports, counting_protocol

_PATIENCE: Final = 15.0

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class _RandomKey:
    """The default of `api_key`: make one up."""


RANDOM_KEY: Final = _RandomKey()


class _Server(uvicorn.Server):
    """A uvicorn server that says when it listens and ends at once: tests start and stop it by the hundred."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        while not self._stop.is_set():
            await self.on_tick(0)  # the date header, once a second
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), timeout=1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        # The proactor of Windows has no readers to remove.
        with contextlib.suppress(NotImplementedError):
            for listening in (listening for server in self.servers for listening in server.sockets):
                loop.remove_reader(listening)
        # asyncio takes two turns to make a connection of one that it has accepted, and never closes it if the
        # server is closed before.
        for _ in range(3):
            await asyncio.sleep(0)
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        # Requests that stall on purpose would hold up a graceful end for ever: their connections are cut.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # the connections learn of it
        if tasks := set(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=_PATIENCE)

    def stop(self) -> None:
        """End the server from another thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)


class LocalTogether:
    """A server on the loopback interface that speaks Together's HTTP API.

    Parameters
    ----------
    *engines
        What answers; without any, a `ScriptedEngine`.
    api_key
        The key that clients have to send; made up when left out. None takes any key but not a missing one.
    host, port
        Where to listen, loopback only; port 0 is any free one.
    on_exchange
        Called in the server's thread after every whole answer with path, request body, status, and the
        answer's body (or the list of chunks of a stream). What it raises is raised again by `close`.
    extra_routes
        Further parts of the API.

    Examples
    --------
    >>> with LocalTogether(ScriptedEngine()) as server:
    ...     client = together.Together(base_url=server.base_url, api_key=server.api_key)
    """

    def __init__(
        self,
        *engines: Engine,
        api_key: str | _RandomKey | None = RANDOM_KEY,
        host: str = "127.0.0.1",
        port: int = 0,
        on_exchange: Exchange | None = None,
        extra_routes: Sequence[BaseRoute] = (),
    ) -> None:
        if host not in LOOPBACK:
            raise ValueError(f"This server listens on the loopback interface only, not on {host!r}.")
        if not engines:
            from .scripted.engine import ScriptedEngine

            engines = (ScriptedEngine(),)
        self.engines: tuple[Engine, ...] = engines
        self.api_key = f"local-{secrets.token_urlsafe(24)}" if isinstance(api_key, _RandomKey) else api_key
        self.statistics = Statistics()
        self._transports: Transports = {}
        self._failures: list[BaseException] = []
        self.management = Management([model for engine in engines for model in engine.models])
        """Endpoints, deployments and uploads, and the dials by which a test turns them."""
        self.files = FileStore()
        """The uploaded files; their bytes are removed by `close`."""
        self.batches = Batches(self.files)
        """The batches, and the dials by which a test turns them."""
        self.fine_tunes = FineTunes(self.files, self.management)
        """The fine-tuning jobs, and the dials by which a test turns them."""
        self.evaluations = Evaluations(self.files)
        """The evaluations, and the dials by which a test turns them."""
        app = build_app(
            engines,
            api_key=self.api_key,
            extra_routes=extra_routes,
            management=self.management,
            batches=self.batches,
            fine_tunes=self.fine_tunes,
            evaluations=self.evaluations,
        )
        self._app = Observed(app, self.statistics, self._transports, on_exchange, self._failures)
        self._address = (host, port)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._port = port

    @property
    def base_url(self) -> str:
        """Where the server listens, without `/v1`."""
        host = f"[{self._address[0]}]" if ":" in self._address[0] else self._address[0]
        return f"http://{host}:{self._port}"

    @property
    def models(self) -> list[LocalModel]:
        """The models it answers for."""
        return [model for engine in self.engines for model in engine.models]

    def model(self, type: str) -> str:
        """The name of the first model of a type: chat, embedding or rerank."""
        return next(model.id for model in self.models if model.type == type)

    def environment(self) -> dict[str, str]:
        """The variables that point the provider and the SDK at this server."""
        return {"TOGETHER_BASE_URL": self.base_url, "TOGETHER_API_KEY": self.api_key or "local"}

    def start(self) -> LocalTogether:
        """Listen; returns when the server answers.

        Raises
        ------
        OSError
            When the port is taken.
        """
        if self._thread is not None:
            raise RuntimeError("The server runs already.")
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio turns Nagle's algorithm off only where the protocol is named; with it every answer takes 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except OSError:
            listener.close()
            raise
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            http=counting_protocol(self.statistics, self._transports),
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Longer than clients keep idle connections, so that none is closed while a request is on its way.
            timeout_keep_alive=600,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="local-together", daemon=True
        )
        self._thread.start()
        if not self._server.listening.wait(_PATIENCE):
            self.close()
            raise RuntimeError("The local Together server did not start.")
        return self

    def close(self) -> None:
        """Close all connections and stop; raises what `on_exchange` raised."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            server.stop()
            thread.join(2 * _PATIENCE)
            for engine in self.engines:
                engine.close()
            self.files.close()
        failures, self._failures[:] = list(self._failures), []
        if failures:
            raise failures[0]

    def __enter__(self) -> LocalTogether:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        try:
            self.close()
        except Exception:
            # The error of the block itself says more than one of the hook.
            if exc is None:
                raise
