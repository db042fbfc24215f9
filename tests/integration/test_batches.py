"""Requests as batches, over a real socket: submitted once, split, waited for, read, counted."""

from __future__ import annotations

import pickle
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from hana_ai.api import TogetherAIBudgetExceededError, TogetherAIInputError, TogetherAIRequestError
from hana_ai.api.batches import Batch, BatchResult
from hana_ai.api.batches.records import read_result
from hana_ai.api.errors import TogetherAIResponseError, TogetherAITimeoutError
from hana_ai.api.local.together import Refusal, ScriptedEngine
from hana_ai.api.settings import TogetherAISettings
from hana_ai.api.together_ai import TogetherAIClient
from tests.conftest import PRICED, PRICED_CALL, ScriptedTogether, export
from tests.warm import Warm

CHAT = ScriptedEngine.CHAT


@pytest.fixture
def server(together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch) -> ScriptedTogether:
    together_environment.batches.dials.validating = 0.01
    monkeypatch.setenv("TOGETHER_DEFAULT_MODEL", CHAT)
    return together_environment


@pytest.fixture
def client(server: ScriptedTogether) -> Iterator[TogetherAIClient]:
    with TogetherAIClient() as made:
        yield made


def texts(results: Any) -> dict[str, str | None]:
    return {result.custom_id: result.text for result in results}


def test_requests_of_every_form_are_answered_and_joined_by_their_ids(client: TogetherAIClient) -> None:
    body = {"messages": [{"role": "user", "content": "three"}], "max_tokens": 7}
    submitted = client.batches.submit(["one", [("human", "two")], body, ("mine", "four")], max_tokens=50)
    assert [batch.status for batch in submitted] == ["VALIDATING"]
    seen: list[float] = []
    [ended] = client.batches.wait(submitted, on_progress=lambda now: seen.append(now[0].progress))
    assert (ended.status, ended.model, seen[-1]) == ("COMPLETED", CHAT, 100)
    with client.batches.results(ended) as results:
        assert texts(results) == {"0": "one", "1": "two", "2": "three", "mine": "four"}
        assert (results.answered, results.failed, list(results.errors())) == (4, 0, [])
        assert results.tokens.total == sum(result.tokens.total or 0 for result in results)
        folder = results.path("x").parent
    assert not folder.exists()
    assert client.batches.status(ended.id) == ended
    assert [batch.id for batch in client.batches.list()] == [ended.id]


async def test_a_coroutine_does_the_same(client: TogetherAIClient) -> None:
    assert (await client.batches.aestimate(["one", "two"])).requests == 2
    submitted = await client.batches.asubmit(["one", "two"])
    [ended] = await client.batches.await_(submitted)
    with await client.batches.aresults(ended.id) as results:
        assert results.by_id()["1"].text == "two"
    assert await client.batches.alist() == (await client.batches.astatus(ended.id),)


def test_requests_that_fail_stand_apart(client: TogetherAIClient) -> None:
    wrong = {"messages": [{"role": "user", "content": "x"}], "temperature": -1}
    ended = client.batches.wait(client.batches.submit(["good", ("wrong", wrong)]))
    with client.batches.results(ended) as results:
        assert (results.answered, results.failed) == (1, 1)
        [failed] = results.errors()
        assert failed.custom_id == "wrong"
        assert "temperature" in str(failed.error)
        assert results.by_id()["0"].error is None


def test_the_same_requests_are_not_submitted_twice(client: TogetherAIClient, server: ScriptedTogether) -> None:
    [first] = client.batches.submit(["one", "two"])
    [second] = client.batches.submit(["one", "two"])
    assert first.id == second.id
    assert len(server.batches.batches) == 1
    [third] = client.batches.submit(["one", "two"], again=True)
    assert third.id != first.id
    assert len(server.batches.files.files) - len([b for b in server.batches.batches if b.output_file_id]) == 1
    client.batches.wait([first, third])


def test_what_failed_as_a_whole_says_why_and_may_be_submitted_again(
    client: TogetherAIClient, server: ScriptedTogether
) -> None:
    server.batches.dials.next_failure = "out of capacity"
    [batch] = client.batches.wait(client.batches.submit(["one"]))
    assert batch.status == "FAILED"
    with pytest.raises(TogetherAIRequestError, match="out of capacity"):
        client.batches.results(batch)
    [again] = client.batches.wait(client.batches.submit(["one"]))
    assert (again.status, again.id != batch.id) == ("COMPLETED", True)


def test_many_requests_are_split_over_several_batches_by_lines_and_by_bytes(client: TogetherAIClient) -> None:
    client.batches.limits = replace(client.batches.limits, lines=4)
    assert client.batches.estimate(map(str, range(10))).batches == 3
    submitted = client.batches.submit(map(str, range(10)))
    client.batches.wait(submitted)
    with client.batches.results(submitted) as results:
        assert texts(results) == {str(number): str(number) for number in range(10)}
    client.batches.limits = replace(client.batches.limits, lines=1000, bytes=1000)
    estimate = client.batches.estimate(["x" * 600, "y" * 600, "z"])
    assert (estimate.batches, estimate.requests) == (2, 3)
    with pytest.raises(TogetherAIInputError, match="takes 1,000 at most"):
        client.batches.estimate(["x" * 1000])


