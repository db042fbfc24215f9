"""Files are uploaded, read and deleted by the SDK and by its command line, over real sockets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import together

from hana_ai.api.local.together import LocalTogether, Refusal, ScriptedEngine
from tests.openapi import check_exchange

from .command_line import CommandLine, CommandServer
from .test_management import eventually

CONVERSATION = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'


@pytest.fixture
def server(engine: ScriptedEngine) -> Iterator[LocalTogether]:
    with LocalTogether(engine, on_exchange=check_exchange) as running:
        running.files.dials.processing = 0
        yield running


def written(folder: Path, text: str, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def environment(server: LocalTogether, home: Path) -> dict[str, str]:
    """For the command `tg`, which would speak with the world otherwise."""
    return {
        **os.environ,
        **server.environment(),
        "HOME": str(home),
        "TOGETHER_TELEMETRY_DISABLED": "true",
        "TOGETHER_DISABLE_VERSION_CHECK": "true",
    }


def test_a_file_is_uploaded_listed_read_and_deleted(sdk: together.Together, tmp_path: Path) -> None:
    path = written(tmp_path, 3 * CONVERSATION)
    made = sdk.files.upload(path, purpose="fine-tune")
    assert (made.filename, made.bytes, made.purpose, made.file_type) == (
        "data.jsonl",
        path.stat().st_size,
        "fine-tune",
        "jsonl",
    )

    found = sdk.files.retrieve(made.id)
    assert found.processing_status == "COMPLETED"
    assert found.validation_report is not None
    assert found.validation_report.valid
    assert (found.validation_report.nlines, found.validation_report.dataset_format) == (3, "CONVERSATION")
    assert [one.id for one in sdk.files.list().data] == [made.id]
    assert sdk.files.content(made.id).read() == path.read_bytes()

    assert sdk.files.delete(made.id).deleted
    assert sdk.files.list().data == []
    with pytest.raises(together.NotFoundError, match="not found"):
        sdk.files.retrieve(made.id)
    with pytest.raises(together.NotFoundError):
        sdk.files.content(made.id)


async def test_the_asynchronous_client_does_the_same(server: LocalTogether, tmp_path: Path) -> None:
    path = written(tmp_path, CONVERSATION)
    async with together.AsyncTogether(base_url=server.base_url, api_key=str(server.api_key)) as sdk:
        made = await sdk.files.upload(path, purpose="fine-tune")
        assert await (await sdk.files.content(made.id)).read() == path.read_bytes()
        assert (await sdk.files.delete(made.id)).deleted


def test_the_same_bytes_are_not_taken_twice_for_one_purpose(sdk: together.Together, tmp_path: Path) -> None:
    path = written(tmp_path, CONVERSATION)
    first = sdk.files.upload(path, purpose="fine-tune")
    assert sdk.files.upload(path, purpose="fine-tune").id == first.id
    with pytest.raises(Exception, match=first.id):
        sdk.files.upload(path, purpose="fine-tune", raise_if_already_exists=True)
    assert sdk.files.upload(path, purpose="eval").id != first.id


def test_a_check_takes_the_time_of_its_dial(server: LocalTogether, sdk: together.Together, tmp_path: Path) -> None:
    server.files.dials.processing = 600
    made = sdk.files.upload(written(tmp_path, CONVERSATION), purpose="fine-tune")
    assert made.processing_status == "QUEUED"
    assert sdk.files.retrieve(made.id).validation_report is None
    server.files.dials.processing = 0
    assert sdk.files.retrieve(made.id).processing_status == "COMPLETED"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("data.jsonl", CONVERSATION + "[1]\n", "line 2. Each line must be a JSON object"),
        ("data.jsonl", "\n" + CONVERSATION + "{\n", "on line 3"),
        (
            "data.jsonl",
            '{"text": "a"}\n{"prompt": "b", "completion": "c"}\n',
            "format INSTRUCTION, the first one G",
        ),
        ("data.jsonl", '{"question": "a"}\n', "its columns: question"),
        ("data.jsonl", '{"messages": [{"role": "robot", "content": "a"}]}\n', "no role"),
        ("data.jsonl", '{"messages": []}\n', "not empty"),
        ("data.csv", "text\na,b\n", "columns"),
        ("data.parquet", "PAR1 and no more", "not a Parquet file"),
    ],
)
def test_what_is_no_data_set_is_reported(
    sdk: together.Together, tmp_path: Path, name: str, text: str, words: str
) -> None:
    made = sdk.files.upload(written(tmp_path, text, name), purpose="fine-tune", check=False)
    found = sdk.files.retrieve(made.id)
    assert found.processing_status == "INVALID_FORMAT"
    assert found.validation_report is not None
    assert not found.validation_report.valid
    assert words in str(found.validation_report.error)


def test_text_that_is_not_utf_8_is_reported(sdk: together.Together, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"text": "\xff"}\n')
    found = sdk.files.retrieve(sdk.files.upload(path, check=False).id)
    assert found.validation_report is not None
    assert "UTF-8" in str(found.validation_report.error)


def test_a_file_for_a_batch_is_not_checked_before_the_batch(sdk: together.Together, tmp_path: Path) -> None:
    made = sdk.files.upload(written(tmp_path, "no JSON\n\nat all\n"), purpose="batch-api", check=False)
    found = sdk.files.retrieve(made.id)
    assert found.processing_status is None
    assert found.to_dict()["LineCount"] == 2
    assert found.to_dict()["Processed"] is True


def test_a_file_that_comes_in_the_form_itself(http: httpx.Client) -> None:
    content = b'{"text": "a"}\r\n--no boundary\r\n\r\n{"text": "b"}'
    fields = {"purpose": "batch-api", "file_name": "two.jsonl"}
    made = http.post("/v1/files/upload", data=fields, files={"file": content}).json()
    assert (made["filename"], made["FileType"], made["bytes"]) == ("two.jsonl", "jsonl", len(content))
    assert http.get(f"/v1/files/{made['id']}/content").content == content


def begun(http: httpx.Client, **fields: str) -> httpx.Response:
    form: dict[str, Any] = {"purpose": "fine-tune", "file_name": "a.jsonl", "file_type": "jsonl", **fields}
    return http.post("/v1/files", files={name: (None, value) for name, value in form.items()})


def test_an_upload_is_refused_where_it_is_wrong(server: LocalTogether, http: httpx.Client) -> None:
    assert begun(http, purpose="fun").status_code == 400
    assert begun(http, file_type="docx").json()["error"]["param"] == "file_type"
    assert begun(http, file_name="").json()["error"]["param"] == "file_name"
    assert http.post("/v1/files", json={"purpose": "eval"}).status_code == 400
    half = http.post("/v1/files", content=b"--a", headers={"content-type": "multipart/form-data; boundary=a"})
    assert "not complete" in half.json()["error"]["message"]

    sent = begun(http, checksum="0" * 64)
    assert sent.status_code == 302
    address, id = sent.headers["location"], sent.headers["x-together-file-id"]
    assert http.get(f"/v1/files/{id}").status_code == 404  # not before its bytes are there
    assert httpx.put(address.partition("?")[0], content=b"{}").status_code == 403
    assert httpx.put(address, content=b"{}").status_code == 200
    assert "SHA-256" in http.post(f"/v1/files/{id}/preprocess").json()["error"]["message"]
    assert http.post(f"/v1/files/{id}/preprocess").status_code == 404

    empty = begun(http)
    httpx.put(empty.headers["location"], content=b"")
    refused = http.post(f"/v1/files/{empty.headers['x-together-file-id']}/preprocess")
    assert "is empty" in refused.json()["error"]["message"]

    server.files.dials.largest = 10
    assert httpx.put(begun(http).headers["location"], content=b"x" * 11).status_code == 400


def test_a_fault_can_be_scripted(server: LocalTogether, sdk: together.Together) -> None:
    server.management.refuse("GET", "/v1/files$", Refusal(503, "Busy."))
    with pytest.raises(together.InternalServerError, match="Busy"):
        sdk.files.list()
    assert sdk.files.list().data == []


def test_the_bytes_are_gone_when_the_server_ends(tmp_path: Path) -> None:
    with LocalTogether() as server:
        with together.Together(base_url=server.base_url, api_key=str(server.api_key)) as sdk:
            sdk.files.upload(written(tmp_path, CONVERSATION))
        [file] = server.files.files
        assert file.path.exists()
    assert not file.path.parent.exists()


def test_the_commands_of_the_sdk(server: LocalTogether, commands: CommandServer, tmp_path: Path) -> None:
    path = written(tmp_path, 2 * CONVERSATION)
    tg = CommandLine(commands, environment(server, tmp_path), tmp_path)
    assert tg("files", "check", str(path))["is_check_passed"]
    made = tg("files", "upload", str(path), "--purpose", "fine-tune")
    assert [one["id"] for one in tg("files", "list")] == [made["id"]]
    assert tg("files", "retrieve", made["id"])["bytes"] == path.stat().st_size
    assert tg("files", "retrieve-content", made["id"], "--stdout")["content"] == path.read_text()
    assert tg("files", "delete", made["id"]) == {"success": True}
    eventually(lambda: server.files.files, [])


def test_a_large_file_comes_in_parts(
    server: LocalTogether, sdk: together.Together, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The SDK's own bounds, made small enough for a test.
    monkeypatch.setattr("together.lib.resources.files.MULTIPART_THRESHOLD_GB", 0)
    monkeypatch.setattr("together.lib.resources.files.TARGET_PART_SIZE_MB", 0.001)
    monkeypatch.setattr("together.lib.resources.files.MIN_PART_SIZE_MB", 0.0001)
    path = written(tmp_path, 50 * CONVERSATION)
    with pytest.raises(together.APIStatusError, match="Every part but the last"):
        sdk.files.upload(path, purpose="fine-tune", check=False)
    assert server.files.files == []
    server.files.dials.smallest_part = 100
    made = sdk.files.upload(path, purpose="fine-tune", check=False)
    assert sdk.files.content(made.id).read() == path.read_bytes()
    assert sdk.files.retrieve(made.id).processing_status == "COMPLETED"
    assert sdk.files.upload(path, purpose="fine-tune", check=False).id == made.id
    [file] = server.files.files
    assert [one.name for one in file.path.parent.iterdir()] == [file.id]


def test_parts_are_refused_where_they_are_wrong(http: httpx.Client) -> None:
    fields: dict[str, Any] = {"purpose": "eval", "file_name": "a.jsonl", "file_type": "jsonl"}
    for wrong in ({"file_size": 0}, {"num_parts": "2"}, {"purpose": "fun"}):
        body = {**fields, "file_size": 6, "num_parts": 2, **wrong}
        assert http.post("/v1/files/multipart/initiate", json=body).json()["error"]["param"] in wrong
    begun = http.post("/v1/files/multipart/initiate", json={**fields, "file_size": 6, "num_parts": 2}).json()
    first, second = (part["URL"] for part in begun["parts"])
    etag = httpx.put(first, content=b"abc").headers["etag"]
    assert httpx.put(first.partition("?")[0], content=b"abc").status_code == 403
    assert httpx.put(second, content=b"abcdefg").status_code == 400
    names = {"upload_id": begun["upload_id"], "file_id": begun["file_id"]}
    parts = [{"part_number": 1, "etag": etag}]
    refused = http.post("/v1/files/multipart/complete", json={**names, "parts": parts})
    assert refused.json()["error"]["code"] == "invalid_part"
    assert http.post("/v1/files/multipart/abort", json=names).status_code == 200
    assert http.post("/v1/files/multipart/abort", json=names).status_code == 404
