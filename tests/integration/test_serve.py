"""`hana-ai-together serve`: what it prints, writes and runs, over real processes."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from hana_ai.api.cli.app import run
from tests import upstream
from tests.programs import warmed
from tests.warm import Started, Warm

PYTHON = sys.executable
SERVE = [PYTHON, "-m", "hana_ai.api.cli", "serve"]
BOTH = ("ENABLE_TOGETHER_AI", "TOGETHER_BASE_URL", "TOGETHER_API_KEY")
HANA = ("HANA_ADDRESS", "HANA_PORT", "HANA_USER", "HANA_PASSWORD", "HANA_ENCRYPT")
ASK = """
import os
from hana_ai.api import get_together_ai_client
print(get_together_ai_client().generate_completion("a question").text)
if "HANA_PORT" in os.environ:
    from hdbcli import dbapi
    where = (os.environ["HANA_ADDRESS"], int(os.environ["HANA_PORT"]))
    connection = dbapi.connect(*where, os.environ["HANA_USER"], os.environ["HANA_PASSWORD"])
    print(connection.isconnected())
    connection.close()
raise SystemExit(7)
"""


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


COMMAND = "from hana_ai.api.cli import main; main()"


commands = warmed(
    "hana_ai.api.cli.app",
    "hana_ai.api.cli.serving",
    "hana_ai.api.local.together.__main__",
    "hana_ai.api.local.hana.__main__",
)
"""Processes in which the command is imported."""


def serving(commands: Warm, *arguments: str) -> AbstractContextManager[Started]:
    return commands.begun(COMMAND, "serve", *arguments)


def lines_of(process: Started | subprocess.Popen[str]) -> list[str]:
    """What it prints until it waits."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith("# Ctrl-C"):
            break
    return lines


def in_a_shell(lines: list[str], name: str) -> str:
    """A variable's value after the lines were pasted into a shell."""
    script = "\n".join([*lines, f'printf %s "${name}"'])
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env={}).stdout


@pytest.mark.shows_a_key("what is printed is the stand-in's own key")
@pytest.mark.parametrize(
    ("command", "names"),
    [
        (("together", "--engine", "scripted"), BOTH),
        (("hana",), HANA),
        (("all", "--engine", "scripted"), BOTH + HANA),
    ],
    ids=["together", "hana", "all"],
)
def test_what_is_printed_can_be_pasted_and_ctrl_c_ends_it(
    commands: Warm, command: tuple[str, ...], names: tuple[str, ...]
) -> None:
    with serving(commands, *command) as process:
        lines = lines_of(process)
        assert all(line.startswith(("# ", "export ")) for line in lines), lines
        assert [line.split()[1].partition("=")[0] for line in lines if line.startswith("export ")] == list(names)
        for name in names:
            assert in_a_shell(lines, name)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_program_runs_with_the_variables_set_and_its_end_is_that_of_the_servers(commands: Warm) -> None:
    program = [PYTHON, *upstream.IGNORED, "-c", ASK]
    ended = commands.run(COMMAND, "serve", "all", "--engine", "scripted", "--", *program)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "a question\nTrue\n", "")


def test_options_after_the_dashes_are_the_programs(capfd: pytest.CaptureFixture[str]) -> None:
    script = "import sys; print(sys.argv[1:])"
    command = [
        "serve",
        "together",
        "--engine",
        "scripted",
        "--",
        PYTHON,
        "-c",
        script,
        "--port",
        "8",
        "--",
        "--debug",
    ]
    assert run(command) == 0
    assert capfd.readouterr().out == "['--port', '8', '--', '--debug']\n"


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 5)], ids=["SIGTERM", "SIGINT"]
)
def test_signals_are_the_programs(commands: Warm, number: signal.Signals, status: int) -> None:
    # As in a terminal, where Ctrl-C reaches both: the program may go on, and says how it ends.
    script = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(5))
