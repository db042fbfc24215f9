"""A load that is killed and run again ends with every row, once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from hdbcli import dbapi

from hana_ai.api.local.hana import LocalHana
from tests.integration.hana.conftest import rows

LOAD = Path(__file__).with_name("load.py")
COUNT = 10_000


def start(local_hana: LocalHana) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(LOAD), str(COUNT)],
        env={**os.environ, **local_hana.environment()},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def written(connection: dbapi.Connection) -> int:
    return int(rows(connection, 'SELECT COUNT(*) FROM "LOADED"')[0][0])


def test_ten_thousand_rows_are_all_there_once_though_the_process_is_killed_twice(
    local_hana: LocalHana, connection: dbapi.Connection
) -> None:
    for enough in (1_000, 3_000):
        process = start(local_hana)
        before, deadline = written(connection), time.monotonic() + 60
        while written(connection) < enough and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert before <= written(connection) < COUNT
        assert written(connection) % 500 == 0, "a batch is there as a whole or not at all"
    process = start(local_hana)
    assert process.communicate(timeout=120)[0] == "done\n"

    assert written(connection) == COUNT
    assert rows(connection, 'SELECT COUNT(DISTINCT "VEC_ID") FROM "LOADED"') == [(COUNT,)]
    assert rows(
        connection, """SELECT COUNT(*) FROM "LOADED" WHERE "VEC_ID" = JSON_VALUE("VEC_META", '$.number')"""
    ) == [(COUNT,)]
