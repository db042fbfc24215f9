"""The ledger and the budget over real sockets: every class, every way to call, many processes."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document

from hana_ai.api import (
    BudgetWarning,
    ChatTogetherAI,
    TogetherAI,
    TogetherAIBudgetExceededError,
    TogetherAIClient,
    TogetherAIEmbeddings,
    TogetherAIError,
    TogetherAIRerank,
    TogetherAISettings,
    UsageEvent,
    get_ledger,
    usage_tags,
)
from hana_ai.api.local.together import LocalModel, LocalTogether, Received, Reply, ScriptedEngine, Usage
from hana_ai.api.usage.ledger import close_all as close_ledgers
from hana_ai.api.usage.limits import Limits
from tests.conftest import ScriptedTogether, cancel_once, eventually, export
from tests.programs import warmed
from tests.warm import CALLS, Warm

LIMITS = Limits()

PRICED = (
    LocalModel("priced/chat", "chat", 8192, price_input=100.0, price_output=1000.0, price_cached_input=10.0),
    LocalModel("priced/embedding", "embedding", 8192, dimensions=8, price_input=20.0),
    LocalModel("priced/rerank", "rerank", 8192, price_input=10.0),
)
CHAT, EMBEDDING, RERANK = (model.id for model in PRICED)


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedTogether]:
    """A server with prices, and the environment pointing at it."""
    with ScriptedTogether(ScriptedEngine(models=PRICED)) as server:
        export(monkeypatch, server.environment())
        yield server


def only_event() -> UsageEvent:
    [event] = get_ledger().events()
    return event


# --- every class, every way ---


async def _chat_stream() -> None:
    async for _ in ChatTogetherAI(model=CHAT).astream("one two three"):
        pass


async def _llm_stream() -> None:
    async for _ in TogetherAI(model=CHAT).astream("one two three"):
        pass


def _documents() -> list[Document]:
    return [Document(page_content="one two"), Document(page_content="three")]


def _client() -> TogetherAIClient:
    return TogetherAIClient()


TEXT = "one two three"
WAYS: dict[str, tuple[str, str, Callable[[], Any]]] = {
    "chat invoke": ("chat", CHAT, lambda: ChatTogetherAI(model=CHAT).invoke(TEXT)),
    "chat ainvoke": ("chat", CHAT, lambda: ChatTogetherAI(model=CHAT).ainvoke(TEXT)),
    "chat stream": ("chat", CHAT, lambda: list(ChatTogetherAI(model=CHAT).stream(TEXT))),
    "chat astream": ("chat", CHAT, _chat_stream),
    "chat streaming": ("chat", CHAT, lambda: ChatTogetherAI(model=CHAT, streaming=True).invoke(TEXT)),
    "llm invoke": ("completion", CHAT, lambda: TogetherAI(model=CHAT).invoke(TEXT)),
    "llm ainvoke": ("completion", CHAT, lambda: TogetherAI(model=CHAT).ainvoke(TEXT)),
    "llm stream": ("completion", CHAT, lambda: list(TogetherAI(model=CHAT).stream(TEXT))),
    "llm astream": ("completion", CHAT, _llm_stream),
    "embed": ("embedding", EMBEDDING, lambda: TogetherAIEmbeddings(model=EMBEDDING).embed_query(TEXT)),
    "aembed": ("embedding", EMBEDDING, lambda: TogetherAIEmbeddings(model=EMBEDDING).aembed_query(TEXT)),
    "rerank": ("rerank", RERANK, lambda: TogetherAIRerank(model=RERANK).compress_documents(_documents(), "what")),
    "arerank": (
        "rerank",
        RERANK,
        lambda: TogetherAIRerank(model=RERANK).acompress_documents(_documents(), "what"),
    ),
    "client chat": ("chat", CHAT, lambda: _client().generate_chat_completion(TEXT, model=CHAT)),
    "client achat": ("chat", CHAT, lambda: _client().agenerate_chat_completion(TEXT, model=CHAT)),
    "client text": ("completion", CHAT, lambda: _client().generate_completion(TEXT, model=CHAT)),
    "client atext": ("completion", CHAT, lambda: _client().agenerate_completion(TEXT, model=CHAT)),
    "client embed": ("embedding", EMBEDDING, lambda: _client().generate_embeddings(TEXT, model=EMBEDDING)),
    "client aembed": ("embedding", EMBEDDING, lambda: _client().agenerate_embeddings(TEXT, model=EMBEDDING)),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_is_recorded_once_with_its_tokens_and_cost(priced: ScriptedTogether, way: str) -> None:
    operation, model, call = WAYS[way]
    before = time.time()
    done = call()
    if asyncio.iscoroutine(done):
        await done
    event = only_event()
    assert (event.operation, event.model, event.status, event.http_status) == (operation, model, "ok", None)
    assert before - 1 <= event.called_at.timestamp() <= time.time()
    assert 0 < event.latency_seconds < 60
    assert event.request_id
    assert event.retries == 0
    assert (event.first_token_seconds is not None) == ("stream" in way)
    assert event.prompt_tokens
    if operation in ("chat", "completion"):
        assert (event.prompt_tokens, event.completion_tokens, event.cached_tokens) == (3, 3, 0)
        assert event.cost_usd == Decimal("0.0033")
    elif operation == "embedding":
        assert (event.prompt_tokens, event.completion_tokens) == (3, 0)
        assert event.cost_usd == Decimal("0.00006")
    else:
        assert event.cost_usd == event.prompt_tokens * Decimal("0.00001")


def test_cached_and_reasoning_tokens_are_noted_and_priced(priced: ScriptedTogether) -> None:
    priced.engine.reply(Reply(text="Yes.", usage=Usage(1000, 500, cached_tokens=600, reasoning_tokens=400)))
    ChatTogetherAI(model=CHAT).invoke("Well?")
    event = only_event()
    assert (event.cached_tokens, event.reasoning_tokens) == (600, 400)
    assert event.cost_usd == Decimal("0.04") + Decimal("0.006") + Decimal("0.5")


async def test_a_stream_left_early_is_recorded_with_what_is_known(priced: ScriptedTogether) -> None:
    priced.engine.always(Reply(chunks=["a ", "b ", "c "], chunk_delay=0.05))
    chat, llm = ChatTogetherAI(model=CHAT), TogetherAI(model=CHAT)
    with usage_tags("left"):
        for _ in chat.stream("Go on."):
            break
        for _ in llm.stream("Go on."):
            break
        stream = chat.astream("Go on.")
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
    await eventually(lambda: get_ledger().totals()["total_requests"] == 3)
    for event in get_ledger().events():
        assert (event.status, event.tags) == ("left early", ("left",))
        assert event.first_token_seconds is not None
        assert (event.prompt_tokens, event.cost_usd) == (None, None)
        assert event.request_id
    assert get_ledger().totals()["unknown_cost_requests"] == 3


async def test_a_cancelled_call_is_recorded(priced: ScriptedTogether) -> None:
    priced.engine.always(Reply(stall=True))
    await cancel_once(lambda: bool(priced.engine.requests), ChatTogetherAI(model=CHAT).ainvoke("Hello"))
    assert only_event().status == "cancelled"


@pytest.mark.parametrize(
    ("replies", "status", "http_status", "retries"),
    [
        ([Reply(status=400)], "TogetherAIInvalidRequestError", 400, 0),
        ([Reply(status=429, headers={"x-ratelimit-reset": "0.01"}, repeat=3)], "TogetherAIRateLimitError", 429, 2),
        ([Reply(status=500, headers={"retry-after": "0.01"}), Reply(text="ok")], "ok", None, 1),
        ([Reply(drop=True, repeat=9)], "TogetherAIConnectionError", None, 2),
        ([Reply(status=408, headers={"retry-after": "0.01"}, repeat=3)], "TogetherAITimeoutError", 408, 2),
        ([Reply(body="no json", content_type="application/json")], "TogetherAIResponseError", None, 0),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
async def test_an_error_is_recorded_with_its_class_status_and_retries(
    priced: ScriptedTogether,
    replies: list[Reply],
    status: str,
    http_status: int | None,
    retries: int,
    asynchronous: bool,
) -> None:
    priced.check_answers = False
    priced.engine.reply(*replies)
    chat = ChatTogetherAI(model=CHAT, max_retries=2)
    try:
        if asynchronous:
            await chat.ainvoke("Hello")
        else:
            chat.invoke("Hello")
    except TogetherAIError:
        assert status != "ok"
    event = only_event()
    assert (event.status, event.http_status, event.retries) == (status, http_status, retries)
    totals = get_ledger().totals()
    assert totals["failed_requests"] == (status != "ok")
    # What the server refused with a status was not answered, so that no cost is hidden there.
    assert totals["unknown_cost_requests"] == (status != "ok" and http_status is None)


def test_a_broken_stream_is_recorded_as_one(priced: ScriptedTogether) -> None:
    priced.engine.reply(Reply(chunks=["a ", "b "], error_at_chunk=1, error={"message": "no more", "code": "500"}))
    with pytest.raises(TogetherAIError):
        list(ChatTogetherAI(model=CHAT).stream("Hello"))
    assert only_event().status == "TogetherAIStreamError"
    assert get_ledger().totals()["unknown_cost_requests"] == 1


def test_a_model_that_is_gone_is_recorded_once(priced: ScriptedTogether) -> None:
    with pytest.raises(TogetherAIError, match="priced/chat"):
        ChatTogetherAI(model="priced/chit").invoke("Hello")
    assert only_event().http_status in (400, 404)


def test_langchains_tags_are_noted_without_its_own(priced: ScriptedTogether) -> None:
    chain = ChatTogetherAI(model=CHAT) | (lambda message: message.content)
    with usage_tags("outer"):
        chain.invoke("Hello", config={"tags": ["mine"]})
        ChatTogetherAI(model=CHAT).batch(["a", "b"], config={"tags": ["batch"]})
    assert sorted(event.tags for event in get_ledger().events()) == [
        ("batch", "outer"),
        ("batch", "outer"),
        ("mine", "outer"),
    ]


async def test_a_ledger_in_memory_asks_nothing_of_the_server_by_itself(priced: ScriptedTogether) -> None:
    ChatTogetherAI(model=CHAT).invoke("Hello")
    await asyncio.sleep(LIMITS.flush_seconds + 0.3)
    assert [request.method for request in priced.engine.requests] == ["POST"]
    assert get_ledger().totals()["total_cost_usd"] == Decimal("0.0011")
    assert [request.method for request in priced.engine.requests] == ["POST", "GET"]


def test_the_clients_settings_choose_the_ledger(priced: ScriptedTogether, tmp_path: Path) -> None:
    settings = TogetherAISettings(together_usage_db=str(tmp_path / "usage.db"))
    client = TogetherAIClient(settings)
    client.generate_chat_completion("Hello", model=CHAT)
    client.chat_model(CHAT).invoke("Hello")
    client.embeddings(EMBEDDING).embed_query("Hello")
    client.reranker(RERANK).rerank("Hello", ["Hello"])
    client.llm(CHAT).invoke("Hello")
    assert client.ledger is get_ledger(settings)
    assert client.ledger.totals()["total_requests"] == 5
    assert get_ledger().totals()["total_requests"] == 0


# --- other processes ---

ASK = """
import sys
from hana_ai.api import TogetherAIEmbeddings
ask = TogetherAIEmbeddings(model="priced/embedding").embed_query
"""

FORKED = """
import os, sys
children, fork = [], 0
for number in range(1, {count}):
    if (pid := os.fork()) == 0:
        children, fork = [], number
        break
    children.append(pid)
{code}
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""
"""Several processes, none of which has made a call before it is forked."""


