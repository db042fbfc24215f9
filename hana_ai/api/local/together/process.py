"""`TogetherProcess`: the server in a process of its own, so that a benchmark measures the client alone."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request

import orjson

from .wire import Statistics


class TogetherProcess:
    """`python -m hana_ai.api.local.together` as a context manager.

    Parameters
    ----------
    engine
        "scripted" or "llama".
    latency, chunk_delay
        Seconds before every answer and between the chunks of a stream; scripted only.
    dimensions
        Length of an embedding; scripted only.

    Examples
    --------
    >>> with TogetherProcess(latency=0.02, dimensions=1024) as server:
    ...     client = together.Together(base_url=server.base_url, api_key=server.api_key)
    """

    def __init__(
        self,
        engine: str = "scripted",
        *,
        latency: float = 0.0,
        chunk_delay: float = 0.0,
        dimensions: int = 256,
    ) -> None:
        self._arguments = [
            f"--engine={engine}",
            f"--latency={latency}",
            f"--chunk-delay={chunk_delay}",
            f"--dimensions={dimensions}",
            "--until-stdin-closes",
        ]
        self._process: subprocess.Popen[str] | None = None
        self._environment: dict[str, str] = {}

    @property
    def base_url(self) -> str:
        """Where the server listens, without `/v1`."""
        return self._environment["TOGETHER_BASE_URL"]

    @property
    def api_key(self) -> str:
        """The key that clients have to send."""
        return self._environment["TOGETHER_API_KEY"]

    @property
    def statistics(self) -> Statistics:
        """The server's counts so far; asking is counted too."""
        request = urllib.request.Request(
            f"{self.base_url}/_local/statistics", headers={"Authorization": f"Bearer {self.api_key}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Statistics(**orjson.loads(answer.read()))

    def environment(self) -> dict[str, str]:
        """The variables that point the provider and the SDK at this server."""
        return dict(self._environment)

    def start(self) -> TogetherProcess:
        """Start the process; returns when the server answers.

        Raises
        ------
        RuntimeError
            When it does not start; its own message went to standard error.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", __package__, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self._process.stdout is not None
        for _ in range(2):
            name, _, value = self._process.stdout.readline().strip().partition("=")
            if not value:
                self.close()
                raise RuntimeError("The local Together server did not start.")
            self._environment[name] = value
        return self

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(timeout=15)  # closes its input, by which it knows
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def __enter__(self) -> TogetherProcess:
        """Start."""
        return self.start()

    def __exit__(self, *exc: object) -> None:
        """End."""
        self.close()
