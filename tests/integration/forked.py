"""Jobs in processes of their own, which may be killed: each line on standard input starts one.

Everything is imported once, and each job is a fork: it begins at once, however slow the machine is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hana_ai.api import ChatTogetherAI


def submit(count: str) -> None:
    from hana_ai.api.together_ai import TogetherAIClient

    TogetherAIClient().batches.submit(f"question {number}" for number in range(int(count)))


def answered(chat: ChatTogetherAI) -> tuple[str, str]:
    """What a model says in a worker, and the worker's command line."""
    line = Path("/proc/self/cmdline")
    return str(chat.invoke("Hello").content), line.read_bytes().decode() if line.exists() else ""


JOBS = {"submit": submit}


def main() -> None:
    import together  # noqa: F401 - for the jobs

    import hana_ai.api.batches.jobs  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        name, *arguments = line.split()
        if (child := os.fork()) == 0:
            JOBS[name](*arguments)
            os._exit(0)
        print(child, flush=True)


class Forks:
    """Starts jobs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def kill_after(self, seconds: float, job: str) -> None:
        """Start a job and kill it at some moment, be it done or not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(job, file=self._process.stdin, flush=True)
        child = int(self._process.stdout.readline())
        # The moment is the test's, not a time to wait for something.
        time.sleep(seconds)
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            return
        while Path(f"/proc/{child}").exists():
            time.sleep(0.001)


@contextmanager
def forks(variables: Mapping[str, str]) -> Iterator[Forks]:
    """A process that starts jobs with these environment variables."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", __file__],
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Forks(process)


if __name__ == "__main__":
    main()
