"""The ledger without a server: sums, prices, tables, budgets."""

from __future__ import annotations

import decimal
import logging
import pickle
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from hana_ai.api import TogetherAIBudgetExceededError, TogetherAISettings, TogetherAISettingsError, get_ledger
from hana_ai.api.catalog.model_info import ModelInfo, read_model
from hana_ai.api.errors import TogetherAIConnectionError, TogetherAIError
from hana_ai.api.storage.drivers import Driver
from hana_ai.api.storage.quoting import quoted_table
from hana_ai.api.transport.call import Call
from hana_ai.api.transport.watching import OK, Ended
from hana_ai.api.usage.budget import Budget, BudgetWarning
from hana_ai.api.usage.key import IN_MEMORY, UsageKey, usage_key
from hana_ai.api.usage.ledger import Ledger
from hana_ai.api.usage.limits import Limits
from hana_ai.api.usage.meter import Meter
from hana_ai.api.usage.record import UsageRecord
from hana_ai.api.usage.store import SETTING, Store, open_store
from hana_ai.api.usage.tags import usage_tags
from hana_ai.api.wire.token_counts import Tokens, read_tokens


class FakeCatalog:
    """Prices without a server."""

    def __init__(self, *models: ModelInfo, read: bool = True) -> None:
        self._known = {model.id: model for model in models}
        self.cached = self._known if read else None
        self.reads = 0
        self.fails = False

    @property
    def fresh(self) -> bool:
        return self.cached is not None

    def models(self) -> dict[str, ModelInfo]:
        self.reads += 1
        if self.fails:
            raise TogetherAIConnectionError("no catalogue")
        self.cached = self._known
        return self._known


ADDRESS, KEY = "https://api.together.test", SecretStr("k")
PRICED = ModelInfo(
    "m",
    "M",
    frozenset({"chat"}),
    input_price=Decimal("3"),
    cached_input_price=Decimal("0.3"),
    output_price=Decimal("15"),
)


def record(prompt: int | None = 1000, completion: int | None = 1000, **fields: Any) -> UsageRecord:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    values: dict[str, Any] = {
        "called_at": time.time(),
        "operation": "chat",
        "model": "m",
        "answering": None,
        "tags": (),
        "usage": None if prompt is None else usage,
        "latency": 0.25,
        "first_token": None,
        "status": "ok",
        "http_status": None,
        "retries": 0,
        "request_id": "r",
        "base_url": ADDRESS,
        "api_key": KEY,
    }
    return UsageRecord(**{**values, **fields})


def ledger_in(store: Store, catalog: FakeCatalog | None = None, **options: Any) -> Ledger:
    """A ledger with the prices of a catalogue."""
    prices = catalog or FakeCatalog(PRICED)
    made = Ledger(store, catalog_for=lambda base_url, api_key: prices, **options)
    _opened.append(made)
    return made


_opened: list[Ledger | sqlite3.Connection] = []


@pytest.fixture(autouse=True)
def all_closed() -> Iterator[None]:
    """Close what a test opened; from Python 3.13 on, sqlite3 warns of connections that are left open."""
    yield
    while _opened:
        _opened.pop().close()


def ledger_at(path: Path | None, catalog: FakeCatalog | None = None, **options: Any) -> Ledger:
    """A ledger in a file, or in memory."""
    return ledger_in(open_store(UsageKey(None if path is None else str(path))), catalog, **options)


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = ledger_at(None if request.param == "memory" else tmp_path / "usage.db")
    yield made
    made.close()


