"""A model is asked about every row: answers keyed by the row's key, each once, whatever ends the run."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import random
import signal
import threading
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from hdbcli import dbapi
from pydantic import BaseModel

from hana_ai.api import (
    TogetherAIAuthenticationError,
    TogetherAIBudgetExceededError,
    TogetherAIInputError,
    TogetherAIRequestError,
)
from hana_ai.api.cli.app import run as cli
from hana_ai.api.hana import amap_table, estimate_map, map_table
from hana_ai.api.hana.mapping.shapes import Shape
from hana_ai.api.hana.mapping.stages import Prompt, RowTask
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import Received, Reply, ScriptedEngine
from hana_ai.api.settings import TogetherAISettings
from tests.conftest import PRICED, PRICED_CALL, ScriptedTogether, eventually, export
from tests.integration.hana.conftest import rows, run
from tests.warm import Warm

CHAT = "/v1/chat/completions"
PROMPT = "Say {TEXT}"


@pytest.fixture
def server(together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch) -> ScriptedTogether:
    together_environment.batches.dials.validating = 0.01
    monkeypatch.setenv("TOGETHER_DEFAULT_MODEL", ScriptedEngine.CHAT)
    return together_environment


def filled(connection: dbapi.Connection, count: int) -> None:
    run(
        connection,
        'CREATE COLUMN TABLE "S" ("ID" INTEGER PRIMARY KEY, "TEXT" NVARCHAR(200), "TOPIC" NVARCHAR(20))',
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            'INSERT INTO "S" VALUES (?, ?, ?)', [(number, f"row {number}", "x") for number in range(count)]
        )


def answers(connection: dbapi.Connection, table: str = "R", columns: str = '"ID", TO_NVARCHAR("ANSWER")') -> Any:
    return rows(connection, f'SELECT {columns} FROM "{table}" ORDER BY 1')


def asked(engine: ScriptedEngine) -> Counter[str]:
    return Counter(request.body["messages"][-1]["content"] for request in engine.posts if request.path == CHAT)


# --- what it gives ---


@pytest.mark.parametrize("mode", ["online", "batch"])
def test_every_row_has_its_answer(server: ScriptedTogether, connection: dbapi.Connection, mode: str) -> None:
    filled(connection, 30)
    done = map_table("S", "R", connection=connection, prompt=PROMPT, mode=mode, batch_size=7, max_tokens=50)
    assert (done.rows, done.failed, done.asked) == (30, 0, 30)
    assert answers(connection) == [(number, f"Say row {number}") for number in range(30)]
    assert rows(connection, 'SELECT SUM("PROMPT_TOKENS" + "COMPLETION_TOKENS"), COUNT("ERROR") FROM "R"') == [
        (done.tokens, 0)
    ]
    again = map_table("S", "R", connection=connection, prompt=PROMPT, mode=mode, max_tokens=50)
    assert (again.rows, again.asked, again.tokens) == (30, 0, 0)
    assert set(asked(server.engine).values()) == {1}
    assert not rows(connection, "SELECT 1 FROM SYS.TABLES WHERE TABLE_NAME = 'R_BATCHES'")


def test_rows_that_came_since_are_asked_by_the_next_run(
    server: ScriptedTogether, connection: dbapi.Connection
) -> None:
    filled(connection, 3)
    map_table("S", "R", connection=connection, prompt=PROMPT)
    run(connection, """INSERT INTO "S" VALUES (-1, 'new', NULL)""")
    assert map_table("S", "R", connection=connection, prompt=PROMPT).asked == 1
    assert answers(connection)[0] == (-1, "Say new")


class Review(BaseModel):
    mood: Literal["good", "bad"]
    stars: int
    share: float
    urgent: bool
    words: list[str]
    note: str | None = None


REVIEW = {"mood": "good", "stars": 4, "share": 0.5, "urgent": True, "words": ["a"], "note": None}


@pytest.mark.parametrize("shape", [Review, Review.model_json_schema()], ids=["class", "schema"])
@pytest.mark.parametrize("mode", ["online", "batch"])
def test_an_answer_fills_the_columns_of_its_shape(
    server: ScriptedTogether, connection: dbapi.Connection, shape: Any, mode: str
) -> None:
    filled(connection, 4)
    wrong = {1: '{"mood": "ugly", "stars": 4}', 2: "no JSON", 3: json.dumps({**REVIEW, "stars": "many"})}

    def answer(request: Received) -> Reply:
        number = int(request.body["messages"][-1]["content"].split()[-1])
        return Reply(text=wrong.get(number, json.dumps(REVIEW)))

    server.engine.on(CHAT, answer)
    done = map_table("S", "R", connection=connection, prompt=PROMPT, shape=shape, mode=mode)
    assert (done.rows, done.failed) == (4, 3)
    columns = '"ID", "MOOD", "STARS", "SHARE", "URGENT", TO_NVARCHAR("WORDS"), "NOTE", "ERROR"'
    good, *bad = answers(connection, columns=columns)
    assert good == (0, "good", 4, 0.5, True, '["a"]', None, None)
    assert [row[1:7] for row in bad] == [(None,) * 6] * 3
    assert ["no JSON" in row[7] or "mood" in row[7] or "stars" in row[7] for row in bad] == [True] * 3


def test_labels_are_chosen_from(server: ScriptedTogether, connection: dbapi.Connection) -> None:
    filled(connection, 2)
    map_table("S", "R", connection=connection, prompt="Which? {TEXT}", shape=["red", "blue"])
    assert answers(connection, columns='"LABEL"') == [("red",), ("red",)]
    [request] = {json.dumps(one.body["response_format"]) for one in server.engine.posts}
    assert json.loads(request)["json_schema"]["schema"]["properties"]["label"]["enum"] == ["red", "blue"]


def test_a_dataframe_and_a_query_are_sources_and_keys_may_have_parts(
    server: ScriptedTogether, connection: dbapi.Connection, context: Any
) -> None:
    filled(connection, 9)
    frame = context.table("S").filter('"ID" < 5')
    assert map_table(frame, "F", prompt="{TEXT}", system="About {TOPIC}", key="ID").rows == 5
    assert server.engine.posts[0].body["messages"][0] == {"role": "system", "content": "About x"}
    query = """SELECT "TOPIC" AS "A", CAST("ID" AS DECIMAL(10, 2)) AS "B", "TEXT" FROM "S";"""
    for mode in ("online", "batch"):
        done = map_table(
            query, f"Q_{mode}", connection=context, prompt="{TEXT}", key=["A", "B"], batch_size=2, mode=mode
        )
        assert (done.rows, done.failed) == (9, 0)
        found = answers(connection, f"Q_{mode}", '"B", "A", TO_NVARCHAR("ANSWER")')
        assert found == [(Decimal(number), "x", f"row {number}") for number in range(9)]


async def test_a_coroutine_maps_and_commits_what_is_under_way_when_it_is_cancelled(
    server: ScriptedTogether, connection: dbapi.Connection
) -> None:
    filled(connection, 200)
    server.engine.always(Reply(text="a", delay=0.02))
    work = asyncio.ensure_future(amap_table("S", "R", connection=connection, prompt=PROMPT, batch_size=10))
    await eventually(lambda: len(server.engine.posts) > 30)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    there = len(answers(connection))
    assert 0 < there < 200
    assert there == len(server.engine.posts)
    assert (await amap_table("S", "R", connection=connection, prompt=PROMPT)).asked == 200 - there


# --- rows that fail ---


@pytest.mark.parametrize("mode", ["online", "batch"])
def test_rows_that_fail_are_in_the_result_with_their_error(
    server: ScriptedTogether, connection: dbapi.Connection, mode: str
) -> None:
    filled(connection, 10)
    rude = ("3", "7")

    def answer(request: Received) -> Reply | None:
        if request.body["messages"][-1]["content"].endswith(rude):
            return Reply(status=400, body={"error": {"message": "too rude", "type": "invalid_request_error"}})
        return None

    server.engine.on(CHAT, answer)
    done = map_table("S", "R", connection=connection, prompt=PROMPT, mode=mode)
    assert (done.rows, done.failed) == (10, 2)
    failed = answers(connection, columns='"ID", "ERROR"')
    assert [number for number, error in failed if error and "too rude" in error] == [3, 7]
    rude = ()
    again = map_table("S", "R", connection=connection, prompt=PROMPT, mode=mode, retry_errors=True)
    assert (again.asked, again.failed) == (2, 0)


@pytest.mark.usefixtures("quick_retries")
def test_a_row_that_breaks_the_server_is_told_from_a_server_that_is_down(
    server: ScriptedTogether, connection: dbapi.Connection
) -> None:
    filled(connection, 60)
    settings = TogetherAISettings(together_max_retries=0)
    down = False

    def answer(request: Received) -> Reply | None:
        broken = down or request.body["messages"][-1]["content"].endswith("row 5")
        return Reply(status=500) if broken else None

    server.engine.on(CHAT, answer)
    query = 'SELECT * FROM "S" WHERE "ID" < 20'
    done = map_table(query, "R", connection=connection, prompt=PROMPT, key="ID", settings=settings, batch_size=4)
    assert (done.rows, done.failed) == (20, 1)
    down = True
    with pytest.raises(TogetherAIRequestError):
        map_table("S", "R", connection=connection, prompt=PROMPT, key="ID", settings=settings, batch_size=40)
    assert len(answers(connection)) == 20, "no row is to blame"


def test_a_wrong_key_ends_the_run(server: ScriptedTogether, connection: dbapi.Connection) -> None:
    filled(connection, 3)
    settings = TogetherAISettings(together_api_key="wrong")
    with pytest.raises(TogetherAIAuthenticationError):
        map_table("S", "R", connection=connection, prompt=PROMPT, model="m", settings=settings)
    assert answers(connection) == []


# --- money ---


def test_cost_is_told_before_and_after_and_the_budget_is_kept(
    priced: ScriptedTogether, connection: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(monkeypatch, {"TOGETHER_DEFAULT_MODEL": PRICED})
    filled(connection, 20)
    wanted: dict[str, Any] = {"connection": connection, "prompt": PROMPT, "max_tokens": 9}
    estimate = estimate_map("S", "R", **wanted)
    assert (estimate.to_ask, estimate.completion_tokens, estimate.resumed) == (20, 180, False)
    assert estimate.cost_usd is not None
    assert estimate.cost_usd > 20 * PRICED_CALL
    with pytest.raises(TogetherAIInputError, match="max_cost_usd"):
        map_table("S", "R", **wanted, max_cost_usd=PRICED_CALL)
    assert not priced.engine.posts
    settings = TogetherAISettings(together_budget_usd=5 * PRICED_CALL, together_max_concurrency=1)
    with pytest.raises(TogetherAIBudgetExceededError):
        map_table("S", "R", **wanted, settings=settings)
    assert len(answers(connection)) == len(priced.engine.posts) == 5
    rest = map_table("S", "R", **wanted)
    assert (rest.asked, rest.cost_usd) == (15, 15 * PRICED_CALL)


# --- what is refused ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "{TEXTS}"}, "did you mean TEXT"),
        ({"prompt": "{Q}"}, "there are: ID, TEXT, TOPIC"),
        ({"prompt": "Hello"}, "names no column"),
        ({"prompt": "{TEXT"}, "no template"),
        ({"prompt": PROMPT, "key": "ids"}, "did you mean ID"),
        ({"prompt": PROMPT, "key": "TOPIC"}, "not unique"),
        ({"prompt": PROMPT, "shape": {"type": "object"}}, "no properties"),
        ({"prompt": PROMPT, "shape": 5}, "a Pydantic class"),
        ({"prompt": PROMPT, "shape": {"properties": {"id": {"type": "string"}}}}, "two columns ID"),
        ({"prompt": PROMPT, "batch_size": 0}, "1 or more"),
        ({"prompt": PROMPT, "mode": "later"}, "'online' or 'batch'"),
        ({"prompt": PROMPT, "connection": None}, "no connection"),
        ({}, "needs a prompt"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is(
    server: ScriptedTogether, connection: dbapi.Connection, options: dict[str, Any], message: str
) -> None:
    filled(connection, 3)
    with pytest.raises(TogetherAIInputError, match=message):
        map_table("S", "R", **{"connection": connection, **options})
    assert not rows(connection, "SELECT 1 FROM SYS.TABLES WHERE TABLE_NAME = 'R'")
    assert not server.engine.posts


def test_sources_without_a_key_or_with_null_in_it_are_refused(
    server: ScriptedTogether, connection: dbapi.Connection
) -> None:
    run(connection, 'CREATE COLUMN TABLE "S" ("ID" INTEGER, "TEXT" NCLOB)')
    run(connection, """INSERT INTO "S" VALUES (NULL, 'a')""")
    wanted: dict[str, Any] = {"connection": connection, "prompt": PROMPT}
    with pytest.raises(TogetherAIInputError, match=r"no primary key.*there are: ID, TEXT"):
        map_table("S", "R", **wanted)
    with pytest.raises(TogetherAIInputError, match="is NULL in 1 rows"):
        map_table("S", "R", **wanted, key="ID")
    with pytest.raises(TogetherAIInputError, match="can't be a key"):
        map_table("S", "R", **wanted, key="TEXT")
    with pytest.raises(TogetherAIInputError, match="There is no table"):
        map_table("T", "R", **wanted)


def test_a_result_of_another_kind_is_refused(server: ScriptedTogether, connection: dbapi.Connection) -> None:
    filled(connection, 2)
    wanted: dict[str, Any] = {"connection": connection, "prompt": PROMPT}
    map_table("S", "R", **wanted)
    for other, message in (
        ({"prompt": "{TOPIC}"}, "another prompt, shape or parameters"),
        ({"temperature": 0.5}, "another prompt, shape or parameters"),
        ({"model": "other/model"}, "was filled by"),
        ({"shape": ["a", "b"]}, "of another shape"),
    ):
        with pytest.raises(TogetherAIInputError, match=message):
            map_table("S", "R", **{**wanted, **other})
    with pytest.raises(TogetherAIInputError, match="of another shape"):
        map_table("S", "S", **wanted)


def test_the_stages_can_be_pickled() -> None:
    task = RowTask(Prompt("{TEXT}"), Shape.of(Review), {"model": "m"})
    loaded = pickle.loads(pickle.dumps(task))
    assert loaded == task
    assert loaded.digest == task.digest
    assert loaded.request({"TEXT": "a"})["messages"] == [{"role": "user", "content": "a"}]
    data = {"choices": [{"message": {"role": "assistant", "content": json.dumps(REVIEW)}}]}
    assert loaded.read(data).values == ("good", 4, 0.5, True, '["a"]', None)


# --- killed ---

BATCH = 20
MAPS = f"""
import sys
from hana_ai.api.hana import map_table
from hana_ai.api.hana.connections import connect
map_table("S", "R", connection=connect(), prompt={PROMPT!r}, mode=sys.argv[1], batch_size=int(sys.argv[2]))
"""


@pytest.mark.parametrize("mode", ["online", "batch"])
@pytest.mark.parametrize(("kills", "count"), [(3, 100), pytest.param(20, 300, marks=pytest.mark.slow)])
def test_a_map_that_is_killed_gives_what_an_undisturbed_one_gives(
    local_hana: LocalHana,
    connection: dbapi.Connection,
    server: ScriptedTogether,
    programs: Warm,
    kills: int,
    count: int,
    mode: str,
) -> None:
    filled(connection, count)
    server.engine.on(CHAT, lambda request: Reply(text=request.body["messages"][-1]["content"], delay=0.02))
    server.batches.dials.line = 0.002
    chance = random.Random(kills)
    variables = {**os.environ, **local_hana.environment(), **server.environment()}
    for _ in range(kills):
        job = programs.start(MAPS, mode, str(BATCH), environment=variables)
        # The moment at which it is killed, be it done or not.
        time.sleep(chance.uniform(0.0, 0.6))
        job.send_signal(signal.SIGKILL)
        said = job.communicate()
        assert job.returncode in (0, -signal.SIGKILL), said
    wanted: dict[str, Any] = {"connection": connection, "prompt": PROMPT, "batch_size": BATCH}
    map_table("S", "R", **wanted, mode=mode)
    extra = sum(asked(server.engine).values()) - count
    assert 0 <= extra <= (kills * BATCH if mode == "online" else 0)
    assert len(server.batches.batches) == (mode == "batch")
    done = map_table("S", "U", **wanted)
    assert (done.rows, done.failed) == (count, 0)
    assert rows(connection, 'SELECT * FROM "R" ORDER BY "ID"') == rows(
        connection, 'SELECT * FROM "U" ORDER BY "ID"'
    )


def test_batches_that_are_under_way_are_not_asked_online(
    server: ScriptedTogether, connection: dbapi.Connection
) -> None:
    filled(connection, 5)
    server.batches.dials.next_failure = "out of capacity"
    wanted: dict[str, Any] = {"connection": connection, "prompt": PROMPT}
    with pytest.raises(TogetherAIRequestError, match="out of capacity"):
        map_table("S", "R", **wanted, mode="batch")
    with pytest.raises(TogetherAIInputError, match="are under way"):
        map_table("S", "R", **wanted)
    assert map_table("S", "R", **wanted, mode="batch").rows == 5


# --- the command line ---


@pytest.mark.usefixtures("hana_environment")
def test_the_command_line_maps(
    server: ScriptedTogether, connection: dbapi.Connection, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    filled(connection, 5)
    command = ["map", "S", "R", "--prompt", "Which? {TEXT}", "--label", "a", "--label", "b", "--max-tokens", "9"]
    assert cli([*command, "--dry-run"]) == 0
    assert "5 of 5 rows to ask" in capsys.readouterr().out
    assert cli([*command, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["to_ask"] == 5
    assert not server.engine.posts
    assert cli(command) == 1
    assert "pass --yes" in capsys.readouterr().err
    assert cli([*command, "--yes"]) == 0
    assert "R has 5 rows, 0 of them with an error" in capsys.readouterr().out
    assert answers(connection, columns='"LABEL"') == [("a",)] * 5
    assert cli([*command, "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["asked"] == 0
    schema = tmp_path / "schema.json"
    schema.write_text('{"properties": {"mood": {"type": "string"}}}')
    assert cli(["map", "S", "M", "--prompt", "{TEXT}", "--shape", str(schema), "--yes"]) == 0
    assert cli(["map", "S", "R", "--prompt", "{TXT}"]) == 1
    assert "did you mean TEXT?" in capsys.readouterr().err


@pytest.mark.usefixtures("hana_environment")
def test_ctrl_c_keeps_what_was_answered_and_says_how_to_go_on(
    server: ScriptedTogether, connection: dbapi.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(connection, 100)

    def answer(request: Received) -> Reply | None:
        if len(server.engine.posts) == 50:
            os.kill(os.getpid(), signal.SIGINT)
        return None

    server.engine.on(CHAT, answer)
    assert cli(["map", "S", "R", "--prompt", PROMPT, "--yes", "--batch-size", "10"]) == 130
    assert "To go on: hana-ai-together" in capsys.readouterr().err
    assert 0 < len(answers(connection)) < 100


@pytest.mark.usefixtures("hana_environment")
def test_ctrl_c_leaves_the_batches_and_the_next_run_reads_them(
    server: ScriptedTogether, connection: dbapi.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(connection, 10)
    server.batches.dials.line = 0.5

    def interrupt() -> None:
        until = time.monotonic() + 60
        while not server.batches.batches and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    command = ["map", "S", "R", "--prompt", PROMPT, "--yes", "--mode", "batch"]
    hand = threading.Thread(target=interrupt)
    hand.start()
    assert cli(command) == 130
    hand.join()
    said = capsys.readouterr().err
    assert "Batches that were submitted go on, and are not submitted again. To go on: hana-ai-together" in said
    assert answers(connection) == []
    assert cli(command) == 0
    assert len(answers(connection)) == 10
    assert len(server.batches.batches) == 1, "nothing was submitted twice"
