"""Errors as people meet them outside of the command line: short, with the cause and the next step once."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest
from IPython.core.interactiveshell import InteractiveShell

from hana_ai.api import routing
from hana_ai.api.cli.app import run
from hana_ai.api.errors import TogetherAIAuthenticationError
from hana_ai.api.local.together import Reply
from hana_ai.api.settings import KEY_PAGE
from tests.conftest import ScriptedTogether, export
from tests.shells import ipython_shell

SERVERS_WORDS = f"Invalid API key provided. You can find your API key at {KEY_PAGE}."


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    with ipython_shell(monkeypatch) as found:
        yield found


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch) -> str:
    """Where no database answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    export(monkeypatch, {"HANA_ADDRESS": "127.0.0.1", "HANA_PORT": port, "HANA_USER": "ME", "HANA_PASSWORD": "x"})
    return f"127.0.0.1:{port}"


def test_a_wrong_key_in_a_notebook_shows_the_own_line_and_the_error(
    shell: InteractiveShell, together_environment: ScriptedTogether, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = Reply(status=401, error={"message": SERVERS_WORDS})
    together_environment.engine.on("/v1/chat/completions", refusal)
    code = "from hana_ai.api import ChatTogetherAI\nanswer = ChatTogetherAI().invoke('Hello')"
    done = shell.run_cell(code)
    assert isinstance(done.error_in_exec, TogetherAIAuthenticationError)
    lines = [line for line in "".join(capsys.readouterr()).splitlines() if line]
    assert lines[0] == "line 2: answer = ChatTogetherAI().invoke('Hello')"
    assert lines[1].startswith("TogetherAIAuthenticationError: Error code: 401")
    assert lines[2] == "More: hana-ai-together explain 'Error code: 401'"
    assert len(lines) == 3, lines

    assert str(done.error_in_exec).count(KEY_PAGE) == 1
    assert str(done.error_in_exec).endswith("Check TOGETHER_API_KEY.")


def test_an_error_without_an_entry_is_two_lines(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell("from hana_ai.api.errors import TogetherAIError\nraise TogetherAIError('the moon is full')")
    lines = [line for line in "".join(capsys.readouterr()).splitlines() if line]
    assert lines == ["line 2: raise TogetherAIError('the moon is full')", "TogetherAIError: the moon is full"]


def test_where_the_server_does_not_say_where_keys_are_made_the_hint_does(
    together_environment: ScriptedTogether,
) -> None:
    from hana_ai.api import ChatTogetherAI

    together_environment.engine.on("/v1/chat/completions", Reply(status=401, error={"message": "No."}))
    with pytest.raises(TogetherAIAuthenticationError) as raised:
        ChatTogetherAI().invoke("Hello")
    assert str(raised.value).count(KEY_PAGE) == 1


def test_a_database_that_is_down_is_explained_beside_the_drivers_error(no_database: str) -> None:
    from hdbcli import dbapi

    from hana_ai.api.hana.connections import connect

    with pytest.raises(dbapi.Error) as raised:
        connect()
    (note,) = raised.value.__notes__
    assert note.startswith("SAP HANA refused the connection: ")
    assert note.count(no_database) == 1
    assert note.endswith("or run: hana-ai-together doctor")


@pytest.mark.parametrize("command", ["tables", "ingest . FACTS", "chat Hello --table FACTS"])
def test_at_the_command_line_it_is_sentences_with_the_address_once(
    command: str, no_database: str, together_environment: ScriptedTogether, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command.split()) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.count(no_database) == 1
    assert ". Check HANA_ADDRESS" in said


def test_a_log_line_about_a_package_that_nobody_needs_does_not_open_a_notebook(
    shell: InteractiveShell, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("hana_ml.dataframe")
    shell.run_line_magic("load_ext", "hana_ai.api")
    try:
        log.error("jwcrypto is not installed. Install it to use credential store features. %s: %s", "a", "b")
        log.error("something else")
        assert [record.getMessage() for record in caplog.records] == ["something else"]
    finally:
        shell.run_line_magic("unload_ext", "hana_ai.api")
        routing.deactivate()
    log.error("jwcrypto is not installed.")
    assert len(caplog.records) == 2