# --- tokens and money ---


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, (None, None, None, None)),
        ({}, (None, None, None, None)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, (3, 4, None, None)),
        ({"prompt_tokens": 3, "total_tokens": 3}, (3, 0, None, None)),
        ({"completion_tokens": 4, "total_tokens": 7}, (3, 4, None, None)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "cached_tokens": 2}, (3, 4, 2, None)),
        (
            {
                "prompt_tokens": 3,
                "completion_tokens": 4,
                "cached_tokens": 9,
                "prompt_tokens_details": {"cached_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
            (3, 4, 2, 1),
        ),
        ({"prompt_tokens": 3.0, "completion_tokens": "4", "prompt_tokens_details": None}, (3, None, None, None)),
        ({"prompt_tokens": -3, "completion_tokens": True}, (None, None, None, None)),
    ],
)
def test_tokens_are_read_as_the_server_says_and_unknown_is_not_zero(usage: Any, tokens: Any) -> None:
    assert read_tokens(usage) == tokens


prices = st.none() | st.decimals(min_value=0, max_value=1000, places=9)
counts = st.integers(min_value=0, max_value=10**9)


@given(price=prices, cached_price=prices, output=prices, prompt=counts, cached=counts, completion=counts)
def test_a_cost_is_the_sum_done_by_hand(
    price: Decimal | None,
    cached_price: Decimal | None,
    output: Decimal | None,
    prompt: int,
    cached: int,
    completion: int,
) -> None:
    info = ModelInfo(
        "m", "M", frozenset(), input_price=price, cached_input_price=cached_price, output_price=output
    )
    with decimal.localcontext() as context:
        # The program's own precision has nothing to do with it.
        context.prec = 3
        cost = info.cost_of(Tokens(prompt, completion, cached))
    if price is None or (completion and output is None):
        assert cost is None
        return
    cached = min(cached, prompt)
    by_hand = (
        Fraction(price) * (prompt - cached)
        + Fraction(price if cached_price is None else cached_price) * cached
        + Fraction(output or 0) * completion
    ) / 1_000_000
    assert cost is not None
    assert Fraction(cost) == by_hand


@given(calls=st.lists(st.tuples(counts, counts, counts), max_size=30))
def test_totals_add_up_to_the_last_digit(calls: list[tuple[int, int, int]]) -> None:
    info = ModelInfo(
        "m",
        "M",
        frozenset(),
        input_price=Decimal("0.18000000000000002"),
        cached_input_price=Decimal("0.006"),
        output_price=Decimal("1.04"),
    )
    ledger = ledger_at(None, FakeCatalog(info))
    expected = Fraction(0)
    for prompt, completion, most in calls:
        cached = min(most, prompt)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "cached_tokens": cached}
        ledger.record(record(usage=usage))
        expected += (
            (prompt - cached) * Fraction("0.18000000000000002")
            + cached * Fraction("0.006")
            + completion * Fraction("1.04")
        ) / 1_000_000
    totals = ledger.totals()
    assert Fraction(totals["total_cost_usd"] or 0) == expected
    assert totals["total_tokens"] == sum(prompt + completion for prompt, completion, _ in calls)
    assert totals["cached_tokens"] == sum(min(cached, prompt) for prompt, _, cached in calls)
    assert sum((event.cost_usd or Decimal(0) for event in ledger.events()), Decimal(0)) == totals["total_cost_usd"]
    ledger.close()


def test_reasoning_is_part_of_the_completion_and_billed_once(ledger: Ledger) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 2000,
        "completion_tokens_details": {"reasoning_tokens": 1500},
        "prompt_tokens_details": {"cached_tokens": 400},
    }
    ledger.record(record(usage=usage))
    [event] = ledger.events()
    assert (event.reasoning_tokens, event.cached_tokens) == (1500, 400)
    assert event.cost_usd == (600 * 3 + 400 * Decimal("0.3") + 2000 * 15) / Decimal(1_000_000)
    assert ledger.totals()["total_tokens"] == 3000


def test_a_price_with_more_digits_than_money_has_is_unknown() -> None:
    info = read_model({"id": "m", "pricing": {"input": "1" + "3" * 40, "output": "1E-90"}})
    assert info.input_price is None
    assert info.output_price is None


# --- the ledger ---