def test_results_are_fetched_in_parts(client: TogetherAIClient) -> None:
    client.batches.limits = replace(client.batches.limits, part_bytes=100)
    ended = client.batches.wait(client.batches.submit(map(str, range(20))))
    with client.batches.results(ended) as results:
        assert texts(results) == {str(number): str(number) for number in range(20)}


def test_a_batch_can_be_cancelled_and_its_part_read(client: TogetherAIClient, server: ScriptedTogether) -> None:
    server.batches.dials.line = 0.2
    [batch] = client.batches.submit(map(str, range(400)))
    with pytest.raises(TogetherAIInputError, match="wait for it first"):
        client.batches.results(batch)
    with pytest.raises(TogetherAITimeoutError, match="it goes on"):
        client.batches.wait(batch, timeout=0.3)
    assert client.batches.cancel(batch.id).status == "CANCELLED"
    with client.batches.results(batch) as results:
        assert results.answered + results.failed == 400
        assert results.failed > 0
    with pytest.raises(TogetherAIRequestError):
        client.batches.cancel(batch.id)


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "no requests"),
        (["a", ("0", "b")], "comes twice"),
        ([("x" * 65, "a")], "1 to 64 characters"),
        ([("", "a")], "1 to 64 characters"),
        ([("a", "b", "c")], "no pair"),
        ("a", "a single request"),
    ],
)
def test_what_cannot_be_a_batch_is_refused_before_it_is_sent(
    client: TogetherAIClient, server: ScriptedTogether, requests: Any, message: str
) -> None:
    with pytest.raises(TogetherAIInputError, match=message):
        client.batches.submit(requests)
    assert not server.batches.files.files


def test_embeddings_are_refused_by_the_server(client: TogetherAIClient) -> None:
    with pytest.raises(TogetherAIRequestError, match="endpoint must be one of"):
        client.batches.submit([{"model": "m", "input": "a"}], endpoint="/v1/embeddings")


@pytest.mark.parametrize("id", ["", "..", "a/b", "a?b"])
def test_an_id_that_is_none_is_refused(client: TogetherAIClient, id: str) -> None:
    with pytest.raises(TogetherAIInputError, match="no id of a batch"):
        client.batches.status(id)


def test_a_lost_reply_to_the_creation_makes_no_second_batch(
    client: TogetherAIClient, server: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = server.batches.start

    def lost(*arguments: Any) -> Any:
        monkeypatch.setattr(server.batches, "start", start)
        start(*arguments)
        raise Refusal(503, "The batch was made, but the reply is lost.")

    monkeypatch.setattr(server.batches, "start", lost)
    [batch] = client.batches.submit(["one"])
    assert [one.id for one in server.batches.batches] == [batch.id]


# --- money ---


@pytest.fixture
def priced_client(priced: ScriptedTogether, monkeypatch: pytest.MonkeyPatch) -> TogetherAIClient:
    priced.batches.dials.validating = 0.01
    export(monkeypatch, {"TOGETHER_DEFAULT_MODEL": PRICED})
    return TogetherAIClient()


def test_costs_are_estimated_before_and_counted_once_after(priced_client: TogetherAIClient) -> None:
    batches = priced_client.batches
    estimate = batches.estimate(["a", "b"], max_tokens=9)
    assert estimate.completion_tokens == 18
    assert estimate.cost_usd is not None
    assert estimate.cost_usd >= 2 * PRICED_CALL
    ended = batches.wait(batches.submit(["a", "b"], max_tokens=9))
    for _ in range(2):
        with batches.results(ended) as results:
            assert results.cost_usd == 2 * PRICED_CALL
    [event] = priced_client.ledger.events()
    assert (event.operation, event.request_id, event.cost_usd) == ("batch", ended[0].id, 2 * PRICED_CALL)


def test_batches_may_cost_less(priced: ScriptedTogether, priced_client: TogetherAIClient) -> None:
    settings = TogetherAISettings(together_batch_discount=Decimal("0.5"))
    client = TogetherAIClient(settings)
    ended = client.batches.wait(client.batches.submit(["a", "b"], max_tokens=9))
    with client.batches.results(ended) as results:
        assert results.cost_usd == PRICED_CALL
    assert client.ledger.totals()["total_cost_usd"] == PRICED_CALL


def test_the_budget_holds_for_what_a_batch_may_cost(
    priced: ScriptedTogether, priced_client: TogetherAIClient
) -> None:
    settings = TogetherAISettings(together_budget_usd=3 * PRICED_CALL)
    client = TogetherAIClient(settings)
    client.batches.wait(client.batches.submit(["a"], max_tokens=9))
    with pytest.raises(TogetherAIBudgetExceededError, match="is left, so nothing was submitted"):
        client.batches.submit(map(str, range(10)), max_tokens=9)
    with pytest.raises(TogetherAIInputError, match="max_cost_usd"):
        client.batches.submit(["a", "c"], max_tokens=9, max_cost_usd=PRICED_CALL)
    assert len(priced.batches.batches) == 1


# --- what comes from the server ---


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ({"custom_id": "a", "error": {"message": "no"}}, "no"),
        ({"custom_id": "a", "error": "no"}, "no"),
        ({"custom_id": "a", "response": {"status_code": 400, "body": {"error": {"message": "no"}}}}, "no"),
        ({"custom_id": "a", "response": {"status_code": 500, "body": None}}, "status 500"),
        ({"custom_id": "a", "response": {"status_code": 200, "body": {"choices": []}}, "error": None}, None),
    ],
)
def test_every_form_of_a_result_is_read(line: object, error: str | None) -> None:
    result = read_result(orjson.dumps(line))
    assert (result.error, result.text) == (error, None)


