"""A catalogue that does not answer holds up its own address's calls, for a while, and nothing else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from hana_ai.api.usage.budget import Budget
from hana_ai.api.usage.key import UsageKey
from hana_ai.api.usage.ledger import Ledger
from hana_ai.api.usage.limits import Limits
from hana_ai.api.usage.store import open_store
from tests.unit.test_usage import KEY, PRICED, FakeCatalog, record

SILENT, QUICK = "https://silent.test", "https://quick.test"


class SilentCatalog(FakeCatalog):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__(PRICED, read=False)
        self.asked, self.let = threading.Event(), threading.Event()

    def models(self) -> dict[str, object]:  # type: ignore[override]
        self.asked.set()
        assert self.let.wait(60)
        return super().models()  # type: ignore[return-value]


@pytest.fixture
def silent() -> Iterator[SilentCatalog]:
    made = SilentCatalog()
    yield made
    made.let.set()


@pytest.fixture
def opened(silent: SilentCatalog, tmp_path: Path) -> Callable[..., Ledger]:
    catalogs = {SILENT: silent, QUICK: FakeCatalog(PRICED, read=False)}

    def open_ledger(limits: Limits | None = None) -> Ledger:
        return Ledger(
            open_store(UsageKey(str(tmp_path / "usage.db"))),
            catalog_for=lambda base_url, api_key: catalogs[base_url],
            budget=Budget(Decimal(100), "month"),
            limits=limits or Limits(),
        )

    return open_ledger


@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_call_to_another_address_does_not_wait(
    face: str, opened: Callable[..., Ledger], silent: SilentCatalog
) -> None:
    ledger = opened()
    admission = ledger.admission
    waiting = threading.Thread(target=admission.admit, args=(SILENT, KEY, 60.0))
    waiting.start()
    assert silent.asked.wait(30)
    others = threading.Thread(
        target=(lambda: admission.admit(QUICK, KEY, 60.0))
        if face == "sync"
        else (lambda: asyncio.run(admission.aadmit(QUICK, KEY, 60.0)))
    )
    others.start()
    others.join(30)
    assert not others.is_alive()
    assert waiting.is_alive()
    silent.let.set()
    waiting.join(30)
    assert not waiting.is_alive()
    ledger.close()


def test_those_who_want_the_same_prices_ask_once(opened: Callable[..., Ledger], silent: SilentCatalog) -> None:
    ledger = opened()
    threads = [threading.Thread(target=ledger.admission.admit, args=(SILENT, KEY, 60.0)) for _ in range(8)]
    for thread in threads:
        thread.start()
    silent.let.set()
    for thread in threads:
        thread.join(30)
    assert silent.reads == 1
    ledger.close()


def test_closing_does_not_wait_for_ever_and_the_other_prices_are_found(
    opened: Callable[..., Ledger], silent: SilentCatalog
) -> None:
    ledger = opened(Limits(close_seconds=0.5))
    for address in (SILENT, QUICK):
        ledger.record(record(base_url=address))
    began = time.monotonic()
    ledger.close()
    # SilentCatalog would take 60.
    assert time.monotonic() - began < 30
    with closing(opened()) as again:
        assert [event.cost_usd for event in again.events()] == [None, Decimal("0.018")]


def test_prices_that_come_in_time_are_written_when_it_is_closed(
    opened: Callable[..., Ledger], silent: SilentCatalog
) -> None:
    ledger = opened(Limits(close_seconds=30))
    ledger.record(record(base_url=SILENT, api_key=SecretStr("k")))
    threading.Timer(0.1, silent.let.set).start()
    ledger.close()
    with closing(opened()) as again:
        assert [event.cost_usd for event in again.events()] == [Decimal("0.018")]