def test_unknown_costs_are_counted_apart_and_never_zero(ledger: Ledger) -> None:
    ledger.record(record(model="a dedicated one"))
    assert ledger.totals()["total_cost_usd"] is None
    assert ledger.events()[0].cost_usd is None
    ledger.record(record())
    ledger.record(record(prompt=None, status="left early"))
    ledger.record(record(prompt=None, status="TogetherAIRateLimitError", http_status=429))
    totals = ledger.totals()
    assert totals["total_cost_usd"] == Decimal("0.018")
    assert totals["unknown_cost_requests"] == 2
    assert totals["failed_requests"] == 1
    assert totals["total_requests"] == 4


def test_no_calls_cost_nothing(ledger: Ledger) -> None:
    assert ledger.totals()["total_cost_usd"] == 0
    assert ledger.totals_by("model") == {}
    assert ledger.events() == []


def test_totals_by_day_model_operation_and_tag(ledger: Ledger) -> None:
    noon = datetime(2026, 3, 31, 12, tzinfo=UTC).timestamp()
    ledger.record(record(called_at=noon, tags=("a", "b", "a")))
    ledger.record(record(called_at=noon + 86_400, operation="embedding", model="e", tags=("b",)))
    ledger.record(record(called_at=noon + 86_401))

    def requests(by: Any) -> dict[str, int]:
        return {name: totals["total_requests"] for name, totals in ledger.totals_by(by).items()}

    assert requests("day") == {"2026-03-31": 1, "2026-04-01": 2}
    assert requests("model") == {"e": 1, "m": 2}
    assert requests("operation") == {"chat": 2, "embedding": 1}
    assert requests("tag") == {"": 1, "a": 1, "b": 2}
    assert ledger.totals(end=date(2026, 3, 31))["total_requests"] == 1
    assert ledger.totals(start=date(2026, 4, 1))["total_requests"] == 2
    after = datetime.fromtimestamp(noon + 86_401, timezone(timedelta(hours=9)))
    assert ledger.totals(start=after)["total_requests"] == 1
    assert ledger.totals(end=after.astimezone(UTC).replace(tzinfo=None))["total_requests"] == 2


def test_an_event_has_everything(ledger: Ledger) -> None:
    ledger.record(record(tags=("täg",), first_token=0.1, retries=2, called_at=1e9))
    [event] = ledger.events()
    assert event.called_at == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    assert event.tags == ("täg",)
    assert (event.latency_seconds, event.first_token_seconds, event.retries) == (0.25, 0.1, 2)
    assert (event.status, event.http_status, event.request_id) == ("ok", None, "r")
    assert (event.prompt_tokens, event.completion_tokens) == (1000, 1000)


def test_texts_that_are_too_long_do_not_cost_the_batch(ledger: Ledger) -> None:
    tags = tuple(f"tag {number}" for number in range(1000))
    ledger.record(record(model="m" * 1000, tags=tags, request_id="r" * 1000))
    [event] = ledger.events()
    assert len(event.model) == 512
    assert event.request_id == "r" * 128
    assert event.tags[:2] == ("tag 0", "tag 1")


@pytest.mark.parametrize("name", [None, "usage.db"], ids=["memory", "sqlite"])
def test_prices_that_come_later_are_filled_in(tmp_path: Path, name: str | None) -> None:
    catalog = FakeCatalog(PRICED, read=False)
    ledger = ledger_at(tmp_path / name if name else None, catalog)
    ledger.record(record())
    ledger.flush()
    assert catalog.reads == 0
    assert ledger.totals()["total_cost_usd"] == Decimal("0.018")
    assert catalog.reads == 1
    ledger.close()


def test_a_catalogue_that_can_not_be_read_is_not_asked_at_every_call(caplog: pytest.LogCaptureFixture) -> None:
    catalog = FakeCatalog(PRICED, read=False)
    catalog.fails = True
    ledger = ledger_at(None, catalog)
    with caplog.at_level(logging.DEBUG, "hana_ai.api.usage"):
        for _ in range(3):
            ledger.record(record())
            assert ledger.totals()["total_cost_usd"] is None
    assert catalog.reads == 1
    assert "no catalogue" in caplog.text


