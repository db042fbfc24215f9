"""Batches are driven by the SDK and by its command line, and answered by the engines, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import together

from hana_ai.api.local.together import LocalModel, LocalTogether, Refusal, Reply, ScriptedEngine
from tests.openapi import check_exchange, check_request, check_response

from .command_line import CommandLine, CommandServer
from .test_files import environment
from .test_management import deploy, eventually

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
MODEL = ScriptedEngine.CHAT


@pytest.fixture
def server(engine: ScriptedEngine) -> Iterator[LocalTogether]:
    with LocalTogether(engine, on_exchange=check_exchange) as running:
        running.batches.dials.validating = 0.01
        yield running


Upload = Callable[..., str]


@pytest.fixture
def upload(sdk: together.Together, tmp_path: Path) -> Upload:
    """Uploads lines as the input of a batch; returns the id."""

    def uploading(*lines: Any, purpose: str = "batch-api") -> str:
        path = written(tmp_path, *lines)
        return sdk.files.upload(path, purpose=purpose, check=False).id

    return uploading


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def chat(id: str, text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"custom_id": id, "body": {"model": MODEL, "messages": messages, **more}}


def ended(sdk: together.Together, id: str, status: str) -> Any:
    eventually(lambda: sdk.batches.retrieve(id).status, status)
    return sdk.batches.retrieve(id)


def by_id(content: bytes) -> dict[str, Any]:
    return {one.pop("custom_id"): one for one in map(json.loads, content.splitlines())}


def results(sdk: together.Together, file_id: str | None) -> dict[str, Any]:
    return by_id(sdk.files.content(file_id).read()) if file_id else {}


def test_a_batch_is_answered_as_its_requests_would_be(sdk: together.Together, upload: Upload) -> None:
    requests = [chat(f"r{number}", f"Say {number}") for number in range(20)]
    wrong = [
        chat("hot", "x", temperature=-1),
        chat("long", "x", max_tokens=10_000),
        chat("stream", "x", stream=True),
    ]
    created = sdk.batches.create(input_file_id=upload(*requests, *wrong), endpoint=CHAT, completion_window="24h")
    assert created.job is not None
    assert (created.job.status, created.warning) == ("VALIDATING", None)
    job = ended(sdk, str(created.job.id), "COMPLETED")
    assert (job.progress, job.x_model_id, job.error) == (100, MODEL, None)
    assert job.created_at < job.completed_at < job.job_deadline

    output = results(sdk, job.output_file_id)
    assert {id: one["response"]["body"]["choices"][0]["message"]["content"] for id, one in output.items()} == {
        f"r{number}": f"Say {number}" for number in range(20)
    }
    for one in output.values():
        assert one["response"]["status_code"] == 200
        check_response(CHAT, one["response"]["body"])
    errors = results(sdk, job.error_file_id)
    assert {id: one["error"]["param"] for id, one in errors.items()} == {
        "hot": "temperature",
        "long": "max_tokens",
        "stream": "stream",
    }
    generated = sdk.files.retrieve(job.output_file_id)
    assert (generated.purpose, generated.to_dict()["LineCount"]) == ("batch-generated", 20)


async def test_the_asynchronous_client_does_the_same(server: LocalTogether, tmp_path: Path) -> None:
    path = written(tmp_path, chat("a", "Hello"))
    async with together.AsyncTogether(base_url=server.base_url, api_key=str(server.api_key)) as sdk:
        file = await sdk.files.upload(path, purpose="batch-api", check=False)
        created = await sdk.batches.create(input_file_id=file.id, endpoint=CHAT)
        assert created.job is not None
        id = str(created.job.id)
        while (job := await sdk.batches.retrieve(id)).status != "COMPLETED":
            assert job.status in ("VALIDATING", "IN_PROGRESS")
        output = by_id(await (await sdk.files.content(str(job.output_file_id))).read())
        assert output["a"]["response"]["body"]["choices"][0]["message"]["content"] == "Hello"
        assert [one.id for one in await sdk.batches.list()] == [id]
        with pytest.raises(together.BadRequestError, match="COMPLETED"):
            await sdk.batches.cancel(id)


def test_what_the_engine_is_told_reaches_the_lines(
    sdk: together.Together, engine: ScriptedEngine, upload: Upload
) -> None:
    engine.on(CHAT, lambda request: Reply(status=503) if request.body["messages"][0]["content"] == "b" else None)
    created: Any = sdk.batches.create(input_file_id=upload(chat("1", "a"), chat("2", "b")), endpoint=CHAT)
    job = ended(sdk, created.job.id, "COMPLETED")
    assert set(results(sdk, job.output_file_id)) == {"1"}
    assert results(sdk, job.error_file_id)["2"]["error"]["type"] == "service_unavailable"


def test_a_stalled_batch_is_cancelled(sdk: together.Together, engine: ScriptedEngine, upload: Upload) -> None:
    engine.on(CHAT, lambda request: Reply(stall=request.body["messages"][0]["content"] != "go"))
    lines = [chat("first", "go"), *(chat(f"r{number}", "wait") for number in range(9))]
    created: Any = sdk.batches.create(input_file_id=upload(*lines), endpoint=CHAT)
    eventually(lambda: sdk.batches.retrieve(created.job.id).progress, 10)
    cancelled = sdk.batches.cancel(created.job.id)
    assert cancelled.status == "CANCELLED"
    assert set(results(sdk, cancelled.output_file_id)) == {"first"}
    left = results(sdk, cancelled.error_file_id)
    assert {one["error"]["code"] for one in left.values()} == {"batch_cancelled"}
    assert len(left) == 9


def test_a_batch_expires(
    server: LocalTogether, sdk: together.Together, engine: ScriptedEngine, upload: Upload
) -> None:
    engine.on(CHAT, Reply(stall=True))
    server.batches.dials.hour = 0.5 / 24
    created: Any = sdk.batches.create(input_file_id=upload(chat("a", "x")), endpoint=CHAT)
    job = ended(sdk, created.job.id, "EXPIRED")
    assert set(results(sdk, job.error_file_id)) == {"a"}


def test_a_model_that_is_not_there_fails_the_batch(sdk: together.Together, upload: Upload) -> None:
    created: Any = sdk.batches.create(input_file_id=upload(chat("a", "x", model="who/knows")), endpoint=CHAT)
    assert "Unable to access model who/knows" in ended(sdk, created.job.id, "FAILED").error
    spoken = upload(chat("a", "x"))
    created = sdk.batches.create(input_file_id=spoken, endpoint="/v1/audio/transcriptions")
    assert "not audio" in ended(sdk, created.job.id, "FAILED").error


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"endpoint": EMBEDDINGS}, "endpoint must be one of"),
        ({"input_file_id": "file-none"}, "not found"),
        ({"input_file_id": ""}, "input_file_id is required"),
    ],
)
def test_what_is_no_batch_is_refused(
    server: LocalTogether, upload: Upload, fields: dict[str, Any], words: str
) -> None:
    body = {"endpoint": CHAT, "input_file_id": upload(chat("a", "x")), **fields}
    answer = httpx.post(
        f"{server.base_url}/v1/batches", json=body, headers={"Authorization": f"Bearer {server.api_key}"}
    )
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert server.batches.batches == []


@pytest.mark.parametrize(
    "fields", [{"priority": "high"}, {"completion_window": 24}, {"model_id": ["m"]}, {"endpoint": 1}]
)
def test_what_the_document_forbids_is_refused(fields: dict[str, Any]) -> None:
    with LocalTogether() as server:
        body = {"endpoint": CHAT, "input_file_id": "file-none", **fields}
        with pytest.raises(AssertionError, match="CreateBatchRequest"):
            check_request("/v1/batches", body)
        headers = {"Authorization": f"Bearer {server.api_key}"}
        answer = httpx.post(f"{server.base_url}/v1/batches", json=body, headers=headers)
        assert answer.status_code == 400
        assert next(iter(fields)) in answer.json()["error"]


def test_a_file_of_another_purpose_is_refused(sdk: together.Together, upload: Upload) -> None:
    with pytest.raises(together.BadRequestError, match="purpose eval, not batch-api"):
        sdk.batches.create(input_file_id=upload(chat("a", "x"), purpose="eval"), endpoint=CHAT)


def test_a_batch_that_is_not_there(server: LocalTogether, sdk: together.Together) -> None:
    with pytest.raises(together.NotFoundError, match="not found"):
        sdk.batches.retrieve("none")
    with pytest.raises(together.NotFoundError, match="not found"):
        sdk.batches.cancel("none")
    server.management.refuse("GET", "/v1/batches$", Refusal(429, "Slow down."))
    with pytest.raises(together.RateLimitError, match="Slow down"):
        sdk.batches.list()
    assert sdk.batches.list() == []


def test_another_window_is_warned_of(sdk: together.Together, upload: Upload) -> None:
    created = sdk.batches.create(input_file_id=upload(chat("a", "x")), endpoint=CHAT, completion_window="1h")
    assert "'1h' is ignored" in str(created.warning)


def test_embeddings_and_completions_when_a_dial_allows_them(
    server: LocalTogether, sdk: together.Together, upload: Upload
) -> None:
    server.batches.dials.endpoints += (EMBEDDINGS, "/v1/completions")
    vector = {"custom_id": "v", "body": {"model": ScriptedEngine.EMBEDDING, "input": ["a", "b"]}}
    created: Any = sdk.batches.create(input_file_id=upload(vector), endpoint=EMBEDDINGS)  # type: ignore[arg-type]
    output = results(sdk, ended(sdk, created.job.id, "COMPLETED").output_file_id)
    direct = sdk.embeddings.create(model=ScriptedEngine.EMBEDDING, input=["a", "b"])
    assert [one["embedding"] for one in output["v"]["response"]["body"]["data"]] == [
        one.embedding for one in direct.data
    ]
    text = {"custom_id": "t", "body": {"model": MODEL, "prompt": "Go on"}}
    created = sdk.batches.create(input_file_id=upload(text), endpoint="/v1/completions")  # type: ignore[arg-type]
    output = results(sdk, ended(sdk, created.job.id, "COMPLETED").output_file_id)
    assert output["t"]["response"]["body"]["choices"][0]["text"] == "Go on"


def test_a_server_ends_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    with LocalTogether(ScriptedEngine(latency=60)) as server:
        server.batches.dials.validating = 0
        with together.Together(base_url=server.base_url, api_key=str(server.api_key)) as sdk:
            server.engines[0].latency = 0  # type: ignore[attr-defined]
            file = sdk.files.upload(written(tmp_path, chat("a", "x")), purpose="batch-api", check=False)
            created: Any = sdk.batches.create(input_file_id=file.id, endpoint=CHAT)
            assert created.job.id
    [batch] = server.batches.batches
    assert batch.ended


def test_the_small_model_answers_a_batch(
    real_server: LocalTogether, real: together.Together, tmp_path: Path
) -> None:
    model = real_server.model("chat")
    lines = [chat(str(number), f"Say {number}.", model=model, max_tokens=4, temperature=0) for number in range(3)]
    file = real.files.upload(written(tmp_path, *lines), purpose="batch-api", check=False)
    created: Any = real.batches.create(input_file_id=file.id, endpoint=CHAT)
    output = results(real, ended(real, created.job.id, "COMPLETED").output_file_id)
    for number in range(3):
        body = output[str(number)]["response"]["body"]
        assert body["usage"]["completion_tokens"] in range(1, 5)
        direct = real.chat.completions.create(**lines[number]["body"])
        assert body["choices"][0]["message"]["content"] == direct.choices[0].message.content


def test_the_commands_of_the_sdk(
    server: LocalTogether, engine: ScriptedEngine, commands: CommandServer, tmp_path: Path
) -> None:
    path = written(tmp_path, chat("a", "Hello"), chat("b", "x", top_p=7))
    tg = CommandLine(commands, environment(server, tmp_path), tmp_path)
    job = tg("batches", "submit", str(path), "chat.completions")["job"]
    eventually(lambda: tg("batches", "get", job["id"])["status"], "COMPLETED")
    assert [one["id"] for one in tg("batches", "list")] == [job["id"]]
    saved = tg("batches", "download", job["id"], "--output", str(tmp_path / "out.jsonl"))["files"]
    assert [one["kind"] for one in saved] == ["output", "error"]
    kept = by_id((tmp_path / "out.jsonl").read_bytes())
    assert kept["a"]["response"]["body"]["choices"][0]["message"]["content"] == "Hello"
    assert set(by_id((tmp_path / "out.errors.jsonl").read_bytes())) == {"b"}
    engine.on(CHAT, Reply(stall=True))
    path.write_text(json.dumps(chat("other", "Hello")))
    job = tg("batches", "submit", str(path), "chat.completions")["job"]
    assert tg("batches", "cancel", job["id"])["status"] == "CANCELLED"


def test_a_dedicated_endpoint_answers_a_batch(tmp_path: Path) -> None:
    engine = ScriptedEngine(models=[LocalModel("local/big", serverless=False)])
    where: dict[str, Any] = {"max_retries": 0, "project_id": "proj_local"}
    with (
        LocalTogether(engine) as server,
        together.Together(base_url=server.base_url, api_key=str(server.api_key), **where) as sdk,
    ):
        server.management.dials.provisioning = 0
        deploy(sdk, sdk.endpoints.create(name="mine"))
        lines = [chat("a", "Hello", model="local-project/mine/main"), chat("b", "x", model="local-project/none")]
        file = sdk.files.upload(written(tmp_path, *lines), purpose="batch-api", check=False)
        created: Any = sdk.batches.create(input_file_id=file.id, endpoint=CHAT)
        job = ended(sdk, created.job.id, "COMPLETED")
        output = results(sdk, job.output_file_id)["a"]["response"]["body"]
        assert output["choices"][0]["message"]["content"] == "Hello"
        assert "Unable to access model" in results(sdk, job.error_file_id)["b"]["error"]["message"]
        [deployment] = server.management.deployments()
        assert deployment.requests == 1
