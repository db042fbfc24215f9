"""Many calls of every kind in one process, and what they leave behind: ``python -m benchmarks.soak [CALLS]``.

Prints a line of JSON for every tenth of the calls: resident memory in MiB, open sockets, threads, and tasks.
Garbage is collected before each line, and glibc is told to give free memory back: what is left is in use.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from benchmarks.memory import resident
from benchmarks.process import server
from benchmarks.server import FAST

ROUND = 1000
WORKERS = 64
THREADS = 8


def sockets() -> int:
    """How many sockets are open."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            count += str(entry.readlink()).startswith("socket:")
        except FileNotFoundError:  # the listing's own
            continue
    return count


async def one_round(chat: Any, embeddings: Any, threads: ThreadPoolExecutor) -> int:
    """`ROUND` calls: most by coroutines, some by threads, one stream of each kind."""
    calls = iter(range(ROUND))
    loop = asyncio.get_running_loop()

    async def coroutine() -> None:
        for number in calls:
            if number == 0:
                assert len([chunk async for chunk in chat.astream("Hello")]) > 10
            elif number == 1:
                assert await loop.run_in_executor(threads, lambda: len(list(chat.stream("Hello")))) > 10
            elif number % 10 == 2:
                await loop.run_in_executor(threads, chat.invoke, "Hello")
            elif number % 10 == 3:
                await loop.run_in_executor(threads, embeddings.embed_query, f"text {number}")
            elif number % 10 in (4, 5):
                await embeddings.aembed_query(f"text {number}")
            else:
                await chat.ainvoke(f"Hello {number}")

    await asyncio.gather(*(coroutine() for _ in range(WORKERS)))
    return ROUND


async def soak(url: str, calls: int) -> None:
    """Make the calls and print what is left after each tenth."""
    from hana_ai.api import ChatTogetherAI, TogetherAIEmbeddings

    chat = ChatTogetherAI(model=FAST, base_url=url, api_key="bench")
    embeddings = TogetherAIEmbeddings(model=FAST, base_url=url, api_key="bench")
    done = 0
    started = time.monotonic()
    with ThreadPoolExecutor(THREADS) as threads:
        while done < calls:
            done += await one_round(chat, embeddings, threads)
            if done == ROUND or done % max(ROUND, calls // 10) == 0:
                print(
                    orjson.dumps(
                        {
                            "calls": done,
                            "seconds": round(time.monotonic() - started, 1),
                            "memory": round(resident() / 2**20, 1),
                            "sockets": sockets(),
                            "threads": threading.active_count(),
                            "tasks": len(asyncio.all_tasks()),
                        }
                    ).decode(),
                    flush=True,
                )


def main() -> None:
    """Run it against a server in a process of its own."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with server() as url:
        asyncio.run(soak(url, calls))


if __name__ == "__main__":
    main()
