"""Route processes that do not ask for it: through PYTHONPATH, or a start-up file of the environment."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

FILE_NAME = "hana_ai_together_autoload.pth"
"""The start-up file in the site-packages of a virtual environment."""

# Python runs the lines of a .pth file that begin with "import". Whatever goes wrong must not end the process that
# is starting, and without the package the file must do nothing.
_LINE = (
    "import sys; exec("
    "'try:\\n import hana_ai.api.auto\\n"
    "except ModuleNotFoundError:\\n pass\\n"
    "except Exception as exc:\\n"
    ' sys.stderr.write("hana-ai-together: the toolkit is not routed to Together AI: %s\\\\n" % exc)\')'
)
CONTENT = (
    f"# Written by: hana-ai-together autoload enable. Removed by: hana-ai-together autoload disable.\n{_LINE}\n"
)


def startup_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process to be routed, based on another one.

    Programs of this Python's environment come first, so that ``python`` is the one that has this package.
    """
    folder = str(Path(__file__).parent / "startup")
    path = environment.get("PYTHONPATH")
    scripts = sysconfig.get_path("scripts")
    found = dict(environment)
    found["PYTHONPATH"] = os.pathsep.join([folder, path]) if path else folder
    found["PATH"] = os.pathsep.join(filter(None, [scripts, environment.get("PATH")]))
    return found


def virtual_environment_file() -> Path | None:
    """Where the start-up file is, or would be; None outside a virtual environment."""
    if sys.prefix == sys.base_prefix:
        return None
    return Path(sysconfig.get_path("purelib")) / FILE_NAME


def enable(file: Path) -> None:
    """Write the start-up file."""
    file.write_text(CONTENT, encoding="utf-8")


def disable(file: Path) -> bool:
    """Remove the start-up file; returns whether it was there."""
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True
