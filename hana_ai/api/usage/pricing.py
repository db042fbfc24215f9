"""What calls cost: their tokens, times the prices of the catalogue of the address that answered them.

A catalogue is read when it is needed for the first time, and again when it is older than an hour. Calls that are
written before that wait here for their prices.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple, Protocol

from pydantic import SecretStr

from hana_ai.api.catalog.model_info import ModelInfo
from hana_ai.api.catalog.money import EXACT
from hana_ai.api.usage.record import CACHED, UsageRecord
from hana_ai.api.wire.token_counts import Tokens, read_tokens

logger = logging.getLogger(__name__)


class PriceList(Protocol):
    """The part of a catalogue that has the prices."""

    @property
    def cached(self) -> Mapping[str, ModelInfo] | None:
        """The models by name as last read; None before the first time."""

    @property
    def fresh(self) -> bool:
        """Whether they have been read lately."""

    def models(self) -> Mapping[str, ModelInfo]:
        """The models by name, read from the server if need be."""


CatalogFor = Callable[[str, SecretStr], PriceList]
"""The catalogue of an address, for a key."""


class Priced(NamedTuple):
    """A call with its tokens and its cost."""

    record: UsageRecord
    tokens: Tokens
    cost: Decimal | None
    """USD; None when it is not known, or not yet."""


class Prices:
    """Prices calls, and knows which ones wait for a price. Thread-safe.

    Parameters
    ----------
    catalog_for : callable, optional
        The catalogue of an address; without it nothing is priced.
    most_waiting : int
        Calls that wait for a price; of more, the oldest are forgotten, and their cost stays unknown.
    try_again_seconds : float
        Until a catalogue that couldn't be read is asked for again.
    """

    def __init__(self, catalog_for: CatalogFor | None, *, most_waiting: int, try_again_seconds: float) -> None:
        self.catalog_for = catalog_for
        self._try_again_seconds = try_again_seconds
        self.waiting: deque[tuple[int, UsageRecord]] = deque(maxlen=most_waiting)
        """Calls without a price, with their numbers in the ledger."""
        self._tried: weakref.WeakKeyDictionary[PriceList, float] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._readings: weakref.WeakKeyDictionary[PriceList, threading.Lock] = weakref.WeakKeyDictionary()

    def of(self, record: UsageRecord, known: Decimal | None = None) -> Priced:
        """Price a call by the catalogue as last read, unless its cost is known."""
        tokens = read_tokens(record.usage)
        return Priced(record, tokens, self._cost(record, tokens) if known is None else known)

    def _cost(self, record: UsageRecord, tokens: Tokens) -> Decimal | None:
        if record.status == CACHED:
            return Decimal(0)
        models = self._models(record)
        if models is None:
            return None
        info = models.get(record.model) or models.get(record.answering or "")
        cost = None if info is None else info.cost_of(tokens)
        return None if cost is None else EXACT.multiply(cost, record.price_share)

    def _models(self, record: UsageRecord) -> Mapping[str, ModelInfo] | None:
        catalog = self.catalog_at(record.base_url, record.api_key)
        return None if catalog is None else catalog.cached

    # --- calls that wait for a price ---

    def may_come(self, call: Priced) -> bool:
        """Whether a cost is missing only because the catalogue has not been read."""
        return call.cost is None and call.tokens.prompt is not None and self._models(call.record) is None

    def forget_until(self, number: int) -> None:
        """Forget the calls up to a number."""
        while self.waiting and self.waiting[0][0] <= number:
            self.waiting.popleft()

    def found(self) -> tuple[list[tuple[int, Priced]], list[tuple[int, UsageRecord]]]:
        """The calls whose price has come, and those that still wait for one; see `keep`."""
        priced: list[tuple[int, Priced]] = []
        waiting: list[tuple[int, UsageRecord]] = []
        for number, record in self.waiting:
            call = self.of(record)
            if call.cost is not None:
                priced.append((number, call))
            elif self.may_come(call):
                waiting.append((number, record))
        return priced, waiting

    def keep(self, waiting: Iterable[tuple[int, UsageRecord]]) -> None:
        """Let no other calls than these wait."""
        self.waiting = deque(waiting, maxlen=self.waiting.maxlen)

    # --- catalogues ---

    def catalog_at(self, base_url: str, api_key: SecretStr) -> PriceList | None:
        """The catalogue of an address, where there are catalogues."""
        return None if self.catalog_for is None else self.catalog_for(base_url, api_key)

    def catalogs(self, newest: UsageRecord | None = None) -> list[PriceList]:
        """The catalogues of the calls that wait, and of a further one."""
        records = [record for _, record in list(self.waiting)]
        if newest is not None:
            records.append(newest)
        places = dict.fromkeys((record.base_url, record.api_key) for record in records)
        return [catalog for place in places if (catalog := self.catalog_at(*place)) is not None]

    def is_due(self, catalog: PriceList) -> bool:
        """Whether a catalogue is to be read: it is not fresh, and that did not fail a while ago."""
        tried = self._tried.get(catalog)
        return not catalog.fresh and (tried is None or time.monotonic() - tried > self._try_again_seconds)

    def read(self, catalog: PriceList) -> None:
        """Read a catalogue, if it is due; who wants the same one meanwhile waits, and nobody else."""
        with self._lock:
            reading = self._readings.setdefault(catalog, threading.Lock())
        with reading:
            if not self.is_due(catalog):
                return
            self._tried[catalog] = time.monotonic()
            try:
                catalog.models()
            except RuntimeError as exc:
                # A TogetherAIError, or the word that the transport was closed meanwhile. Costs stay unknown, which
                # the totals show; the next try is some minutes later.
                logger.debug("no prices: %s", exc)

    def read_within(self, seconds: float) -> None:
        """Read the catalogues of the calls that wait, side by side; those that are late are left to themselves."""
        end = time.monotonic() + seconds
        readings = []
        for catalog in self.catalogs():
            if catalog.cached is not None:
                continue
            reading = threading.Thread(target=self.read, args=(catalog,), daemon=True)
            try:
                reading.start()
            except RuntimeError:
                # At the end of the interpreter no thread can be started.
                self.read(catalog)
            else:
                readings.append(reading)
        for reading in readings:
            reading.join(max(0.0, end - time.monotonic()))