programs = warmed(*CALLS)


def forked(count: int, code: str) -> str:
    return FORKED.format(count=count, code=code)


def finish(programs: Warm, code: str, *arguments: str) -> None:
    ended = programs.run(code, *arguments)
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "usage.db"
    monkeypatch.setenv("TOGETHER_USAGE_DB", str(path))
    return path


@pytest.mark.parametrize(
    ("end", "calls"),
    [
        ("from hana_ai.api import ChatTogetherAI; ChatTogetherAI(model='priced/chat').invoke('of LangChain')", 2),
        ("sys.exit(0)", 1),
        ("import atexit; atexit.register(lambda: ask('late one'))", 2),
        (
            "import multiprocessing as m; "
            "p = m.get_context('fork').Process(target=ask, args=('of a child',)); p.start(); p.join()",
            2,
        ),
        ("import os; pid = os.fork(); ask('after a fork'); pid and os.waitpid(pid, 0)", 3),
    ],
    ids=["end", "exit", "atexit", "multiprocessing", "fork"],
)
def test_calls_are_written_when_a_process_ends(
    priced: ScriptedTogether, programs: Warm, database: Path, end: str, calls: int
) -> None:
    finish(programs, f"{ASK}ask('Hello'); {end}")
    totals = get_ledger().totals()
    assert totals["total_requests"] == calls == len([r for r in priced.engine.requests if r.method == "POST"])
    assert totals["unknown_cost_requests"] == 0