def test_records_of_many_threads_are_all_there(ledger: Ledger) -> None:
    def work() -> None:
        for _ in range(500):
            ledger.record(record(1, 1))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    totals = ledger.totals()
    assert totals["total_requests"] == 4000
    assert totals["total_tokens"] == 8000


def test_a_ledger_in_memory_keeps_the_newest_calls_and_the_sums_of_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "hana_ai.api")
    trimmed, whole = (
        ledger_at(None, limits=Limits(batch_in_memory=10, newest_in_memory=newest)) for newest in (100, 1000)
    )
    for ledger in (trimmed, whole):
        for number in range(300):
            ledger.record(
                record(
                    request_id=str(number),
                    tags=("even",) if number % 2 == 0 else ("odd", "second"),
                    status="ok" if number % 3 else "TogetherAIServerError",
                    called_at=1_800_000_000.0 + number * 1000.0,
                )
            )
            if number % 10 == 9:
                ledger.flush()
    assert 100 <= len(trimmed.events()) < 111
    assert trimmed.events()[-1].request_id == "299"
    assert len(whole.events()) == 300
    assert trimmed.totals() == whole.totals()
    assert trimmed.totals()["total_requests"] == 300
    for by in ("day", "model", "operation", "tag"):
        assert trimmed.totals_by(by) == whole.totals_by(by)
    second_day = sorted(whole.totals_by("day"))[1]
    for limits in ({"start": second_day}, {"end": second_day}, {"start": second_day, "end": second_day}):
        days = {name: date.fromisoformat(day) for name, day in limits.items()}
        assert trimmed.totals(**days) == whole.totals(**days)
    assert caplog.text.count("keeps the newest 100 calls") == 1
    trimmed.close()
    whole.close()


def test_a_ledger_in_memory_prices_no_more_calls_than_it_keeps() -> None:
    catalog = FakeCatalog(PRICED, read=False)
    catalog.fails = True
    limits = Limits(batch_in_memory=10, newest_in_memory=20, retry_prices_seconds=0.0)
    ledger = ledger_at(None, catalog, limits=limits)
    for _ in range(200):
        ledger.record(record())
        ledger.flush()
    catalog.fails = False
    totals = ledger.totals()
    assert totals["total_requests"] == 200
    assert totals["unknown_cost_requests"] == 200 - len(ledger.events())
    assert 20 <= len(ledger.events()) <= 30
    ledger.close()


