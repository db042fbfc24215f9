"""The command line, start-up files and notebooks lead to the same activation, and leave nothing behind."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from hana_ai.api import routing
from hana_ai.api.cli import routing as cli_routing
from hana_ai.api.cli.app import run
from hana_ai.api.routing import startup_files
from tests.integration.routing.conftest import COMMAND
from tests.secrets_watch import MARK
from tests.shells import ipython_shell

# Light, and true wherever the routing is active.
IS_ACTIVE = "import sys; from hana_ai.api import routing; print(routing.is_active(), sys.argv[1:])"


def call(*command: str | Path, measured: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    # Coverage says on standard error where it measured nothing.
    left_out = ("PYTHONPATH",) if measured else ("PYTHONPATH", "COV")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return subprocess.run(
        [str(part) for part in command],
        env={**clean, "ENABLE_TOGETHER_AI": "true", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# --- run ---


def test_run_passes_arguments_output_and_exit_status_through() -> None:
    done = call(COMMAND, "run", "--", "python", "-c", IS_ACTIVE, "--help", "-x", "run", "--")
    assert done.stdout == "True ['--help', '-x', 'run', '--']\n"
    assert call(COMMAND, "run", "--", "python", "-c", "raise SystemExit(7)").returncode == 7
    assert call(COMMAND, "run", "python", "-c", IS_ACTIVE).stdout == "True []\n"


def test_processes_of_the_program_are_routed_too() -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {IS_ACTIVE!r}], check=True)"
    assert call(COMMAND, "run", "--", "python", "-c", code).stdout == "True []\n"


def test_programs_that_are_no_python_command_are_routed_too(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(f"{IS_ACTIVE}\nraise SystemExit(3)\n")
    done = call(COMMAND, "run", "--", "uvicorn", "--app-dir", tmp_path, "--port", "0", "served:app")
    assert done.stdout.startswith("True ")
    assert done.returncode == 3


def test_python_is_the_one_of_this_environment() -> None:
    done = call(COMMAND, "run", "--", "python", "-c", "import sys; print(sys.prefix)", PATH=os.defpath)
    assert done.stdout.strip() == sys.prefix


def test_a_sitecustomize_that_is_there_still_runs_and_is_the_one_that_is_imported(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("mine = 1\nprint('mine')\n")
    code = "import sitecustomize; print(sitecustomize.mine); " + IS_ACTIVE
    done = call(COMMAND, "run", "--", "python", "-c", code, PYTHONPATH=str(tmp_path))
    # Once by the command's own process, once by the program's.
    assert done.stdout == "mine\nmine\n1\nTrue []\n"


def test_a_sitecustomize_that_fails_is_reported_as_ever_and_the_routing_is_active(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise ValueError('mine')\n")
    done = call(COMMAND, "run", "--", "python", "-c", IS_ACTIVE, PYTHONPATH=str(tmp_path))
    assert "ValueError: mine" in done.stderr
    assert done.stdout == "True []\n"


@pytest.fixture
def start_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Does in this process what Python does at its start, beside a `sitecustomize` of the environment's own."""
    (tmp_path / "sitecustomize.py").write_text("mine = 1\n")
    monkeypatch.setattr(
        sys, "path", [str(Path(startup_files.__file__).parent / "startup"), str(tmp_path), *sys.path]
    )
    for name in ("sitecustomize", "hana_ai.api.routing.startup.sitecustomize", "hana_ai.api.auto"):
        # Set first, so that it is gone afterwards where it was not there before.
        monkeypatch.setitem(sys.modules, name, sys)
        monkeypatch.delitem(sys.modules, name)

    def start() -> None:
        importlib.import_module("hana_ai.api.routing.startup.sitecustomize")

    return start


