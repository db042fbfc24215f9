"""32 connections at once, reading and writing: no lost row, no phantom, no memory beyond the data."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hdbcli import dbapi

from hana_ai.api.local.hana.process import LocalHana

CONNECTIONS = 32
ACCOUNTS = 64
BALANCE = 1000
ROWS_PER_TRANSACTION = 5
MEGABYTE = 1024 * 1024

CONFLICTS = {129, 131, 133, 138, 146}
"""Codes after which HANA's clients try again: lock timeout, deadlock, serialization and write conflicts."""


@pytest.fixture
def hana() -> Iterator[LocalHana]:
    with LocalHana() as server:
        with closing_connection(server) as connection, connection.cursor() as cursor:
            cursor.execute(
                "CREATE COLUMN TABLE EVENTS (WORKER INTEGER, BATCH INTEGER, N INTEGER, TEXT NVARCHAR(200))"
            )
            cursor.execute("CREATE COLUMN TABLE ACCOUNTS (ID INTEGER PRIMARY KEY, BALANCE BIGINT)")
            cursor.executemany("INSERT INTO ACCOUNTS VALUES (?, ?)", [(n, BALANCE) for n in range(ACCOUNTS)])
        yield server


class closing_connection:
    """A connection that is closed at the end of a block; left to the collector it would hold up every thread."""

    def __init__(self, hana: LocalHana, **options: object) -> None:
        self._connection = hana.connect(**options)

    def __enter__(self) -> dbapi.Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


