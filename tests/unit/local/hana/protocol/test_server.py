"""The server's socket: loopback only, clean ends, cheap imports."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from hana_ai.api.local.hana import HanaServer, LocalHana
from tests.integration.local.hana.rawclient import Disconnected, RawClient
from tests.integration.local.hana.scripted import USER, ScriptedEngine
from tests.programs import printed


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com", ""])
def test_only_loopback_addresses_are_served(host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        HanaServer(ScriptedEngine("x"), host)


def test_a_free_port_is_taken_when_none_is_asked_for() -> None:
    with HanaServer(ScriptedEngine("x")) as first, HanaServer(ScriptedEngine("x"), "localhost") as second:
        assert first.port != second.port
        assert first.address == second.address == "127.0.0.1"


def test_a_taken_port_is_an_error_at_once() -> None:
    with HanaServer(ScriptedEngine("x")) as server, pytest.raises(OSError, match="in use"):
        HanaServer(ScriptedEngine("x"), port=server.port).start()


def test_closing_ends_connections_sessions_and_threads() -> None:
    engine = ScriptedEngine("secret")
    before = threading.active_count()
    with HanaServer(engine) as server:
        clients = [RawClient(server.port) for _ in range(5)]
        for client in clients:
            assert client.log_in(USER, "secret").error is None
        assert server.connection_count == 5
        assert len(engine.sessions) == 5
    assert engine.sessions == set()
    assert threading.active_count() == before
    for client in clients:
        with pytest.raises(Disconnected):
            client.receive()
        client.socket.close()
    with pytest.raises(ConnectionError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
        pass
    server.close()


def test_the_session_of_a_lost_connection_is_closed() -> None:
    engine = ScriptedEngine("secret")
    with HanaServer(engine) as server:
        with RawClient(server.port) as client:
            client.log_in(USER, "secret")
            assert len(engine.sessions) == 1
        deadline = time.monotonic() + 10
        while engine.sessions and time.monotonic() < deadline:
            time.sleep(0.01)
        assert engine.sessions == set()


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "print(sorted({'numpy', 'duckdb', 'sqlglot', 'hdbcli', 'ssl'} & set(sys.modules)))"
    preloaded = f"import sys, hana_ai; {heavy}"
    program = f"import sys, hana_ai.api.local.hana as h; assert h.__all__; {heavy}"
    assert printed(preloaded) == printed(program)


def test_the_handle_hides_its_password() -> None:
    hana = LocalHana(password="Secret-1")
    assert "Secret-1" not in repr(hana)
    assert hana.environment()["HANA_PASSWORD"] == "Secret-1"
    assert hana.pid is None
    hana.stop()