print("ready", flush=True)
time.sleep(60)
"""
    program = ["--", PYTHON, "-c", script]
    own_session = f"import os; os.setsid(); {COMMAND}"
    with commands.begun(own_session, "serve", "together", "--engine", "scripted", *program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.wait() == status


# --- a file of variables ---


def test_the_variables_go_into_a_file_for_as_long_as_the_servers_run(commands: Warm, tmp_path: Path) -> None:
    path = tmp_path / ".env"
    mine = "# mine\nTOGETHER_TIMEOUT=30\nTOGETHER_API_KEY=\nLAST=1"
    path.write_text(mine, "utf-8")
    script = (
        "from hana_ai.api import TogetherAISettings as S; s = S(); print(s.together_base_url, s.together_timeout)"
    )
    with serving(commands, "together", "--engine", "scripted", "--env-file", ".env") as process:
        assert not [line for line in lines_of(process) if line.startswith("export")]
        text = path.read_text("utf-8")
        assert text.startswith(mine + "\n")
        read = subprocess.run(
            [PYTHON, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
        ).stdout
        assert read.startswith("http://127.0.0.1:")
        assert read.endswith(" 30.0\n")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert path.read_text("utf-8") == mine + "\n"


def test_a_file_made_for_the_variables_is_private_and_goes_with_the_servers(
    commands: Warm, tmp_path: Path
) -> None:
    path = tmp_path / "stand-in.env"
    with serving(commands, "together", "--engine", "scripted", "--env-file", str(path)) as process:
        lines_of(process)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert not path.exists()


def test_what_a_killed_run_left_in_the_file_is_replaced(commands: Warm, tmp_path: Path) -> None:
    path = tmp_path / ".env"
    for _ in range(2):
        with serving(commands, "together", "--engine", "scripted", "--env-file", str(path)) as process:
            lines_of(process)
    assert path.read_text("utf-8").count("TOGETHER_API_KEY=") == 1


def test_a_key_of_ones_own_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / ".env"
    path.write_text("export TOGETHER_API_KEY=my-own-key\n", "utf-8")
    assert run(["serve", "together", "--engine", "scripted", "--env-file", str(path)]) == 1
    assert "sets TOGETHER_API_KEY already; name another file" in capsys.readouterr().err
    assert path.read_text("utf-8") == "export TOGETHER_API_KEY=my-own-key\n"


# --- what is wrong is said in a line ---


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


# The pieces of a message, without quotes, which cyclopts sets differently in each release.
WRONG: dict[str, tuple[list[str], str]] = {
    "a port beyond the last": (["together", "--port", "99999"], "Must be <= 65535"),
    "a port below the first": (["hana", "--port", "-1"], "Must be >= 0"),
    "a port that is no number": (["all", "--hana-port", "x"], "unable to convert x into int"),
    "another host": (["together", "--host", "0.0.0.0"], "--host ... 0.0.0.0 ... localhost"),
    "another host for HANA": (["hana", "--host", "example.com"], "--host ... example.com ... localhost"),
    "a model file that is missing": (["together", "--gguf", "none.gguf"], "No such model file: none.gguf"),
    "a model file that is none": (["all", "--gguf", "app.py"], "app.py is not a model file in GGUF form"),
    "no answer at all": (["together", "--max-tokens", "0"], "Must be >= 1"),
    "a database file in no folder": (["hana", "--db", "none/hana.db"], "none/hana.db"),
    "a database file that is none": (["hana", "--db", "app.py"], "not a valid DuckDB database file"),
    "a certificate that is none": (["hana", "--certificate", "app.py"], "both have to be PEM"),
    "no such program": (["all", "--", "no-such-program"], "There is no program no-such-program"),
    "a misspelled option": (["together", "--prot", "1"], "Did you mean --port?"),
    "a misspelled server": (["togehter"], "Did you mean together?"),
    "a taken port": (
        ["together", "--engine", "scripted", "--port", "{taken}"],
        "Port {taken} of 127.0.0.1 is in use",
    ),
    "a taken port for HANA": (["hana", "--port", "{taken}"], "Port {taken} of 127.0.0.1 is in use"),
}


WRONG_ARGUMENTS = (
    "a port beyond the last",
    "a port below the first",
    "a port that is no number",
    "another host",
    "another host for HANA",
    "no answer at all",
    "a misspelled option",
    "a misspelled server",
)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str, taken: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "app.py").write_text("print('an application')\n" * 1000, "utf-8")
    arguments, message = WRONG[name]
    command = ["serve", *(argument.replace("{taken}", str(taken)) for argument in arguments)]
    status = run(command)
    shown = capsys.readouterr()
    assert status == (2 if name in WRONG_ARGUMENTS else 1)
    assert shown.err.count("\n") == 1, "one line"
    text = " ".join((shown.err + shown.out).translate(dict.fromkeys(map(ord, "│'\""))).split())
    for piece in message.replace("{taken}", str(taken)).split(" ... "):
        assert piece in text
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("server", ["together", "hana"])
def test_serve_says_what_to_install(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, f"hana_ai.api.local.{server}.__main__", None)
    assert run(["serve", server]) == 1
    assert "pip install 'hana-ai-together[local]'" in capsys.readouterr().err


def test_the_callers_handlers_of_signals_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert run(["serve", "all", "--engine", "scripted", "--", PYTHON, "-c", ""]) == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_an_empty_key_is_no_key(commands: Warm) -> None:
    environment = {**os.environ, "TOGETHER_LOCAL_API_KEY": ""}
    script = 'import os; assert len(os.environ["TOGETHER_API_KEY"]) > 30'
    command = ["serve", "together", "--engine", "scripted", "--", PYTHON, "-c", script]
    assert commands.run(COMMAND, *command, environment=environment).returncode == 0


def test_a_chosen_key_is_quoted_for_the_shell() -> None:
    key = "it's $HOME"
    with subprocess.Popen(
        [*SERVE, "together", "--engine", "scripted"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TOGETHER_LOCAL_API_KEY": key},
    ) as process:
        lines = lines_of(process)
        process.send_signal(signal.SIGINT)
    assert f"export TOGETHER_API_KEY={shlex.quote(key)}" in lines
    assert in_a_shell(lines, "TOGETHER_API_KEY") == key
