"""The listening socket and one thread for each connection."""

from __future__ import annotations

import atexit
import ipaddress
import logging
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from hana_ai.api.local.hana.interface import Engine
from hana_ai.api.local.hana.protocol.auth import Authenticator
from hana_ai.api.local.hana.protocol.session import Session
from hana_ai.api.local.hana.protocol.wire import MAX_MESSAGE_BYTES, ProtocolError, Transport

if TYPE_CHECKING:
    import ssl

logger = logging.getLogger(__name__)

_BACKLOG = 128
_LOGIN_SECONDS = 30.0
_CLOSE_SECONDS = 5.0
_ACCEPT_PAUSE_SECONDS = 0.1


def server_context(certificate: str, key: str | None = None) -> ssl.SSLContext:
    """Return the TLS settings of a server.

    Parameters
    ----------
    certificate : str
        PEM file with the certificate, and its chain after it.
    key : str, optional
        PEM file with the private key; by default it is in the certificate's file.
    """
    # Most servers have no certificate, and start sooner without this module.
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


class HanaServer:
    """A server of HANA's wire protocol, on the loopback interface only.

    Clients in the same process must not be hdbcli, which waits for some replies while it holds Python's
    interpreter lock; `LocalHana` runs the server in a process of its own.

    Parameters
    ----------
    engine : Engine
        The database; whoever made it closes it, after the server.
    host : str
        A loopback address.
    port : int
        0 takes a free one.
    tls : ssl.SSLContext, optional
        When given, every connection is encrypted.
    max_message_bytes : int
        Longest message that a logged-in client may send.

    Raises
    ------
    ValueError
        When `host` is not a loopback address: this server is for one machine.

    Examples
    --------
    >>> with HanaServer(engine) as server:  # doctest: +SKIP
    ...     hdbcli.dbapi.connect(address=server.address, port=server.port, user="DBA", password=password)
    """

    def __init__(
        self,
        engine: Engine,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        host = "127.0.0.1" if host == "localhost" else host
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise ValueError(f"the loopback HANA listens on a loopback address only, not on {host!r}")
        self.address = host
        self.port = port
        self._engine = engine
        self._authenticator = Authenticator(engine)
        self._tls = tls
        self._max_message_bytes = max_message_bytes
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._lock = threading.Lock()
        self._connections: dict[int, tuple[socket.socket, threading.Thread]] = {}
        self._next_connection_id = 1
        self._closing = False

    def start(self) -> None:
        """Listen, and serve in threads of its own."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.address, self.port))
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._acceptor = threading.Thread(
            target=self._accept, args=(listener,), name=f"hana-accept-{self.port}", daemon=True
        )
        self._acceptor.start()
        # A client in this process whose connection is open at exit says goodbye and waits for an answer, when
        # no thread is left to give one. Closing before that cuts the connection, and nothing waits.
        atexit.register(self.close)

    def close(self) -> None:
        """Stop listening, end every connection and wait for their threads."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self._closing = True
        atexit.unregister(self.close)
        # A connection of our own wakes the acceptor: closing a socket does not interrupt accept().
        with suppress(OSError), socket.create_connection((self.address, self.port), timeout=1):
            pass
        if self._acceptor is not None:
            self._acceptor.join(_CLOSE_SECONDS)
        listener.close()
        with self._lock:
            connections = list(self._connections.values())
        for connection, _ in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + _CLOSE_SECONDS
        for _, thread in connections:
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def connection_count(self) -> int:
        """How many connections are open."""
        with self._lock:
            return len(self._connections)

    def __enter__(self) -> HanaServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _accept(self, listener: socket.socket) -> None:
        while not self._closing:
            try:
                connection, _ = listener.accept()
            except OSError:
                # For instance too many open files: later there may be room again.
                if not self._closing:
                    logger.exception("accept failed")
                    time.sleep(_ACCEPT_PAUSE_SECONDS)
                continue
            if self._closing:
                connection.close()
                return
            with self._lock:
                number = self._next_connection_id
                self._next_connection_id += 1
                thread = threading.Thread(
                    target=self._serve, args=(connection, number), name=f"hana-{number}", daemon=True
                )
                self._connections[number] = (connection, thread)
            try:
                thread.start()
            except RuntimeError:
                logger.exception("no thread for connection %d", number)
                with self._lock:
                    del self._connections[number]
                connection.close()

    def _serve(self, connection: socket.socket, number: int) -> None:
        session = Session(self._engine, self._authenticator, number)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(_LOGIN_SECONDS)
            if self._tls is not None:
                # Here rather than in the acceptor: a client that stalls its handshake stops only itself.
                connection = self._tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._connections[number] = (connection, self._connections[number][1])
            self._converse(connection, session)
        except ProtocolError as error:
            logger.info("connection %d ended: %s", number, error)
        except OSError as error:
            if not self._closing:
                logger.info("connection %d lost: %s", number, error)
        except Exception:
            logger.exception("connection %d ended by an unexpected error", number)
        finally:
            try:
                session.close()
            except Exception:
                logger.exception("closing the session of connection %d failed", number)
            with self._lock:
                self._connections.pop(number, None)
            connection.close()

    def _converse(self, connection: socket.socket, session: Session) -> None:
        transport = Transport(connection)
        if not transport.greet():
            return
        while not session.ended:
            request = transport.receive()
            if request is None:
                return
            transport.send(session.respond(request))
            if session.authenticated and transport.limit != self._max_message_bytes:
                transport.limit = self._max_message_bytes
                connection.settimeout(None)
