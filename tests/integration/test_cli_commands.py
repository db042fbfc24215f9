"""Every command between the loopback servers: what it prints, for people and programs, and how it refuses."""

from __future__ import annotations

import getpass
import io
import json
import re
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App
from dotenv import dotenv_values

from hana_ai.api import TogetherHanaDB
from hana_ai.api.cli.app import app, run
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import Call, LocalModel, Reply, ScriptedEngine
from tests.conftest import ScriptedTogether, export
from tests.integration.connector.conftest import write_adapter
from tests.warm import COMMAND_LINE, Warm

TEXTS = ["SAP HANA keeps each column together.", "The coffee machine is on floor 3."]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


class Shown:
    """Runs a command and gives what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str, status: int = 0) -> str:
        self.capsys.readouterr()
        assert run(list(arguments)) == status, self.capsys.readouterr()
        return self.capsys.readouterr().out

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", status=status))

    def refused(self, *arguments: str, status: int = 1) -> str:
        """The one line that says what is wrong."""
        self.capsys.readouterr()
        assert run(list(arguments)) == status
        shown = self.capsys.readouterr()
        assert shown.out == ""
        assert shown.err.count("\n") == 1
        assert shown.err.startswith("hana-ai-together: ")
        return shown.err


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    return Shown(capsys)


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def pipe(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    return pipe


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let somebody sit at a terminal and type lines."""

    def type_in(*lines: str) -> None:
        left = iter(lines)

        def typed(prompt: str = "") -> str:
            try:
                return next(left)
            except StopIteration:
                raise EOFError from None

        terminal = io.StringIO()
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr("builtins.input", typed)
        monkeypatch.setattr(getpass, "getpass", typed)

    return type_in


def last_messages(engine: ScriptedEngine) -> list[dict[str, Any]]:
    return list(engine.posts[-1].body["messages"])


# --- chat, complete, embed, rerank ---


@pytest.mark.usefixtures("priced")
class TestAsking:
    def test_chat_prints_the_answer_its_tokens_and_its_cost(self, shown: Shown) -> None:
        assert shown("chat", "Say", "a", "--temperature", "0.5").splitlines() == [
            "a",
            "priced/chat, 1 + 9 tokens, $0.009100",
        ]

    def test_what_is_sent_is_what_was_asked_for(self, shown: Shown, priced: ScriptedTogether) -> None:
        shown("chat", "Say a", "--system", "Be short.", "--temperature", "0.5", "--max-tokens", "7")
        body = priced.engine.posts[-1].body
        assert [message["content"] for message in body["messages"]] == ["Be short.", "Say a"]
        assert (body["temperature"], body["max_tokens"]) == (0.5, 7)

    def test_chat_for_programs(self, shown: Shown) -> None:
        said = shown.json("chat", "Say a")
        assert (said["content"], said["model"], said["cost_usd"]) == ("a", "priced/chat", 0.0091)
        assert said["usage"]["output_tokens"] == 9

    def test_a_message_may_be_piped_in(
        self, shown: Shown, priced: ScriptedTogether, piped: Callable[[str], None]
    ) -> None:
        piped("What is\nHANA?\n")
        shown("chat")
        assert last_messages(priced.engine)[-1]["content"] == "What is\nHANA?"

    def test_without_a_message_there_is_nothing_to_send(self, shown: Shown, piped: Callable[[str], None]) -> None:
        piped(" \n")
        assert "nothing to send: name a message" in shown.refused("chat")

    def test_a_conversation_remembers_what_was_said(
        self, shown: Shown, priced: ScriptedTogether, typing: Callable[..., None]
    ) -> None:
        typing("one", "", "two", "exit", "never")
        shown("chat")
        assert [message["content"] for message in last_messages(priced.engine)] == ["one", "a", "two"]
        assert len(priced.engine.posts) == 2

    def test_an_answer_that_is_cut_off_says_so(self, shown: Shown, priced: ScriptedTogether) -> None:
        priced.engine.always(Reply(text="a", finish_reason="length"))
        assert "cut off at the limit of tokens: --max-tokens" in shown("chat", "Say a")


def test_complete(together_environment: ScriptedTogether, shown: Shown) -> None:
    together_environment.engine.always(Reply(text=" blue."))
    assert shown("complete", "The sky is", "--stop", "x").startswith(" blue.\n")
    assert together_environment.engine.posts[-1].body["stop"] == ["x"]
    assert shown.json("complete", "The sky is")["text"] == " blue."


