"""The catalogue on disk: read from the server once for all processes, and never in the way of a call."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import ConfigurableField
from pydantic import SecretStr

from hana_ai.api import ChatTogetherAI, TogetherAIModelNotFoundError, TogetherAIServerError, TogetherAISettings
from hana_ai.api.catalog.kept import KeptCatalog
from hana_ai.api.catalog.profiles import DEFAULT_MAX_INPUT_TOKENS
from hana_ai.api.local.together import LocalModel, Reply, ScriptedEngine
from hana_ai.api.service import catalog_for, catalog_of, close_all
from tests import upstream
from tests.conftest import ScriptedTogether, cancel, export

CHECKOUT = Path(__file__).parents[2]
SECOND = "/v2/supported-models"
FIRST = "/v1/models"
NAMES = st.sampled_from(["version", "base_url", "read_at", "models", "name"])
JSON = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | NAMES
    | st.just(1)
    | st.just("http://127.0.0.1:1")
)
BOTH = pytest.mark.parametrize("way", ["sync", "async"])


def read(together: ScriptedTogether, way: str = "sync", *, refresh: bool = False) -> Any:
    """The catalogue as a process without one in memory gets it."""
    close_all()
    catalog = catalog_for(together.base_url, SecretStr(str(together.api_key)))
    return catalog.models(refresh=refresh) if way == "sync" else asyncio.run(catalog.amodels(refresh=refresh))


def readings(together: ScriptedTogether) -> int:
    return sum(request.method == "GET" for request in together.engine.requests)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOGETHER_CATALOG_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def kept_file(folder: Path) -> Path:
    [path] = folder.glob("*.json")
    return path


def out_of_order(together: ScriptedTogether, status: int = 500) -> None:
    for path in (SECOND, FIRST):
        together.engine.on(path, Reply(status=status, headers={"x-should-retry": "false"}))


# --- the file ---


@BOTH
def test_what_one_process_has_read_the_next_one_does_not_ask_for(together: ScriptedTogether, way: str) -> None:
    assert read(together, way) == read(together, way)
    assert readings(together) == 1
    read(together, way, refresh=True)
    assert readings(together) == 2


EIGHT = f"""
import os, sys
import hana_ai
hana_ai.__path__ = [{str(CHECKOUT / "hana_ai")!r}, *hana_ai.__path__]
from hana_ai.api import ChatTogetherAI
chat = ChatTogetherAI(model=sys.argv[1])
children = [os.fork()]
while children[-1] and len(children) < 8:
    children.append(os.fork())
