"""The models that an address serves: prices, context, capabilities, retirement.

Read from `/v2/supported-models` (which tells what is serverless), else from `/v1/models` (which does not), and
kept for an hour, on disk for other processes, too. Names and prices are never in the code: models retire every
month.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from hana_ai.api.catalog.choosing import default_of, with_alternatives
from hana_ai.api.catalog.kept import PAUSE_SECONDS, KeptCatalog
from hana_ai.api.catalog.model_info import ModelInfo, read_model
from hana_ai.api.catalog.retiring import follow, warn_of_defaults
from hana_ai.api.errors import (
    TogetherAIError,
    TogetherAIModelNotFoundError,
    TogetherAIRequestError,
    TogetherAIResponseError,
)
from hana_ai.api.transport.call import Call, Reply
from hana_ai.api.wire.pages import PageTurner
from hana_ai.api.wire.shapes import shown

__all__ = ["LIFETIME", "Catalog", "ModelInfo", "Sender", "read_model"]

logger = logging.getLogger(__name__)

LIFETIME = 3600.0
"""Seconds for which a catalogue counts as fresh."""

_SUPPORTED = "/v2/supported-models"
_ALL = "/v1/models"
_PAGE = 500
_MOST_PAGES = 50
_SECONDS = 20.0
"""How long reading one of the lists may take, all its pages together."""
_JUST_NOW_SECONDS = 60.0


class Sender(Protocol):
    """Who sends the catalogue's requests: a transport, or the part of one that is needed here."""

    base_url: str

    def request(self, call: Call) -> Reply:
        """Send a request and return the decoded reply."""

    async def arequest(self, call: Call) -> Reply:
        """Send a request from a coroutine; raises the same errors as `request`."""


class Catalog:
    """The catalogue of one address. Thread-safe; read when first asked for, and again after its lifetime.

    Parameters
    ----------
    sender : Sender
        Sends its requests.
    lifetime : float
        Seconds for which it counts as fresh.
    kept : KeptCatalog, optional
        Where it is kept for other processes, which must have the same lifetime; without one, in memory alone.
    """

    def __init__(self, sender: Sender, lifetime: float = LIFETIME, kept: KeptCatalog | None = None) -> None:
        self._sender = sender
        self._lifetime = lifetime
        self._kept = kept
        # One object, so that its two halves are always of the same reading.
        self._last: tuple[dict[str, ModelInfo], float] | None = None
        self._failed: tuple[TogetherAIError, float] | None = None
        follow(self)

    @property
    def base_url(self) -> str:
        """The address."""
        return self._sender.base_url

    @property
    def cached(self) -> Mapping[str, ModelInfo] | None:
        """The models by name as last read, without asking the server; None before the first time."""
        return None if self._last is None else self._last[0]

    @property
    def fresh(self) -> bool:
        """Whether the catalogue has been read and is not older than its lifetime."""
        return self._age() < self._lifetime

    def models(self, *, refresh: bool = False) -> Mapping[str, ModelInfo]:
        """Return all models by name.

        Raises
        ------
        TogetherAIRequestError
            Neither list can be read.
        """
        if not refresh and (self.fresh or self._found()):
            return self.cached or {}
        if self._kept is None or refresh:
            return self._read()
        began = time.monotonic()
        with self._kept.turn() as turn:
            while not turn.come():
                time.sleep(PAUSE_SECONDS)
            # Whoever had the turn before has probably written what is wanted here.
            if self._found():
                return self.cached or {}
            self._check_failed_since(began)
            return self._read()

    async def amodels(self, *, refresh: bool = False) -> Mapping[str, ModelInfo]:
        """Return all models by name, from a coroutine; raises the same errors as `models`."""
        if not refresh and self.fresh:
            return self.cached or {}
        if self._kept is None or refresh:
            return await self._aread()
        if await asyncio.to_thread(self._found):
            return self.cached or {}
        began = time.monotonic()
        with self._kept.turn() as turn:
            while not await asyncio.to_thread(turn.come):  # noqa: ASYNC110 - what is waited for is another process
                await asyncio.sleep(PAUSE_SECONDS)
            if await asyncio.to_thread(self._found):
                return self.cached or {}
            self._check_failed_since(began)
            return await self._aread()

    def default(self, kind: str) -> str:
        """Pick an available model of a kind: a recommended one, else the first that is not deprecated.

        Raises
        ------
        TogetherAISettingsError
            The catalogue has none; the message says what to set.
        """
        return default_of(self.models().values(), kind, self.base_url)

    async def adefault(self, kind: str) -> str:
        """Pick an available model of a kind, from a coroutine; raises the same errors as `default`."""
        return default_of((await self.amodels()).values(), kind, self.base_url)

    def suggest(self, error: TogetherAIModelNotFoundError, kind: str) -> TogetherAIModelNotFoundError:
        """Add the names of available models to an error about a missing one."""
        try:
            self.models()
            if self._is_doubtful(error.model):
                self.models(refresh=True)
        except TogetherAIError as exc:
            logger.debug("no suggestions for %s: %s", error.model, exc)
        return with_alternatives(error, (self.cached or {}).values(), kind)

    async def asuggest(self, error: TogetherAIModelNotFoundError, kind: str) -> TogetherAIModelNotFoundError:
        """Add the names of available models to an error, from a coroutine; see `suggest`."""
        try:
            await self.amodels()
            if self._is_doubtful(error.model):
                await self.amodels(refresh=True)
        except TogetherAIError as exc:
            logger.debug("no suggestions for %s: %s", error.model, exc)
        return with_alternatives(error, (self.cached or {}).values(), kind)

    def _is_doubtful(self, missing: str | None) -> bool:
        """Whether a missing model is listed, and that was not read just now: who is next must not choose it."""
        return self._last is not None and missing in self._last[0] and self._age() > _JUST_NOW_SECONDS

    def _age(self) -> float:
        return float("inf") if self._last is None else time.monotonic() - self._last[1]

    def _found(self) -> bool:
        """Whether another process has left a catalogue on disk that is fresh; if so, it is this one's now."""
        found = None if self._kept is None else self._kept.read()
        if found is None:
            return False
        entries, age = found
        self._take([read_model(entry) for entry in entries], age)
        return True

    def _check_failed_since(self, began: float) -> None:
        """Give the error of whoever had the turn in the meantime to all who waited for it in this process."""
        if self._failed is not None and self._failed[1] >= began:
            raise copy.copy(self._failed[0])

    @contextmanager
    def _noting_failure(self) -> Iterator[_Reading]:
        try:
            yield _Reading()
        except TogetherAIError as exc:
            self._failed = copy.copy(exc), time.monotonic()
            raise

    def _read(self) -> Mapping[str, ModelInfo]:
        with self._noting_failure() as reading:
            while (call := reading.next_call()) is not None:
                try:
                    reading.take(self._sender.request(call))
                except TogetherAIRequestError as exc:
                    reading.refused(exc)
        self._keep(reading)
        return self._take(reading.models)

    async def _aread(self) -> Mapping[str, ModelInfo]:
        with self._noting_failure() as reading:
            while (call := reading.next_call()) is not None:
                try:
                    reading.take(await self._sender.arequest(call))
                except TogetherAIRequestError as exc:
                    reading.refused(exc)
        if self._kept is not None:
            await asyncio.to_thread(self._keep, reading)
        return self._take(reading.models)

    def _keep(self, reading: _Reading) -> None:
        if self._kept is not None:
            self._kept.write([model.raw for model in reading.models])

    def _take(self, listed: list[ModelInfo], age: float = 0.0) -> Mapping[str, ModelInfo]:
        models = {model.id: model for model in listed}
        self._last = models, time.monotonic() - age
        warn_of_defaults(self.base_url, models)
        return models


