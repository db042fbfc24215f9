"""The command hana-ai-together. Its parts are imported only when a command needs them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, then exit with its status."""
    # langchain-core's, on Python 3.14, where it imports pydantic's old classes.
    warnings.filterwarnings("ignore", "Core Pydantic V1 functionality", UserWarning)
    from .app import run

    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))
