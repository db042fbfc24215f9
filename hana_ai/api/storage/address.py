"""Where the toolkit's database is: the settings' part that reaches SAP HANA, as a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic import SecretStr

from hana_ai.api.addresses.carrying import Packed, pack_password, unpack

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

    # A pickle carries no password that the settings of the process which loads it can give again.

    def __reduce__(self) -> tuple[object, ...]:
        from hana_ai.api.settings import TogetherAISettings

        here = TogetherAISettings()
        packed = pack_password(self.password, here.hana_password, carry=here.together_pickle_keys)
        return _loaded, (tuple(self._replace(password=None)), packed)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

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


def _loaded(fields: tuple[Any, ...], packed: Packed | None) -> HanaAddress:
    from hana_ai.api.settings import TogetherAISettings

    here, loaded = TogetherAISettings(), HanaAddress(*fields)
    same_user = (loaded.address, loaded.user) == (here.hana_address, here.hana_user)
    known = {"hana_password": here.hana_password if same_user else None}
    return loaded._replace(password=unpack(packed, known, "HanaAddress"))


def hana_address(database: str | None, settings: TogetherAISettings) -> HanaAddress | None:
    """The toolkit's database, where a setting such as TOGETHER_USAGE_DB needs it."""
    if database is None or not database.lower().startswith(HANA):
        return None
    return HanaAddress.of(settings)
