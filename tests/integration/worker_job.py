"""What workers of a pool are asked to do; a module of its own, since they import the one that it stands in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hana_ai.api import ChatTogetherAI


def answered(chat: ChatTogetherAI) -> tuple[str, str]:
    """What a model says in a worker, and the worker's command line."""
    line = Path("/proc/self/cmdline")
    return str(chat.invoke("Hello").content), line.read_bytes().decode() if line.exists() else ""
