"""Large objects in both directions, in one message and in many."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hdbcli import dbapi

from tests.integration.local.hana.conftest import Scripted

Connect = Callable[..., dbapi.Connection]

TEXT = "x" + "😀ä" * 900_000
BYTES = bytes(range(256)) * 20_000


@pytest.mark.parametrize(
    ("kind", "value"),
    [("NCLOB", TEXT), ("CLOB", "y" * 5_000_000), ("BLOB", BYTES)],
    # Not the values: pytest puts the name of a test into the environment of the processes that it starts.
    ids=["NCLOB", "CLOB", "BLOB"],
)
def test_a_large_object_is_written_in_pieces_and_read_in_pieces(
    connect: Connect, kind: str, value: str | bytes
) -> None:
    connection = connect()
    with connection.cursor() as cursor:
        cursor.execute(f"keep(INTEGER, {kind})", (1, value))
        cursor.execute("kept()")
        number, returned = cursor.fetchone()
    assert number == 1
    assert (returned.tobytes() if isinstance(returned, memoryview) else returned) == value


def test_several_large_objects_in_one_row(connect: Connect) -> None:
    row = (TEXT, 7, BYTES, "short")
    with connect().cursor() as cursor:
        cursor.execute("keep(NCLOB, INTEGER, BLOB, NCLOB)", row)
        cursor.execute("kept()")
        text, number, data, short = cursor.fetchone()
    assert (text, number, data.tobytes(), short) == row


def test_a_batch_of_large_objects(connect: Connect, scripted: Scripted) -> None:
    with connect().cursor() as cursor:
        cursor.executemany("insert(INTEGER, BLOB)", [(number, BYTES) for number in range(3)])
    state = scripted.state()
    assert state["committed"] == 3
    assert state["last_rows"] == [[number, f"bytes of {len(BYTES)}"] for number in range(3)]


def test_a_batch_of_large_objects_that_fails_leaves_nothing(connect: Connect, scripted: Scripted) -> None:
    with connect().cursor() as cursor, pytest.raises(dbapi.IntegrityError):
        cursor.executemany("insert(INTEGER, BLOB, fail_on=2)", [(number, BYTES) for number in range(3)])
    assert scripted.state()["committed"] == 0


def test_a_lob_is_streamed_in(connect: Connect, scripted: Scripted) -> None:
    connection = connect(autocommit=False)
    with connection.cursor() as cursor:
        lob = dbapi.LOB()
        cursor.execute("insert(INTEGER, NCLOB)", (1, lob))
        for _ in range(10):
            lob.write("z" * 300_000)
        lob.close()
    connection.commit()
    assert scripted.state()["last_rows"] == [[1, "str of 3000000"]]


def test_a_lob_is_streamed_out(connect: Connect) -> None:
    with connect().cursor() as cursor:
        cursor.execute("query([BLOB], [(bytes(range(256)) * 20_000,)])")
        row = cursor.fetchone(True)
        lob = row[0]
        first = lob.read(10)
        rest = lob.read()
    assert bytes(first) + bytes(rest) == BYTES


def test_a_lob_is_read_again_from_its_start(connect: Connect) -> None:
    with connect().cursor() as cursor:
        cursor.execute("query([BLOB], [(bytes([n]) * 2_000_000,) for n in range(20)])")
        for number in range(20):
            lob = cursor.fetchone(True)[0]
            for _ in range(2):
                assert bytes(lob.read(1_500_000, 400_000)) == bytes([number]) * 1_500_000


def test_four_hundred_megabytes_of_lobs_do_not_stay_in_memory(connect: Connect, scripted: Scripted) -> None:
    before = scripted.state()["peak_memory"]
    total = 0
    with connect().cursor() as cursor:
        cursor.execute("query([BLOB], ((bytes([n]) * 4_000_000,) for n in range(100)))")
        for _ in range(100):
            total += len(cursor.fetchone()[0])
    assert total == 400_000_000
    assert scripted.state()["peak_memory"] - before < 150_000_000


def test_a_lob_parameter_of_a_query(connect: Connect) -> None:
    with connect().cursor() as cursor:
        cursor.execute("echo(NCLOB)", (TEXT,))
        assert cursor.fetchone()[0] == TEXT


def test_a_lob_parameter_of_a_query_without_rows(connect: Connect) -> None:
    with connect().cursor() as cursor:
        cursor.execute("swallow(NCLOB)", (TEXT,))
        assert cursor.fetchall() == []