MIXED = """
import asyncio
from hana_ai.api import ChatTogetherAI, TogetherAI, TogetherAIEmbeddings, TogetherAIError, TogetherAIRerank
calls, number = int(sys.argv[1]), fork
chat, llm = ChatTogetherAI(model="priced/chat", max_retries=0), TogetherAI(model="priced/chat")
embed, rerank = TogetherAIEmbeddings(model="priced/embedding"), TogetherAIRerank(model="priced/rerank")

async def stream(text):
    async for _ in chat.astream(text):
        pass

async def refused(text):
    try:
        await chat.ainvoke(text, max_tokens=100_000)
    except TogetherAIError:
        pass

async def one(i):
    text = "word " * (1 + (i * 7 + number) % 13)
    way = i % 10
    if way == 0: await asyncio.to_thread(chat.invoke, text)
    elif way == 1: await asyncio.to_thread(lambda: list(chat.stream(text)))
    elif way < 4: await chat.ainvoke(text)
    elif way == 4: await stream(text)
    elif way == 5: await llm.ainvoke(text)
    elif way == 6: await embed.aembed_documents([text, text + "more"])
    elif way == 7: await rerank.arerank(text, ["word one", "two"])
    elif way == 8: await asyncio.to_thread(embed.embed_query, text)
    else: await refused(text)

async def main():
    places = asyncio.Semaphore(16)
    async def placed(i):
        async with places:
            await one(i)
    await asyncio.gather(*(placed(i) for i in range(calls)))

asyncio.run(main())
"""


