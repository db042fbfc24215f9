"""Cases of the loopback HANA, through the unmodified hdbcli.

The floor is DuckDB alone, in the caller's process. Ours has a process of its own, so that the CPU time of this one
says nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import count
from typing import Any

from benchmarks.case import Case, Contestant, Prepare, Run, Setting
from benchmarks.figures import BASELINE, FLOOR, OURS, Bar, Unit

DIMENSION = 384
ROWS = 10_000
BATCH = 1_000
SELECTS = 300
SEARCHES = 10

_CREATE = "CREATE COLUMN TABLE V (ID INTEGER PRIMARY KEY, VEC REAL_VECTOR({}))"
_INSERT = "INSERT INTO V VALUES (?, ?)"
_NEAREST = "SELECT TOP 4 ID FROM V ORDER BY COSINE_SIMILARITY(VEC, TO_REAL_VECTOR(?)) DESC"
_FILL_FLOOR = f"""
CREATE TABLE v AS SELECT id, list(number ORDER BY place)::FLOAT[{DIMENSION}] AS vec FROM (
    SELECT number, (row_number() OVER () - 1) // {DIMENSION} AS id, row_number() OVER () AS place FROM numbers
) GROUP BY id
"""
_NEAREST_FLOOR = f"SELECT id FROM v ORDER BY array_cosine_similarity(vec, ?::FLOAT[{DIMENSION}]) DESC LIMIT 4"


def _vectors() -> Any:
    """Vectors of shape `(ROWS, DIMENSION)`."""
    import numpy as np

    return np.random.default_rng(0).normal(size=(ROWS, DIMENSION)).astype(np.float32)


def _cursor() -> Any:
    from hana_ai.api.local.hana import LocalHana

    hana = LocalHana()
    hana.start()
    return hana.connect().cursor()


def _repeated(times: int, work: Callable[[], object]) -> Run:
    def run() -> None:
        for _ in range(times):
            work()

    return run


def _select(_: Setting) -> Run:
    cursor = _cursor()

    def select() -> None:
        cursor.execute("SELECT 1 FROM DUMMY")
        assert cursor.fetchone()[0] == 1

    return _repeated(SELECTS, select)


def _select_floor(_: Setting) -> Run:
    import duckdb

    connection = duckdb.connect()

    def select() -> None:
        assert connection.execute("SELECT 1").fetchone() == (1,)

    return _repeated(SELECTS, select)


def _with_table() -> tuple[Any, Callable[[int], None]]:
    """A cursor and what inserts the batch that begins with a row."""
    packed = [struct.pack("<I", DIMENSION) + vector.tobytes() for vector in _vectors()]
    cursor = _cursor()
    cursor.execute(_CREATE.format(DIMENSION))

    def insert(begin: int) -> None:
        rows = [(number, packed[number % ROWS]) for number in range(begin, begin + BATCH)]
        cursor.executemany(_INSERT, rows)

    return cursor, insert


def _insert(_: Setting) -> Run:
    _, insert = _with_table()
    begins = count(step=BATCH)
    return lambda: insert(next(begins))


def _search(_: Setting) -> Run:
    cursor, insert = _with_table()
    for begin in range(0, ROWS, BATCH):
        insert(begin)
    question = str(_vectors()[5].tolist())

    def search() -> None:
        cursor.execute(_NEAREST, (question,))
        assert cursor.fetchall()[0][0] == 5

    return _repeated(SEARCHES, search)


def _search_floor(_: Setting) -> Run:
    import duckdb

    connection, vectors = duckdb.connect(), _vectors()
    connection.register("numbers", {"number": vectors.ravel()})
    connection.execute(_FILL_FLOOR)
    question = str(vectors[5].tolist())

    def search() -> None:
        assert connection.execute(_NEAREST_FLOOR, [question]).fetchall()[0] == (5,)

    return _repeated(SEARCHES, search)


def _case(
    name: str, title: str, unit: Unit, ours: Prepare, floor: Prepare | None = None, *, operations: int = 1
) -> Case:
    contestants = {OURS: Contestant("loopback HANA over hdbcli", ours)}
    if floor is not None:
        contestants = {FLOOR: Contestant("floor: DuckDB alone", floor)} | contestants
    no_slower = (Bar(1.1, BASELINE),)
    return Case(name, title, unit, contestants, no_slower, operations=operations, rounds=2, wall_only=True)


CASES = (
    _case("hana-select", "HANA: SELECT 1 FROM DUMMY", "us", _select, _select_floor, operations=SELECTS),
    _case("hana-insert", f"HANA: insert {BATCH:,} vectors of {DIMENSION} numbers", "ms", _insert),
    _case(
        "hana-search",
        f"HANA: the nearest 4 of {ROWS:,} vectors",
        "ms",
        _search,
        _search_floor,
        operations=SEARCHES,
    ),
)
