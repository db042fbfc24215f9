"""Ledgers and caches that are locked, damaged, foreign, of a newer version, full, read-only or gone.

A call ends within its deadline, nobody sees another library's error, no sum is wrong, and no answer is lost.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from langchain_core.outputs import Generation

from hana_ai.api import (
    ChatTogetherAI,
    TogetherAIBudgetExceededError,
    TogetherAICache,
    TogetherAIEmbeddings,
    TogetherAIError,
    TogetherAISettings,
    get_ledger,
    service,
)
from hana_ai.api.errors import TogetherAIResponseError
from hana_ai.api.local.together import Reply
from hana_ai.api.usage.ledger import close_all as close_ledgers
from tests.conftest import PRICED, PRICED_CALL, ScriptedTogether

TIMEOUT = 4.0


@pytest.fixture(autouse=True)
def short_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_TIMEOUT", str(TIMEOUT))


@pytest.fixture
def ledger_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "stores" / "usage.db"
    path.parent.mkdir()
    monkeypatch.setenv("TOGETHER_USAGE_DB", str(path))
    return path


def posts(server: ScriptedTogether) -> int:
    return sum(request.method == "POST" for request in server.engine.requests)


FACES: dict[str, Callable[[ChatTogetherAI], object]] = {
    "sync": lambda chat: chat.invoke("Hello"),
    "async": lambda chat: asyncio.run(chat.ainvoke("Hello")),
    "stream": lambda chat: list(chat.stream("Hello")),
}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another connection that lets nobody read or write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE IF NOT EXISTS HELD (A)")
        yield
        other.execute("ROLLBACK")


def end() -> None:
    """Close everything, as at the end of a process."""
    service.close_all()
    close_ledgers()


def fill(path: Path) -> None:
    """A ledger of one call."""
    ChatTogetherAI(model=PRICED).invoke("Hello")
    end()
    assert path.exists()


# --- locked ---


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("what", ["TOGETHER_USAGE_DB", "TOGETHER_CACHE"])
def test_a_locked_store_holds_up_no_call_beyond_its_deadline(
    priced: ScriptedTogether, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, face: str
) -> None:
    path = tmp_path / "store.db"
    monkeypatch.setenv(what, str(path))
    monkeypatch.setenv("TOGETHER_BUDGET_USD", "1")
    chat = ChatTogetherAI(model=PRICED)
    with locked(path):
        for _ in range(3):
            started = time.monotonic()
            FACES[face](chat)
            assert time.monotonic() - started < TIMEOUT
    assert posts(priced) == 3


@pytest.mark.parametrize("face", FACES)
def test_a_locked_ledger_refuses_calls_where_that_is_set(
    priced: ScriptedTogether, ledger_path: Path, monkeypatch: pytest.MonkeyPatch, face: str
) -> None:
    monkeypatch.setenv("TOGETHER_USAGE_UNAVAILABLE", "refuse")
    chat = ChatTogetherAI(model=PRICED)
    with locked(ledger_path):
        started = time.monotonic()
        with pytest.raises(TogetherAIError, match=r"usage\.db .*TOGETHER_USAGE_UNAVAILABLE=refuse"):
            FACES[face](chat)
        assert time.monotonic() - started < TIMEOUT
    assert posts(priced) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_question_that_outlives_its_ledger_leaves_no_file_open(
    priced: ScriptedTogether, ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_USAGE_UNAVAILABLE", "refuse")
    with locked(ledger_path):
        with pytest.raises(TogetherAIError, match="TOGETHER_USAGE_UNAVAILABLE=refuse"):
            asyncio.run(ChatTogetherAI(model=PRICED).ainvoke("Hello"))
        asking = [thread for thread in threading.enumerate() if thread.name == "together-ai-budget"]
        assert asking, "the call has left before its question was answered"
        close_ledgers()
    for thread in asking:
        thread.join(60)
    targets = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    assert not [target for target in targets if target.startswith(str(ledger_path))]


def test_calls_of_a_locked_ledger_are_written_when_it_is_free(
    priced: ScriptedTogether, ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_BUDGET_USD", str(3 * PRICED_CALL))
    chat = ChatTogetherAI(model=PRICED)
    with locked(ledger_path):
        with pytest.raises(TogetherAIBudgetExceededError):
            for _ in range(10):
                chat.invoke("Hello")
        assert posts(priced) == 3
    totals = get_ledger().totals()
    assert (totals["total_requests"], totals["total_cost_usd"]) == (3, 3 * PRICED_CALL)


# --- damaged, foreign, newer ---


def _execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database " * 1000)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def half(path: Path) -> None:
    _execute(path, "PRAGMA journal_mode = DELETE")
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))


def foreign(path: Path) -> None:
    for table in ("TOGETHER_USAGE", "TOGETHER_USAGE_SPENT", "TOGETHER_CACHE"):
        _execute(path, f"DROP TABLE IF EXISTS {table}", f"CREATE TABLE {table} (OTHER TEXT)")


def newer(path: Path) -> None:
    for table in ("TOGETHER_USAGE_ABOUT", "TOGETHER_CACHE_ABOUT"):
        _execute(
            path,
            f"CREATE TABLE IF NOT EXISTS {table} (NAME, VALUE)",
            f"DELETE FROM {table}",
            f"INSERT INTO {table} VALUES ('VERSION', '2')",
        )


def no_version(path: Path) -> None:
    _execute(path, "UPDATE TOGETHER_USAGE_ABOUT SET VALUE = 'x'")


def _set(column: str, value: str, table: str = "TOGETHER_USAGE") -> Callable[[Path], None]:
    return lambda path: _execute(path, f"UPDATE {table} SET {column} = {value}")


BROKEN: dict[str, Callable[[Path], None]] = {
    "garbage": garbage,
    "half": half,
    "foreign": foreign,
    "newer": newer,
    "no version": no_version,
    "cost a word": _set("COST_USD", "'dear'"),
    "cost not a number": _set("COST_USD", "'NaN'"),
    "cost below zero": _set("COST_USD", "'-1'"),
    "cost a blob": _set("COST_USD", "x'00'"),
    "tokens a word": _set("PROMPT_TOKENS", "'many'"),
    "tokens below zero": _set("COMPLETION_TOKENS", "-5"),
    "tokens in halves": _set("PROMPT_TOKENS", "0.5"),
    "tags no list": _set("TAGS", "'{{'"),
    "tags of numbers": _set("TAGS", "'[1]'"),
    "no time": _set("CALLED_AT", "'yesterday'"),
    "a number for a time": _set("CALLED_AT", "5"),
    "no UTF-8": _set("MODEL", "CAST(x'ff' AS TEXT)"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_ledger_that_is_wrong_gives_an_error_that_names_it_and_never_a_sum(
    priced: ScriptedTogether, ledger_path: Path, broken: str
) -> None:
    fill(ledger_path)
    BROKEN[broken](ledger_path)
    file = ledger_path.stat().st_ino
    ledger = get_ledger()
    asked: list[Callable[[], object]] = [ledger.totals, ledger.events, lambda: ledger.totals_by("tag")]
    answers = 0
    for ask in asked:
        try:
            ask()
            answers += 1
        except TogetherAIError as exc:
            assert str(ledger_path) in str(exc)
    # What the sums do not use may be wrong.
    assert answers <= (2 if broken in ("tags no list", "tags of numbers", "no UTF-8") else 0)
    assert ledger_path.stat().st_ino == file


SPENT = {
    "a word": _set("COST_USD", "'dear'", "TOGETHER_USAGE_SPENT"),
    "infinite": _set("COST_USD", "'Infinity'", "TOGETHER_USAGE_SPENT"),
    "no day": _set("DAY", "'someday'", "TOGETHER_USAGE_SPENT"),
    "garbage": garbage,
    "half": half,
    "foreign": foreign,
    "newer": newer,
}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("broken", SPENT)
def test_a_budget_holds_on_a_ledger_that_is_wrong(
    priced: ScriptedTogether,
    ledger_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
    face: str,
) -> None:
    monkeypatch.setenv("TOGETHER_BUDGET_USD", str(3 * PRICED_CALL))
    fill(ledger_path)
    SPENT[broken](ledger_path)
    chat = ChatTogetherAI(model=PRICED)
    before = posts(priced)
    with pytest.raises(TogetherAIBudgetExceededError):
        for _ in range(10):
            FACES[face](chat)
    # What the file said is not known; what the process itself spends is.
    assert posts(priced) - before == 3
    assert caplog.text.count("calls are kept in memory") == 1
    assert str(ledger_path) in caplog.text

    end()
    monkeypatch.setenv("TOGETHER_USAGE_UNAVAILABLE", "refuse")
    with pytest.raises(TogetherAIError, match=r"TOGETHER_USAGE_UNAVAILABLE=refuse"):
        FACES[face](ChatTogetherAI(model=PRICED))
    assert posts(priced) - before == 3


def test_what_was_spent_is_added_up_where_an_older_ledger_has_no_such_table(
    priced: ScriptedTogether, ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        ChatTogetherAI(model=PRICED).invoke("Hello")
    end()
    _execute(ledger_path, "DROP TABLE TOGETHER_USAGE_ABOUT", "DROP TABLE TOGETHER_USAGE_SPENT")
    monkeypatch.setenv("TOGETHER_BUDGET_USD", str(4 * PRICED_CALL))
    chat = ChatTogetherAI(model=PRICED)
    chat.invoke("Hello")
    with pytest.raises(TogetherAIBudgetExceededError):
        chat.invoke("Hello")
    assert get_ledger().totals()["total_cost_usd"] == 4 * PRICED_CALL


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("broken", [garbage, half, foreign, newer])
def test_a_cache_that_is_wrong_is_gone_without(
    priced: ScriptedTogether,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    broken: Callable[[Path], None],
    face: str,
) -> None:
    path = tmp_path / "cache.db"
    first = TogetherAICache(path)
    first.update("before", "llm", [Generation(text="kept")])
    first.close()
    broken(path)
    file = path.stat().st_ino
    chat = ChatTogetherAI(model=PRICED, cache=TogetherAICache(path))
    for _ in range(2):
        FACES[face](chat)
    assert posts(priced) == 2
    assert path.stat().st_ino == file
    # A stream asks no cache.
    assert (str(path) in caplog.text) is (face != "stream")


@pytest.mark.parametrize("reason", [["stop"], {"a": 1}, 5, None, True])
@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_paid_answer_is_never_lost_for_the_cache(
    priced: ScriptedTogether, tmp_path: Path, reason: object, face: str
) -> None:
    priced.check_answers = False
    message = {"role": "assistant", "content": "paid"}
    priced.engine.always(
        Reply(
            body={
                "id": "1",
                "model": PRICED,
                "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            }
        )
    )
    chat = ChatTogetherAI(model=PRICED, cache=TogetherAICache(tmp_path / "cache.db"))
    answer = FACES[face](chat)
    assert getattr(answer, "content", None) == "paid"
    FACES[face](chat)
    assert posts(priced) == 2


def test_a_number_that_is_too_large_for_32_bits_is_refused_and_never_kept(
    priced: ScriptedTogether, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_CACHE", str(tmp_path / "cache.db"))
    priced.check_answers = False
    priced.engine.always(
        Reply(
            body={"model": "e", "data": [{"index": 0, "embedding": [1e300, 0.5]}], "usage": {"prompt_tokens": 1}}
        )
    )
    embeddings = TogetherAIEmbeddings(model="e")
    for _ in range(2):
        with pytest.raises(TogetherAIResponseError, match=r"1e\+300 at data\[0\]\.embedding\[0\]"):
            embeddings.embed_query("Hello")
    assert posts(priced) == 2


# --- full, read-only, gone ---


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No file may grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_calls_go_on_and_are_written_later(
    priced: ScriptedTogether, ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_BUDGET_USD", str(20 * PRICED_CALL))
    monkeypatch.setenv("TOGETHER_CACHE", str(ledger_path.with_name("cache.db")))
    fill(ledger_path)
    chat = ChatTogetherAI(model=PRICED)
    with full_disk(ledger_path):
        for _ in range(3):
            started = time.monotonic()
            FACES["async"](chat)
            assert time.monotonic() - started < TIMEOUT
        get_ledger().flush()
    assert get_ledger().totals()["total_requests"] == 4
    assert get_ledger().totals()["total_cost_usd"] == posts(priced) * PRICED_CALL


def test_a_folder_that_vanishes_takes_no_call_with_it(priced: ScriptedTogether, ledger_path: Path) -> None:
    chat = ChatTogetherAI(model=PRICED)
    chat.invoke("Hello")
    get_ledger().flush()
    kept = ledger_path.parent.with_name("elsewhere")
    shutil.move(ledger_path.parent, kept)
    chat.invoke("Hello")
    with pytest.raises(TogetherAIError, match=r"usage\.db"):
        get_ledger().totals()
    shutil.move(kept, ledger_path.parent)
    assert get_ledger().totals()["total_requests"] == 2


def test_a_file_that_was_deleted_is_made_again(priced: ScriptedTogether, ledger_path: Path) -> None:
    chat = ChatTogetherAI(model=PRICED)
    chat.invoke("Hello")
    get_ledger().flush()
    for path in ledger_path.parent.iterdir():
        path.unlink()
    chat.invoke("Hello")
    assert get_ledger().totals()["total_requests"] == 1
    assert ledger_path.exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everything")
def test_a_ledger_that_must_not_be_written_is_read(priced: ScriptedTogether, ledger_path: Path) -> None:
    fill(ledger_path)
    _execute(ledger_path, "PRAGMA journal_mode = DELETE")
    ledger_path.chmod(0o444)
    ledger_path.parent.chmod(0o555)
    try:
        assert get_ledger().totals()["total_requests"] == 1
    finally:
        ledger_path.parent.chmod(0o755)


def test_settings_name_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_USAGE_UNAVAILABLE", "maybe")
    with pytest.raises(TogetherAIError, match=r"TOGETHER_USAGE_UNAVAILABLE='maybe'.*continue or refuse"):
        TogetherAISettings()