class Counting(LocalTogether):
    """A server that adds up the tokens of its whole answers."""

    def __init__(self, **fields: Any) -> None:
        self.tokens: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()
        super().__init__(ScriptedEngine(models=PRICED, keep=0), on_exchange=self._count, **fields)

    def _count(self, path: str, body: Any, status: int, answer: Any) -> None:
        if body is None:
            return
        self.answers[status] += 1
        for part in answer if isinstance(answer, list) else [answer]:
            self.tokens.update(
                {
                    name: count
                    for name, count in (part.get("usage") or {}).items()
                    if name in ("prompt_tokens", "completion_tokens", "total_tokens")
                }
            )


@pytest.mark.parametrize("calls", [200, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_totals_of_four_processes_are_the_servers_own(
    programs: Warm, database: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    with Counting() as server:
        environment = server.environment()
        export(monkeypatch, environment)
        finish(programs, forked(4, MIXED), str(calls // 4))
        totals = get_ledger(TogetherAISettings(**environment)).totals()
        by_operation = get_ledger(TogetherAISettings(**environment)).totals_by("operation")
    assert totals["total_requests"] == calls == sum(server.answers.values())
    assert totals["failed_requests"] == server.answers.total() - server.answers[200] == calls // 10
    assert totals["prompt_tokens"] == server.tokens["prompt_tokens"]
    assert totals["completion_tokens"] == server.tokens["completion_tokens"]
    assert totals["total_tokens"] == server.tokens["total_tokens"]
    assert totals["unknown_cost_requests"] == 0
    assert totals["total_cost_usd"] == sum(part["total_cost_usd"] or 0 for part in by_operation.values())
    assert {name: part["total_requests"] for name, part in by_operation.items()} == {
        "chat": calls * 6 // 10,
        "completion": calls // 10,
        "embedding": calls // 5,
        "rerank": calls // 10,
    }


def test_a_killed_process_loses_no_more_than_the_buffers_bound(
    priced: ScriptedTogether, programs: Warm, database: Path
) -> None:
    # A moment between the calls: how many there are is not the point.
    code = """
import time
while True:
    ask("Hello")
    print(flush=True)
    time.sleep(0.02)
"""
    with programs.begun(ASK + code) as process:
        assert process.stdout is not None
        process.stdout.readline()
        ended = [time.time()]
        deadline = time.monotonic() + LIMITS.flush_seconds + 1.2
        while time.monotonic() < deadline:
            process.stdout.readline()
            ended.append(time.time())
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    killed = time.time()
    kept = get_ledger().totals()["total_requests"]
    # One second for the thread to be given the processor, on a machine that is busy.
    old_enough = sum(moment < killed - LIMITS.flush_seconds - 1.0 for moment in ended)
    assert old_enough >= 1
    assert kept >= old_enough
    assert len(ended) - kept <= LIMITS.most_pending


# --- the budget ---

# A call costs 1 * $100 / 1M + 9 * $1000 / 1M.
_COST = Decimal("0.0091")
_NINE = Reply(text="a", usage=Usage(1, 9))


def posts(server: ScriptedTogether) -> int:
    return sum(request.method == "POST" for request in server.engine.requests)


def test_the_budget_warns_and_then_refuses_before_anything_is_sent(
    priced: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_BUDGET_USD", "0.04")
    monkeypatch.setenv("TOGETHER_BUDGET_PERIOD", "day")
    priced.engine.always(_NINE)
    warnings: list[BudgetWarning] = []
    get_ledger().on_budget(warnings.append)
    chat = ChatTogetherAI(model=CHAT)
    with pytest.raises(TogetherAIBudgetExceededError, match="TOGETHER_BUDGET_USD"):
        for _ in range(100):
            chat.invoke("Hello")
    assert posts(priced) == 5
    assert [warning.percent for warning in warnings] == [50, 80, 100]
    with pytest.raises(TogetherAIBudgetExceededError):
        list(chat.stream("Hello"))
    with pytest.raises(TogetherAIBudgetExceededError):
        TogetherAIEmbeddings(model=EMBEDDING).embed_query("Hello")
    with pytest.raises(TogetherAIBudgetExceededError):
        TogetherAIRerank(model=RERANK).rerank("Hello", ["Hello"])
    with pytest.raises(TogetherAIBudgetExceededError):
        TogetherAI(model=CHAT).invoke("Hello")
    with pytest.raises(TogetherAIBudgetExceededError):
        TogetherAIClient().generate_chat_completion("Hello", model=CHAT)
    assert posts(priced) == 5
    assert get_ledger().totals()["total_requests"] == 5
    assert get_ledger().spent_usd == 5 * _COST


@pytest.mark.parametrize("shared", [False, True], ids=["memory", "sqlite"])
async def test_a_budget_is_never_passed_by_more_than_the_calls_in_flight(
    priced: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared: bool
) -> None:
    monkeypatch.setenv("TOGETHER_BUDGET_USD", "0.4")
    if shared:
        monkeypatch.setenv("TOGETHER_USAGE_DB", str(tmp_path / "usage.db"))
    priced.engine.always(_NINE)
    chat = ChatTogetherAI(model=CHAT)
    refused: list[BaseException] = []

    async def coroutine() -> None:
        try:
            while True:
                await chat.ainvoke("Hello")
        except TogetherAIBudgetExceededError as exc:
            refused.append(exc)

    def thread() -> None:
        try:
            while True:
                list(chat.stream("Hello"))
        except TogetherAIBudgetExceededError as exc:
            refused.append(exc)

    threads = [threading.Thread(target=thread) for _ in range(4)]
    for started in threads:
        started.start()
    await asyncio.gather(*(coroutine() for _ in range(8)))
    for started in threads:
        await asyncio.to_thread(started.join)
    assert len(refused) == 12
    spent = posts(priced) * _COST
    assert Decimal("0.4") <= spent < Decimal("0.4") + 12 * _COST
    assert get_ledger().totals()["total_cost_usd"] == spent


SPENDER = """
import asyncio
from hana_ai.api import TogetherAIBudgetExceededError, TogetherAIClient
client = TogetherAIClient()
async def spend():
    try:
        while True:
            await client.agenerate_chat_completion("Hello", model="priced/chat")
    except TogetherAIBudgetExceededError as exc:
        assert exc.spent_usd >= exc.budget_usd

def spend_in_thread():
    try:
        while True:
            client.generate_chat_completion("Hello", model="priced/chat")
    except TogetherAIBudgetExceededError:
        pass

async def main():
    await asyncio.gather(*(spend() for _ in range(3)), asyncio.to_thread(spend_in_thread))
asyncio.run(main())
"""


def test_a_budget_of_one_dollar_is_shared_by_processes(
    priced: ScriptedTogether, programs: Warm, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_BUDGET_USD", "1")
    priced.engine.always(_NINE)
    finish(programs, forked(3, SPENDER))
    spent = posts(priced) * _COST
    in_flight = 3 * 4
    assert 1 <= spent < 1 + in_flight * _COST
    ledger = get_ledger()
    assert ledger.totals()["total_cost_usd"] == spent
    with pytest.raises(TogetherAIBudgetExceededError):
        ChatTogetherAI(model=CHAT).invoke("Hello")


def test_a_budget_says_that_it_can_not_count_what_has_no_price(
    priced: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TOGETHER_BUDGET_USD", "0.01")

    def no_catalogue(request: Received) -> Reply:
        return Reply(status=403)

    priced.check_answers = False
    for path in ("/v2/supported-models", "/v1/models"):
        priced.engine.on(path, no_catalogue)
    chat = ChatTogetherAI(model=CHAT)
    for _ in range(3):
        chat.invoke("Hello")
    assert caplog.text.count("can't count such calls") == 1
    assert sum(request.method == "GET" for request in priced.engine.requests) == 2
    totals = get_ledger().totals()
    assert (totals["total_cost_usd"], totals["unknown_cost_requests"]) == (None, 3)


# --- in SAP HANA, by the real hdbcli against the loopback server ---


def test_a_ledger_in_hana_is_shared_with_its_budget(
    priced: ScriptedTogether, programs: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hana_ai.api.local.hana import LocalHana

    priced.engine.always(_NINE)
    with LocalHana() as hana:
        export(monkeypatch, hana.environment())
        monkeypatch.setenv("TOGETHER_USAGE_DB", "hana:together_usage")
        monkeypatch.setenv("TOGETHER_BUDGET_USD", "0.05")
        chat = ChatTogetherAI(model=CHAT)
        with usage_tags("täg"):
            for _ in range(3):
                chat.invoke("Hello")
        # Another process of the same budget.
        finish(programs, SPENDER)
        spent = posts(priced) * _COST
        assert Decimal("0.05") <= spent < Decimal("0.05") + 4 * _COST
        with pytest.raises(TogetherAIBudgetExceededError):
            chat.invoke("Hello")
        ledger = get_ledger()
        assert ledger.totals()["total_cost_usd"] == spent
        assert ledger.totals_by("tag")["täg"]["total_cost_usd"] == 3 * _COST
        assert ledger.totals_by("day")[datetime.now(UTC).date().isoformat()]["total_requests"] == posts(priced)
        assert ledger.events()[0].cost_usd == _COST
        connection = hana.connect()
        cursor = connection.cursor()
        cursor.execute("SELECT MODEL, SUM(TO_DECIMAL(COST_USD, 38, 12)) FROM TOGETHER_USAGE GROUP BY MODEL")
        assert [tuple(row) for row in cursor.fetchall()] == [(CHAT, spent)]
        cursor.close()
        connection.close()
        close_ledgers()


def test_a_ledger_whose_database_is_gone_keeps_calls_and_says_so(
    priced: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TOGETHER_USAGE_DB", "hana:together_usage")
    monkeypatch.setenv("HANA_ADDRESS", "127.0.0.1")
    monkeypatch.setenv("HANA_PORT", "1")
    monkeypatch.setenv("HANA_USER", "u")
    monkeypatch.setenv("HANA_PASSWORD", "secret-password")
    assert ChatTogetherAI(model=CHAT).invoke("Hello").content == "Hello"
    get_ledger().flush()
    assert caplog.text.count("calls are kept in memory") == 1
    assert "secret-password" not in caplog.text
    with pytest.raises(TogetherAIError, match="hana:together_usage can't be used"):
        get_ledger().totals()


def test_days_are_utc(priced: ScriptedTogether) -> None:
    ChatTogetherAI(model=CHAT).invoke("Hello")
    assert list(get_ledger().totals_by("day")) == [datetime.now(UTC).date().isoformat()]
