"""Default models that retire: a warning, once, from whichever catalogue is read first."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from typing import Protocol

from hana_ai.api.catalog.choosing import close_names, variable_of
from hana_ai.api.catalog.model_info import ModelInfo
from hana_ai.api.process import RenewableLock

logger = logging.getLogger(__name__)


class Readable(Protocol):
    """The part of a catalogue that is looked at here."""

    @property
    def base_url(self) -> str: ...
    @property
    def cached(self) -> Mapping[str, ModelInfo] | None: ...


_catalogs: weakref.WeakSet[Readable] = weakref.WeakSet()
_defaults: dict[tuple[str, str], str] = {}
_warned: set[tuple[str, str, str]] = set()
_lock = RenewableLock()


def follow(catalog: Readable) -> None:
    """Look at a catalogue from now on, where it has been read."""
    _catalogs.add(catalog)


def expect(base_url: str, kind: str, model: str) -> None:
    """Note that an address is expected to serve a default model of the settings.

    Making an object asks no server: the catalogue is looked at when it is read for the first time, whoever reads
    it (the pre-flight at start, the client for its prices, the ledger's thread, the budget before the first call,
    an error about a model), or at once if it has been read already. A model that is deprecated or missing is then
    warned of, once.
    """
    if _defaults.get((base_url, kind)) == model:
        return
    _defaults[base_url, kind] = model
    for catalog in list(_catalogs):
        if catalog.base_url == base_url and catalog.cached is not None:
            warn_of_defaults(base_url, catalog.cached)
            return


def warn_of_defaults(base_url: str, models: Mapping[str, ModelInfo]) -> None:
    """Warn of default models that an address has deprecated or does not list."""
    for (address, kind), name in list(_defaults.items()):
        info = models.get(name)
        if address != base_url or (info is not None and not info.deprecated):
            continue
        with _lock:
            if (address, kind, name) in _warned:
                continue
            _warned.add((address, kind, name))
        what = (
            f"is not in the catalogue of {base_url}, which is fine only for an endpoint of your own"
            if info is None
            else "is deprecated and will be retired"
        )
        logger.warning(
            "%s=%s %s. Available %s models: %s.",
            variable_of(kind),
            name,
            what,
            kind,
            ", ".join(close_names(models.values(), kind, name)) or "none",
        )