def test_the_buffer_is_written_without_being_asked(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    ledger = ledger_at(path)
    ledger.record(record())
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        other = ledger_at(path)
        seen = other.totals()["total_requests"]
        other.close()
        if seen:
            break
        time.sleep(0.05)
    assert seen == 1
    ledger.close()


def test_calls_are_kept_while_the_database_is_away(caplog: pytest.LogCaptureFixture) -> None:
    ledger = ledger_in(store := UnreliableStore())
    store.away = True
    for _ in range(Limits().most_pending + 10):
        ledger.record(record(1, 1))
    ledger.flush()
    ledger.flush()
    assert caplog.text.count("calls are kept") == 1
    store.away = False
    assert ledger.totals()["total_requests"] == Limits().most_pending + 10
    ledger.close()


def test_a_commit_whose_answer_was_lost_is_not_repeated() -> None:
    ledger = ledger_in(store := UnreliableStore())
    ledger.totals()
    store.lose_next_answer = True
    ledger.record(record())
    assert ledger.totals()["total_requests"] == 1
    ledger.close()


class UnreliableStore(Store):
    """A store whose connection breaks on demand; its database outlives its connections."""

    def __init__(self) -> None:
        self.away = False
        self.lose_next_answer = False
        self.opened = 0
        self._kept = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        _opened.append(self._kept)
        driver = Driver(
            connect=self._open, errors=(sqlite3.Error,), table='"USAGE"', name="memory", begin="BEGIN IMMEDIATE"
        )
        super().__init__(driver, tries=2)

    def _open(self) -> Any:
        outer = self
        self.opened += 1

        class Connection:
            def cursor(self) -> Any:
                if outer.away:
                    raise sqlite3.OperationalError("away")
                return outer._kept.cursor()

            def commit(self) -> None:
                wrote = outer._kept.in_transaction
                outer._kept.commit()
                if wrote and outer.lose_next_answer:
                    outer.lose_next_answer = False
                    raise sqlite3.OperationalError("lost")

            def rollback(self) -> None:
                outer._kept.rollback()

            def close(self) -> None:
                pass

        return Connection()


# --- what is noted ---


def ended(path: str = "/v1/chat/completions", **fields: Any) -> Ended:
    call = Call(path, model="m", tags=fields.pop("tags", ()))
    values: dict[str, Any] = {
        "seconds": 0.25,
        "first_chunk": None,
        "status": OK,
        "http_status": None,
        "request_id": "r",
        "reply": {"model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
        "base_url": ADDRESS,
        "api_key": KEY,
    }
    return Ended(call=call, **{**values, **fields})


def test_tags_add_up_and_end_with_their_block(ledger: Ledger) -> None:
    meter = Meter(ledger, ADDRESS, KEY)
    with usage_tags("a"):
        with usage_tags("b", "c"):
            meter.ended(ended(tags=("own",)))
        meter.ended(ended())
    meter.ended(ended())
    assert [event.tags for event in ledger.events()] == [("own", "a", "b", "c"), ("a",), ()]


@pytest.mark.parametrize("path", ["/v1/models", "/v2/supported-models", "/v1/endpoints"])
def test_what_costs_no_tokens_is_not_noted_and_needs_no_budget(path: str) -> None:
    ledger = ledger_at(None, budget=Budget(Decimal("0.001"), "month"))
    ledger.record(record())
    meter = Meter(ledger, ADDRESS, KEY)
    call = Call(path, method="GET")
    assert meter.begin(call) is None
    assert meter.admits(call)
    meter.admit(call)
    paid = Call("/v1/rerank", model="m")
    assert not meter.admits(paid)
    with pytest.raises(TogetherAIBudgetExceededError):
        meter.admit(paid)
    ledger.close()


def test_neither_prompts_nor_answers_nor_keys_are_kept() -> None:
    reply = {"model": "m", "choices": [{"message": {"content": "an answer"}}]}
    noted = UsageRecord.of(ended(reply=reply, api_key=SecretStr("a key")))
    assert "an answer" not in repr(noted)
    assert "a key" not in repr(noted)
    assert noted.answering == "m"


def test_a_model_by_another_name_has_the_price_of_the_one_that_answered(ledger: Ledger) -> None:
    Meter(ledger, ADDRESS, KEY).ended(ended(reply={"model": "m"}))
    ledger.record(record(model="an endpoint of one's own", answering="m"))
    assert [event.cost_usd for event in ledger.events()] == [Decimal("0.000069"), Decimal("0.018")]


def test_prices_are_those_of_the_address_that_answered() -> None:
    def priced(price: int) -> FakeCatalog:
        return FakeCatalog(ModelInfo("m", "M", frozenset(), input_price=Decimal(price), output_price=Decimal(0)))

    catalogs = {ADDRESS: priced(1), "https://other.test": priced(2)}
    ledger = Ledger(open_store(IN_MEMORY), catalog_for=lambda base_url, api_key: catalogs[base_url])
    for address in catalogs:
        ledger.record(record(1_000_000, base_url=address))
    assert [event.cost_usd for event in ledger.events()] == [1, 2]
    ledger.close()


def test_noting_a_call_costs_a_fraction_of_writing_it(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path / "usage.db")
    meter = Meter(ledger, ADDRESS, KEY)
    done = ended()

    def note() -> None:
        meter.admits(done.call)
        meter.begin(done.call)
        meter.ended(done)

    def note_and_write() -> None:
        note()
        ledger.flush()

    def cost(work: Callable[[], None], times: int) -> float:
        # The thread's own time: what others do on the machine has no part in it.
        started = time.thread_time()
        for _ in range(times):
            work()
        return (time.thread_time() - started) / times

    cost(note, 200)
    written = min(cost(note_and_write, 20) for _ in range(5))
    noted = min(cost(note, 200) for _ in range(5) if not ledger.flush())
    ledger.close()
    assert noted < written / 5, (noted, written)


# --- which ledger ---


def test_the_same_settings_have_the_same_ledger(tmp_path: Path) -> None:
    assert get_ledger() is get_ledger(TogetherAISettings())
    own = TogetherAISettings(together_usage_db=str(tmp_path / "usage.db"), together_budget_usd="2")
    assert get_ledger(own) is get_ledger(own)
    assert get_ledger(own) is not get_ledger()
    assert get_ledger(own).budget_usd == 2
    assert get_ledger().budget_usd is None


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    settings = TogetherAISettings(together_usage_db=str(tmp_path / "missing" / "usage.db"))
    with pytest.raises(TogetherAISettingsError, match=r"TOGETHER_USAGE_DB=.*missing.*directory"):
        get_ledger(settings)


def test_a_hana_table_needs_a_database() -> None:
    with pytest.raises(TogetherAISettingsError, match="HANA_ADDRESS"):
        get_ledger(TogetherAISettings(together_usage_db="hana:USAGE"))


def test_a_key_can_be_pickled_and_hides_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANA_ADDRESS", "h")
    monkeypatch.setenv("HANA_USER", "u")
    monkeypatch.setenv("HANA_PASSWORD", "secret")
    settings = TogetherAISettings(together_usage_db="hana:USAGE")
    key = usage_key(settings)
    assert "secret" not in repr(key)
    assert pickle.loads(pickle.dumps(key)) == key
    assert hash(key)
    assert usage_key(TogetherAISettings()) == IN_MEMORY


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    path.write_bytes(b"not a database " * 100)
    ledger = ledger_at(path)
    with pytest.raises(TogetherAIError, match=r"usage\.db can't be used: file is not a database"):
        ledger.totals()
    ledger.close()


@pytest.mark.parametrize(
    ("table", "quoted"),
    [
        ("usage", '"USAGE"'),
        ("Fin.usage_1", '"FIN"."USAGE_1"'),
        ('"My table"', '"My table"'),
        ('fin."a.b""c"', '"FIN"."a.b""c"'),
    ],
)
def test_table_names_become_identifiers(table: str, quoted: str) -> None:
    assert quoted_table(table, SETTING) == quoted


@pytest.mark.parametrize(
    "table",
    [
        "",
        ".",
        "a.",
        ".a",
        "a.b.c",
        "a b",
        "a;drop table b",
        'a"b',
        '"a',
        '""',
        "a--",
        "1a",
        "ä",
        "a" * 121,
        '"a\nb"',
    ],
)
def test_what_is_no_table_is_refused(table: str) -> None:
    with pytest.raises(TogetherAISettingsError, match="does not name a table"):
        quoted_table(table, SETTING)


@given(st.text(max_size=20))
def test_no_text_gets_out_of_its_identifier(text: str) -> None:
    try:
        quoted = quoted_table(text, SETTING)
    except TogetherAISettingsError:
        return
    # SQLite quotes in the same way: the statement has one table, whatever the text was.
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE {quoted.split('.', 1)[-1] if quoted.count('.') == 1 else quoted} (A)")


# --- the budget ---


def test_warnings_come_once_at_each_threshold() -> None:
    budget = Budget(Decimal(1), "month")
    warnings: list[BudgetWarning] = []
    budget.on_budget(warnings.append)
    for _ in range(6):
        budget.add(Decimal("0.2"), time.time())
    assert [warning.percent for warning in warnings] == [50, 80, 100]
    assert [warning.spent_usd for warning in warnings] == [Decimal("0.6"), Decimal("0.8"), Decimal("1.0")]


def test_a_callback_that_fails_does_not_lose_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    budget = Budget(Decimal(1), "day")
    budget.on_budget(lambda warning: 1 / 0)
    budget.add(Decimal(2), time.time())
    assert "ZeroDivisionError" in caplog.text


def test_a_spent_budget_refuses_and_says_until_when() -> None:
    budget = Budget(Decimal("0.50"), "day")
    budget.check()
    budget.add(Decimal("0.5"), time.time())
    with pytest.raises(TogetherAIBudgetExceededError, match=r"\$0\.5 for this day is spent .*UTC") as caught:
        budget.check()
    assert caught.value.spent_usd == Decimal("0.5")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.budget_usd, again.period) == (str(caught.value), Decimal("0.50"), "day")


@pytest.mark.parametrize(("period", "days"), [("day", 1), ("month", 32)])
def test_a_new_period_begins_with_nothing_spent(period: Any, days: int) -> None:
    now = time.time()
    clock = [now]
    budget = Budget(Decimal(1), period, clock=lambda: clock[0])
    budget.add(Decimal(1), now)
    with pytest.raises(TogetherAIBudgetExceededError):
        budget.check()
    clock[0] = now + days * 86_400
    budget.check()
    # What began in the old period is not counted in the new one.
    budget.add(Decimal(5), now)
    budget.check()
    budget.add(Decimal(1), now + days * 86_400)
    with pytest.raises(TogetherAIBudgetExceededError):
        budget.check()


def test_calls_that_can_not_be_counted_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    budget = Budget(Decimal(1), "month")
    for _ in range(3):
        budget.add(None, time.time())
    assert caplog.text.count("can't count such calls") == 1
    budget.check()


def test_what_others_spend_is_known_before_the_next_call(tmp_path: Path) -> None:
    one, other = (ledger_at(tmp_path / "usage.db", budget=Budget(Decimal("0.03"), "month")) for _ in range(2))
    one.admission.admit(ADDRESS, KEY)
    one.record(record())
    other.admission.admit(ADDRESS, KEY)
    other.record(record())
    other.flush()
    with pytest.raises(TogetherAIBudgetExceededError):
        one.admission.admit(ADDRESS, KEY)
    with pytest.raises(TogetherAIBudgetExceededError):
        other.admission.admit(ADDRESS, KEY)
    assert one.spent_usd == Decimal("0.036")
    one.close()
    other.close()


def test_a_restarted_process_knows_what_was_spent_before(tmp_path: Path) -> None:
    first = ledger_at(tmp_path / "usage.db")
    first.record(record())
    first.close()
    second = ledger_at(tmp_path / "usage.db", budget=Budget(Decimal("0.018"), "month"))
    with pytest.raises(TogetherAIBudgetExceededError):
        second.admission.admit(ADDRESS, KEY)
    second.close()


def test_a_callback_may_ask_the_ledger(tmp_path: Path) -> None:
    seen: list[int] = []
    for path in (None, tmp_path / "usage.db"):
        other = ledger_at(path)
        other.record(record())
        other.flush()
        ledger = ledger_at(path, budget=Budget(Decimal("0.06"), "month"))
        ledger.on_budget(lambda _, asked=ledger: seen.append(asked.totals()["total_requests"]))  # type: ignore[misc]
        for _ in range(2):
            ledger.admission.admit(ADDRESS, KEY)
            ledger.record(record())
        other.record(record())
        other.close()
        if path is not None:
            with pytest.raises(TogetherAIBudgetExceededError):
                ledger.admission.admit(ADDRESS, KEY)
        ledger.close()
    assert seen == [2, 2, 3, 4]


def test_a_database_that_is_away_does_not_hold_up_every_call() -> None:
    # The thread that would write in between waits for longer than the test takes.
    ledger = ledger_in(
        store := UnreliableStore(), budget=Budget(Decimal("0.03"), "month"), limits=Limits(flush_seconds=3600)
    )
    store.away = True
    ledger.admission.admit(ADDRESS, KEY)
    opened = store.opened
    assert opened
    for _ in range(50):
        ledger.admission.admit(ADDRESS, KEY)
    assert store.opened == opened
    for _ in range(2):
        ledger.admission.admit(ADDRESS, KEY)
        ledger.record(record())
    # What the process spent itself it knows.
    with pytest.raises(TogetherAIBudgetExceededError):
        ledger.admission.admit(ADDRESS, KEY)
    store.away = False
    assert ledger.totals()["total_requests"] == 2
    ledger.close()


def test_with_a_budget_prices_are_asked_for_before_the_first_call() -> None:
    catalog = FakeCatalog(PRICED, read=False)
    ledger = ledger_at(None, catalog, budget=Budget(Decimal("0.01"), "month"))
    ledger.admission.admit(ADDRESS, KEY)
    assert catalog.reads == 1
    ledger.record(record())
    with pytest.raises(TogetherAIBudgetExceededError):
        ledger.admission.admit(ADDRESS, KEY)
    ledger.close()


# --- another DB-API driver ---


def test_hana_gets_question_marks_and_its_own_types(monkeypatch: pytest.MonkeyPatch) -> None:
    import hdbcli.dbapi

    statements: list[str] = []
    database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    _opened.append(database)
    database.execute("ATTACH DATABASE ':memory:' AS FIN")
    asked: dict[str, Any] = {}

    class Cursor:
        def __init__(self) -> None:
            self._cursor = database.cursor()

        def _do(self, name: str, statement: str, parameters: Any) -> None:
            statements.append(statement)
            if not database.in_transaction:
                database.execute("BEGIN")
            try:
                getattr(self._cursor, name)(statement, parameters)
            except sqlite3.Error as exc:
                raise hdbcli.dbapi.ProgrammingError(259, str(exc)) from exc

        def execute(self, statement: str, parameters: Any = ()) -> None:
            self._do("execute", statement, parameters)

        def executemany(self, statement: str, parameters: Any) -> None:
            self._do("executemany", statement, parameters)

        def fetchall(self) -> list[Any]:
            return self._cursor.fetchall()

        def close(self) -> None:
            self._cursor.close()

    class Connection:
        cursor = staticmethod(Cursor)
        commit = staticmethod(database.commit)
        rollback = staticmethod(database.rollback)

        def close(self) -> None:
            pass

    def connect(**arguments: Any) -> Connection:
        asked.update(arguments)
        return Connection()

    monkeypatch.setattr(hdbcli.dbapi, "connect", connect)
    settings = TogetherAISettings(
        together_usage_db="hana:usage", hana_address="h", hana_user="u", hana_password="p", hana_schema="FIN"
    )
    ledger = get_ledger(settings)
    prices = FakeCatalog(PRICED)
    ledger.price_by(lambda base_url, api_key: prices)
    for _ in range(3):
        ledger.record(record())
    assert ledger.totals()["total_cost_usd"] == Decimal("0.054")
    assert ledger.totals_by("day")[datetime.now(UTC).date().isoformat()]["total_requests"] == 3
    assert (asked["address"], asked["password"], asked["autocommit"]) == ("h", "p", False)
    assert any(statement.startswith('CREATE TABLE "FIN"."USAGE" (') for statement in statements)
    assert any('"FIN"."USAGE_SPENT"' in statement for statement in statements)
    assert not any("PRAGMA" in statement or "IMMEDIATE" in statement for statement in statements)
    ledger.close()
    database.close()


def test_a_hana_store_needs_a_key_or_all_of_the_rest() -> None:
    key = usage_key(TogetherAISettings(together_usage_db="hana:T", hana_address="h", hana_user="u"))
    assert key.hana is not None
    with pytest.raises(TogetherAISettingsError, match="HANA_USERKEY"):
        open_store(key)
    assert open_store(key._replace(hana=key.hana._replace(password=SecretStr("p")))).name == "hana:T"
    assert open_store(key._replace(hana=key.hana._replace(userkey="K"))).shared