def test_the_start_up_activates_after_the_environments_own(
    start_up: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    start_up()
    try:
        assert sys.modules["sitecustomize"].mine == 1
        assert routing.is_active()
    finally:
        routing.deactivate()


def test_the_start_up_says_what_is_wrong_and_goes_on(
    start_up: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").unlink()
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "maybe")
    start_up()
    assert "the toolkit is not routed to Together AI: ENABLE_TOGETHER_AI='maybe'" in capsys.readouterr().err


def test_run_warns_of_a_missing_key_and_of_no_other_and_runs_the_program_all_the_same() -> None:
    done = call(COMMAND, "run", "--", "python", "-c", IS_ACTIVE)
    assert done.stdout == "True []\n"
    assert done.stderr.startswith("hana-ai-together: There is no Together API key.")
    for enough in ({"TOGETHER_API_KEY": f"{MARK}-a"}, {"TOGETHER_BASE_URL": "http://127.0.0.1:1"}):
        assert "API key" not in call(COMMAND, "run", "--", "python", "-c", IS_ACTIVE, **enough).stderr


def test_run_says_when_together_is_not_enabled_and_runs_the_program_all_the_same() -> None:
    done = call(COMMAND, "run", "--", "python", "-c", IS_ACTIVE, ENABLE_TOGETHER_AI="false")
    assert done.stdout == "False []\n"
    assert "ENABLE_TOGETHER_AI=true" in done.stderr


def test_a_wrong_setting_is_told_and_the_program_starts() -> None:
    path = str(Path(startup_files.__file__).parent / "startup")
    done = call(sys.executable, "-c", "print('started')", PYTHONPATH=path, ENABLE_TOGETHER_AI="maybe")
    assert done.stdout == "started\n"
    assert "hana-ai-together: the toolkit is not routed to Together AI: ENABLE_TOGETHER_AI='maybe'" in done.stderr


@pytest.mark.parametrize("arguments", [["run"], ["run", "--"], ["run", "--", "no-such-program"]])
def test_a_program_that_is_none_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 1
    assert capsys.readouterr().err.startswith("hana-ai-together: ")


class BecomeError(Exception):
    """This process would be the program now."""


def test_run_becomes_the_program_with_the_start_up_folder_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def execve(program: str, command: list[str], environment: dict[str, str]) -> None:
        raise BecomeError(program, command, environment)

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setenv("PYTHONPATH", "mine")
    with pytest.raises(BecomeError) as caught:
        run(["run", "--", "python", "-c", "pass"])
    program, command, environment = caught.value.args
    assert (Path(program).parent, command) == (Path(sysconfig.get_path("scripts")), ["python", "-c", "pass"])
    startup = Path(startup_files.__file__).parent / "startup"
    assert environment["PYTHONPATH"] == f"{startup}{os.pathsep}mine"


def test_where_a_process_cannot_become_another_the_program_is_its_child(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    command = ["python", "-c", f"{IS_ACTIVE}; raise SystemExit(7)", "more"]
    assert cli_routing.run_program(command, replace=False) == 7
    assert capfd.readouterr().out == "True ['more']\n"


# --- autoload ---


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment that sees the packages of this one; returns its Python."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    (site / "_packages.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return folder / "bin" / "python"


def test_autoload_writes_one_file_and_removes_it_again(environment: Path) -> None:
    [site] = environment.parents[1].glob("lib/python*/site-packages")
    before = set(site.iterdir())
    cli = (environment, "-m", "hana_ai.api.cli", "autoload")

    assert "No start-up file" in call(*cli, "status").stdout
    enabled = call(*cli, "enable")
    assert set(site.iterdir()) - before == {site / startup_files.FILE_NAME}
    assert str(site / startup_files.FILE_NAME) in enabled.stdout
    assert call(environment, "-c", IS_ACTIVE).stdout == "True []\n"
    assert call(environment, "-c", IS_ACTIVE, ENABLE_TOGETHER_AI="").stdout == "False []\n"
    shown = call(*cli, "status").stdout
    assert f"Start-up file: {site / startup_files.FILE_NAME}" in shown
    assert "hana-ai 1." in shown

    assert "Removed" in call(*cli, "disable").stdout
    assert set(site.iterdir()) == before
    assert "There is no" in call(*cli, "disable").stdout
    assert call(environment, "-c", IS_ACTIVE).stdout == "False []\n"


def test_a_start_up_file_that_outlives_the_package_is_without_effect(environment: Path) -> None:
    [site] = environment.parents[1].glob("lib/python*/site-packages")
    startup_files.enable(site / startup_files.FILE_NAME)
    (site / "_packages.pth").unlink()
    done = call(environment, "-c", "print('started')", measured=False)
    assert (done.stdout, done.stderr) == ("started\n", "")


def test_a_start_up_file_with_a_wrong_setting_says_so_in_one_line(environment: Path) -> None:
    [site] = environment.parents[1].glob("lib/python*/site-packages")
    startup_files.enable(site / startup_files.FILE_NAME)
    done = call(environment, "-c", "print('started')", measured=False, ENABLE_TOGETHER_AI="maybe")
    assert done.stdout == "started\n"
    assert done.stderr.startswith("hana-ai-together: the toolkit is not routed to Together AI: ENABLE_TOGETHER_AI")
    # Python reads the start-up files of a virtual environment twice.
    assert len(set(done.stderr.splitlines())) == 1


def test_outside_of_a_virtual_environment_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    assert run(["autoload", "enable"]) == 1
    assert "is not a virtual environment" in capsys.readouterr().err


def test_the_file_is_written_shown_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / startup_files.FILE_NAME
    monkeypatch.setattr(startup_files, "virtual_environment_file", lambda: file)
    assert run(["autoload", "status"]) == 0
    assert "No start-up file" in (said := capsys.readouterr().out)
    assert "Enabled here: no" in said
    assert run(["autoload", "enable"]) == 0
    assert file.read_text() == startup_files.CONTENT
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    assert run(["autoload", "status"]) == 0
    assert f"Start-up file: {file}" in (said := capsys.readouterr().out)
    assert "Enabled here: yes" in said
    assert run(["autoload", "disable"]) == 0
    assert not file.exists()
    assert run(["autoload", "disable"]) == 0
    assert capsys.readouterr().out == f"Removed: {file}\nThere is no {file}\n"


# --- a program ---


@pytest.mark.parametrize("switch", ["true", "false"])
def test_importing_auto_activates_where_together_is_enabled(monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    monkeypatch.setenv("ENABLE_TOGETHER_AI", switch)
    monkeypatch.delitem(sys.modules, "hana_ai.api.auto", raising=False)
    importlib.import_module("hana_ai.api.auto")
    try:
        assert routing.is_active() == (switch == "true")
    finally:
        routing.deactivate()


# --- notebooks ---


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    with ipython_shell(monkeypatch) as found:
        yield found


def test_the_extension_loads_and_unloads_and_says_so(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    monkeypatch.setenv("TOGETHER_API_KEY", f"{MARK}-a")
    shell.run_line_magic("load_ext", "hana_ai.api")
    assert routing.is_active()
    said = capsys.readouterr().out
    assert said.startswith("The toolkit is routed to Together AI; print(hana_ai.api.routing.status())")
    assert "no Together API key" not in said
    shell.run_line_magic("unload_ext", "hana_ai.api")
    assert not routing.is_active()
    assert "is not routed to Together AI any more" in capsys.readouterr().out


def test_the_extension_says_why_it_did_nothing_and_that_the_key_is_missing(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_line_magic("load_ext", "hana_ai.api")
    said = capsys.readouterr().out
    assert "is not routed to Together AI: ENABLE_TOGETHER_AI is not true" in said
    assert f"{Path.cwd() / '.env'}, which does not exist" in said
    Path(".env").write_text("ENABLE_TOGETHER_AI=true")
    shell.run_line_magic("reload_ext", "hana_ai.api")
    said = capsys.readouterr().out
    assert "is routed to Together AI" in said
    assert "There is no Together API key" in said
    shell.run_line_magic("unload_ext", "hana_ai.api")
