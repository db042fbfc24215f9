"""`hana-ai-together config`: the settings, and a `.env` file from answers."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from .console import Problem, console, print_json

config = App(name="config", help="The settings: write a .env file, or show what is set.")

_HEAD = """\
# Settings of hana-ai-together. The process environment wins over this file.
# docs/settings.md has all of them; hana-ai-together doctor checks them.
"""


@config.command
def init(path: Path = Path(".env"), /, *, force: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Write a .env file from answers. Keys and passwords are not shown as they are typed.

    Parameters
    ----------
    path
        The file.
    force
        Overwrite it.
    """
    if path.exists() and not force:
        raise Problem(f"{path} is there already, and stays as it is. To overwrite it: config init --force")
    if not sys.stdin.isatty():
        raise Problem("config init asks at a terminal; elsewhere set the variables of docs/settings.md.")
    text = _HEAD + "".join(_together()) + "".join(_database())
    # Nobody else may read it, from the first byte on.
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    console().print(f"Wrote {path}. To check it: hana-ai-together doctor", markup=False)
    return 0


@config.command
def show(*, json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")] = False) -> int:
    """Show the settings in force; keys and passwords only as set or not."""
    from pydantic import SecretStr

    from hana_ai.api.settings import TogetherAISettings

    settings = TogetherAISettings()
    found = {name.upper(): "set" if isinstance(value, SecretStr) else value for name, value in settings}
    if json:
        print_json(found)
        return 0
    for name, value in found.items():
        given = name.lower() in settings.model_fields_set
        print(f"{name}={'' if value is None else value}{'' if given else '  # default'}")
    return 0


def _together() -> list[str]:
    from hana_ai.api.addresses.checks import KEY_PAGE

    key = getpass.getpass(f"Together API key, from {KEY_PAGE} (Enter to leave it out): ").strip()
    route = _yes("Route SAP's toolkit to Together AI?", default=True)
    model = _asked("Chat model (Enter: picked from the catalogue)")
    embedding = _asked("Embedding model (Enter: picked from the catalogue)")
    budget = _asked("Budget in USD a month (Enter: none)")
    return [
        "\n# Together AI\n",
        _line("TOGETHER_API_KEY", key),
        "# Routes the toolkit's agents and vector stores to Together\n",
        _line("ENABLE_TOGETHER_AI", "true" if route else "false"),
        "# Else picked from the catalogue: hana-ai-together models\n",
        _line("TOGETHER_DEFAULT_MODEL", model),
        _line("TOGETHER_DEFAULT_EMBEDDING_MODEL", embedding),
        "# Calls stop when it is spent; with TOGETHER_USAGE_DB all processes share it\n",
        _line("TOGETHER_BUDGET_USD", budget),
    ]


def _database() -> list[str]:
    lines = ["\n# SAP HANA Cloud\n"]
    address = _asked("Host of SAP HANA Cloud (Enter to leave it out)")
    port = _asked("Port", "443") if address else ""
    user = _asked("User") if address else ""
    password = getpass.getpass("Password: ") if address else ""
    return [
        *lines,
        _line("HANA_ADDRESS", address),
        _line("HANA_PORT", port),
        _line("HANA_USER", user),
        _line("HANA_PASSWORD", password),
    ]


def _asked(what: str, default: str = "") -> str:
    return input(f"{what}{f' [{default}]' if default else ''}: ").strip() or default


def _yes(what: str, *, default: bool) -> bool:
    said = input(f"{what} [{'Y/n' if default else 'y/N'}] ").strip().lower()
    return said in ("y", "yes") if said else default


def _line(name: str, value: str) -> str:
    """A variable; one without a value is commented out."""
    if not value:
        return f"# {name}=\n"
    if value.replace("-", "").replace("_", "").replace(".", "").replace("/", "").isalnum():
        return f"{name}={value}\n"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{escaped}'\n"
