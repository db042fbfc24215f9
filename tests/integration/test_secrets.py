"""Every class, every surface on which a key could show: none holds it in the clear."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import io
import json
import logging
import multiprocessing
import pickle
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd, dumps
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run
from pydantic import BaseModel, SecretStr
from rich.console import Console
from rich.traceback import Traceback

from hana_ai.api import (
    ChatTogetherAI,
    FallbackTarget,
    TogetherAI,
    TogetherAICache,
    TogetherAIClient,
    TogetherAIConnector,
    TogetherAIEmbeddingCache,
    TogetherAIEmbeddings,
    TogetherAIRerank,
    TogetherAISettings,
    get_ledger,
)
from hana_ai.api.errors import TogetherAIError, TogetherAISettingsError
from hana_ai.api.local.together import Reply, ScriptedEngine
from hana_ai.api.routing.gen_ai_hub import init_embedding_model, init_llm
from tests.conftest import ScriptedTogether
from tests.integration.worker_job import answered
from tests.secrets_watch import MARK

KEY = f"{MARK}-of-the-settings"
OTHER = f"{MARK}-given-by-hand"
PASSWORD = f"{MARK}-of-the-database"
FALLBACK = f"{MARK}-of-a-fallback"


def shows(text: object) -> bool:
    return MARK in (text.decode("latin-1") if isinstance(text, bytes) else str(text))


CLASSES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "ChatTogetherAI": lambda given: ChatTogetherAI(model="m", **given),
    "TogetherAI": lambda given: TogetherAI(model="m", **given),
    "TogetherAIEmbeddings": lambda given: TogetherAIEmbeddings(model="m", **given),
    "TogetherAIRerank": lambda given: TogetherAIRerank(model="m", **given),
    "bound": lambda given: ChatTogetherAI(model="m", **given).bind(stop=["x"]),
    "structured": lambda given: ChatTogetherAI(model="m", **given).with_structured_output(
        {"title": "T", "type": "object", "properties": {"a": {"type": "string"}}}
    ),
    "with a fallback": lambda given: ChatTogetherAI(
        model="m", fallback=[FallbackTarget("n", "https://llm.example.com", FALLBACK)], **given
    ),
    "with caches": lambda given: ChatTogetherAI(model="m", cache=TogetherAICache("hana:C"), **given),
    "with vectors": lambda given: TogetherAIEmbeddings(
        model="m", cache=TogetherAIEmbeddingCache("hana:C"), **given
    ),
    "routed llm": lambda given: init_llm("gpt-4o", **given),
    "routed embeddings": lambda given: init_embedding_model("text-embedding-3-small", **given),
    "settings": lambda given: TogetherAISettings(**{f"together_{name}": value for name, value in given.items()}),
    "client": lambda given: TogetherAIClient(CLASSES["settings"](given)),
    "connector": lambda given: TogetherAIConnector({"api_key": KEY, **given}),
    "ledger": lambda given: get_ledger(CLASSES["settings"](given)),
    "transport": lambda given: TogetherAIClient(CLASSES["settings"](given)).transport,
    "fallback": lambda given: FallbackTarget("n", "https://llm.example.com", FALLBACK),
}


def _dumps(made: Any) -> Iterator[object]:
    if not isinstance(made, BaseModel):
        return
    for mode in ("python", "json"):
        for extra in (
            {},
            {"round_trip": True},
            {"serialize_as_any": True},
            {"by_alias": True},
            {"warnings": False},
        ):
            yield made.model_dump(mode=mode, **extra)
    yield made.model_dump_json()
    yield made.model_dump_json(round_trip=True, indent=2)
    with suppress(TypeError, ValueError):
        yield json.dumps(made.model_dump(), default=str)


def _pickles(made: Any) -> Iterator[object]:
    # What holds threads and connections can't be pickled at all.
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        with suppress(TypeError, AttributeError, pickle.PicklingError):
            yield pickle.dumps(made, protocol)


def _copies(made: Any) -> Iterator[object]:
    for make in (copy.copy, copy.deepcopy):
        with suppress(TypeError):
            copied = make(made)
            yield from (repr(copied), vars(copied) if hasattr(copied, "__dict__") else "", *_pickles(copied))


def _vars(made: Any) -> Iterator[object]:
    for name in ("__dict__", "__pydantic_private__", "__pydantic_extra__"):
        found = getattr(made, name, None)
        yield found
        if isinstance(found, dict):
            yield from ((name, value) for name, value in found.items())
    yield [getattr(made, name, None) for name in getattr(type(made), "__slots__", ())]


def _langchain(made: Any) -> Iterator[object]:
    for way in (dumps, dumpd):
        with suppress(Exception):
            yield way(made)


def _compiled() -> Callable[[Any], None]:
    """A function that fails in a frame of which a tool shows the variables and no text."""
    code = (
        "def broken(inside):\n    values = [inside, {'a': inside}]\n    raise ValueError(f'with {len(values)}')\n"
    )
    namespace: dict[str, Any] = {}
    exec(compile(code, "<broken>", "exec"), namespace)
    found: Callable[[Any], None] = namespace["broken"]
    return found


BROKEN = _compiled()


def _sentry(made: Any) -> Iterator[object]:
    """What tools show that print every variable of a frame, of an error that an object is in the middle of."""

    try:
        BROKEN(made)
    except ValueError as exc:
        yield "".join(traceback.TracebackException.from_exception(exc, capture_locals=True).format())
        shown = io.StringIO()
        Console(file=shown, width=400).print(
            # Without this function's frame, whose text would be coloured each time.
            Traceback.from_exception(type(exc), exc, getattr(exc.__traceback__, "tb_next", None), show_locals=True)
        )
        yield shown.getvalue()


SURFACES: dict[str, Callable[[Any], Iterator[object]]] = {
    "repr": lambda made: iter([repr(made), str(made), f"{made}", f"{made!r:>9}"]),
    "vars": _vars,
    "dumps": _dumps,
    "pickles": _pickles,
    "copies": _copies,
    "langchain": _langchain,
    "tracebacks": _sentry,
}


@pytest.fixture
def settings_with_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)
    monkeypatch.setenv("TOGETHER_FALLBACK_API_KEY", FALLBACK)
    monkeypatch.setenv("TOGETHER_DEFAULT_MODEL", "m")
    monkeypatch.setenv("TOGETHER_DEFAULT_EMBEDDING_MODEL", "e")
    monkeypatch.setenv("HANA_ADDRESS", "h")
    monkeypatch.setenv("HANA_USER", "u")
    monkeypatch.setenv("HANA_PASSWORD", PASSWORD)
    monkeypatch.setenv("TOGETHER_USAGE_DB", "hana:USAGE")
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("given", [{}, {"api_key": OTHER}], ids=["of the settings", "by hand"])
@pytest.mark.usefixtures("settings_with_secrets")
def test_no_surface_of_any_class_holds_a_key_in_the_clear(name: str, surface: str, given: dict[str, Any]) -> None:
    made = CLASSES[name](given)
    assert not any(map(shows, SURFACES[surface](made)))


# --- pickles ---

PICKLED = [name for name in CLASSES if name not in ("ledger", "transport", "fallback")]


def key_of(made: Any) -> str | None:
    for part in (made, getattr(made, "bound", None), getattr(made, "settings", None)):
        for name in ("api_key", "together_api_key"):
            if isinstance(found := getattr(part, name, None), SecretStr):
                return found.get_secret_value()
    return None


@pytest.mark.parametrize("name", PICKLED)
@pytest.mark.usefixtures("settings_with_secrets")
def test_what_is_loaded_has_the_key_of_the_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(CLASSES[name]({}))
    monkeypatch.setenv("TOGETHER_API_KEY", f"{KEY}-rotated")
    made = pickle.loads(data)
    if name not in ("structured", "connector"):
        assert key_of(made) == f"{KEY}-rotated"


@pytest.mark.parametrize("name", PICKLED)
@pytest.mark.usefixtures("settings_with_secrets")
def test_a_key_given_by_hand_is_never_replaced_by_another(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(CLASSES[name]({"api_key": OTHER}))
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_PICKLE_KEYS=true"):
        pickle.loads(data)
    monkeypatch.setenv("TOGETHER_API_KEY", OTHER)
    made = pickle.loads(data)
    if name not in ("structured", "connector"):
        assert key_of(made) == OTHER


@pytest.mark.parametrize("name", PICKLED)
@pytest.mark.usefixtures("settings_with_secrets")
def test_a_key_given_by_hand_is_carried_where_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_PICKLE_KEYS", "true")
    data = pickle.dumps(CLASSES[name]({"api_key": OTHER}))
    assert OTHER.encode() in data
    assert KEY.encode() not in data
    assert PASSWORD.encode() not in data
    made = pickle.loads(data)
    if name not in ("structured", "connector"):
        assert key_of(made) == OTHER


@pytest.mark.usefixtures("settings_with_secrets")
def test_a_key_given_by_hand_leaves_a_hash_that_is_another_each_time() -> None:
    made = CLASSES["ChatTogetherAI"]({"api_key": OTHER})
    first, second = (pickle.dumps(made) for _ in range(2))
    assert first != second
    for name in ("md5", "sha1", "sha256", "sha512", "blake2b"):
        digest = hashlib.new(name, OTHER.encode())
        assert digest.digest() not in first
        assert digest.hexdigest().encode() not in first


@pytest.mark.usefixtures("settings_with_secrets")
def test_the_key_of_a_target_by_itself_is_never_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_PICKLE_KEYS", "true")
    assert FALLBACK.encode() not in pickle.dumps(CLASSES["fallback"]({}))


@pytest.mark.usefixtures("settings_with_secrets")
def test_without_a_key_here_the_error_names_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(CLASSES["ChatTogetherAI"]({}))
    monkeypatch.delenv("TOGETHER_API_KEY")
    with pytest.raises(TogetherAISettingsError, match=r"carries no keys\. Set TOGETHER_API_KEY here"):
        pickle.loads(data)


@pytest.mark.usefixtures("settings_with_secrets")
def test_the_databases_password_goes_to_no_other_user(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(CLASSES["settings"]({}))
    assert pickle.loads(data).hana_password.get_secret_value() == PASSWORD
    monkeypatch.setenv("HANA_USER", "another")
    with pytest.raises(TogetherAISettingsError, match="HANA_PASSWORD"):
        pickle.loads(data)


def test_a_worker_answers_with_its_own_settings_and_no_key_on_its_command_line(
    together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    chat = ChatTogetherAI(model=ScriptedEngine.CHAT)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        answer, line = pool.apply(answered, (chat,))
    assert answer == "Hello"
    assert str(together_environment.api_key) not in line
    assert sys.executable.rpartition("/")[2] in line or not line


# --- what is told of a call ---


class _Told(BaseCallbackHandler):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append(repr((args, kwargs)))

    def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append(repr((args, kwargs)))

    def on_llm_error(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append(repr((args, kwargs)))


class _Tracer(BaseTracer):
    """Keeps runs as LangSmith gets them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def _persist_run(self, run: Run) -> None:
        self.seen.append(run.model_dump_json() if hasattr(run, "model_dump_json") else repr(vars(run)))
        self.seen.append(repr(run))


