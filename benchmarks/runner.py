"""Run the rounds of a case: all contestants in turns, each in its own process, against one server."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from benchmarks.case import Case
from benchmarks.figures import BASELINE, OURS, Result, Round
from benchmarks.process import ROOT, environment, interpreter


class ContestantError(Exception):
    """A contestant's process ended before its round did."""


class Worker:
    """A contestant's process, from the parent's side."""

    def __init__(self, process: subprocess.Popen[str], name: str, log: IO[str]) -> None:
        self._process = process
        self._name = name
        self._log = log

    def ready(self) -> None:
        """Wait until everything is imported and warm."""
        self._read()

    def round(self) -> Round:
        """Let it run a round."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        value, cpu = json.loads(self._read())
        return Round(value, cpu)

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise ContestantError(f"{self._name} has failed:\n{self._log.read()[-4000:]}")
        return line


@contextmanager
def working(case: Case, contestant: str, url: str, checkout: Path) -> Iterator[Worker]:
    """Start a contestant and end it."""
    command = [interpreter(checkout), "-m", "benchmarks.worker", case.name, contestant, url, str(checkout)]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        worker = Worker(process, f"{contestant} of {case.name!r}", log)
        try:
            worker.ready()
            yield worker
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def contestants_of(case: Case, baseline: Path | None, only: Sequence[str] = ()) -> dict[str, Path]:
    """Who takes part and from which checkout; `only` leaves all others out."""
    found = {name: ROOT for name in case.contestants if not only or name in only}
    if baseline is not None and OURS in found:
        found[BASELINE] = baseline
    return found


def run_case(case: Case, url: str, rounds: int, baseline: Path | None = None, only: Sequence[str] = ()) -> Result:
    """Run a case; the order of the contestants is turned by one from round to round."""
    taking_part = contestants_of(case, baseline, only)
    found: dict[str, list[Round]] = {name: [] for name in taking_part}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        if not case.fresh:
            for name, checkout in taking_part.items():
                workers[name] = stack.enter_context(working(case, name, url, checkout))
        names = list(taking_part)
        for number in range(case.rounds * rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                if case.fresh:
                    with working(case, name, url, taking_part[name]) as worker:
                        found[name].append(worker.round())
                else:
                    found[name].append(workers[name].round())
    labels = {name: case.contestants[name].label for name in taking_part if name != BASELINE}
    labels[BASELINE] = "the provider of the other checkout"
    return Result(case.name, case.title, case.unit, labels, found, case.bars, case.wall_only)
