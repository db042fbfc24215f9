"""Whether the next call may go: the budget, what the other processes spent of it, and prices to count it by.

What has to be read for that is read by threads, and a call leaves them when it has waited long enough.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pydantic import SecretStr

from hana_ai.api.storage.outage import Outage
from hana_ai.api.storage.schema import StoreError
from hana_ai.api.usage.book import Book
from hana_ai.api.usage.budget import Budget, utc_day
from hana_ai.api.usage.clock import now
from hana_ai.api.usage.limits import Limits
from hana_ai.api.usage.pricing import PriceList, Prices
from hana_ai.api.usage.store import Store
from hana_ai.api.usage.turns import Turns

logger = logging.getLogger(__name__)

_LEAST_SHARE = 0.1
"""Of the time to wait: what is left for the database where prices took it all."""


@dataclass
class Admission:
    """Admits calls. Thread-safe."""

    store: Store
    book: Book
    prices: Prices
    budget: Budget | None
    outage: Outage
    """Of the store's database."""
    flush: Callable[[float], None]
    """Writes what is pending within so many seconds."""
    strict: bool
    """Whether no call goes while the database can't be used; one in memory always can be."""
    limits: Limits

    def __post_init__(self) -> None:
        self.strict = self.strict and self.store.shared
        self.closed = False
        """Whether the ledger was closed; an exchange that outlives that keeps no connection."""
        self._lock = threading.Lock()
        self._readings: weakref.WeakKeyDictionary[PriceList, Turns] = weakref.WeakKeyDictionary()
        """Those of each catalogue: an address that does not answer keeps nobody else waiting."""
        self._exchanges = Turns(
            self._exchange,
            "together-ai-budget",
            seconds=self.limits.exchange_seconds,
            punctual=self.store.punctual,
        )

    @property
    def needed(self) -> bool:
        """Whether calls are to be admitted: there is a budget, or none goes without the database."""
        return self.budget is not None or self.strict

    def admit(self, base_url: str, api_key: SecretStr, seconds: float = 30.0) -> None:
        """Refuse the next call to an address, if the budget is spent.

        Parameters
        ----------
        base_url, api_key
            The address, whose prices are needed.
        seconds : float
            How long that may take.

        Raises
        ------
        TogetherAIBudgetExceededError
            The budget is spent.
        StoreError
            The database can't be used, and TOGETHER_USAGE_UNAVAILABLE=refuse.
        """
        self._check()
        deadline = time.monotonic() + seconds
        if (reading := self._reading_of(base_url, api_key)) is not None:
            reading.wait(seconds)
        if self._needs_exchange():
            self._exchanged(self._exchanges.wait(max(_LEAST_SHARE * seconds, deadline - time.monotonic())))

    async def aadmit(self, base_url: str, api_key: SecretStr, seconds: float = 30.0) -> None:
        """Refuse the next call from a coroutine; raises the same errors as `admit`."""
        self._check()
        deadline = time.monotonic() + seconds
        if (reading := self._reading_of(base_url, api_key)) is not None:
            await reading.await_(seconds)
        if self._needs_exchange():
            # In the task, not in the thread: the callbacks are the caller's.
            left = max(_LEAST_SHARE * seconds, deadline - time.monotonic())
            self._exchanged(await self._exchanges.await_(left))

    def _check(self) -> None:
        if self.budget is not None:
            self.budget.check()

    def _reading_of(self, base_url: str, api_key: SecretStr) -> Turns | None:
        """The reading of the prices without which nothing could be counted; None if there is none to wait for."""
        catalog = self.prices.catalog_at(base_url, api_key)
        if self.budget is None or catalog is None or catalog.fresh:
            return None
        with self._lock:
            found = self._readings.get(catalog)
            if found is None:
                read = partial(self._read_prices, weakref.ref(catalog))
                found = Turns(read, "together-ai-prices", seconds=math.inf, punctual=False)
                self._readings[catalog] = found
        return found

    def _read_prices(self, place: weakref.ref[PriceList], seconds: float) -> None:
        catalog = place()
        if catalog is not None:
            self.prices.read(catalog)

    def _needs_exchange(self) -> bool:
        """Whether the database is to be asked; not while it is away.

        Until it is back, this process goes by what it knows, or refuses.
        """
        if self.outage.lasts:
            self._go_on_without()
        return self.store.shared and not self.outage.lasts

    def _exchange(self, seconds: float) -> None:
        """Tell the other processes what this one spent, and ask what they did, within some seconds."""
        try:
            self._exchange_sums(seconds)
        finally:
            if self.closed:
                self.store.close()

    def _exchange_sums(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self.flush(seconds)
        if self.outage.lasts:
            return
        first_day = utc_day(now()) if self.budget is None else self.budget.first_day
        try:
            others, own = self.book.spent(first_day, seconds=max(0.0, deadline - time.monotonic()))
        except StoreError as exc:
            self.outage.begin(exc, logger)
            return
        self.outage.end()
        if self.budget is not None:
            self.budget.set_others(others, first_day, own)

    def _exchanged(self, in_time: bool) -> None:
        """Go on after the database was asked."""
        if not in_time:
            self.outage.begin(StoreError(f"The ledger {self.store.name} did not answer in time"), logger)
        if self.outage.lasts:
            self._go_on_without()
        if self.budget is not None:
            self.budget.warn()
        self._check()

    def _go_on_without(self) -> None:
        if self.strict:
            raise StoreError(
                f"{self.outage.error or 'The ledger is away.'} TOGETHER_USAGE_UNAVAILABLE=refuse, so the request "
                "was not sent."
            )