if not children[-1]:
    os._exit(chat.profile["max_input_tokens"] != 8192)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_eight_processes_that_begin_at_once_read_it_once(together_environment: ScriptedTogether) -> None:
    together_environment.engine.latency = 0.3
    ended = subprocess.run(
        [sys.executable, *upstream.IGNORED, "-c", EIGHT, together_environment.model("chat")],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == (f"{[0] * 8}\n", "")
    assert readings(together_environment) == 1


@BOTH
def test_it_counts_for_its_lifetime(
    together: ScriptedTogether, folder: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("TOGETHER_CATALOG_LIFETIME", "100")
    read(together, way)
    for age, expected in ((99, 1), (101, 2), (-3600, 3)):
        kept = json.loads(kept_file(folder).read_text())
        kept_file(folder).write_text(json.dumps({**kept, "read_at": time.time() - age}))
        read(together, way)
        assert readings(together) == expected


@pytest.mark.parametrize(("ahead", "expected"), [(30, 1), (90, 2)])
def test_a_file_from_the_future_counts_within_a_minute(
    together: ScriptedTogether, folder: Path, ahead: float, expected: int
) -> None:
    read(together)
    kept = json.loads(kept_file(folder).read_text())
    kept_file(folder).write_text(json.dumps({**kept, "read_at": time.time() + ahead}))
    read(together)
    assert readings(together) == expected


def test_in_memory_it_is_no_younger_than_on_disk(
    together: ScriptedTogether, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_CATALOG_LIFETIME", "100")
    read(together)
    kept = json.loads(kept_file(folder).read_text())
    kept_file(folder).write_text(json.dumps({**kept, "read_at": time.time() - 99.8}))
    close_all()
    catalog = catalog_for(together.base_url, SecretStr(str(together.api_key)))
    catalog.models()
    deadline = time.monotonic() + 20
    while catalog.fresh and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not catalog.fresh
    catalog.models()
    assert readings(together) == 2


def test_a_lifetime_of_nothing_leaves_no_file(
    together: ScriptedTogether, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_CATALOG_LIFETIME", "0")
    read(together)
    catalog_for(together.base_url, SecretStr(str(together.api_key))).models()
    assert readings(together) == 1
    read(together)
    assert readings(together) == 2
    assert not folder.exists()


def test_no_key_stands_in_the_folder_and_each_key_has_a_file(together: ScriptedTogether, folder: Path) -> None:
    read(together)
    key = str(together.api_key)
    for path in folder.iterdir():
        assert key not in path.name
        assert "127.0.0.1" not in path.name
        assert key.encode() not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0 or os.name == "nt"
    entry = {"name": "private/model", "capabilities": ["CAPABILITY_CHAT"]}
    KeptCatalog(together.base_url, SecretStr("another"), lifetime=60, folder=folder).write([entry])
    assert "private/model" not in read(together)
    assert len(list(folder.glob("*.json"))) == 2


def test_another_address_has_another_catalogue(together: ScriptedTogether, folder: Path) -> None:
    key = SecretStr(str(together.api_key))
    KeptCatalog("https://example.com", key, lifetime=60, folder=folder).write([{"name": "other/chat"}])
    assert "other/chat" not in read(together)
    assert readings(together) == 1


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'{"version": 1}',
        b'{"version": 1, "base_url": "http://127.0.0.1:1", "read_at": 1, "models": []}',
        lambda kept: {**kept, "version": 99},
        lambda kept: {**kept, "base_url": "https://example.com"},
        lambda kept: {**kept, "models": [1, 2]},
        lambda kept: {**kept, "models": "many"},
        lambda kept: {**kept, "read_at": "yesterday"},
        lambda kept: {**kept, "read_at": None},
        lambda kept: {**kept, "read_at": 1e400},
    ],
)
@BOTH
def test_a_damaged_file_is_ignored_and_replaced(
    together: ScriptedTogether, folder: Path, way: str, damage: Any
) -> None:
    wanted = read(together, way)
    path = kept_file(folder)
    good = json.loads(path.read_text())
    path.write_bytes(damage if isinstance(damage, bytes) else json.dumps(damage(good)).encode())
    assert read(together, way) == wanted
    assert readings(together) == 2
    assert json.loads(path.read_text())["models"] == good["models"]
    assert read(together, way) == wanted
    assert readings(together) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes and links")
def test_a_pipe_or_a_link_in_its_place_is_neither_waited_for_nor_followed(
    together: ScriptedTogether, folder: Path, tmp_path: Path
) -> None:
    read(together)
    path = kept_file(folder)
    elsewhere = tmp_path / "elsewhere.json"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    read(together)
    assert (readings(together), path.is_symlink(), elsewhere.read_bytes()) == (2, False, before)
    path.unlink()
    os.mkfifo(path)
    read(together)
    assert (readings(together), path.is_file()) == (3, True)


@pytest.mark.skipif(not hasattr(os, "chown") or os.geteuid() != 0, reason="needs to give files away")
def test_what_another_user_wrote_is_not_believed(together: ScriptedTogether, folder: Path) -> None:
    read(together)
    os.chown(kept_file(folder), 12345, 12345)
    read(together)
    assert readings(together) == 2


@BOTH
def test_a_folder_that_cannot_be_used_fails_nothing(
    together: ScriptedTogether, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TOGETHER_CATALOG_DIR", str(tmp_path / "file" / "kept"))
    assert read(together, way) == read(together, way)
    assert readings(together) == 2


@given(st.binary(max_size=200) | st.recursive(JSON, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner)))
def test_no_content_of_the_file_raises_anything(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    folder = tmp_path_factory.mktemp("kept")
    kept = KeptCatalog("http://127.0.0.1:1", SecretStr("key"), lifetime=1e18, folder=folder)
    kept.write([{"name": "a/model"}])
    assert kept.read() is not None
    kept_file(folder).write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
    found = kept.read()
    assert found is None or all(isinstance(entry, dict) for entry in found[0])


@BOTH
async def test_who_waits_for_a_reading_that_fails_does_not_repeat_it(together: ScriptedTogether, way: str) -> None:
    together.engine.latency = 0.5
    out_of_order(together)
    catalog = catalog_for(together.base_url, SecretStr(str(together.api_key)))
    if way == "sync":
        waiting = [asyncio.to_thread(catalog.models) for _ in range(4)]
    else:
        waiting = [catalog.amodels() for _ in range(4)]
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert {(type(error), getattr(error, "status", None)) for error in errors} == {(TogetherAIServerError, 500)}
    assert len({id(error) for error in errors}) == 4
    assert readings(together) == 2
    # The next one tries.
    with pytest.raises(TogetherAIServerError):
        await catalog.amodels()
    assert readings(together) == 4


async def test_who_is_cancelled_while_waiting_leaves_the_line(together: ScriptedTogether, folder: Path) -> None:
    key = SecretStr(str(together.api_key))
    catalog = catalog_for(together.base_url, key)
    kept = KeptCatalog(together.base_url, key, lifetime=60, folder=folder)
    with kept.turn() as mine:
        assert mine.come()
        tasks = [asyncio.ensure_future(catalog.amodels()) for _ in range(8)]
        for moments, task in enumerate(tasks):
            await asyncio.sleep(0.002 * moments)
            await cancel(task)
    with kept.turn() as free:
        assert free.come()
    assert await catalog.amodels()
    assert readings(together) == 1


def test_a_server_that_lists_nothing_is_asked_again(together: ScriptedTogether, folder: Path) -> None:
    together.engine.on(SECOND, Reply(body={"data": []}))
    assert read(together) == {}
    assert not list(folder.glob("*.json"))
    together.engine.reset()
    assert read(together)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_model_that_is_listed_but_gone_is_asked_about_once(
    together: ScriptedTogether, folder: Path, way: str
) -> None:
    read(together)
    kept = json.loads(kept_file(folder).read_text())
    gone = {**kept["models"][0], "name": "was/here", "serverlessEndpoint": "was/here"}
    kept_file(folder).write_text(
        json.dumps({**kept, "models": [gone, *kept["models"]], "read_at": time.time() - 100})
    )
    close_all()
    chat = ChatTogetherAI(model="was/here", **together.client)
    for _ in range(2):
        with pytest.raises(TogetherAIModelNotFoundError) as caught:
            chat.invoke("Hello") if way == "sync" else asyncio.run(chat.ainvoke("Hello"))
        assert caught.value.alternatives == (ScriptedEngine.CHAT,)
    assert readings(together) == 2
    assert "was/here" not in read(together)
    assert readings(together) == 2


def test_what_is_older_than_any_lifetime_is_removed(together: ScriptedTogether, folder: Path) -> None:
    folder.mkdir()
    old = [folder / f"catalogue-{name}" for name in ("a.json", "a.lock", "b-x1.tmp", "c.json")]
    for path in (*old, folder / "catalogue-d.json", folder / "mine.json"):
        path.write_text("{}")
    for path in (*old, folder / "mine.json"):
        os.utime(path, (time.time() - 700_000,) * 2)
    read(together)
    assert not [path for path in old if path.exists()]
    assert (folder / "catalogue-d.json").exists()
    assert (folder / "mine.json").exists()


def test_nothing_else_is_left_in_the_folder(together: ScriptedTogether, folder: Path) -> None:
    for _ in range(3):
        read(together, refresh=True)
    read(together)
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".lock"}
    assert len(list(folder.iterdir())) <= 2


def test_settings_that_are_given_say_where_it_is_kept(together: ScriptedTogether, tmp_path: Path) -> None:
    settings = TogetherAISettings(
        together_base_url=together.base_url,
        together_api_key=together.api_key,
        together_catalog_dir=str(tmp_path / "mine"),
    )
    catalog_of(settings).models()
    assert len(list((tmp_path / "mine").glob("*.json"))) == 1


# --- profiles ---


def test_making_an_object_asks_nothing_and_its_profile_does_when_it_is_needed(together: ScriptedTogether) -> None:
    chat = ChatTogetherAI(model=together.model("chat"), **together.client)
    profile = chat.profile
    assert profile is not None
    assert profile.get("structured_output") is False
    assert profile["text_inputs"] is True
    assert readings(together) == 0
    assert profile["max_input_tokens"] == 8192
    assert profile["tool_calling"] is True
    assert (readings(together), together.engine.posts) == (1, [])
    assert json.loads(json.dumps(profile)) == dict(profile) == profile.copy()
    assert profile == chat.profile


def test_a_profile_follows_the_model(together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [LocalModel("a/small", "chat", 1000), LocalModel("a/large", "chat", 2000)]
    with ScriptedTogether(ScriptedEngine(models=models)) as server:
        chat = ChatTogetherAI(model="a/small", **server.client)
        assert chat.profile is not None
        assert chat.profile["max_input_tokens"] == 1000
        chat.model = "a/large"
        assert chat.profile["max_input_tokens"] == 2000
        assert chat.model_copy(update={"model": "a/small"}).profile["max_input_tokens"] == 1000
        chosen = ChatTogetherAI(**server.client)
        assert chosen.profile is not None
        assert chosen.profile["max_input_tokens"] == 1000
        given: Any = {"max_input_tokens": 7}
        assert ChatTogetherAI(model="a/small", profile=given, **server.client).profile == given


def test_a_profile_goes_with_copies_and_other_configurations(together_environment: ScriptedTogether) -> None:
    chat = ChatTogetherAI(model=together_environment.model("chat"))
    assert chat.profile is not None
    wanted = dict(chat.profile)
    for other in (copy.copy(chat), copy.deepcopy(chat), pickle.loads(pickle.dumps(chat)), chat.model_copy()):
        assert (other, other.profile) == (chat, wanted)
    assert pickle.loads(pickle.dumps(chat.profile)) == copy.deepcopy(chat.profile) == wanted
    with_model = chat.configurable_fields(model=ConfigurableField("model"))
    prepared, _ = with_model.prepare({"configurable": {"model": "me/endpoint"}})
    assert prepared.profile["max_input_tokens"] == DEFAULT_MAX_INPUT_TOKENS
    assert "name" not in prepared.profile


def _tell_the_status(together: ScriptedTogether) -> dict[str, str]:
    out_of_order(together)
    return together.client


def _refuse_the_key(together: ScriptedTogether) -> dict[str, str]:
    return {**together.client, "api_key": "another-key"}


def _listen_nowhere(together: ScriptedTogether) -> dict[str, str]:
    return {**together.client, "base_url": "http://127.0.0.1:9"}


@pytest.mark.parametrize("away", [_tell_the_status, _refuse_the_key, _listen_nowhere])
def test_without_a_catalogue_the_documented_defaults_hold_and_one_warning_says_so(
    together: ScriptedTogether, caplog: pytest.LogCaptureFixture, away: Any
) -> None:
    client = away(together)
    with caplog.at_level(logging.WARNING):
        for model in ("a/model", "another/model"):
            profile = ChatTogetherAI(model=model, **client).profile
            assert profile is not None
            assert dict(profile) == {
                "text_inputs": True,
                "text_outputs": True,
                "structured_output": False,
                "max_input_tokens": DEFAULT_MAX_INPUT_TOKENS,
            }
    [record] = [record for record in caplog.records if "profile" in record.getMessage().lower()]
    assert client["base_url"] in record.getMessage()
    assert 'profile={"max_input_tokens": ...}' in record.getMessage()
    assert readings(together) <= 2


def test_an_endpoint_that_the_catalogue_does_not_list_has_the_default(
    together: ScriptedTogether, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            profile = ChatTogetherAI(model="me/endpoint", **together.client).profile
            assert profile is not None
            assert profile["max_input_tokens"] == DEFAULT_MAX_INPUT_TOKENS
    [record] = caplog.records
    assert "me/endpoint" in record.getMessage()
    assert readings(together) == 1


def test_summarization_with_a_fraction_works_before_anything_was_read(
    together_environment: ScriptedTogether,
) -> None:
    middleware = pytest.importorskip("langchain.agents.middleware")
    chat = ChatTogetherAI(model=together_environment.model("chat"))
    summarization = middleware.SummarizationMiddleware(
        model=chat, trigger=("fraction", 0.5), keep=("fraction", 0.2)
    )
    assert summarization.model.profile["max_input_tokens"] == 8192


def test_a_profile_is_read_within_a_running_event_loop_too(together: ScriptedTogether) -> None:
    async def ask() -> Any:
        return ChatTogetherAI(model=together.model("chat"), **together.client).profile["max_input_tokens"]  # type: ignore[index]

    assert asyncio.run(ask()) == 8192


def test_the_environment_names_the_folder(
    together_environment: ScriptedTogether, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOGETHER_CATALOG_DIR")
    homes = {"HOME": tmp_path, "XDG_CACHE_HOME": tmp_path / "xdg", "LOCALAPPDATA": tmp_path / "local"}
    export(monkeypatch, {name: str(path) for name, path in homes.items()})
    read(together_environment)
    [kept] = tmp_path.rglob("catalogue-*.json")
    assert kept.parent.name == "hana-ai-together"