TROUBLE = {"none": None, "refused": Reply(status=401), "stalled": Reply(stall=True)}


async def _timed(chat: ChatTogetherAI, config: RunnableConfig) -> None:
    async with asyncio.timeout(0.3):
        await chat.ainvoke("Hello", config)


async def _waited(chat: ChatTogetherAI, config: RunnableConfig) -> None:
    await asyncio.wait_for(chat.ainvoke("Hello", config), 0.3)


async def _streamed(chat: ChatTogetherAI, config: RunnableConfig) -> None:
    async with asyncio.timeout(0.3):
        async for _ in chat.astream("Hello", config):
            pass


async def _cancelled(chat: ChatTogetherAI, config: RunnableConfig) -> None:
    task = asyncio.ensure_future(chat.ainvoke("Hello", config))
    await asyncio.sleep(0.2)
    task.cancel()
    await task


FACES: dict[str, Callable[[ChatTogetherAI, RunnableConfig], object]] = {
    "invoke": lambda chat, config: chat.invoke("Hello", config),
    "stream": lambda chat, config: list(chat.stream("Hello", config)),
    "timeout": lambda chat, config: asyncio.run(_timed(chat, config)),
    "wait_for": lambda chat, config: asyncio.run(_waited(chat, config)),
    "stream in a timeout": lambda chat, config: asyncio.run(_streamed(chat, config)),
    "cancelled": lambda chat, config: asyncio.run(_cancelled(chat, config)),
}


