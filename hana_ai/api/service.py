"""Where it is all wired: transports with their ledger and their catalogue, shared by all of the process."""

from __future__ import annotations

from pydantic import SecretStr

from hana_ai.api.catalog.catalog import Catalog
from hana_ai.api.process import RenewableLock, Stage, on_exit, on_fork
from hana_ai.api.transport.call import Call
from hana_ai.api.transport.transport import Transport
from hana_ai.api.transport.watching import Ended, Watch
from hana_ai.api.usage.key import IN_MEMORY, UsageKey
from hana_ai.api.usage.ledger import Ledger
from hana_ai.api.usage.meter import OPERATIONS, UsageRecord, current_tags, read_tokens
from hana_ai.api.usage.telemetry import Outcome, observe

_transports: dict[tuple[str, SecretStr, int, UsageKey], Transport] = {}
_catalogs: dict[tuple[str, SecretStr], tuple[Catalog, Transport]] = {}
_lock = RenewableLock()


def get_transport(
    *, base_url: str, api_key: SecretStr, max_concurrency: int = 64, usage: UsageKey = IN_MEMORY
) -> Transport:
    """Return the process's transport for an address and a key, so that all classes share its connections.

    `usage` says which ledger its calls go to; see `usage.usage_key`.
    """
    key = (base_url, api_key, max_concurrency, usage)
    transport = _transports.get(key)
    if transport is None or transport.closed:
        ledger = usage.recorder()
        catalog = catalog_for(base_url, api_key)
        with _lock:
            transport = _transports.get(key)
            if transport is None or transport.closed:
                transport = _transports[key] = Transport(
                    base_url=base_url,
                    api_key=api_key,
                    max_concurrency=max_concurrency,
                    watchers=(_LedgerWatcher(ledger, catalog), _Telemetry()),
                    adviser=_Adviser(catalog),
                )
    return transport


def catalog_for(base_url: str, api_key: SecretStr) -> Catalog:
    """Return the process's catalogue for an address and a key."""
    found = _catalogs.get((base_url, api_key))
    if found is None:
        with _lock:
            found = _catalogs.get((base_url, api_key))
            if found is None:
                transport = Transport(base_url=base_url, api_key=api_key)
                found = _catalogs[base_url, api_key] = (Catalog(transport), transport)
    return found[0]


def close_all() -> None:
    """Close every shared transport; the next request makes a new one."""
    with _lock:
        transports = [*_transports.values(), *(transport for _, transport in _catalogs.values())]
        _transports.clear()
        _catalogs.clear()
    for transport in transports:
        transport.close()


def _begin_anew() -> None:
    _transports.clear()
    _catalogs.clear()


class _Adviser:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def suggest(self, error, call):
        return self._catalog.suggest(error, call.kind)

    async def asuggest(self, error, call):
        return await self._catalog.asuggest(error, call.kind)


class _LedgerWatcher:
    def __init__(self, ledger: Ledger, catalog: Catalog) -> None:
        self._ledger = ledger
        self._catalog = catalog

    def admits(self, call: Call) -> bool:
        return not self._ledger.limited or call.path not in OPERATIONS

    def admit(self, call: Call) -> None:
        self._ledger.admit(self._catalog)

    async def aadmit(self, call: Call) -> None:
        await self._ledger.aadmit(self._catalog)

    def begin(self, call: Call) -> Watch | None:
        return self if call.path in OPERATIONS else None

    def ended(self, ended: Ended) -> None:
        call = ended.call
        answering = ended.reply.get("model")
        self._ledger.record(
            UsageRecord(
                ended.called_at,
                OPERATIONS[call.path],
                call.model or "",
                answering if isinstance(answering, str) else None,
                call.tags + current_tags(),
                ended.usage,
                ended.seconds,
                ended.first_chunk,
                ended.status,
                ended.http_status,
                call.retries,
                ended.request_id,
                catalog_for(ended.base_url, ended.api_key),
            )
        )


class _Server:
    base_url = ""


class _Telemetry:
    def admits(self, call: Call) -> bool:
        return True

    def admit(self, call: Call) -> None: ...

    async def aadmit(self, call: Call) -> None: ...

    def begin(self, call: Call) -> Watch | None:
        operation = OPERATIONS.get(call.path)
        observation = None if operation is None else observe(operation, call, _Server())
        return None if observation is None else _TelemetryWatch(observation)


class _TelemetryWatch:
    def __init__(self, observation) -> None:
        self._observation = observation

    def ended(self, ended: Ended) -> None:
        self._observation.end(
            Outcome(
                seconds=ended.seconds,
                first_chunk=ended.first_chunk,
                tokens=read_tokens(ended.usage),
                reply=ended.reply,
                error=None if ended.status in ("ok", "left early") else ended.status,
                http_status=ended.http_status,
                base_url=ended.base_url,
            )
        )


on_exit(Stage.TRANSPORTS, close_all)
on_fork(in_child=_begin_anew)
