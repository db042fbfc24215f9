"""Processes that are killed (SIGKILL) at random moments: what their ledger, budget and cache say afterwards."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections import Counter
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hana_ai.api import TogetherAISettings, get_ledger
from hana_ai.api.local.together import LocalModel, LocalTogether, Reply, ScriptedEngine, Usage
from hana_ai.api.usage.limits import Limits
from tests.programs import warmed
from tests.warm import CALLS, Warm

ROOT = Path(__file__).parents[2]
MODELS = (
    LocalModel("priced/chat", "chat", 8192, price_input=100.0, price_output=1000.0),
    LocalModel("priced/embedding", "embedding", 8192, dimensions=8, price_input=20.0),
)
COST = Decimal("0.0091")
BUSY_SECONDS = 1.0
"""How long a thread that writes may have to wait for a processor, and for the others' writes."""
THREADS = 4
"""Calls that each process has under way at a time."""

# One process imports everything; its forks work until they are killed, each after a random number of milliseconds.
FORKING = """
import contextlib, hana_ai, os, random, signal, sys, threading, time
hana_ai.__path__ = [sys.argv[1], *hana_ai.__path__]
from hana_ai.api import ChatTogetherAI, TogetherAIBudgetExceededError, TogetherAIEmbeddings, usage_tags
kills, seed, threads = map(int, sys.argv[2:])
moments = random.Random(seed)
chat = ChatTogetherAI(model="priced/chat", max_retries=0)
embeddings = TogetherAIEmbeddings(model="priced/embedding", max_retries=0)
chat.transport, embeddings._resolve_model()

told = []

def tell_once():
    with contextlib.suppress(IndexError):
        os.write(told.pop(), b".")

def work(child, number):
    for call in range(1_000_000):
        text = f"{child} {number} {call}"
        try:
            with usage_tags(f"child {child}"):
                if call % 3 == 0: chat.invoke(text)
                elif call % 3 == 1: list(chat.stream(text))
                else: embeddings.embed_query(text)
        except TogetherAIBudgetExceededError:
            tell_once()
            time.sleep(3600)
        tell_once()

def begin(child):
    done, tell = os.pipe()
    pid = os.fork()
    if not pid:
        told.append(tell)
        for number in range(threads):
            threading.Thread(target=work, args=(child, number), daemon=True).start()
        time.sleep(3600)
    os.close(tell)
    if child % 4:
        # A machine that is busy would else end most of them before their first call.
        os.read(done, 1)
    os.close(done)
    return time.monotonic() + moments.uniform(0.0, float(os.environ["LIVES_MS"])) / 1000, pid

children = iter(range(kills))
alive = sorted(begin(child) for child, _ in zip(children, range(6)))
while alive:
    ends, pid = alive.pop(0)
    time.sleep(max(0.0, ends - time.monotonic()))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    alive = sorted([*alive, *(begin(child) for child in [next(children, None)] if child is not None)])
"""


def posts(engine: ScriptedEngine) -> int:
    return sum(request.method == "POST" for request in engine.requests)


def check_integrity(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


programs = warmed(*CALLS)


def killed(programs: Warm, environment: dict[str, str], kills: int, lives_ms: float) -> None:
    """Run the processes and kill them."""
    arguments = [str(ROOT / "hana_ai"), str(kills), str(random.randrange(10**6)), str(THREADS)]
    environment = {**os.environ, **environment, "LIVES_MS": str(lives_ms)}
    done = programs.run(FORKING, *arguments, environment=environment)
    assert done.returncode == 0, done.stderr


KILLS = 5
MANY_KILLS = pytest.param(250, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])


@pytest.mark.parametrize("kills", [KILLS, pytest.param(10, marks=pytest.mark.slow), MANY_KILLS])
def test_after_kills_the_sums_are_the_servers_but_for_what_each_process_had_in_hand(
    programs: Warm, tmp_path: Path, kills: int
) -> None:
    engine = ScriptedEngine(models=MODELS, keep=10**6)
    arrived: dict[str, list[float]] = {}
    # Few processes that wait for answers leave a machine time for others; many are to write as often as they can.
    think = 0.1 if kills <= 10 else 0.0

    def answer(request: Any) -> Reply:
        child = str(request.body["messages"][-1]["content"]).partition(" ")[0]
        arrived.setdefault(f"child {child}", []).append(time.monotonic())
        return Reply(text="a", usage=Usage(1, 9), delay=think)

    engine.on("/v1/chat/completions", answer)
    ledger_path, cache_path = tmp_path / "usage.db", tmp_path / "cache.db"
    with LocalTogether(engine) as server:
        environment = {
            **server.environment(),
            "TOGETHER_USAGE_DB": str(ledger_path),
            "TOGETHER_CACHE": str(cache_path),
        }
        killed(programs, environment, kills, 4000)
        ledger = get_ledger(TogetherAISettings(**environment))
        totals, events = ledger.totals(), ledger.events()
        sent = posts(engine)
    for path in (ledger_path, cache_path):
        check_integrity(path)
    print(f"{kills} kills: {sent} requests, {len(events)} in the ledger, {len(events) / max(1, sent):.0%}")
    assert events
    # Nothing twice, and nothing that was not sent.
    ids = [event.request_id for event in events if event.request_id is not None]
    assert len(ids) == len(set(ids))
    assert len(events) == totals["total_requests"] <= sent
    # Missing is at most what each process had done in its last second, and its calls under way.
    written = Counter(event.tags[0] for event in events if event.operation == "chat")
    lost = {child: len(times) - written[child] for child, times in arrived.items()}
    for child, times in arrived.items():
        recent = sum(moment > times[-1] - Limits().flush_seconds - BUSY_SECONDS for moment in times)
        assert 0 <= lost[child] <= recent + THREADS, (child, lost[child], recent, len(times))
    print(f"lost {sum(lost.values())} of {sum(map(len, arrived.values()))} chats, {max(lost.values())} at most")
    by_operation = ledger.totals_by("operation")
    chats = by_operation.get("chat", {"total_requests": 0, "unknown_cost_requests": 0, "total_cost_usd": None})
    known = chats["total_requests"] - chats["unknown_cost_requests"]
    assert (chats["total_cost_usd"] or Decimal(0)) == known * COST
    ledger.close()


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_after_kills_a_budget_is_passed_by_no_more_than_what_each_process_had_in_hand(
    programs: Warm, tmp_path: Path, kills: int
) -> None:
    engine = ScriptedEngine(models=MODELS, keep=10**6)
    engine.on("/v1/chat/completions", lambda _: Reply(text="a", usage=Usage(1, 9)))
    allowed = 40
    with LocalTogether(engine) as server:
        environment = {
            **server.environment(),
            "TOGETHER_USAGE_DB": str(tmp_path / "usage.db"),
            "TOGETHER_BUDGET_USD": str(allowed * COST),
        }
        killed(programs, environment, kills, 1500)
        chats = sum(request.path == "/v1/chat/completions" for request in engine.requests)
        ledger = get_ledger(TogetherAISettings(**environment))
        spent = ledger.spent_usd
        check_integrity(tmp_path / "usage.db")
        ledger.close()
    print(f"{kills} kills: {chats} chats of {allowed} allowed, ${spent} in the ledger")
    assert spent > 0
    # With a budget what has ended is written before the next call: a kill loses the calls under way, no more.
    assert chats <= allowed + (kills + 1) * THREADS
    assert spent <= posts(engine) * COST
    assert chats * COST - spent <= kills * 2 * THREADS * COST
