"""`python -m hana_ai.api.local.together`: serve until Ctrl-C or SIGTERM.

Prints the two variables that point the provider and the SDK at the server, in a form that a shell can read:

    export $(python -m hana_ai.api.local.together | head -2)
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hana_ai.api.local.signals import signals_handled

from .api.http import reply
from .engine import Engine
from .engines.hashing import hashed_json
from .scripted.engine import ScriptedEngine
from .server import LOOPBACK, RANDOM_KEY, LocalTogether

KEY_VARIABLE = "TOGETHER_LOCAL_API_KEY"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve; returns the exit status."""
    options = vars(_parser().parse_args(arguments))
    ends_with_input = options.pop("until_stdin_closes")
    done = threading.Event()

    async def statistics(_request: Request) -> Response:
        return reply(vars(server.statistics))

    server = make_server(**options, extra_routes=[Route("/_local/statistics", statistics)])
    with signals_handled(lambda _: done.set()):
        if ends_with_input:
            # A server in a process of its own ends with the program that started it, however that ends.
            threading.Thread(target=_set_at_end_of_input, args=(done,), daemon=True).start()
        with server:
            for name, value in server.environment().items():
                sys.stdout.write(f"{name}={value}\n")
            sys.stdout.flush()
            names = ", ".join(model.id for model in server.models)
            sys.stderr.write(f"Local stand-ins, not Together's models: {names}\n")
            done.wait()
    return 0


def _set_at_end_of_input(done: threading.Event) -> None:
    sys.stdin.read()
    done.set()


def make_server(
    *, host: str, port: int, engine: str, extra_routes: Sequence[BaseRoute] = (), **options: Any
) -> LocalTogether:
    """The server, not yet started; `options` are those of `engines`.

    Its key is that of TOGETHER_LOCAL_API_KEY, or random.

    Raises
    ------
    FileNotFoundError, ValueError
        As of `engines`.
    """
    return LocalTogether(
        *engines(engine, **options),
        api_key=os.environ.get(KEY_VARIABLE) or RANDOM_KEY,
        host=host,
        port=port,
        extra_routes=extra_routes,
    )


def engines(
    kind: str,
    *,
    gguf: str | Path | None = None,
    max_tokens: int | None = None,
    latency: float = 0.0,
    chunk_delay: float = 0.0,
    dimensions: int = 256,
) -> list[Engine]:
    """The engines of a kind, "llama" or "scripted"; parameters as of the options of the same names.

    Raises
    ------
    FileNotFoundError, ValueError
        The model file is missing, or is none; the message says what to do.
    """
    if kind == "scripted":
        # The first call of each tail imports numpy or makes the tail: no benchmark should see that.
        hashed_json([str(number) for number in range(4096)], dimensions)
        return [ScriptedEngine(dimensions=dimensions, latency=latency, chunk_delay=chunk_delay, keep=0)]
    from .engines.llama import MAX_TOKENS, LlamaCppEngine
    from .engines.wordllama_engine import WordLlamaEngine

    return [LlamaCppEngine(gguf, max_tokens=max_tokens or MAX_TOKENS), WordLlamaEngine()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hana_ai.api.local.together",
        description="A server on the loopback interface that speaks Together's HTTP API.",
        epilog=f"The API key is random; set {KEY_VARIABLE} to choose one.",
    )
    parser.add_argument("--host", default="127.0.0.1", choices=LOOPBACK)
    parser.add_argument("--port", type=int, default=0, help="0 is any free port")
    parser.add_argument("--engine", default="llama", choices=("llama", "scripted"))
    parser.add_argument(
        "--gguf", help="model file for llama; else TOGETHER_LOCAL_GGUF, else SmolLM2-135M-Instruct"
    )
    parser.add_argument("--max-tokens", type=int, help="llama: of an answer whose request sets no bound; else 512")
    parser.add_argument("--latency", type=float, default=0.0, help="scripted: seconds before every answer")
    parser.add_argument("--chunk-delay", type=float, default=0.0, help="scripted: seconds between chunks")
    parser.add_argument("--dimensions", type=int, default=256, help="scripted: length of an embedding")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input is closed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
