"""Where the toolkit's database is: the settings' part that reaches SAP HANA, as a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from pydantic import SecretStr

if TYPE_CHECKING:
    from hana_ai.api.settings import TogetherAISettings

HANA = "hana:"
"""How TOGETHER_USAGE_DB and TOGETHER_CACHE say that what follows is a table in the toolkit's database."""


class HanaAddress(NamedTuple):
    """The toolkit's database, as a value that can be hashed and pickled and hides its password."""

    address: str | None
    port: int
    user: str | None
    password: SecretStr | None
    userkey: str | None
    schema: str | None
    encrypt: bool

    @classmethod
    def of(cls, settings: TogetherAISettings) -> Self:
        """The database that the settings name."""
        return cls(
            settings.hana_address,
            settings.hana_port,
            settings.hana_user,
            settings.hana_password,
            settings.hana_userkey,
            settings.hana_schema,
            settings.hana_encrypt,
        )

    def properties(self) -> dict[str, object]:
        """The address as properties of `hdbcli.dbapi.connect`, the password in the clear."""
        found: dict[str, object] = (
            {"key": self.userkey}
            if self.userkey
            else {"address": self.address, "port": self.port, "encrypt": self.encrypt}
        )
        if self.user:
            found["user"] = self.user
        if self.password is not None:
            found["password"] = self.password.get_secret_value()
        if self.schema:
            found["currentSchema"] = self.schema
        return found


def hana_address(database: str | None, settings: TogetherAISettings) -> HanaAddress | None:
    """The toolkit's database, where a setting such as TOGETHER_USAGE_DB needs it."""
    if database is None or not database.lower().startswith(HANA):
        return None
    return HanaAddress.of(settings)
