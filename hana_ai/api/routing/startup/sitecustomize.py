"""Run by Python's start-up in every process under ``hana-ai-together run``; touches no file of the user.

The command puts this folder at the front of PYTHONPATH. A `sitecustomize` that the environment has itself is
hidden by this one, so it is run first.
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
    # As Python would have it: what imports sitecustomize finds the environment's own.
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


try:
    _run_the_hidden_one()
finally:
    try:
        import hana_ai.api.auto  # noqa: F401 - importing it is what it is for
    except Exception as exc:  # noqa: BLE001 - said on stderr
        # A program must start as it would without us; what is wrong is said where its user looks.
        sys.stderr.write(f"hana-ai-together: the toolkit is not routed to Together AI: {exc}\n")
