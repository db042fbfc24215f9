"""One contestant of one case: ``python -m benchmarks.worker CASE CONTESTANT URL CHECKOUT``.

Writes a line when it is ready. Then, for each line that it reads, it runs a round and writes a line of JSON with
the seconds, or bytes, of one operation and its CPU seconds. Ends with its input.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import sys
import time
from pathlib import Path

from benchmarks.case import Case, Run, Setting
from benchmarks.cases import CASES
from benchmarks.figures import BASELINE, OURS, Round


def measured(run: Run, runner: asyncio.Runner) -> Round:
    """Run a round; a coroutine in the event loop of all rounds, since some clients know only their first one."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    result = runner.run(run()) if inspect.iscoroutinefunction(run) else run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result if isinstance(result, Round) else Round(wall, cpu)


def prepared(case: Case, contestant: str, setting: Setting) -> Run:
    """Build a contestant, whose provider must be that of the checkout, in its own processes, too."""
    os.chdir(setting.checkout)
    sys.path.insert(0, str(setting.checkout))
    run = case.contestants[OURS if contestant == BASELINE else contestant].prepare(setting)
    provider = sys.modules.get("hana_ai.api")
    if provider is not None:
        found = Path(str(provider.__file__)).resolve()
        assert found.is_relative_to(setting.checkout), f"{found} is not in {setting.checkout}"
    return run


def main() -> None:
    """Prepare, warm up, and serve rounds."""
    name, contestant, url, checkout = sys.argv[1:]
    case = CASES[name]
    # What libraries print goes to stderr; stdout speaks to the parent alone.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with asyncio.Runner() as runner:
        run = prepared(case, contestant, Setting(url, Path(checkout)))
        if not case.fresh:
            measured(run, runner)
        print("ready", file=answers)
        for _ in sys.stdin:
            took = measured(run, runner)
            told = [took.value / case.operations, took.cpu / case.operations]
            print(json.dumps(told), file=answers)


if __name__ == "__main__":
    main()
