"""Calls of every kind in one process leave neither memory nor sockets behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def soak(calls: int, timeout: float) -> list[dict[str, Any]]:
    """What is left after the first 1,000 calls and then after each tenth; see `benchmarks.soak`."""
    command = [sys.executable, "-m", "benchmarks.soak", str(calls)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=timeout)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_100000_calls_leave_no_memory_and_no_sockets_behind() -> None:
    left = soak(100_000, 950)
    first, last = left[0], left[-1]
    assert (first["calls"], last["calls"]) == (1000, 100_000)
    assert last["memory"] <= 1.05 * first["memory"]
    # 64 coroutines, 8 threads, and the event loop's own pair.
    assert max(each["sockets"] for each in left) <= 80
    assert {each["tasks"] for each in left} == {1}
    assert last["threads"] <= first["threads"] + 2