@pytest.mark.usefixtures("together_environment")
def test_embed(shown: Shown, piped: Callable[[str], None]) -> None:
    vectors = [json.loads(line) for line in shown("embed", "one", "two").splitlines()]
    assert [len(vector) for vector in vectors] == [256, 256]
    piped("one\ntwo\n")
    said = shown.json("embed")
    assert [round(number, 4) for number in said["vectors"][1]] == [round(number, 4) for number in vectors[1]]
    assert said["usage"]["input_tokens"] > 0


@pytest.mark.usefixtures("together_environment")
def test_rerank(shown: Shown) -> None:
    lines = shown("rerank", "coffee", *TEXTS).splitlines()
    assert sorted(line[8:] for line in lines) == sorted(TEXTS)
    (best,) = shown.json("rerank", "coffee", *TEXTS, "--top-n", "1")
    assert best["text"] == lines[0][8:]


# --- a vector table ---


@pytest.fixture(scope="module")
def facts() -> Iterator[LocalHana]:
    """A database with a table that the tests only read."""
    with LocalHana() as hana, ScriptedTogether() as together, pytest.MonkeyPatch.context() as environment:
        export(environment, {**hana.environment(), **together.environment()})
        TogetherHanaDB(table_name="FACTS").add_texts(
            TEXTS, [{"source": "hana.md"}, {"source": "office.md"}], ids=["1", "2"]
        )
        yield hana


