"""What the product believes of Together's files and batches, where the address has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from together import Together

from .plan import PLAN
from .report import shape
from .together_world import TogetherWorld

Saw = Callable[[str, Any], None]
_ENDED = ("COMPLETED", "FAILED", "EXPIRED", "CANCELLED")
_PATIENCE = 60.0
"""Seconds that a batch gets; the service may take a day for one, so it is cancelled then."""


@pytest.fixture
def sdk(together_world: TogetherWorld) -> Iterator[Together]:
    with httpx.Client(trust_env=together_world.is_real, timeout=120) as http:
        yield Together(api_key=together_world.api_key, base_url=together_world.base_url, http_client=http)


def _upload(world: TogetherWorld, sdk: Together, folder: Path) -> tuple[str, bytes]:
    name = f"{world.new_name()}.jsonl"
    line = {"custom_id": "one", "body": PLAN["batch of one line"].body(world.models)}
    content = orjson.dumps(line) + b"\n"
    (folder / name).write_bytes(content)
    uploaded = sdk.files.upload(folder / name, purpose="batch-api", check=False)
    world.will_delete(f"/v1/files/{uploaded.id}", name)
    return uploaded.id, content


def test_a_file_is_uploaded_read_and_deleted(
    together_world: TogetherWorld, sdk: Together, saw: Saw, tmp_path: Path
) -> None:
    together_world.model("chat")
    id, content = _upload(together_world, sdk, tmp_path)
    path = f"/v1/files/{id}"
    record = together_world.send("GET", path)
    saw("file, shape", shape(record.body))
    assert record.status == 200, record.body
    assert record.body["id"] == id
    assert record.body["bytes"] == len(content)
    assert id in {one["id"] for one in together_world.send("GET", "/v1/files").body["data"]}
    assert sdk.files.content(id).read() == content
    name = record.body["filename"]
    saw("file, keeps its name", name == Path(name).name and name.endswith(".jsonl"))
    together_world.delete(path, name)
    gone = together_world.send("GET", path)
    saw("file that was deleted, status", gone.status)
    assert gone.status == 404


def test_a_batch_of_one_line(together_world: TogetherWorld, sdk: Together, saw: Saw, tmp_path: Path) -> None:
    together_world.model("chat")
    together_world.ledger.admission.admit(together_world.base_url, together_world.secret, 60)
    id, _ = _upload(together_world, sdk, tmp_path)
    created = together_world.send(
        "POST",
        "/v1/batches",
        {"endpoint": "/v1/chat/completions", "input_file_id": id, "completion_window": "24h"},
    )
    saw("batch, status of its creation", created.status)
    assert created.status in (200, 201), created.body
    saw("batch, shape when it is created", shape(created.body))
    path = f"/v1/batches/{created.body['job']['id']}"
    try:
        job = _wait(together_world, path)
        saw("batch, fields", sorted(job))
        if job["status"] == "COMPLETED":
            _check_result(together_world, sdk, job["output_file_id"], saw)
        else:
            assert job["status"] not in _ENDED, job
    finally:
        if together_world.send("GET", path).body.get("status") not in _ENDED:
            together_world.send("POST", f"{path}/cancel")


def _wait(world: TogetherWorld, path: str) -> dict[str, Any]:
    until = time.monotonic() + _PATIENCE
    while True:
        answer = world.send("GET", path)
        assert answer.status == 200, answer.body
        job = dict(answer.body)
        if job["status"] in _ENDED or time.monotonic() > until:
            return job
        time.sleep(2.0 if world.is_real else 0.05)


def _check_result(world: TogetherWorld, sdk: Together, id: str, saw: Saw) -> None:
    world.will_delete(f"/v1/files/{id}", "the output of a batch")
    [line] = sdk.files.content(id).read().splitlines()
    result = orjson.loads(line)
    saw("batch, fields of a result", sorted(result))
    saw("batch, fields of a result's response", sorted(result.get("response") or {}))
    assert result["custom_id"] == "one"
