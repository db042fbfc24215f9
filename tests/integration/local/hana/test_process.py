"""Starting and stopping the server from Python and from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hdbcli import dbapi

from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.hana.process import PASSWORD_VARIABLE

pytest_plugins = ["hana_ai.api.local.hana.pytest_plugin"]

COMMAND = [sys.executable, "-m", "hana_ai.api.local.hana"]


@contextmanager
def command(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run the command; yield it with the variables that it prints."""
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        try:
            assert process.stdout is not None
            lines = {}
            for line in process.stdout:
                name, _, value = line.strip().partition("=")
                lines[name] = value
                if name == "HANA_ENCRYPT":
                    break
            yield process, lines
        finally:
            process.terminate()
            process.wait(20)


def test_the_fixture_gives_a_running_server(
    local_hana: LocalHana, local_hana_connection: dbapi.Connection
) -> None:
    assert str(local_hana.port) in repr(local_hana)
    assert local_hana.password not in repr(local_hana)
    with local_hana_connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_USER FROM DUMMY")
        assert cursor.fetchone()[0] == local_hana.user


def test_the_environment_is_enough_to_connect(local_hana: LocalHana) -> None:
    variables = local_hana.environment()
    connection = dbapi.connect(
        address=variables["HANA_ADDRESS"],
        port=int(variables["HANA_PORT"]),
        user=variables["HANA_USER"],
        password=variables["HANA_PASSWORD"],
        encrypt=variables["HANA_ENCRYPT"] == "true",
    )
    assert connection.isconnected()
    connection.close()


def test_every_start_has_its_own_password(local_hana: LocalHana) -> None:
    assert LocalHana().password != LocalHana().password
    with pytest.raises(dbapi.Error, match="authentication failed"):
        local_hana.connect(password=LocalHana().password)


def test_stopping_with_an_open_connection_does_not_hang() -> None:
    with LocalHana() as hana:
        connection = hana.connect()
        pid = hana.pid
        assert pid is not None
    assert hana.pid is None
    with pytest.raises(dbapi.Error):
        connection.cursor().execute("SELECT 1 FROM DUMMY")
    if sys.platform != "win32":
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_server_that_cannot_start_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    not_a_database = tmp_path / "data.duckdb"
    not_a_database.write_text("not a database" * 1000)
    with pytest.raises(RuntimeError, match="did not start"), LocalHana(not_a_database):
        pass
    assert "cannot start" in capfd.readouterr().err


def test_a_taken_port_says_so(local_hana: LocalHana, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="did not start"), LocalHana(port=local_hana.port):
        pass
    assert "cannot start" in capfd.readouterr().err


def test_the_server_ends_with_the_process_that_started_it() -> None:
    program = (
        "from hana_ai.api.local.hana import LocalHana; import os;"
        "hana = LocalHana().start(); connection = hana.connect(); print(hana.pid, flush=True); os._exit(1)"
    )
    pid = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False).stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        # A process that nobody waits for stays as a zombie where no init collects it.
        status = Path(f"/proc/{pid}/status")
        if status.exists() and "State:\tZ" in status.read_text():
            return
        import time

        time.sleep(0.1)
    pytest.fail("the server outlived its parent")


def test_the_command_prints_a_random_password_once_and_serves_until_a_signal() -> None:
    with command() as (process, lines):
        connection = dbapi.connect(
            address=lines["HANA_ADDRESS"],
            port=int(lines["HANA_PORT"]),
            user=lines["HANA_USER"],
            password=lines["HANA_PASSWORD"],
        )
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM DUMMY")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_given_password_is_not_printed(how: str) -> None:
    arguments = ["--user", "someone"] + (["--password", "Given-1"] if how == "option" else [])
    environment = {PASSWORD_VARIABLE: "Given-1"} if how == "environment" else {}
    with command(*arguments, **environment) as (_, lines):
        assert "HANA_PASSWORD" not in lines
        assert lines["HANA_USER"] == "SOMEONE"
        connection = dbapi.connect(
            address=lines["HANA_ADDRESS"], port=int(lines["HANA_PORT"]), user="SOMEONE", password="Given-1"
        )
        connection.close()


def test_only_loopback_addresses_are_served(capfd: pytest.CaptureFixture[str]) -> None:
    assert subprocess.run([*COMMAND, "--address", "0.0.0.0"], check=False, timeout=60).returncode == 1
    assert "loopback address only" in capfd.readouterr().err
