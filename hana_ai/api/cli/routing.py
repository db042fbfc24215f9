"""`hana-ai-together run` and `hana-ai-together autoload`: route programs that know nothing about Together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Literal

from hana_ai.api import routing
from hana_ai.api.routing import startup_files
from hana_ai.api.routing.report import missing_key
from hana_ai.api.routing.seams import version_of

from .console import Problem, program_of

NOT_ENABLED = "Together AI is not enabled, so nothing is routed; set ENABLE_TOGETHER_AI=true."


def run_program(command: Sequence[str], *, replace: bool = os.name == "posix") -> int:
    """Run a program with the toolkit routed; returns its exit status, if this process survives.

    Parameters
    ----------
    command
        The program and its arguments.
    replace
        Whether this process becomes the program. Only on POSIX does whoever waits for it see the program's end.

    Raises
    ------
    Problem
        There is no such program.
    """
    if not command:
        raise Problem("Name a program to run, for example: hana-ai-together run -- python app.py")
    if not routing.is_enabled():
        print(f"hana-ai-together: {NOT_ENABLED}", file=sys.stderr)
    elif (missing := missing_key()) is not None:
        print(f"hana-ai-together: {missing}", file=sys.stderr)
    environment = startup_files.startup_environment(os.environ)
    program = program_of(command, environment["PATH"])
    if replace:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(program, list(command), environment)
    return subprocess.run([program, *command[1:]], env=environment, check=False).returncode


def autoload(action: Literal["enable", "disable", "status"]) -> int:
    """Write, delete or show the start-up file of this virtual environment.

    Raises
    ------
    Problem
        This is not a virtual environment.
    """
    file = startup_files.virtual_environment_file()
    if file is None:
        raise Problem(f"{sys.prefix} is not a virtual environment; a start-up file is only written into one.")
    if action == "enable":
        startup_files.enable(file)
        print(f"Written: {file}")
        print("Every Python process of this environment now routes the toolkit if ENABLE_TOGETHER_AI=true.")
        return 0
    if action == "disable":
        print(f"Removed: {file}" if startup_files.disable(file) else f"There is no {file}")
        return 0
    print(f"Start-up file: {file}" if file.exists() else "No start-up file: hana-ai-together autoload enable")
    print(f"Enabled here: {'yes' if routing.is_enabled() else 'no, ENABLE_TOGETHER_AI is not true'}")
    for name in ("hana-ai", "langchain-hana", "langchain-community", "sap-ai-sdk-gen"):
        print(f"  {name} {version_of(name) or 'not installed'}")
    return 0