class Crowd:
    """Workers that run until a deadline; what goes wrong in one is raised in the test."""

    def __init__(self, hana: LocalHana, seconds: float) -> None:
        self.hana = hana
        self.deadline = time.monotonic() + seconds
        self.errors: list[BaseException] = []
        self.committed: dict[tuple[int, int], int] = {}
        self.operations = 0
        self.conflicts = 0
        self._lock = threading.Lock()

    def run(self, *workers: Callable[[int], None]) -> None:
        threads = [
            threading.Thread(target=self._guard, args=(workers[number % len(workers)], number))
            for number in range(CONNECTIONS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _guard(self, worker: Callable[[int], None], number: int) -> None:
        try:
            worker(number)
        except BaseException as error:  # noqa: BLE001 - raised again by run()
            self.errors.append(error)
            self.deadline = 0

    @property
    def going(self) -> bool:
        return time.monotonic() < self.deadline

    def count(self, conflict: bool = False) -> None:
        with self._lock:
            self.operations += 1
            self.conflicts += conflict

    def insert(self, worker: int) -> None:
        """Insert whole transactions; roll back every fourth."""
        source = random.Random(worker)
        with closing_connection(self.hana, autocommit=False) as connection, connection.cursor() as cursor:
            batch = 0
            while self.going:
                batch += 1
                rows = [(worker, batch, n, "é😀" * source.randint(0, 50)) for n in range(ROWS_PER_TRANSACTION)]
                cursor.executemany("INSERT INTO EVENTS VALUES (?, ?, ?, ?)", rows)
                if batch % 4:
                    connection.commit()
                    with self._lock:
                        self.committed[worker, batch] = ROWS_PER_TRANSACTION
                else:
                    connection.rollback()
                self.count()

    def transfer(self, worker: int) -> None:
        """Move money from one account to another; a conflict is rolled back."""
        source = random.Random(worker)
        with closing_connection(self.hana, autocommit=False) as connection, connection.cursor() as cursor:
            while self.going:
                giver, taker = source.sample(range(ACCOUNTS), 2)
                amount = source.randint(1, 10)
                try:
                    for account, change in sorted([(giver, -amount), (taker, amount)]):
                        cursor.execute("UPDATE ACCOUNTS SET BALANCE = BALANCE + ? WHERE ID = ?", (change, account))
                        assert cursor.rowcount == 1
                    connection.commit()
                    self.count()
                except dbapi.Error as error:
                    if error.errorcode not in CONFLICTS:
                        raise
                    connection.rollback()
                    self.count(conflict=True)

    def read(self, worker: int) -> None:
        """See only whole transactions, and always the same money."""
        with closing_connection(self.hana) as connection, connection.cursor() as cursor:
            while self.going:
                cursor.execute("SELECT SUM(BALANCE), COUNT(*) FROM ACCOUNTS")
                assert tuple(cursor.fetchone()) == (ACCOUNTS * BALANCE, ACCOUNTS)
                cursor.execute(
                    "SELECT WORKER, BATCH, COUNT(*) AS C FROM EVENTS GROUP BY WORKER, BATCH HAVING COUNT(*) <> ?",
                    (ROWS_PER_TRANSACTION,),
                )
                assert cursor.fetchall() == []
                known = list(self.committed)[-1:]
                for key in known:
                    cursor.execute("SELECT COUNT(*) FROM EVENTS WHERE WORKER = ? AND BATCH = ?", key)
                    assert cursor.fetchone()[0] == ROWS_PER_TRANSACTION, "a committed transaction is not visible"
                self.count()

    def watch_memory(self) -> list[int]:
        """Return the server's resident memory, once a second until the end."""
        status = Path(f"/proc/{self.hana.pid}/status")
        measured = []
        while self.going and status.exists():
            line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
            measured.append(int(line.split()[1]) * 1024)
            time.sleep(1)
        return measured


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_a_crowd_of_readers_and_writers_loses_nothing(hana: LocalHana, seconds: int) -> None:
    crowd = Crowd(hana, seconds)
    memory: list[int] = []
    watcher = threading.Thread(target=lambda: memory.extend(crowd.watch_memory()))
    watcher.start()
    crowd.run(crowd.insert, crowd.transfer, crowd.read, crowd.read)
    watcher.join()
    with closing_connection(hana) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT WORKER, BATCH, COUNT(*) FROM EVENTS GROUP BY WORKER, BATCH")
        assert {(row[0], row[1]): row[2] for row in cursor.fetchall()} == crowd.committed
        cursor.execute("SELECT SUM(BALANCE) FROM ACCOUNTS")
        assert cursor.fetchone()[0] == ACCOUNTS * BALANCE
    print(f"{crowd.operations} operations, {crowd.conflicts} conflicts, memory {memory}")
    assert crowd.operations - crowd.conflicts > CONNECTIONS
    if len(memory) > 3:
        # A row takes some hundred bytes; versions of updated rows and DuckDB's buffers are the rest.
        warm = memory[len(memory) // 3]
        assert memory[-1] - warm < 60 * MEGABYTE + len(crowd.committed) * ROWS_PER_TRANSACTION * 1000


def test_connections_come_and_go(hana: LocalHana) -> None:
    def visit(worker: int) -> None:
        for _ in range(10):
            with closing_connection(hana) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT COUNT(*) FROM ACCOUNTS")
                assert cursor.fetchone()[0] == ACCOUNTS

    crowd = Crowd(hana, 60)
    crowd.run(visit)


def test_a_locked_table_waits_for_the_end_of_its_holders_transaction(hana: LocalHana) -> None:
    with closing_connection(hana) as holder, closing_connection(hana) as other:
        holder.setautocommit(False)
        for ending in (holder.commit, holder.rollback):
            holding, waiting = holder.cursor(), other.cursor()
            holding.execute("LOCK TABLE ACCOUNTS IN EXCLUSIVE MODE")
            holding.execute("UPDATE ACCOUNTS SET BALANCE = 1 WHERE ID = 1")
            with pytest.raises(dbapi.Error) as refused:
                waiting.execute("LOCK TABLE ACCOUNTS IN EXCLUSIVE MODE NOWAIT")
            assert refused.value.errorcode == 146
            waiting.execute("SELECT COUNT(*) FROM ACCOUNTS")
            assert waiting.fetchone()[0] == ACCOUNTS, "reading does not wait"
            done = threading.Event()

            def insert(cursor: dbapi.Cursor = waiting, done: threading.Event = done) -> None:
                cursor.execute("UPDATE ACCOUNTS SET BALANCE = 2 WHERE ID = 2")
                done.set()

            writer = threading.Thread(target=insert)
            writer.start()
            assert not done.wait(0.3), "another one's change waits"
            ending()
            writer.join()
            assert done.is_set()
        with closing_connection(hana) as gone:
            gone.setautocommit(False)
            gone.cursor().execute("LOCK TABLE EVENTS IN EXCLUSIVE MODE")
        other.cursor().execute("INSERT INTO EVENTS VALUES (1, 1, 1, 'the holder has gone')")
