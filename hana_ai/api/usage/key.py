"""Which ledger calls go to, as a small value that can be hashed, copied and pickled where a ledger can't."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple

from hana_ai.api.storage.address import HanaAddress, hana_address

if TYPE_CHECKING:
    from hana_ai.api.settings import TogetherAISettings


class UsageKey(NamedTuple):
    """The settings that make a ledger: the same ones, the same ledger."""

    database: str | None = None
    """A SQLite path, or `hana:TABLE`; None is in memory."""
    budget: Decimal | None = None
    """USD a period."""
    period: Literal["day", "month"] = "month"
    hana: HanaAddress | None = None
    """Only where `database` needs it."""
    strict: bool = False
    """Whether calls are refused while the database can't be used."""


IN_MEMORY = UsageKey()


def usage_key(settings: TogetherAISettings) -> UsageKey:
    """The part of the settings that makes a ledger."""
    database = settings.together_usage_db
    return UsageKey(
        database,
        settings.together_budget_usd,
        settings.together_budget_period,
        hana_address(database, settings),
        database is not None and settings.together_usage_unavailable == "refuse",
    )
