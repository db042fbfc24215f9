"""Figures of the loopback HANA, by the unmodified hdbcli; beside each, the figure that it has to reach.

They are absolute, since there is no other HANA to compare with on the same machine: read them on a quiet one.
"""

from __future__ import annotations

import statistics
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

DIMENSION = 384
ROWS = 10_000
BATCH = 1_000


def figures() -> Iterator[str]:
    """Measure, and give a line for each figure."""
    import numpy as np

    from hana_ai.api.local.hana import LocalHana

    vectors = np.random.default_rng(0).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    packed = [struct.pack("<I", DIMENSION) + vector.tobytes() for vector in vectors]
    with LocalHana() as hana:
        connection = hana.connect()
        cursor = connection.cursor()

        def select() -> None:
            cursor.execute("SELECT 1 FROM DUMMY")
            cursor.fetchone()

        yield _line("SELECT 1", 1 / _median(select, 3000), "/s", "at least 1,400")
        cursor.execute(f"CREATE COLUMN TABLE V (ID INTEGER PRIMARY KEY, VEC REAL_VECTOR({DIMENSION}))")
        batches = iter(range(0, ROWS, BATCH))

        def insert() -> None:
            begin = next(batches)
            rows = [(number, packed[number]) for number in range(begin, begin + BATCH)]
            cursor.executemany("INSERT INTO V VALUES (?, ?)", rows)

        name = f"executemany, {BATCH:,} x {DIMENSION}"
        yield _line(name, 1000 * _median(insert, ROWS // BATCH), "ms", "at most 49")
        question = str(vectors[5].tolist())

        def search() -> None:
            cursor.execute(
                "SELECT TOP 4 ID FROM V ORDER BY COSINE_SIMILARITY(VEC, TO_REAL_VECTOR(?)) DESC", (question,)
            )
            assert cursor.fetchall()[0][0] == 5

        yield _line(f"cosine, top 4 of {ROWS:,} x {DIMENSION}", 1000 * _median(search, 30), "ms", "at most 17")
        cursor.close()
        connection.close()


def _median(work: Callable[[], Any], times: int) -> float:
    """Seconds of the median run."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def _line(name: str, value: float, unit: str, bar: str) -> str:
    return f"{name:<34}{value:>10,.0f} {unit:<3} {bar:>20}"
