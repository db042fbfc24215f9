"""A `.env` that is no readable file neither hangs nor breaks a process: it is named, and the program starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hana_ai.api import ChatTogetherAI, TogetherAISettings
from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.routing import is_enabled, startup_files

KEY = "tgp_v1_watched-of-a-file"
SWITCH = b"ENABLE_TOGETHER_AI=true\n"


def _bind(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as made:
        # Its address must be short.
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "is a pipe, not a file"),
    "link to a pipe": (
        lambda path: (os.mkfifo(path.with_name("pipe")), path.symlink_to("pipe")),
        "is a pipe, not a file",
    ),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    "terminal": (lambda path: path.symlink_to("/dev/tty"), "is a device, not a file"),
    "socket": (_bind, "is a socket, not a file"),
    "folder": (Path.mkdir, "is a folder, not a file"),
    "link to itself": (lambda path: path.symlink_to(".env"), "can't be read"),
    "huge": (lambda path: path.write_bytes(SWITCH * 50_000), "is larger than 1,048,576 bytes"),
    "endless": (lambda path: (path.touch(), os.truncate(path, 2**40)), "is larger than 1,048,576 bytes"),
    "Latin-1": (lambda path: path.write_bytes(SWITCH + b"TOGETHER_API_KEY=\xfc" + KEY.encode()), "not UTF-8"),
    "UTF-16": (lambda path: path.write_bytes(SWITCH + SWITCH.decode().encode("utf-16")), "holds a NUL"),
    "with a NUL": (lambda path: path.write_bytes(SWITCH + b"TOGETHER_API_KEY=a\0b"), "holds a NUL"),
}  # fmt: skip


def start(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a process as `autoload` and `run` do, in a folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    path = str(Path(startup_files.__file__).parent / "startup")
    return subprocess.run(
        [sys.executable, "-c", "print('started')"],
        cwd=folder,
        env={**clean, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_starts_and_one_line_names_the_file(tmp_path: Path, kind: str) -> None:
    make, words = KINDS[kind]
    make(tmp_path / ".env")
    done = start(tmp_path)
    assert (done.returncode, done.stdout) == (0, "started\n")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"hana-ai-together: the toolkit is not routed to Together AI: {tmp_path / '.env'} ")
    assert words in line


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_reads_settings_gets_an_error_that_names_the_file(tmp_path: Path, kind: str) -> None:
    make, words = KINDS[kind]
    make(Path(".env"))
    readings: list[Callable[[], object]] = [
        TogetherAISettings,
        lambda: TogetherAISettings(_env_file=Path(".env").absolute()),
        lambda: TogetherAISettings(_env_file=(".env",)),
        lambda: ChatTogetherAI(model="m", api_key=KEY),
        is_enabled,
    ]
    for reading in readings:
        with pytest.raises(TogetherAISettingsError) as caught:
            reading()
        assert str(Path(".env").absolute()) in str(caught.value)
        assert words in str(caught.value)
        assert caught.value.__context__ is None or KEY not in repr(caught.value.__context__)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").touch(mode=0)
    assert "can't be read (Permission denied)" in start(tmp_path).stderr


@pytest.mark.parametrize("kind", KINDS)
def test_where_the_environment_says_no_the_file_does_not_matter(tmp_path: Path, kind: str) -> None:
    KINDS[kind][0](tmp_path / ".env")
    done = start(tmp_path, ENABLE_TOGETHER_AI="false")
    assert (done.stdout, done.stderr) == ("started\n", "")


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.symlink_to(os.devnull),
        lambda path: (path.mkdir(), (path / "pyvenv.cfg").touch()),
        Path.touch,
        lambda path: path.symlink_to("gone"),
        lambda path: path.write_bytes(b"NAME_OF_SOMEBODY_ELSE=\xfc"),
    ],
    ids=["null device", "virtual environment", "empty", "a link to nothing", "no switch in it"],
)
def test_what_says_nothing_of_together_is_passed_over(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / ".env")
    done = start(tmp_path)
    assert (done.stdout, done.stderr) == ("started\n", "")


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    Path("shared.env").write_bytes(SWITCH)
    Path(".env").symlink_to("shared.env")
    assert is_enabled()
    assert TogetherAISettings().enabled
