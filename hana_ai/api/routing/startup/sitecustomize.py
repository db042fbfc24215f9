"""Runs at the start of every Python process under ``hana-ai-together run``, and changes none of the user's files.

The command puts this folder at the front of PYTHONPATH. It hides the environment's own `sitecustomize`, if there
is one, so that one runs first.
"""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path


def _run_the_hidden_one() -> None:
    here = Path(__file__).resolve().parent
    path = [folder for folder in sys.path if Path(folder).resolve() != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    # As without us: whoever imports sitecustomize gets the environment's own.
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


try:
    _run_the_hidden_one()
finally:
    try:
        from hana_ai.api.routing import activate

        activate()
    except Exception as exc:  # noqa: BLE001 - reported on stderr
        # A program must start as it would without us; its user is told what is wrong where they look.
        sys.stderr.write(f"hana-ai-together: the toolkit is not routed to Together AI: {exc}\n")
