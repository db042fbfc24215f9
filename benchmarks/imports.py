"""The case of imports, each in a fresh interpreter with compiled modules.

The floor is `langchain_core.language_models.chat_models`, the module of `BaseChatModel`, without which there is no
chat model of LangChain's.
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks import peers
from benchmarks.case import Case, Contestant, Prepare, Run, Setting
from benchmarks.figures import FLOOR, OURS, Bar, Round

_CODE = """
import time
wall, cpu = time.perf_counter(), time.process_time()
import {module}
print([time.perf_counter() - wall, time.process_time() - cpu])
"""


def _importing(module: str) -> Prepare:
    def prepare(setting: Setting) -> Run:
        command = [sys.executable, "-c", _CODE.format(module=module)]

        def run() -> Round:
            # With -c, the first place that is searched is the working directory.
            done = subprocess.run(command, cwd=setting.checkout, check=True, capture_output=True, text=True)
            return Round(*json.loads(done.stdout.splitlines()[-1]))

        return run

    return prepare


_MODULES = {
    FLOOR: ("floor: {}", "langchain_core.language_models.chat_models"),
    OURS: ("{}", "hana_ai.api.chat_models"),
    peers.LANGCHAIN_TOGETHER: ("{}", "langchain_together"),
    peers.LITELLM: ("{}", "litellm"),
    peers.SDK: ("{}", "together"),
}

CASES = (
    Case(
        "import",
        "importing",
        "ms",
        {name: Contestant(label.format(module), _importing(module)) for name, (label, module) in _MODULES.items()},
        (Bar(1.1), Bar(0.6, peers.LANGCHAIN_TOGETHER)),
        rounds=2,
    ),
)