def frames(exc: BaseException | None) -> Iterator[str]:
    """Every variable of every frame of an exception and its causes, as a Sentry-like serializer shows them."""
    seen: list[BaseException] = []
    waiting = [exc]
    while waiting:
        link = waiting.pop()
        if link is None or any(link is one for one in seen):
            continue
        seen.append(link)
        waiting += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]
        yield f"{link!r} {vars(link)!r}"
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if frame.f_code.co_filename != __file__:
                for name, value in frame.f_locals.items():
                    yield f"{frame.f_code.co_qualname} {name} {value!r}"


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("face", FACES)
def test_nothing_that_is_told_of_a_call_holds_the_key(
    face: str, trouble: str, together: ScriptedTogether, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    key = str(together.api_key)
    together.check_answers = False
    if (reply := TROUBLE[trouble]) is not None:
        engine.always(reply)
    for name in ("", "together", "httpx", "httpcore", "aiohttp", "asyncio", "hana_ai", "langchain_core"):
        caplog.set_level(logging.DEBUG, name or None)
    told, tracer, output = _Told(), _Tracer(), io.StringIO()
    chat = ChatTogetherAI(model=ScriptedEngine.CHAT, timeout=1.0, max_retries=0, **together.client)
    caught: BaseException | None = None
    with redirect_stdout(output), redirect_stderr(output):
        try:
            FACES[face](chat, {"callbacks": [told, tracer]})
        except (TogetherAIError, TimeoutError, asyncio.CancelledError) as exc:
            caught = exc
    assert caught is not None or trouble == "none"
    assert [text[:60] for text in frames(caught) if key in text] == []
    assert told.seen
    # LangChain ends no run that is cancelled.
    assert tracer.seen or isinstance(caught, (TimeoutError, asyncio.CancelledError))
    shown = [*told.seen, *tracer.seen, output.getvalue(), *(caplog.handler.format(one) for one in caplog.records)]
    assert not any(key in text for text in shown)


ASKED: dict[str, Callable[[Any], object]] = {
    "ChatTogetherAI": lambda made: made.invoke("Hello"),
    "TogetherAI": lambda made: made.invoke("Hello"),
    "TogetherAIEmbeddings": lambda made: made.embed_query("Hello"),
    "TogetherAIRerank": lambda made: made.rerank("Hello", ["Hello"]),
    "client": lambda made: made.generate_chat_completion("Hello", model="m"),
}
ADDRESSES = ["http://127.0.0.1:abc", "http://127.0.0.1:99999", "http://[::1", "ftp://x", "http://evil.test"]


def test_no_key_stands_in_ledger_or_cache_and_no_text_in_the_ledger(
    together_environment: ScriptedTogether, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("usage", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TOGETHER_USAGE_DB", str(tmp_path / "usage" / "it.db"))
    monkeypatch.setenv("TOGETHER_CACHE", str(tmp_path / "cache" / "it.db"))
    chat = ChatTogetherAI(model=ScriptedEngine.CHAT)
    assert chat.invoke("what-was-asked").content == "what-was-asked"
    assert get_ledger().totals()["total_requests"] == 1
    kept = {
        name: b"".join(file.read_bytes() for file in (tmp_path / name).iterdir()) for name in ("usage", "cache")
    }
    key = str(together_environment.api_key).encode()
    assert not any(key in data for data in kept.values())
    assert b"what-was-asked" in kept["cache"]
    assert ScriptedEngine.CHAT.encode() in kept["usage"]
    assert b"what-was-asked" not in kept["usage"]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("name", ASKED)
def test_no_frame_of_a_bad_address_holds_the_key(name: str, address: str) -> None:
    given = {"api_key": SecretStr(KEY), "base_url": address}
    with pytest.raises((TogetherAIError, ValueError)) as caught:
        ASKED[name](CLASSES[name](given))
    assert not any(map(shows, frames(caught.value)))


@pytest.mark.parametrize("way", ["timeout", "wait_for", "cancelled"])
def test_no_frame_of_a_connector_that_is_left_holds_the_key(way: str) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    connector = TogetherAIConnector({"api_key": SecretStr(KEY), "base_url": f"http://127.0.0.1:{port}"})

    async def work() -> None:
        if way == "timeout":
            async with asyncio.timeout(0.3):
                await connector.__aenter__()
        elif way == "wait_for":
            await asyncio.wait_for(connector.__aenter__(), 0.3)
        else:
            task = asyncio.ensure_future(connector.__aenter__())
            await asyncio.sleep(0.3)
            task.cancel()
            await task

    with silent, pytest.raises((TimeoutError, asyncio.CancelledError)) as caught:
        asyncio.run(work())
    assert not any(map(shows, frames(caught.value)))
