"""Evaluations judge each row of a file by the server's own models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import together

from hana_ai.api.local.together import LocalTogether, Received, Reply, ScriptedEngine

from .test_files import written
from .test_fine_tunes import check
from .test_management import eventually

ROWS = [{"question": "What is red?", "answer": "A colour"}, {"question": "What is ten?", "answer": "A number"}]
CHAT = ScriptedEngine.CHAT


@pytest.fixture
def server(engine: ScriptedEngine) -> Iterator[LocalTogether]:
    with LocalTogether(engine, on_exchange=check) as running:
        running.files.dials.processing = 0
        running.evaluations.dials.step = 0.01
        yield running


@pytest.fixture
def data(sdk: together.Together, tmp_path: Path) -> str:
    path = written(tmp_path, "".join(json.dumps(row) + "\n" for row in ROWS))
    return sdk.files.upload(path, purpose="eval", check=False).id


def parameters(data: str, **more: Any) -> Any:
    judge = {"model": CHAT, "model_source": "serverless", "system_template": "Judge: {{question}}"}
    return {"judge": judge, "input_data_file_path": data, **more}


def ended(sdk: together.Together, made: Any) -> Any:
    eventually(lambda: sdk.evals.status(made.workflow_id).status in ("completed", "error", "user_error"), True)
    return sdk.evals.retrieve(made.workflow_id)


def test_rows_are_classified(sdk: together.Together, data: str) -> None:
    more = {"labels": ["colour", "number"], "pass_labels": ["colour"], "model_to_evaluate": "answer"}
    made = sdk.evals.create(type="classify", parameters=parameters(data, **more))
    assert made.status == "pending"
    job = ended(sdk, made)
    # The judge echoes the answer, in which it finds the label.
    assert (job.status, job.results.pass_percentage) == ("completed", 50)
    assert json.loads(job.results.label_counts) == {"colour": 1, "number": 1}
    assert [one.status for one in job.status_updates] == ["pending", "queued", "running", "completed"]
    result = sdk.files.content(job.results.result_file_id).read().decode().splitlines()
    assert [json.loads(line)["verdict"] for line in result] == ["colour", "number"]
    assert sdk.evals.status(made.workflow_id).results.result_file_id == job.results.result_file_id


def test_rows_are_scored_after_a_model_has_answered(
    sdk: together.Together, data: str, engine: ScriptedEngine
) -> None:
    def respond(received: Received) -> Reply | None:
        said = str(received.body)
        return Reply(text="4 of 5" if "Judge: What is red?" in said else "no idea") if "Judge" in said else None

    engine.always(respond)
    model = {
        "model": CHAT,
        "model_source": "serverless",
        "system_template": "Answer",
        "input_template": "{{ question }}",
        "max_tokens": 20,
        "temperature": 0,
    }
    more = {"min_score": 1, "max_score": 5, "pass_threshold": 3, "model_to_evaluate": model}
    job = ended(sdk, sdk.evals.create(type="score", parameters=parameters(data, **more)))
    assert job.results.aggregated_scores.mean_score == 4
    assert job.results.invalid_score_count == 1


def test_two_answers_are_compared(sdk: together.Together, data: str, engine: ScriptedEngine) -> None:
    engine.always(lambda received: Reply(text="B is better" if "What is red?" in str(received.body) else "Tie"))
    more = {"model_a": "question", "model_b": "answer"}
    job = ended(sdk, sdk.evals.create(type="compare", parameters=parameters(data, **more)))
    assert (job.results.a_wins, job.results.b_wins, job.results.ties) == (0, 1, 1)


def test_what_a_judge_cannot_answer_is_counted(sdk: together.Together, data: str) -> None:
    more = {"labels": ["a", "b"], "pass_labels": ["a"], "model_to_evaluate": "none"}
    job = ended(sdk, sdk.evals.create(type="classify", parameters=parameters(data, **more)))
    assert job.results.generation_fail_count == 2
    wrong = parameters(data, **{**more, "model_to_evaluate": "answer"})
    wrong["judge"]["model"] = "local/none"
    job = ended(sdk, sdk.evals.create(type="classify", parameters=wrong))
    assert job.results.judge_fail_count == 2


def test_an_evaluation_fails_on_demand(sdk: together.Together, server: LocalTogether, data: str) -> None:
    server.evaluations.dials.next_failure = "The judge is gone"
    more = {"labels": ["a", "b"], "pass_labels": ["a"]}
    job = ended(sdk, sdk.evals.create(type="classify", parameters=parameters(data, **more)))
    assert (job.status, job.results.error) == ("error", "The judge is gone")


def test_a_file_that_is_wrong_is_the_users_error(sdk: together.Together, tmp_path: Path) -> None:
    bad = sdk.files.upload(written(tmp_path, "no JSON\n"), purpose="eval", check=False).id
    more = {"min_score": 0, "max_score": 1, "pass_threshold": 1}
    assert ended(sdk, sdk.evals.create(type="score", parameters=parameters(bad, **more))).status == "user_error"


def test_evaluations_are_listed_and_keys_are_not_shown(sdk: together.Together, data: str) -> None:
    assert sdk.evals.list() == []
    wanted = parameters(data, labels=["a", "b"], pass_labels=["a"])
    wanted["judge"]["external_api_token"] = "tok"
    made = sdk.evals.create(type="classify", parameters=wanted)
    job = ended(sdk, made)
    assert "external_api_token" not in job.parameters["judge"]
    assert [one.workflow_id for one in sdk.evals.list(status="completed")] == [made.workflow_id]
    assert sdk.evals.list(status="running") == []


def test_what_cannot_be_is_refused(server: LocalTogether, sdk: together.Together, data: str) -> None:
    headers = {"Authorization": f"Bearer {server.api_key}"}
    with httpx.Client(base_url=server.base_url, headers=headers) as http:
        score = parameters(data, min_score=0, max_score=1)
        refused = http.post("/v1/evaluation", json={"type": "score", "parameters": score})
        assert refused.status_code == 400
        assert "parameters.pass_threshold: is required" in refused.json()["error"]["message"]
        assert http.get("/v1/evaluation", params={"limit": "many"}).json()["error"]["param"] == "limit"
        assert http.get("/v1/evaluation", params={"limit": 0}).status_code == 400
        models = [
            http.get("/v1/evaluation/model-list", params={"model_source": one}).json()
            for one in ("all", "external")
        ]
        assert models == [{"model_list": [CHAT]}, {"model_list": []}]
        assert http.get("/v1/evaluation/model-list", params={"model_source": "x"}).status_code == 400
    with pytest.raises(together.BadRequestError, match="not found"):
        sdk.evals.create(
            type="score", parameters=parameters("file-none", min_score=0, max_score=1, pass_threshold=1)
        )
    with pytest.raises(together.NotFoundError):
        sdk.evals.retrieve("eval-none")
