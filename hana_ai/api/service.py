"""The wiring: transports with their watchers and advisers, catalogues, ledgers, each once in the process.

The only module that knows the transport, the ledger, telemetry and the catalogue together.
"""

from __future__ import annotations

import weakref

from pydantic import SecretStr

from hana_ai.api.catalog.catalog import LIFETIME, Catalog
from hana_ai.api.catalog.kept import KeptCatalog
from hana_ai.api.errors import TogetherAIModelNotFoundError
from hana_ai.api.process import RenewableLock, Stage, on_exit, on_fork
from hana_ai.api.settings import TogetherAISettings, current_settings
from hana_ai.api.transport.call import Call, Reply
from hana_ai.api.transport.transport import Transport
from hana_ai.api.usage import ledger as ledgers
from hana_ai.api.usage.key import IN_MEMORY, UsageKey
from hana_ai.api.usage.ledger import Ledger
from hana_ai.api.usage.meter import Meter
from hana_ai.api.usage.telemetry import Telemetry

__all__ = ["catalog_for", "catalog_of", "close_all", "get_transport", "ledger_for", "left_by", "used_by"]

_lock = RenewableLock()
_transports: dict[tuple[str, SecretStr, int, UsageKey], Transport] = {}
_catalogs: dict[tuple[str, SecretStr], Catalog] = {}


def get_transport(
    *, base_url: str, api_key: SecretStr, max_concurrency: int = 64, usage: UsageKey = IN_MEMORY
) -> Transport:
    """Return the process's transport for an address and a key, so that all classes share its connections.

    Parameters
    ----------
    base_url : str
        Address without `/v1`.
    api_key : SecretStr
    max_concurrency : int
        Requests at the same time.
    usage : UsageKey
        Which ledger its calls go to; see `usage.key.usage_key`.

    Raises
    ------
    TogetherAISettingsError
        The ledger's database can't be used; the message says what to do.
    """
    key = (base_url, api_key, max_concurrency, usage)
    transport = _transports.get(key)
    if transport is None or transport.closed:
        ledger = ledger_for(usage)
        with _lock:
            transport = _transports.get(key)
            if transport is None or transport.closed:
                transport = _transports[key] = Transport(
                    base_url=base_url,
                    api_key=api_key,
                    max_concurrency=max_concurrency,
                    watchers=(Meter(ledger, base_url, api_key), Telemetry(base_url)),
                    adviser=_Adviser(base_url, api_key),
                )
    return transport


def used_by(transport: Transport, user: object) -> Transport:
    """Note who uses a transport, and return it."""
    users = transport.users
    if (key := id(user)) not in users:
        users[key] = weakref.ref(user, lambda _: users.pop(key, None))
    return transport


def left_by(user: object) -> list[Transport]:
    """Forget that somebody uses transports; returns those that nobody uses any more."""
    transports = list(_transports.values())
    left = [transport for transport in transports if transport.users.pop(id(user), None) is not None]
    return [transport for transport in left if not transport.users and not transport.closed]


def catalog_for(base_url: str, api_key: SecretStr, settings: TogetherAISettings | None = None) -> Catalog:
    """Return the process's catalogue of an address, for a key; who asks first says how long it is kept, and where.

    Raises
    ------
    TogetherAISettingsError
        There are no settings, and those of the environment have a value that is not allowed.
    """
    key = (base_url, api_key)
    catalog = _catalogs.get(key)
    if catalog is None:
        settings = settings if settings is not None else current_settings()
        lifetime, folder = settings.together_catalog_lifetime, settings.together_catalog_dir
        kept = KeptCatalog(base_url, api_key, lifetime=lifetime, folder=folder)
        with _lock:
            catalog = _catalogs.get(key)
            if catalog is None:
                catalog = _catalogs[key] = Catalog(_Sender(base_url, api_key), lifetime or LIFETIME, kept)
    return catalog


def catalog_of(settings: TogetherAISettings) -> Catalog:
    """Return the process's catalogue of the settings' address.

    Raises
    ------
    TogetherAISettingsError
        There is no key, and the address is not on this machine.
    """
    return catalog_for(settings.together_base_url, SecretStr(settings.require_api_key()), settings)


def ledger_for(usage: UsageKey) -> Ledger:
    """Return the process's ledger for a key, with the catalogues' prices.

    Raises
    ------
    TogetherAISettingsError
        The key's database can't be used; the message says what to do.
    """
    return ledgers.ledger_for(usage, catalog_for)


def close_all() -> None:
    """Close every shared transport and forget the catalogues; the next request makes new ones."""
    with _lock:
        transports = list(_transports.values())
        _begin_anew()
    for transport in transports:
        transport.close()


class _Sender:
    """Sends a catalogue's requests through whichever transport to its address there is."""

    def __init__(self, base_url: str, api_key: SecretStr) -> None:
        self.base_url = base_url
        self._api_key = api_key

    def request(self, call: Call) -> Reply:
        return self._transport().request(call)

    async def arequest(self, call: Call) -> Reply:
        return await self._transport().arequest(call)

    def _transport(self) -> Transport:
        place = (self.base_url, self._api_key)
        for key, transport in list(_transports.items()):
            if key[:2] == place and not transport.closed:
                return transport
        return get_transport(base_url=self.base_url, api_key=self._api_key)


class _Adviser:
    """Names available models in the errors for missing ones."""

    def __init__(self, base_url: str, api_key: SecretStr) -> None:
        self._base_url = base_url
        self._api_key = api_key

    def suggest(self, error: TogetherAIModelNotFoundError, call: Call) -> TogetherAIModelNotFoundError:
        return catalog_for(self._base_url, self._api_key).suggest(error, call.kind)

    async def asuggest(self, error: TogetherAIModelNotFoundError, call: Call) -> TogetherAIModelNotFoundError:
        return await catalog_for(self._base_url, self._api_key).asuggest(error, call.kind)


def _begin_anew() -> None:
    # A forked child must not speak through its parent's sockets.
    _transports.clear()
    _catalogs.clear()


on_fork(in_child=_begin_anew)
on_exit(Stage.TRANSPORTS, close_all)
