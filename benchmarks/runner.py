"""Run the rounds of a case: all contestants in turns, each in its own process, against one server."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO

from benchmarks.case import Case
from benchmarks.figures import BASELINE, FLOOR, OURS, Result, Round
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
    command = [str(interpreter(checkout)), "-m", "benchmarks.worker", case.name, contestant, url, str(checkout)]
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


class _Contest:
    """The rounds of a case. A peer that fails is left out from then on."""

    def __init__(self, case: Case, url: str, taking_part: dict[str, Path]) -> None:
        self._case = case
        self._url = url
        self._taking_part = taking_part
        self._workers: dict[str, Worker] = {}
        self._stack = ExitStack()
        self.rounds: dict[str, list[Round]] = {name: [] for name in taking_part}
        self.failures: dict[str, str] = {}

    def run(self, rounds: int) -> None:
        """Turn the order of the contestants by one from round to round."""
        names = list(self._taking_part)
        with self._stack:
            for number in range(rounds):
                turn = number % len(names)
                for name in names[turn:] + names[:turn]:
                    if name not in self.failures:
                        self._take(name)

    def _take(self, name: str) -> None:
        try:
            if self._case.fresh:
                with self._working(name) as worker:
                    self.rounds[name].append(worker.round())
            else:
                if name not in self._workers:
                    self._workers[name] = self._stack.enter_context(self._working(name))
                self.rounds[name].append(self._workers[name].round())
        except ContestantError as exc:
            if name in (OURS, FLOOR, BASELINE):
                raise
            self.failures[name] = str(exc)
            del self.rounds[name]

    def _working(self, name: str) -> AbstractContextManager[Worker]:
        return working(self._case, name, self._url, self._taking_part[name])


def run_case(case: Case, url: str, rounds: int, baseline: Path | None = None, only: Sequence[str] = ()) -> Result:
    """Run a case with its contestants in turns.

    Raises
    ------
    ContestantError
        Ours, the floor or the baseline has failed.
    """
    contest = _Contest(case, url, contestants_of(case, baseline, only))
    contest.run(case.rounds * rounds)
    labels = {name: contestant.label for name, contestant in case.contestants.items()}
    labels[BASELINE] = "the provider of the other checkout"
    return Result(
        name=case.name,
        title=case.title,
        unit=case.unit,
        labels=labels,
        rounds=contest.rounds,
        bars=case.bars,
        wall_only=case.wall_only,
        failures=contest.failures,
    )
