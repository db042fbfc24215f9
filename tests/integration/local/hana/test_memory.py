"""The server's memory does not grow with the number of statements it has run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hdbcli import dbapi

from hana_ai.api.local.hana import LocalHana

MOST = 1.10
"""How much larger the process may be after ten times as many statements."""


def _kilobytes(hana: LocalHana) -> int:
    for line in Path(f"/proc/{hana.pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def _round(connection: dbapi.Connection, number: int) -> int:
    """Statements of many kinds, texts that were there before and new ones; gives how many."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {number} + LENGTH('{number}') FROM DUMMY")
        cursor.fetchall()
        cursor.execute("UPSERT KEPT VALUES (?, ?, ?) WITH PRIMARY KEY", (number % 50, f"row {number}", 1.5))
        for parameter in range(3):
            cursor.execute("SELECT * FROM KEPT WHERE ID < ? ORDER BY ID", (parameter * 20,))
            cursor.fetchall()
        cursor.execute(
            "DO (IN a INTEGER => ?) BEGIN t = SELECT ID FROM KEPT WHERE ID < :a; SELECT COUNT(*) FROM :t; END",
            (9,),
        )
        cursor.fetchall()
        cursor.execute("SELECT DOUBLED(ID) FROM KEPT WHERE ID < 3")
        cursor.fetchall()
        cursor.execute(f"UPDATE KEPT SET NAME = 'n{number}' WHERE ID = {number % 50}")
        connection.rollback()
        try:
            cursor.execute(f"SELECT NOTHING_{number} FROM KEPT")
        except dbapi.Error:
            return 9
    raise AssertionError("an unknown column is an error")


def grown(statements: int) -> float:
    """The size after ten times so many statements in relation to the size after so many."""
    with LocalHana() as hana:
        connections = [hana.connect(autocommit=number == 0) for number in range(3)]
        with connections[0].cursor() as cursor:
            cursor.execute("CREATE TABLE KEPT (ID INTEGER PRIMARY KEY, NAME NVARCHAR(40), V DOUBLE)")
            cursor.execute("CREATE FUNCTION DOUBLED (x INTEGER) RETURNS r INTEGER AS BEGIN r = 2 * :x; END")
        done = number = first = 0
        while done < statements * 10:
            done += _round(connections[number % 3], number)
            connections[number % 3].commit()
            number += 1
            if number % 200 == 0:
                # Connections come and go.
                connections[1].close()
                connections[1] = hana.connect(autocommit=False)
            if not first and done >= statements:
                first = _kilobytes(hana)
        last = _kilobytes(hana)
        for connection in connections:
            connection.close()
    return last / first


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_is_flat_over_100_000_statements() -> None:
    assert grown(10_000) < MOST
