"""The command line: what it prints, what it asks for, and how it ends."""

from __future__ import annotations

import io
import re
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from hana_ai.api import __version__, routing
from hana_ai.api.cli import main
from hana_ai.api.cli.app import run
from hana_ai.api.cli.demo import run_demo
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import LocalModel, Reply, ScriptedEngine
from tests.conftest import ScriptedTogether, export
from tests.words import embed_by_words

SECRET = "tgp_v1_watched-key-that-must-not-be-shown"


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


# --- version, help ---


def test_version_names_what_it_works_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == 0
    assert re.match(rf"hana-ai-together {__version__} python 3\.\d+\.\d+ together 3\.", said(capsys))


def test_the_process_ends_with_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hana-ai-together", "demo", "no-such-folder"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1


def test_ctrl_c_ends_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hana_ai.api.cli.demo.read_documents", interrupt)
    assert run(["demo", "."]) == 130
    assert capsys.readouterr().err == ""


# --- models ---


def test_models_are_listed_with_context_price_and_status(
    together_environment: ScriptedTogether, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models"]) == 0
    text = said(capsys)
    for name in (ScriptedEngine.CHAT, ScriptedEngine.EMBEDDING, ScriptedEngine.RERANK):
        assert name in text
    assert "8,192 0.00 0.00" in text
    assert "3 models; prices in USD per 1M tokens" in text


def test_models_of_one_kind(together_environment: ScriptedTogether, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--kind", "rerank"]) == 0
    text = said(capsys)
    assert ScriptedEngine.RERANK in text
    assert ScriptedEngine.CHAT not in text


def test_a_kind_without_models_names_the_kinds_that_have_some(
    together_environment: ScriptedTogether, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "--kind", "video"]) == 1
    assert "lists no video models; kinds: chat, embedding" in capsys.readouterr().err


def test_an_unknown_price_is_not_shown_as_zero(capsys: pytest.CaptureFixture[str]) -> None:
    from hana_ai.api.catalog.catalog import ModelInfo
    from hana_ai.api.cli.models import print_models

    print_models([ModelInfo("a/model", "A model", frozenset({"chat"}))])
    assert "a/model chat ? ? ? -" in said(capsys)


# --- doctor ---

Doctor = Callable[..., str]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run the command with some variables, check how it ends, and return what it said."""

    def run_doctor(status: int = 0, **variables: str) -> str:
        export(monkeypatch, variables)
        assert run(["doctor"]) == status
        return said(capsys)

    return run_doctor


def test_doctor_without_a_key_says_where_to_get_one(doctor: Doctor) -> None:
    text = doctor(1)
    assert "bad no key" in text
    assert "https://api.together.ai/settings/api-keys" in text
    assert "ENABLE_TOGETHER_AI=true" in text
    assert "HANA_ADDRESS and HANA_USERKEY are not set" in text


def test_doctor_finds_nothing_wrong_with_a_whole_set_up(
    together_environment: ScriptedTogether, doctor: Doctor
) -> None:
    text = doctor(ENABLE_TOGETHER_AI="true", TOGETHER_DEFAULT_MODEL=ScriptedEngine.CHAT)
    assert "the toolkit is routed to Together AI" in text
    assert "lists 3 models" in text
    assert f"chat: {ScriptedEngine.CHAT} " in text
    assert f"embedding: {ScriptedEngine.EMBEDDING}, picked from the catalogue" in text
    assert "is a server on this machine, not Together AI" in text
    assert together_environment.api_key not in text


def test_doctor_and_the_routing_agree_on_reranking(
    together_environment: ScriptedTogether, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "TOGETHER_DEFAULT_RERANK_MODEL is not set"
    assert f"rerank: {reason}, so the toolkit reranks by itself" in doctor(ENABLE_TOGETHER_AI="true")
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    assert routing.activate()
    try:
        assert routing.status()["PALCrossEncoder"].detail == reason
        monkeypatch.setenv("TOGETHER_DEFAULT_RERANK_MODEL", "local/scripted-rerank")
        assert routing.status()["PALCrossEncoder"].state in ("routed", "on import")
    finally:
        routing.deactivate()
    assert "rerank: local/scripted-rerank" in doctor()


def test_doctor_names_the_variable_with_a_bad_value(doctor: Doctor) -> None:
    assert "TOGETHER_TIMEOUT='soon'" in doctor(1, TOGETHER_TIMEOUT="soon")


@pytest.mark.usefixtures("together_environment")
def test_doctor_reports_a_refused_key_without_showing_it(doctor: Doctor) -> None:
    text = doctor(1, TOGETHER_API_KEY=SECRET)
    assert "Error code: 401" in text
    assert "Check TOGETHER_API_KEY" in text
    assert SECRET not in text


def test_doctor_reports_an_address_where_nobody_answers(doctor: Doctor) -> None:
    assert "does not answer properly" in doctor(1, TOGETHER_BASE_URL=f"http://127.0.0.1:{free_port()}")


def test_doctor_looks_up_the_default_models(doctor: Doctor) -> None:
    engine = ScriptedEngine(models=[LocalModel("old/chat", "chat", deprecated=True)])
    with ScriptedTogether(engine) as server:
        text = doctor(
            1,
            TOGETHER_DEFAULT_MODEL="old/chat",
            TOGETHER_DEFAULT_EMBEDDING_MODEL="my/endpoint",
            **server.environment(),
        )
    assert "old/chat is about to be retired" in text
    assert "bad embedding: TOGETHER_DEFAULT_EMBEDDING_MODEL=my/endpoint is not in the catalogue, nor is it" in text
    assert "no rerank model" in text


@pytest.mark.usefixtures("together_environment")
def test_doctor_asks_for_the_rest_of_the_database_settings(doctor: Doctor) -> None:
    assert "Set HANA_PASSWORD." in doctor(1, HANA_ADDRESS="127.0.0.1", HANA_USER="ME")


@pytest.mark.usefixtures("together_environment")
def test_doctor_reports_a_database_that_does_not_answer(doctor: Doctor) -> None:
    text = doctor(1, HANA_ADDRESS="127.0.0.1", HANA_PORT=str(free_port()), HANA_USER="ME", HANA_PASSWORD=SECRET)
    assert "no connection to SAP HANA" in text
    assert "Check HANA_ADDRESS" in text
    assert SECRET not in text


# --- demo ---


@pytest.fixture
def near_by_words(together_environment: ScriptedTogether) -> ScriptedTogether:
    """The scripted server, with vectors that follow the words of a text."""
    together_environment.engine.on("/v1/embeddings", embed_by_words)
    return together_environment


@pytest.fixture
def pumps(tmp_path: Path) -> Path:
    folder = tmp_path / "pumps"
    (folder / ".hidden").mkdir(parents=True)
    (folder / ".hidden" / "secret.md").write_text("Not for the demo.")
    (folder / "care.md").write_text(
        "# Care\n\n## Filter\n\nThe filter is cleaned every month.\n\n```\ncode\n```\n"
    )
    (folder / "empty.md").write_text(" \n")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    return folder


def test_the_demo_asks_for_a_question_where_there_is_a_terminal(
    near_by_words: ScriptedTogether,
    hana_environment: LocalHana,
    pumps: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("How often is the [filter] cleaned?\n"))
    assert run_demo(pumps, questions=["What is cleaned?"], interactive=True) == 0
    text = said(capsys)
    assert "Read 1 file, split them into 1 passage" in text
    assert "1 What is cleaned?" in text
    assert "Your own question (Enter to end): 2 How often is the [filter] cleaned?" in text
    assert text.count("from care.md > Filter") == 2
    assert "tokens, $0, found in" in text


@pytest.mark.parametrize("typed", ["\n", ""])
def test_no_question_is_an_answer_too(
    near_by_words: ScriptedTogether,
    hana_environment: LocalHana,
    pumps: Path,
    typed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert run_demo(pumps, questions=["What is cleaned?"], interactive=True) == 0
    assert "2 " not in said(capsys).partition("Enter to end")[2]


def test_the_demo_says_when_tokens_and_cost_are_unknown(
    near_by_words: ScriptedTogether,
    hana_environment: LocalHana,
    pumps: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = {"role": "assistant", "content": ""}
    near_by_words.check_answers = False
    near_by_words.engine.on(
        "/v1/chat/completions",
        Reply(body={"id": "x", "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}),
    )
    assert run_demo(pumps, questions=["What is cleaned?"]) == 0
    text = said(capsys)
    assert "(no answer)" in text
    assert "tokens unknown, cost unknown" in text


def test_the_demo_runs_with_the_real_small_models(pumps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", str(pumps), "--question", "How often is the filter cleaned?", "--no-input"]) == 0
    text = said(capsys)
    assert "local/SmolLM2-135M-Instruct" in text
    assert "month" in text
    assert "free (local)" in text


def test_an_installed_package_without_documents_asks_for_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hana_ai.api.cli.demo_documents.__file__", str(tmp_path / "a" / "b" / "c" / "d.py"))
    monkeypatch.setattr("hana_ai.api.cli.demo_documents._PACKED", tmp_path)
    assert run(["demo"]) == 1
    assert "name a folder: hana-ai-together demo FOLDER" in capsys.readouterr().err


def test_the_demo_says_what_to_install_when_the_weights_are_missing(
    pumps: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOGETHER_LOCAL_GGUF", str(pumps / "none.gguf"))
    assert run(["demo", str(pumps), "--question", "What is cleaned?"]) == 1
    assert "TOGETHER_LOCAL_GGUF names" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["langchain_text_splitters", "xllamacpp", "hdbcli", "langchain_hana"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    missing: str, pumps: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    if missing in ("hdbcli", "langchain_hana"):
        monkeypatch.setenv("HANA_ADDRESS", "127.0.0.1")
    if missing == "langchain_hana":
        monkeypatch.setattr("hana_ai.api.cli.vector_stores.hana_connection", nullcontext)
    assert run(["demo", str(pumps), "--question", "What is cleaned?"]) == 1
    error = capsys.readouterr().err
    assert "pip install 'hana-ai-together[" in error


# --- with a database ---


@pytest.mark.usefixtures("together_environment", "hana_environment")
def test_doctor_names_the_version_of_the_database(doctor: Doctor) -> None:
    assert re.search(r"ok SAP HANA \d+\.", doctor())


def test_the_demo_keeps_its_vectors_in_the_database_that_is_set_anew_each_time(
    near_by_words: ScriptedTogether,
    hana_environment: LocalHana,
    pumps: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _ in range(2):
        assert run(["demo", str(pumps), "--question", "What is cleaned?"]) == 0
        text = said(capsys)
        assert "HANA at 127.0.0.1, table HANA_AI_TOGETHER_DEMO" in text
        assert "from care.md > Filter" in text
        assert "stand-in" not in text
    connection = hana_environment.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM HANA_AI_TOGETHER_DEMO")
        assert tuple(cursor.fetchone()) == (1,)
    connection.close()


def test_without_the_packages_of_the_loopback_database_the_demo_keeps_its_vectors_in_memory(
    near_by_words: ScriptedTogether,
    pumps: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # As if it were not installed.
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert run(["demo", str(pumps), "--question", "What is cleaned?"]) == 0
    assert "LangChain's in-memory store" in said(capsys)


# --- usage ---


def test_usage_adds_up_the_ledger(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hana_ai.api import ChatTogetherAI, usage_tags

    monkeypatch.setenv("TOGETHER_USAGE_DB", str(tmp_path / "usage.db"))
    monkeypatch.setenv("TOGETHER_BUDGET_USD", "0.01")
    engine = ScriptedEngine(models=[LocalModel("m", "chat", price_input=100, price_output=1000)])
    with ScriptedTogether(engine) as server:
        chat = ChatTogetherAI(model="m", **server.client)
        with usage_tags("nightly"):
            chat.invoke("One two")
        chat.invoke("One")
        engine.always(Reply(chunks=["One ", "two ", "three"], chunk_delay=0.5))
        stream = chat.stream("One two three")
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert run(["usage", "--by", "tag"]) == 0
        shown = said(capsys)
    assert "nightly 1 0 2 0 2 $0.0022" in shown
    assert "- 2 0 1 0 1 $0.0011" in shown
    assert "total 3 0 3 0 3 $0.0033" in shown
    assert "Calls of unknown cost, not in the sums: 1." in shown
    assert "$0.003300 of the month's budget of $0.01 has been spent (33 %)" in shown
    assert run(["usage", "--start", "2001-01-01", "--end", "2001-12-31"]) == 0
    assert "No calls in" in said(capsys)


def test_usage_of_a_path_that_is_mistyped_says_so_and_makes_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOGETHER_USAGE_DB", str(tmp_path / "usgae.db"))
    assert run(["usage"]) == 1
    assert "there is no ledger" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_usage_without_a_database_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["usage"]) == 1
    assert "TOGETHER_USAGE_DB is not set" in capsys.readouterr().err
