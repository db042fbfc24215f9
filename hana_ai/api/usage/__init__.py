"""What calls cost: the ledger, budgets, tags, telemetry."""

from __future__ import annotations

from hana_ai.api import resolve_lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hana_ai.api.usage.budget import BudgetWarning
    from hana_ai.api.usage.events import UsageEvent, UsageTotals
    from hana_ai.api.usage.ledger import Ledger, get_ledger
    from hana_ai.api.usage.tags import usage_tags

_MODULES = {
    **dict.fromkeys(("Ledger", "get_ledger"), "ledger"),
    **dict.fromkeys(("UsageEvent", "UsageTotals"), "events"),
    "BudgetWarning": "budget",
    "usage_tags": "tags",
}

__all__ = ["BudgetWarning", "Ledger", "UsageEvent", "UsageTotals", "get_ledger", "usage_tags"]


def __getattr__(name: str) -> object:
    return resolve_lazily(globals(), _MODULES, name)