@pytest.mark.parametrize("line", [b"x", b"[]", b'{"id": 1}', b'{"custom_id": 5}'])
def test_a_line_that_is_no_result_is_refused(line: bytes) -> None:
    with pytest.raises(TogetherAIResponseError):
        read_result(line)


def test_what_batches_give_can_be_pickled() -> None:
    for made in (Batch("a", "COMPLETED", 100, "f"), BatchResult("a", {"choices": []})):
        assert pickle.loads(pickle.dumps(made)) == made


# --- killed ---


SUBMITS = """
from hana_ai.api.together_ai import TogetherAIClient
TogetherAIClient().batches.submit(f"question {number}" for number in range(200))
"""


def submitted_though_killed(programs: Warm, server: ScriptedTogether, kills: int) -> None:
    chance = random.Random(kills)
    for _ in range(kills):
        with programs.begun(SUBMITS):
            # The moment is the test's, not a time to wait for something.
            time.sleep(chance.uniform(0.0, 0.6))
    client = TogetherAIClient()
    submitted = client.batches.submit(f"question {number}" for number in range(200))
    client.batches.wait(submitted)
    assert [batch.id for batch in server.batches.batches] == [batch.id for batch in submitted]
    assert sum(one.path == "/v1/chat/completions" for one in server.engine.posts) == 200


def test_a_process_that_is_killed_submits_nothing_twice(programs: Warm, server: ScriptedTogether) -> None:
    submitted_though_killed(programs, server, 3)


@pytest.mark.slow
def test_a_process_that_is_killed_twenty_times_submits_nothing_twice(
    programs: Warm, server: ScriptedTogether
) -> None:
    submitted_though_killed(programs, server, 20)


@pytest.mark.slow
def test_as_many_requests_as_a_batch_takes(client: TogetherAIClient) -> None:
    client.batches.limits = replace(client.batches.limits, longest_poll=1.0)
    submitted = client.batches.submit(f"question {number}" for number in range(50_001))
    assert len(submitted) == 2
    client.batches.wait(submitted)
    with client.batches.results(submitted) as results:
        assert (results.answered, results.failed) == (50_001, 0)
        assert all(result.text == f"question {result.custom_id}" for result in results)


# --- the command line ---


def test_the_command_line_submits_waits_and_prints(
    server: ScriptedTogether, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hana_ai.api.cli.app import run as cli

    file = tmp_path / "requests.jsonl"
    file.write_text('"one"\n{"custom_id": "two", "body": {"messages": [{"role": "user", "content": "2"}]}}\n')
    assert cli(["batches", "submit", str(file), "--json"]) == 0
    [batch] = orjson.loads(capsys.readouterr().out)
    assert cli(["batches", "wait", batch["id"], "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)[0]["status"] == "COMPLETED"
    assert cli(["batches", "results", batch["id"]]) == 0
    said = capsys.readouterr()
    lines = {line["custom_id"]: line["text"] for line in map(orjson.loads, said.out.splitlines())}
    assert lines == {"0": "one", "two": "2"}
    assert "2 answered, 0 failed" in said.err
    assert cli(["batches", "results", batch["id"], "--out", str(tmp_path / "out.jsonl")]) == 0
    assert (tmp_path / "out.jsonl").read_text() == said.out
    assert cli(["batches", "list"]) == 0
    assert batch["id"] in capsys.readouterr().out
    assert cli(["batches", "cancel", batch["id"]]) == 1
    assert "cannot be cancelled" in capsys.readouterr().err


def test_the_command_line_says_what_is_wrong_in_a_line(
    server: ScriptedTogether, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hana_ai.api.cli.app import run as cli

    file = tmp_path / "requests.jsonl"
    file.write_text('"one"\n{\n')
    assert cli(["batches", "submit", str(file)]) == 1
    assert "line 2 is no JSON" in capsys.readouterr().err
    assert cli(["batches", "status"]) == 1
    assert "batches list" in capsys.readouterr().err
    file.write_text('"one"\n"two"\n')
    assert cli(["batches", "submit", str(file), "--dry-run", "--max-tokens", "5"]) == 0
    assert "2 requests in 1 batches" in capsys.readouterr().out
    assert cli(["batches", "list"]) == 0
    assert "There are no batches" in capsys.readouterr().out
