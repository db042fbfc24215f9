"""Connections are lent to one thread at a time; hdbcli's are stood in for, since these are to break on demand."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hdbcli import dbapi
from pydantic import SecretStr

from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.hana.connections import Connections, LeasingConnection, connection_properties, transaction
from hana_ai.api.settings import TogetherAISettings


class Cursor:
    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> Any:
        return iter([(1,), (2,)])

    def close(self) -> None:
        self.closed = True


class Connection:
    def __init__(self, *, breaks: bool = False, autocommit: bool = True) -> None:
        self.alive = True
        self.breaks = breaks
        self.autocommit = autocommit
        self.did: list[str] = []

    def cursor(self) -> Cursor:
        if self.breaks:
            raise ConnectionError("no cursor")
        return Cursor()

    def isconnected(self) -> bool:
        return self.alive

    def getautocommit(self) -> bool:
        return self.autocommit

    def setautocommit(self, value: bool) -> None:
        self.autocommit = value

    def commit(self) -> None:
        self.did.append("commit")

    def rollback(self) -> None:
        self.did.append("rollback")

    def close(self) -> None:
        self.did.append("close")


def test_a_thread_gets_the_same_connection_again_while_it_has_one() -> None:
    connections = Connections(connect=Connection)
    with connections.lease() as outer, connections.lease() as inner:
        assert inner is outer
    with connections.lease() as later:
        assert later is outer, "it is kept for the next"


def test_threads_at_the_same_time_get_different_ones_and_no_more_than_the_limit() -> None:
    connections = Connections(connect=Connection, limit=3)
    barrier = threading.Barrier(3)

    def work(number: int) -> int:
        with connections.lease() as connection:
            if number < 3:
                barrier.wait(20)
            return id(connection)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(40)))
    assert len(set(found[:3])) == 3
    assert len(set(found)) == 3


def test_a_connection_that_broke_is_replaced() -> None:
    connections = Connections(connect=Connection, limit=1)
    with connections.lease() as first:
        first.alive = False
    with connections.lease() as second:
        assert second is not first


def test_a_connection_that_cannot_be_opened_takes_nobodys_place() -> None:
    outcomes: list[Any] = [ConnectionError("refused"), Connection()]

    def connect() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    connections = Connections(connect=connect, limit=1)
    with pytest.raises(ConnectionError, match="refused"):
        connections.take()
    with connections.lease() as connection:
        assert isinstance(connection, Connection)


def test_closing_closes_what_was_opened_here_and_not_what_was_given() -> None:
    given = Connection()
    connections = Connections(given, connect=Connection)
    with connections.lease() as first:
        assert first is given
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(connections.take).result()
            pool.submit(connections.give_back).result()
    connections.close()
    assert (given.did, second.did) == ([], ["close"])
    with connections.lease() as again:
        assert again is given


def test_a_cursor_holds_its_connection_until_it_is_closed() -> None:
    connections = Connections(Connection())
    leasing = LeasingConnection(connections)
    with leasing.cursor() as cursor:
        assert list(cursor) == [(1,), (2,)]
        blocked = ThreadPoolExecutor(1)
        waiting = blocked.submit(lambda: leasing.cursor().close())
        assert not waiting.done()
    waiting.result(20)
    cursor.close()
    blocked.shutdown()


def test_a_cursor_that_cannot_be_opened_gives_its_connection_back() -> None:
    given = Connection(breaks=True)
    leasing = LeasingConnection(Connections(given))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            leasing.cursor()
    given.breaks = False
    leasing.cursor().close()
    assert leasing.isconnected()


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_transaction_commits_or_rolls_back_and_leaves_autocommit_as_it_was(autocommit: bool) -> None:
    connection = Connection(autocommit=autocommit)
    with transaction(connection):
        assert not connection.autocommit
    with pytest.raises(KeyError), transaction(connection):
        raise KeyError
    assert connection.did == ["commit", "rollback"]
    assert connection.autocommit is autocommit


@pytest.mark.parametrize("code", [133, 138])
def test_a_transaction_that_has_to_give_way_is_done_again(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hana_ai.api.hana.connections.time.sleep", lambda _: None)
    connection = Connection()
    failures = [dbapi.Error(code, "for another one's sake")] * 3

    def work(cursor: Any) -> str:
        assert not cursor.closed
        if failures:
            raise failures.pop()
        return "done"

    assert Connections(connection).transact(work) == "done"
    assert connection.did == ["rollback"] * 3 + ["commit"]


@pytest.mark.parametrize(("code", "tries"), [(138, 6), (131, 1), (301, 1)])
def test_a_transaction_is_not_done_again_for_ever(code: int, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hana_ai.api.hana.connections.time.sleep", lambda _: None)
    connection = Connection()

    def work(_: object) -> None:
        raise dbapi.Error(code, "refused")

    with pytest.raises(dbapi.Error, match="refused"):
        Connections(connection).transact(work)
    assert connection.did == ["rollback"] * tries


def test_without_a_connection_it_is_said_what_to_pass() -> None:
    with pytest.raises(TogetherAISettingsError, match="connection="):
        Connections()


def test_the_settings_become_properties_of_hdbcli() -> None:
    def settings(**values: Any) -> TogetherAISettings:
        return TogetherAISettings(_env_file=None, **values)

    assert connection_properties(
        settings(hana_address="host", hana_user="U", hana_password=SecretStr("p"), hana_schema="S")
    ) == {"address": "host", "port": 443, "encrypt": True, "user": "U", "password": "p", "currentSchema": "S"}
    assert connection_properties(settings(hana_userkey="KEY", hana_address="ignored")) == {"key": "KEY"}
    with pytest.raises(TogetherAISettingsError, match="HANA_ADDRESS"):
        connection_properties(settings())
