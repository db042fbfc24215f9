"""The budget on clocks that jump: within a process, across forks and processes, in every kind of store."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from hana_ai.api import ChatTogetherAI, TogetherAIBudgetExceededError, get_ledger
from hana_ai.api.usage.ledger import close_all as close_ledgers
from tests.conftest import PRICED, ScriptedTogether, export
from tests.warm import Warm

DAY = 86_400.0
# A call costs $0.0091, so that ten of them reach this budget.
BUDGET, ALLOWED = Decimal("0.091"), 10


@pytest.fixture(autouse=True)
def budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_BUDGET_USD", str(BUDGET))


@pytest.fixture(params=["memory", "sqlite", "hana"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "sqlite":
        monkeypatch.setenv("TOGETHER_USAGE_DB", str(tmp_path / "usage.db"))
    elif request.param == "hana":
        export(monkeypatch, request.getfixturevalue("hana").environment())
        monkeypatch.setenv("TOGETHER_USAGE_DB", f"hana:usage_{time.monotonic_ns()}")
    yield request.param
    close_ledgers()


def posts(server: ScriptedTogether) -> int:
    return sum(request.method == "POST" for request in server.engine.requests)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("period", ["day", "month"])
async def test_a_clock_that_jumps_does_not_fool_the_budget(
    priced: ScriptedTogether, store: str, period: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_BUDGET_PERIOD", period)
    jumps = random.Random(seed)
    machine, moved = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: machine() + moved[0])
    chat = ChatTogetherAI(model=PRICED)
    refused = 0
    for number in range(30):
        moved[0] = jumps.uniform(-40, 40) * DAY if seed else (-1) ** number * 40 * DAY
        try:
            await chat.ainvoke("Hello") if number % 2 else chat.invoke("Hello")
        except TogetherAIBudgetExceededError:
            refused += 1
    assert (posts(priced), refused) == (ALLOWED, 20)
    assert get_ledger().spent_usd == BUDGET


JUMPING = """
import os, random, sys, time
from hana_ai.api import ChatTogetherAI, TogetherAIBudgetExceededError, TogetherAIError
machine, moved = time.time, [0.0]
time.time = lambda: machine() + moved[0]
chat = ChatTogetherAI(model="priced/chat")

def spend(seed):
    jumps = random.Random(seed)
    while True:
        moved[0] = jumps.uniform(-40, 40) * 86_400
        try:
            chat.invoke("Hello")
        except TogetherAIBudgetExceededError:
            return

before, forks = int(sys.argv[1]), int(sys.argv[2])
for _ in range(before):
    chat.invoke("Hello")
children = []
for number in range(forks):
    child = os.fork()
    if not child:
        status = 1
        try:
            spend(number)
            from hana_ai.api import process
            process.end()
            status = 0
        finally:
            os._exit(status)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] for child in children))
"""


def test_forks_with_jumping_clocks_pass_the_budget_by_no_more_than_their_calls_in_flight(
    priced: ScriptedTogether, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: Warm
) -> None:
    monkeypatch.setenv("TOGETHER_BUDGET_PERIOD", "day")
    monkeypatch.setenv("TOGETHER_USAGE_DB", str(tmp_path / "usage.db"))
    done = programs.run(JUMPING, "2", "8")
    assert done.returncode == 0, done.stderr
    assert ALLOWED <= posts(priced) < ALLOWED + 8
    assert get_ledger().totals()["total_requests"] == posts(priced)


def test_a_process_whose_clock_is_behind_spends_on_no_day_that_is_over(
    priced: ScriptedTogether, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: Warm
) -> None:
    monkeypatch.setenv("TOGETHER_USAGE_DB", str(tmp_path / "usage.db"))
    ChatTogetherAI(model=PRICED).invoke("Hello")
    get_ledger().flush()
    behind = (
        "import time\nmachine = time.time\ntime.time = lambda: machine() - 40 * 86_400\n"
        "from hana_ai.api import ChatTogetherAI\n"
        "for _ in range(9): ChatTogetherAI(model='priced/chat').invoke('Hello')\n"
    )
    done = programs.run(behind)
    assert done.returncode == 0, done.stderr
    with pytest.raises(TogetherAIBudgetExceededError):
        ChatTogetherAI(model=PRICED).invoke("Hello")
    assert posts(priced) == ALLOWED


@pytest.mark.slow
def test_while_the_ledger_is_locked_now_and_then_eight_processes_keep_to_the_budget(
    priced: ScriptedTogether, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: Warm
) -> None:
    path = tmp_path / "usage.db"
    monkeypatch.setenv("TOGETHER_USAGE_DB", str(path))
    monkeypatch.setenv("TOGETHER_USAGE_UNAVAILABLE", "refuse")
    monkeypatch.setenv("TOGETHER_TIMEOUT", "2")
    patient = JUMPING.replace(
        "            return\n",
        "            return\n        except TogetherAIError:\n            time.sleep(0.1)\n",
    )
    running = programs.start(patient, "1", "8")
    while not posts(priced):
        assert running.poll() is None
        time.sleep(0.01)
    while running.poll() is None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN EXCLUSIVE")
            time.sleep(2.0)
            other.execute("ROLLBACK")
        time.sleep(random.uniform(0.0, 2.0))
    assert running.returncode == 0
    running.close()
    # Beside its call under way, each may have one that ended while the ledger was locked.
    assert ALLOWED <= posts(priced) < ALLOWED + 2 * 8
    assert get_ledger().totals()["total_requests"] == posts(priced)