class _Reading:
    """One reading of the catalogue, page by page, without I/O of its own."""

    def __init__(self) -> None:
        self.models: list[ModelInfo] = []
        self._path: str | None = _SUPPORTED
        self._after: str | None = None
        self._turner = PageTurner(_MOST_PAGES, _SECONDS)

    def next_call(self) -> Call | None:
        if self._path is None:
            return None
        params: dict[str, str | int] = {}
        if self._path == _SUPPORTED:
            params = {"product": "PRODUCT_SERVERLESS", "limit": _PAGE}
            if self._after:
                params["after"] = self._after
        return Call(self._path, method="GET", params=params, timeout=self._turner.seconds_left, max_retries=2)

    def take(self, reply: Reply) -> None:
        data = reply.data
        entries = data.get("data", data.get("models", [])) if isinstance(data, Mapping) else data
        if not isinstance(entries, (list, type(None))):
            raise TogetherAIResponseError(f"the catalogue is no list of models: {shown(data)}")
        listed = [read_model(entry) for entry in entries or () if isinstance(entry, Mapping)]
        self.models += [model for model in listed if model.id]
        cursor = data.get("next_cursor", data.get("nextCursor")) if isinstance(data, Mapping) else None
        cursor = str(cursor) if cursor and self._path == _SUPPORTED else None
        self._after = self._turner.next(cursor, reply.request_id)
        if self._after is None:
            self._path = None
        else:
            self._turner.check()

    def refused(self, error: TogetherAIRequestError) -> None:
        if self._path != _SUPPORTED or error.status == 401:
            raise error
        # Dedicated gateways and compatible servers know only the older list.
        logger.debug("no %s, trying %s: %s", _SUPPORTED, _ALL, error)
        self._path, self._after, self.models = _ALL, None, []
        self._turner = PageTurner(_MOST_PAGES, _SECONDS)
