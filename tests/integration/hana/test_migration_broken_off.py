"""Whatever ends a migration, the next call goes on with it: every row once, no text embedded again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hdbcli import dbapi

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.hana import migrate_table
from hana_ai.api.hana.vector_column import packed
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import LocalTogether, ScriptedEngine
from tests.integration.hana.conftest import rows, run
from tests.integration.hana.migrations import OURS, SAP, filled, sent, stamps, texts_of
from tests.integration.hana.mortal import Killed, MortalConnection


def test_it_may_die_after_any_change(
    local_hana: LocalHana,
    connection: dbapi.Connection,
    embeddings: TogetherAIEmbeddings,
    engine: ScriptedEngine,
) -> None:
    texts = texts_of(3)
    survived, lives = False, 0
    while not survived:
        for name in rows(connection, "SELECT TABLE_NAME FROM SYS.TABLES WHERE SCHEMA_NAME = CURRENT_SCHEMA"):
            run(connection, f'DROP TABLE "{name[0]}"')
        filled(connection, texts)
        before = rows(connection, 'SELECT "VEC_ID", "VEC_TEXT", "VEC_META" FROM "T" ORDER BY 1')
        engine.requests.clear()
        mortal = MortalConnection(local_hana.connect(), lives)
        try:
            migrate_table(mortal, "T", embedding=embeddings, batch_size=2, swap=True)
            survived = True
        except (Killed, dbapi.Error):
            done = migrate_table(connection, "T", embedding=embeddings, batch_size=2, swap=True)
            assert done.swapped
        finally:
            mortal.real.close()
        assert rows(connection, 'SELECT "VEC_ID", "VEC_TEXT", "VEC_META" FROM "T" ORDER BY 1') == before, lives
        assert stamps(connection) == {"T": OURS, "T_OLD": SAP}
        assert sum(sent(engine).values()) <= len(texts) + 2, "no more than the batch in flight twice"
        assert rows(connection, 'SELECT DISTINCT CARDINALITY("VEC_VECTOR") FROM "T"') == [(256,)]
        assert rows(connection, "SELECT COUNT(*) FROM SYS.TABLES WHERE COMMENTS LIKE '%migration of%with%'") == [
            (0,)
        ]
        assert not rows(connection, "SELECT 1 FROM SYS.TABLE_COLUMNS WHERE COLUMN_NAME LIKE 'HANA_AI%'")
        lives += 1
    assert lives > 15


MIGRATE = Path(__file__).with_name("migrate.py")
COUNT = 10_000
BATCH = 500


def test_ten_thousand_rows_move_though_the_process_is_killed_three_times(
    local_hana: LocalHana, connection: dbapi.Connection
) -> None:
    run(
        connection,
        'CREATE COLUMN TABLE "T" ("VEC_TEXT" NCLOB, "VEC_META" NCLOB, "VEC_VECTOR" REAL_VECTOR(2), "n" INTEGER)',
    )
    vector = packed([0.5, 0.5], "REAL_VECTOR")
    with connection.cursor() as cursor:
        cursor.executemany(
            'INSERT INTO "T" VALUES (?, ?, ?, ?)',
            [(text, "{}", vector, number) for number, text in enumerate(texts_of(COUNT))],
        )
    engine = ScriptedEngine(dimensions=8)
    with LocalTogether(engine, api_key="key") as server:
        variables = {**os.environ, **local_hana.environment(), **server.environment()}

        def start() -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", str(MIGRATE), "T", str(BATCH)],
                env=variables,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            return process

        for enough in (1_000, 4_000, 7_000):
            process = start()
            deadline = time.monotonic() + 60
            while sum(len(one.body["input"]) for one in engine.posts) < enough and time.monotonic() < deadline:
                time.sleep(0.05)
            process.kill()
            process.communicate()
            there = rows(connection, 'SELECT COUNT(*), COUNT("VEC_VECTOR") FROM "T_NEW"')
            assert there[0][0] == COUNT
            assert there[0][1] % BATCH == 0
            assert there[0][1] < COUNT
        process = start()
        assert int(process.communicate(timeout=120)[0]) < COUNT
        embedded = sent(engine)
        embeddings = TogetherAIEmbeddings(model=OURS, base_url=server.base_url, api_key="key")
        made = embeddings.embed_documents(texts_of(COUNT)[::20])

    assert set(embedded) == set(texts_of(COUNT))
    twice = [text for text, times in embedded.items() if times > 1]
    assert len(twice) <= 3 * BATCH, "no more than the three batches in flight"
    assert max(embedded.values()) <= 2
    assert stamps(connection) == {"T": OURS, "T_OLD": None}
    assert rows(connection, 'SELECT COUNT(*), COUNT(DISTINCT "n") FROM "T"') == [(COUNT, COUNT)]
    stored = rows(connection, 'SELECT "n", "VEC_TEXT", TO_NVARCHAR("VEC_VECTOR") FROM "T" ORDER BY "n"')
    assert [text for _, text, _ in stored] == texts_of(COUNT)
    assert len({values for _, _, values in stored}) == COUNT
    for (_, _, values), vector_made in zip(stored[::20], made, strict=True):
        assert [float(value) for value in values.strip("[]").split(",")] == pytest.approx(vector_made, abs=1e-6)
