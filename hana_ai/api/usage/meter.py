"""The watcher that keeps the ledger: notes each call that has ended, and holds the next one against the budget."""

from __future__ import annotations

from pydantic import SecretStr

from hana_ai.api.transport.call import Call
from hana_ai.api.transport.watching import Ended
from hana_ai.api.usage.ledger import Ledger
from hana_ai.api.usage.record import OPERATIONS, UsageRecord


class Meter:
    """Notes the calls to one address, with one key, in a ledger."""

    def __init__(self, ledger: Ledger, base_url: str, api_key: SecretStr) -> None:
        self._ledger = ledger
        self._base_url = base_url
        self._api_key = api_key

    def admits(self, call: Call) -> bool:
        """Whether the ledger has no say: it limits nothing, or the call costs no tokens."""
        return not self._ledger.admission.needed or call.path not in OPERATIONS

    def admit(self, call: Call) -> None:
        """Refuse a call, if the budget is spent; within half of its time.

        Raises
        ------
        TogetherAIBudgetExceededError
            The budget is spent.
        StoreError
            The ledger's database can't be used, and TOGETHER_USAGE_UNAVAILABLE=refuse.
        """
        if not self.admits(call):
            self._ledger.admission.admit(self._base_url, self._api_key, call.timeout / 2)

    async def aadmit(self, call: Call) -> None:
        """Refuse a call from a coroutine; raises the same errors as `admit`."""
        if not self.admits(call):
            await self._ledger.admission.aadmit(self._base_url, self._api_key, call.timeout / 2)

    def begin(self, call: Call) -> Meter | None:
        """Watch a call, if it costs tokens."""
        return self if call.path in OPERATIONS else None

    def ended(self, ended: Ended) -> None:
        """Note a call that has ended."""
        self._ledger.record(UsageRecord.of(ended))
