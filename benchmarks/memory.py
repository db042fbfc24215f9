"""Memory: how much a process uses, and the cases of a very long stream.

LangChain's `stream` keeps every chunk until the end, so that the floor keeps a million, too; what is judged is
what comes on top. What the transport holds on its own account shows where nobody takes the chunks out.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.case import Case, Contestant, Run, Setting
from benchmarks.figures import FLOOR, OURS, Bar, Round
from benchmarks.server import CHUNKS, FAST, QUESTION

LONG = 1_000_000
"""Chunks of the very long stream, about 180 MB on the wire."""
_PAUSE = 5.0
"""Seconds in which a reader takes nothing; on loopback enough to fill gigabytes."""


def resident() -> int:
    """Bytes of resident memory, after the garbage was collected and glibc has given back what is free."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The most bytes of resident memory since the process began."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def _grown(work: Callable[[], None]) -> Round:
    """Bytes by which the peak rises while something is done."""
    before, cpu = resident(), time.process_time()
    work()
    return Round(peak() - before, time.process_time() - cpu)


def _read(chat: Any, chunks: int) -> None:
    assert sum(1 for chunk in chat.stream(QUESTION, max_tokens=chunks) if chunk.content) == chunks - 1


def _pause(chat: Any) -> None:
    chunks = chat.stream(QUESTION, max_tokens=LONG)
    for _ in range(10):
        next(chunks)
    time.sleep(_PAUSE)
    chunks.close()


def _after_a_short_one(chat: Any, work: Callable[[], None]) -> Run:
    """Measure what is done after a first stream, by which everything is imported and connected."""

    def run() -> Round:
        _read(chat, CHUNKS)
        return _grown(work)

    return run


def _floor(_: Setting) -> Run:
    from benchmarks.floors import DoNothing

    chat = DoNothing()
    return _after_a_short_one(chat, lambda: _read(chat, LONG))


def _ours(setting: Setting) -> Run:
    chat = peers.chat(setting, FAST)
    return _after_a_short_one(chat, lambda: _read(chat, LONG))


def _stalled(setting: Setting) -> Run:
    chat = peers.chat(setting, FAST)
    return _after_a_short_one(chat, lambda: _pause(chat))


def _case(name: str, title: str, contestants: Mapping[str, Contestant], bar: Bar) -> Case:
    return Case(name, title, "MB", contestants, (bar,), fresh=True, heavy=True, wall_only=True)


CASES = (
    _case(
        "long-stream",
        f"memory for a stream of {LONG:,} chunks",
        {
            FLOOR: Contestant("floor: core doing nothing, nothing sent", _floor),
            OURS: Contestant("hana-ai-together", _ours),
        },
        Bar(1.05),
    ),
    _case(
        "stalled-stream",
        f"memory for a stream whose reader pauses {_PAUSE:g} s",
        {OURS: Contestant("hana-ai-together", _stalled)},
        Bar(32e6, None),
    ),
)
