"""Whether Together is enabled is found out the way the settings do it, but in no time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.routing import activate, is_enabled
from hana_ai.api.settings import TogetherAISettings

SPELLINGS = st.sampled_from(["", "true", "TRUE", "1", "on", "Yes", "t", "false", "0", "off", "No", "n"])


@given(SPELLINGS, SPELLINGS, st.booleans(), st.sampled_from(["ENABLE_TOGETHER_AI", "enable_together_ai"]))
def test_the_answer_is_the_one_of_the_settings(switch: str, master: str, from_file: bool, name: str) -> None:
    lines = f"{name}={switch}\nENABLE_GPU_ACCELERATION={master}\n"
    with pytest.MonkeyPatch.context() as patch:
        if from_file:
            Path(".env").write_text(lines)
        else:
            Path(".env").unlink(missing_ok=True)
            patch.setenv(name, switch)
            patch.setenv("ENABLE_GPU_ACCELERATION", master)
        assert is_enabled() == TogetherAISettings().enabled


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("ENABLE_TOGETHER_AI=true")
    assert is_enabled()
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "false")
    assert not is_enabled()


def test_what_is_neither_true_nor_false_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "maybe")
    with pytest.raises(TogetherAISettingsError, match="ENABLE_TOGETHER_AI='maybe'"):
        activate()


COST = """
import sys, time
import hana_ai
hana_ai.__path__ = [sys.argv[1], *hana_ai.__path__]  # as installed: an editable install's finder takes its time
before = set(sys.modules)
start = time.process_time()
import hana_ai.api.auto
print((time.process_time() - start) * 1000)
print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))
"""


def test_not_enabled_it_costs_less_than_five_milliseconds_and_imports_next_to_nothing(tmp_path: Path) -> None:
    left_out = ("COV", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    best, imported = 1000.0, ""
    # Processor time: others may be busy on this machine. The first run writes the byte code.
    for _ in range(6):
        done = subprocess.run(
            [sys.executable, "-c", COST, str(Path(__file__).parents[3] / "hana_ai")],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        took, imported = done.stdout.splitlines()
        best = min(best, float(took))
    assert best < 5, f"{best:.1f} ms"
    assert imported == "hana_ai", "nothing but our own few modules"