@pytest.fixture
def table(
    facts: LocalHana, together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> ScriptedTogether:
    export(monkeypatch, facts.environment())
    return together_environment


def test_chat_answers_from_a_table_and_shows_the_passages(shown: Shown, table: ScriptedTogether) -> None:
    table.engine.always(Reply(text="On floor 3 [1]."))
    said = shown("chat", TEXTS[1], "--table", "FACTS", "--k", "1")
    assert said.startswith("On floor 3 [1].\n[1] office.md (1.00) The coffee machine")
    system, question = last_messages(table.engine)
    assert f"[1] {TEXTS[1]}" in system["content"]
    assert TEXTS[0] not in system["content"]
    assert question["content"] == TEXTS[1]
    (source,) = shown.json("chat", TEXTS[1], "--table", "FACTS", "--k", "1")["sources"]
    assert (source["content"], source["metadata"]) == (TEXTS[1], {"source": "office.md"})


def test_the_table_is_listed_for_programs(shown: Shown, table: ScriptedTogether) -> None:
    (info,) = shown.json("tables")
    assert (info["table"], info["rows"], info["known"]) == ("FACTS", 2, "stamp")


@pytest.mark.usefixtures("table")
def test_a_table_that_is_not_there(shown: Shown) -> None:
    assert "There is no table" in shown.refused("chat", "x", "--table", "NOTHING")
    assert "cannot be used together" in shown.refused("chat", "x", "--table", "FACTS", "--tools")


@pytest.mark.filterwarnings("ignore")
def test_chat_uses_the_tools_of_the_toolkit(shown: Shown, table: ScriptedTogether) -> None:
    arguments = {"table_name": "FACTS", "select_statement": 'SELECT "VEC_ID" FROM "FACTS"', "top_n": 2}
    table.engine.reply(Reply(tool_calls=[Call("fetch_data", arguments)]), Reply(text="There are two."))
    said = shown("chat", "What is in FACTS?", "--tools")
    assert re.search(r"^fetch_data: .*VEC_ID", said, re.MULTILINE)
    assert "\nThere are two.\n" in said
    assert last_messages(table.engine)[-1]["role"] == "tool"


# --- models, usage, doctor, version ---


def test_models_are_looked_for(monkeypatch: pytest.MonkeyPatch, shown: Shown) -> None:
    models = [
        LocalModel("one/Large-Chat", "chat", features=("FEATURE_TOOL_CALLING",)),
        LocalModel("two/small-chat", "chat"),
    ]
    with ScriptedTogether(ScriptedEngine(models=models)) as server:
        export(monkeypatch, server.environment())
        assert "two/small-chat" not in shown("models", "large")
        assert [model["id"] for model in shown.json("models", "chat", "SMALL")] == ["two/small-chat"]
        assert [model["id"] for model in shown.json("models", "--feature", "tool-calling")] == ["one/Large-Chat"]
        assert "Similar names: one/Large-Chat" in shown.refused("models", "one/larg-chat")
        assert "features: tool_calling" in shown.refused("models", "--feature", "flying")


def test_names_are_whole_in_a_pipe(monkeypatch: pytest.MonkeyPatch, shown: Shown) -> None:
    monkeypatch.delenv("COLUMNS")
    name = "an-organisation/" + "a-very-long-name-" * 12
    with ScriptedTogether(ScriptedEngine(models=[LocalModel(name, "chat")])) as server:
        export(monkeypatch, server.environment())
        assert any(line.startswith(f"{name} ") for line in shown("models").splitlines())


def test_usage_for_programs(priced: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, shown: Shown) -> None:
    export(monkeypatch, {"TOGETHER_USAGE_DB": "usage.db", "TOGETHER_BUDGET_USD": "1"})
    shown("chat", "Say a")
    said = shown.json("usage", "--by", "model")
    assert said["rows"]["priced/chat"]["total_requests"] == said["total"]["total_requests"] == 1
    assert said["budget"] == {"usd": 1.0, "period": "month", "spent_usd": 0.0091}
    assert "no day lies between them" in shown.refused("usage", "--start", "2026-02-01", "--end", "2026-01-01")


@pytest.mark.usefixtures("together_environment")
def test_doctor_makes_a_request_where_it_may(shown: Shown, together: ScriptedTogether) -> None:
    shown("doctor")
    assert not together.engine.posts
    assert "chat: a request was answered in" in shown("doctor", "--call")
    assert [post.path for post in together.engine.posts] == ["/v1/chat/completions", "/v1/embeddings"]


@pytest.mark.usefixtures("together_environment")
def test_doctor_says_which_request_failed(shown: Shown, together: ScriptedTogether) -> None:
    together.engine.always(Reply(status=400, error="no such thing"))
    assert "bad  chat: a request failed" in shown("doctor", "--call", status=1)
    found = shown.json("doctor", "--call", status=1)
    assert [one["what"] for one in found if one["state"] == "bad"] == [
        "chat: a request failed",
        "embedding: a request failed",
    ]


def test_doctor_knows_an_endpoint_of_ones_own(
    together_environment: ScriptedTogether, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown("endpoints", "create", ScriptedEngine.CHAT, "mine", "--yes")
    (endpoint,) = shown.json("endpoints")
    monkeypatch.setenv("TOGETHER_DEFAULT_MODEL", endpoint["name"])
    assert f"chat: {endpoint['name']}, an endpoint of yours" in shown("doctor")


def test_versions_for_programs(shown: Shown) -> None:
    assert set(shown.json("version")) >= {"hana-ai-together", "python", "together"}


# --- endpoints, adapters ---


@pytest.mark.usefixtures("together_environment")
def test_the_life_of_an_endpoint(shown: Shown, typing: Callable[..., None]) -> None:
    assert shown("endpoints") == "There are no endpoints.\n"
    typing("n")
    shown("endpoints", "create", ScriptedEngine.CHAT, "mine", status=1)
    assert shown.json("endpoints") == []
    typing("y")
    assert "endpoints wait" in shown("endpoints", "create", ScriptedEngine.CHAT, "mine")
    assert shown("endpoints", "wait", "mine") == "mine is ready.\n"
    (endpoint,) = shown.json("endpoints")
    assert endpoint["status"] == "ready"
    assert endpoint["price_per_hour_usd"] > 0
    assert "5.49" in shown("endpoints")
    shown("endpoints", "stop", "mine")
    assert shown("endpoints", "wait", endpoint["id"], status=1) == f"{endpoint['id']} is stopped.\n"
    assert shown.json("endpoints")[0]["price_per_hour_usd"] == 0
    shown("endpoints", "delete", "mine", "--yes")
    assert shown.json("endpoints") == []


@pytest.mark.usefixtures("together_environment")
def test_nothing_that_costs_money_begins_unasked(shown: Shown, piped: Callable[[str], None]) -> None:
    piped("")
    said = shown.refused("endpoints", "create", ScriptedEngine.CHAT, "mine")
    assert "for $5.49 per hour as long as it runs" in said
    assert "To agree, pass --yes." in said
    assert shown.json("endpoints") == []


@pytest.mark.usefixtures("together_environment")
def test_an_endpoint_that_is_not_there(shown: Shown) -> None:
    for action in (["stop", "none"], ["wait", "none"], ["delete", "none", "--yes"], ["stop", "ep_none"]):
        assert f"there is no endpoint '{action[1]}'" in shown.refused("endpoints", *action)


@pytest.mark.usefixtures("together_environment")
def test_orphans_are_found_and_deleted(shown: Shown, typing: Callable[..., None], programs: Warm) -> None:
    assert shown("endpoints", "orphans") == "There are none.\n"
    assert shown.json("endpoints", "orphans") == []
    assert programs.run(_LEAVES_AN_ORPHAN, ScriptedEngine.CHAT).returncode == 0
    assert "$/hour" in shown("endpoints", "orphans", status=1)
    typing("n")
    shown("endpoints", "orphans", "--delete", status=1)
    assert len(shown.json("endpoints", "orphans", status=1)) == 1
    assert shown("endpoints", "orphans", "--delete", "--yes").endswith("Deleted.\n")
    assert shown("endpoints", "orphans") == "There are none.\n"


_LEAVES_AN_ORPHAN = """
import asyncio, os, sys
from hana_ai.api.connector import TogetherAIConnector

async def main():
    config = {"api_key": os.environ["TOGETHER_API_KEY"], "base_url": os.environ["TOGETHER_BASE_URL"]}
    async with TogetherAIConnector(config) as connector:
        async with connector.endpoint(sys.argv[1], "left", {"type": "dedicated"}):
            os._exit(0)

asyncio.run(main())
"""


@pytest.mark.usefixtures("together_environment")
def test_an_adapter_is_checked_uploaded_and_deployed(shown: Shown, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", base_model_name_or_path=ScriptedEngine.CHAT)
    shown("adapters", "check", str(folder), ScriptedEngine.CHAT)
    assert "No adapter files found" in shown.refused("adapters", "check", str(tmp_path), ScriptedEngine.CHAT)
    assert "No adapter files found" in shown.refused(
        "adapters", "upload", str(tmp_path), "mine", ScriptedEngine.CHAT
    )
    said = shown("adapters", "upload", str(folder), "mine", ScriptedEngine.CHAT)
    id = said.split()[2].rstrip(".")
    assert id.startswith("ml_")
    assert f"hana-ai-together adapters deploy {id} mine {ScriptedEngine.CHAT}" in said
    said = shown("adapters", "deploy", id, "mine", ScriptedEngine.CHAT, "--wait", "--yes")
    (endpoint,) = shown.json("endpoints")
    assert endpoint["status"] == "ready"
    assert endpoint["deployments"][0]["id"] in said


# --- the settings ---


def test_config_init_writes_what_was_answered(shown: Shown, typing: Callable[..., None], tmp_path: Path) -> None:
    key, password = "tgp_v1_typed-at-a-terminal", "it's #1 \\ secret"
    typing(key, "", "a/model", "", "5", "hana.example.com", "", "ME", password)
    said = shown("config", "init")
    assert key not in said
    assert password not in said
    path = tmp_path / ".env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert dotenv_values(path) == {
        "TOGETHER_API_KEY": key,
        "ENABLE_TOGETHER_AI": "true",
        "TOGETHER_DEFAULT_MODEL": "a/model",
        "TOGETHER_BUDGET_USD": "5",
        "HANA_ADDRESS": "hana.example.com",
        "HANA_PORT": "443",
        "HANA_USER": "ME",
        "HANA_PASSWORD": password,
    }
    assert "stays as it is" in shown.refused("config", "init")
    found = shown.json("config", "show")
    assert (found["TOGETHER_API_KEY"], found["TOGETHER_DEFAULT_MODEL"]) == ("set", "a/model")
    assert key not in shown("config", "show")


def test_config_init_needs_somebody_to_answer(shown: Shown, piped: Callable[[str], None]) -> None:
    piped("")
    assert "at a terminal" in shown.refused("config", "init")


# --- every command ---


def commands(group: App = app, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All commands that the command line has, as they are typed."""
    for name in group.resolved_commands():
        if name.startswith("-"):
            continue
        yield (*path, name)
        yield from commands(group[name], (*path, name))


ALL = sorted(set(commands()))


def test_every_command_is_found() -> None:
    assert {("chat",), ("endpoints", "orphans"), ("adapters", "deploy"), ("tables", "migrate")} <= set(ALL)


@pytest.mark.parametrize("command", ALL, ids=" ".join)
@pytest.mark.parametrize("columns", ["60", pytest.param("120", marks=pytest.mark.slow)])
def test_every_command_explains_itself(
    command: tuple[str, ...], columns: str, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = shown(*command, "--help")
    assert f"hana-ai-together {' '.join(command)}" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= int(columns)


@pytest.mark.parametrize("command", [command for command in ALL if command != ("run",)], ids=" ".join)
def test_every_command_refuses_what_it_does_not_know(command: tuple[str, ...], shown: Shown) -> None:
    said = shown.refused(*command, "--no-such-option", "1", status=2)
    assert "no-such-option" in said
    assert "--help" in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(shell: str, shown: Shown) -> None:
    text = shown("completion", shell)
    for command in ALL:
        assert command[-1] in text


def test_what_is_misspelled_is_suggested(shown: Shown) -> None:
    assert 'Did you mean "models"?' in shown.refused("modles", status=2).replace("'", '"')
    assert "To run a Python file: python app.py" in shown.refused("serve", "all", "--", "app.py")


def test_a_reader_that_has_seen_enough_ends_it_quietly(
    together_environment: ScriptedTogether, programs: Warm
) -> None:
    process = programs.start(COMMAND_LINE, "embed", *["a text"] * 200)
    process.stdout.read(10)
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0
    assert said == ""
