"""Cases of the ingest: tens of thousands of texts into the loopback HANA, through one command of the library.

The HANA has a process of its own. Vectors come from the server of `benchmarks.server`, after 20 ms. What is judged
is one text. The floor is given the same Documents, and does without ids, records, retries, limits and progress;
the peer writes what its class writes.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections.abc import Iterator
from queue import Queue
from threading import Thread
from typing import Any

import orjson

from benchmarks import memory, peers
from benchmarks.case import Case, Contestant, Prepare, Run, Setting
from benchmarks.figures import BASELINE, FLOOR, OURS, Bar, Round
from benchmarks.server import DIMENSIONS, EMBEDDINGS_PATH, SLOW

CHUNKS = 50_000
FEW = 2_000
"""Texts of the peer, which would take hours for all."""
BATCH = 128
AT_ONCE = 16
ROWS = 1_024
"""Rows in a commit of the floor's."""

_CREATE = (
    'CREATE COLUMN TABLE "{}" ("VEC_ID" NVARCHAR(255) PRIMARY KEY, "VEC_TEXT" NCLOB, "VEC_META" NCLOB, '
    f'"VEC_VECTOR" REAL_VECTOR({DIMENSIONS}))'
)
_numbers = itertools.count()


def _text(number: int) -> str:
    return f"Row {number}: the customer asked about an invoice of last month, and about the one before."


def _hana() -> Any:
    from hana_ai.api.local.hana import LocalHana

    hana = LocalHana()
    hana.start()
    return hana


def _count(connection: Any, table: str, expected: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT COUNT(*) FROM "{table}"')
        assert cursor.fetchone()[0] == expected
        cursor.execute(f'DROP TABLE "{table}"')


def _documents(count: int) -> Iterator[Any]:
    from langchain_core.documents import Document

    return (Document(_text(number), id=str(number)) for number in range(count))


def _each(count: int, work: Any) -> Run:
    """Seconds a chunk, since the contestants do not write the same number."""

    def run() -> Round:
        wall, cpu = time.perf_counter(), time.process_time()
        work(f"T{next(_numbers)}")
        return Round((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)

    return run


def _ours(count: int) -> Prepare:
    def prepare(setting: Setting) -> Run:
        from hana_ai.api.hana.ingest import ingest_documents

        hana, embedding = _hana(), peers.embeddings(setting, SLOW)
        connection = hana.connect()

        def work(table: str, texts: int = count) -> None:
            done = ingest_documents(
                _documents(texts), table, connection, embedding=embedding, connect=hana.connect, name=table
            )
            assert done.progress.rows == texts
            _count(connection, table, texts)

        # By a first one, small, all is imported.
        work("WARM", BATCH)
        return _each(count, work)

    return prepare


def _floor(setting: Setting) -> Run:
    from benchmarks.floors import AsyncPoster

    connection = _hana().connect()
    connection.setautocommit(False)
    pack = struct.Struct(f"<I{DIMENSIONS}f").pack

    def write(table: str, rows: Queue[list[tuple[str, str, str, bytes]] | None]) -> None:
        cursor, waiting = connection.cursor(), []
        while True:
            made = rows.get()
            waiting += made or []
            if waiting and (made is None or len(waiting) >= ROWS):
                cursor.executemany(f'INSERT INTO "{table}" VALUES (?, ?, ?, ?)', waiting)
                connection.commit()
                waiting = []
            if made is None:
                return

    async def embed(rows: Queue[list[tuple[str, str, str, bytes]] | None]) -> None:
        poster, documents = AsyncPoster(setting.url, EMBEDDINGS_PATH), _documents(CHUNKS)

        async def worker() -> None:
            while batch := list(itertools.islice(documents, BATCH)):
                texts = [document.page_content for document in batch]
                reply = orjson.loads(await poster.post(orjson.dumps({"model": SLOW, "input": texts})))
                rows.put(
                    [
                        (document.id, document.page_content, "{}", pack(DIMENSIONS, *entry["embedding"]))
                        for document, entry in zip(batch, reply["data"], strict=True)
                    ]
                )

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        await poster.close()

    def work(table: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_CREATE.format(table))
        rows: Queue[list[tuple[str, str, str, bytes]] | None] = Queue()
        writer = Thread(target=write, args=(table, rows))
        writer.start()
        asyncio.run(embed(rows))
        rows.put(None)
        writer.join()
        _count(connection, table, CHUNKS)

    return _each(CHUNKS, work)


def _peer(setting: Setting) -> Run:
    from langchain_hana import HanaDB

    connection, embedding = _hana().connect(), peers.peer_embeddings(setting, SLOW)

    def work(table: str) -> None:
        HanaDB(connection, embedding, table_name=table).add_texts([_text(number) for number in range(FEW)])
        _count(connection, table, FEW)

    return _each(FEW, work)


def _grown(setting: Setting) -> Run:
    """Bytes that the process has at its peak, imports and all."""
    run = _ours(CHUNKS)(setting)

    def measure() -> Round:
        cpu = time.process_time()
        run()
        return Round(memory.peak(), time.process_time() - cpu)

    return measure


CASES = (
    Case(
        "ingest",
        f"ingest {CHUNKS:,} texts of {DIMENSIONS:,} numbers, answered after 20 ms; a text of them",
        "us",
        {
            FLOOR: Contestant("floor: aiohttp, orjson, struct and executemany", _floor),
            OURS: Contestant("hana-ai-together", _ours(CHUNKS)),
            peers.LANGCHAIN_TOGETHER: Contestant(
                f"{peers.LABELS[peers.LANGCHAIN_TOGETHER]} and HanaDB.add_texts, {FEW:,} texts", _peer
            ),
        },
        (Bar(1.3), Bar(1 / 100, peers.LANGCHAIN_TOGETHER), Bar(1.1, BASELINE)),
        fresh=True,
        heavy=True,
        wall_only=True,
    ),
    Case(
        "ingest-memory",
        f"memory for ingesting {CHUNKS:,} texts",
        "MB",
        {OURS: Contestant("hana-ai-together, with all that it imports", _grown)},
        (Bar(500e6, None),),
        fresh=True,
        heavy=True,
        wall_only=True,
    ),
)
