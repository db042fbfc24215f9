"""Which ledger calls go to, as a small value that can be hashed, copied and pickled where a ledger can't."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import SecretStr

if TYPE_CHECKING:
    from hana_ai.api.settings import TogetherAISettings
    from hana_ai.api.usage.ledger import Ledger

HANA = "hana:"
"""How TOGETHER_USAGE_DB and TOGETHER_CACHE say that what follows is a table in the toolkit's database."""


class HanaAddress(NamedTuple):
    """Where the toolkit's database is."""

    address: str | None
    port: int
    user: str | None
    password: SecretStr | None
    userkey: str | None
    schema: str | None
    encrypt: bool


class UsageKey(NamedTuple):
    """The settings that make a ledger: the same ones, the same ledger."""

    database: str | None = None
    """A SQLite path, or `hana:TABLE`; None is in memory."""
    budget: Decimal | None = None
    """USD a period."""
    period: Literal["day", "month"] = "month"
    hana: HanaAddress | None = None
    """Only where `database` needs it."""

    def recorder(self) -> Ledger:
        """The process's ledger for this key."""
        from hana_ai.api.usage.ledger import ledger_for

        return ledger_for(self)


IN_MEMORY = UsageKey()


def usage_key(settings: TogetherAISettings) -> UsageKey:
    """The part of the settings that makes a ledger."""
    database = settings.together_usage_db
    return UsageKey(
        database,
        settings.together_budget_usd,
        settings.together_budget_period,
        hana_address(database, settings),
    )


def hana_address(database: str | None, settings: TogetherAISettings) -> HanaAddress | None:
    """The toolkit's database, where a setting such as TOGETHER_USAGE_DB needs it."""
    if database is None or not database.lower().startswith(HANA):
        return None
    return HanaAddress(
        settings.hana_address,
        settings.hana_port,
        settings.hana_user,
        settings.hana_password,
        settings.hana_userkey,
        settings.hana_schema,
        settings.hana_encrypt,
    )
