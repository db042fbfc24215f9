"""`hana-ai-together run` and `hana-ai-together autoload`: route programs that know nothing of Together."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Literal

from hana_ai.api import routing
from hana_ai.api.routing import startup_files
from hana_ai.api.routing.seams import version_of

from .console import Problem

# Elsewhere, a process that replaces itself ends for whoever waits for it.
_CAN_BECOME_THE_PROGRAM = os.name == "posix"

NOT_ENABLED = "Together AI is not enabled, so nothing is routed; set ENABLE_TOGETHER_AI=true."


def run_program(command: Sequence[str]) -> int:
    """Run a program with the toolkit routed; this process becomes the program where the system can do that.

    Raises
    ------
    Problem
        There is no such program.
    """
    if not command:
        raise Problem("What is to be run? For example: hana-ai-together run -- python app.py")
    if not routing.is_enabled():
        print(f"hana-ai-together: {NOT_ENABLED}", file=sys.stderr)
    environment = startup_files.startup_environment(os.environ)
    program = shutil.which(command[0], path=environment["PATH"])
    if program is None:
        raise Problem(f"There is no program {command[0]!r}.")
    if _CAN_BECOME_THE_PROGRAM:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(program, list(command), environment)
    return subprocess.run([program, *command[1:]], env=environment, check=False).returncode


def autoload(action: Literal["enable", "disable", "status"]) -> int:
    """Write, remove or show the start-up file of this virtual environment.

    Raises
    ------
    Problem
        This is no virtual environment.
    """
    file = startup_files.virtual_environment_file()
    if file is None:
        raise Problem(f"{sys.prefix} is no virtual environment; a start-up file is written into those only.")
    if action == "enable":
        startup_files.enable(file)
        print(f"Written: {file}")
        print("Every Python process of this environment routes the toolkit, where ENABLE_TOGETHER_AI=true.")
        return 0
    if action == "disable":
        print(f"Removed: {file}" if startup_files.disable(file) else f"There is no {file}")
        return 0
    print(f"Start-up file: {file}" if file.exists() else "No start-up file: hana-ai-together autoload enable")
    print(f"Enabled here: {'yes' if routing.is_enabled() else 'no, ENABLE_TOGETHER_AI is not true'}")
    for name in ("hana-ai", "langchain-hana", "langchain-community", "sap-ai-sdk-gen"):
        print(f"  {name} {version_of(name) or 'not installed'}")
    return 0
