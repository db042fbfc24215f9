"""Every environment variable of the provider, in one place.

Values come from the process environment or from a `.env` file in the working directory; the environment wins.
The toolkit's own HANA variables are read here too, so that one file configures both.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cache
from hashlib import blake2b
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from hana_ai.api.addresses.carrying import Known, pack, pack_password, unpack
from hana_ai.api.addresses.checks import (
    DEFAULT_BASE_URL,
    KEY_PAGE,
    check_api_key,
    check_base_url,
    hide,
    is_loopback,
)
from hana_ai.api.addresses.dot_env import explained, fault_in, names_in, read
from hana_ai.api.addresses.spelling import question, similar
from hana_ai.api.addresses.targets import FallbackTarget, host_of, parse_fallback
from hana_ai.api.addresses.variables import warn_of_slips
from hana_ai.api.errors import TogetherAINotEnabledError, TogetherAISettingsError

__all__ = ["DEFAULT_BASE_URL", "TogetherAISettings", "check_api_key", "check_base_url", "is_loopback"]

_KEYS = ("together_api_key", "together_fallback_api_key")
_SECRETS = (*_KEYS, "hana_password")


class TogetherAISettings(BaseSettings):
    """The settings, as read when the object is made.

    Fields can be given by name or by their environment variable's name. A variable, or a line of `.env`, with a
    name that is close to one of them is warned of once.

    Raises
    ------
    TogetherAISettingsError
        A value is not allowed; the message names the variable, the value and what is allowed. There is no such
        setting; the message names those that are close. Or `.env` is a pipe or the like, larger than 1 MiB, no
        UTF-8, or can't be read.

    Examples
    --------
    >>> TogetherAISettings(together_timeout=30, _env_file=None).together_timeout
    30.0
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        frozen=True,
    )

    enable_together_ai: bool = Field(False, description="route the toolkit to Together")
    enable_gpu_acceleration: bool = Field(True, description="master switch; false turns Together off")
    together_api_key: SecretStr | None = Field(None, description="secret; not needed for a loopback address")
    together_base_url: str = Field(DEFAULT_BASE_URL, description="without /v1")
    together_project_id: str | None = Field(None, description="for endpoints and uploads; else asked from whoami")
    together_default_model: str | None = Field(None, description="chat and completions; else from the catalogue")
    together_default_embedding_model: str | None = Field(None, description="embeddings; else from the catalogue")
    together_default_rerank_model: str | None = Field(None, description="reranking; else from the catalogue")
    together_catalog_lifetime: float = Field(
        3600.0, ge=0, le=604_800, description="the catalogue on disk, seconds; 0 = in memory, for an hour"
    )
    together_catalog_dir: str | None = Field(None, description="its folder; else the platform's for caches")
    together_timeout: float = Field(60.0, gt=0, le=86_400, description="whole call, seconds")
    together_connect_timeout: float = Field(5.0, gt=0, le=600, description="seconds")
    together_stream_idle_timeout: float = Field(60.0, gt=0, le=86_400, description="between chunks, seconds")
    together_max_retries: int = Field(3, ge=0, le=100, description="retries after the first try")
    together_max_concurrency: int = Field(64, ge=1, le=10_000, description="requests at the same time")
    together_embedding_batch_size: int = Field(128, ge=1, le=100_000, description="texts a request")
    together_embedding_query_prefix: str = Field("", description="put before each query that is embedded")
    together_embedding_document_prefix: str = Field("", description="put before each document that is embedded")
    together_fallback: str = Field("", description="comma list of model or base_url#model")
    together_fallback_api_key: SecretStr | None = Field(
        None, description="secret; for addresses of TOGETHER_FALLBACK at other hosts than TOGETHER_BASE_URL"
    )
    together_budget_usd: Decimal | None = Field(None, gt=0, description="stop when spent")
    together_budget_period: Literal["day", "month"] = Field("month", description="day or month")
    together_batch_discount: Decimal = Field(
        Decimal(0), ge=0, lt=1, description="share of the prices that batches save, such as 0.5"
    )
    together_usage_db: str | None = Field(None, description="a SQLite path, or hana:TABLE; unset = in memory")
    together_usage_unavailable: Literal["continue", "refuse"] = Field(
        "continue", description="what calls do while TOGETHER_USAGE_DB can't be used: continue or refuse"
    )
    together_pickle_keys: bool = Field(False, description="pickles carry keys that were given by hand")
    together_cache: str | None = Field(None, description="a SQLite path, or hana:TABLE; unset = none")
    together_route_embeddings: Literal["all", "defaults", "off"] = Field("all", description="all, defaults or off")
    together_route_tables: str = Field(
        "", description="comma list of patterns of vector tables that go, with a ! those that stay"
    )
    together_guard_tables: bool = Field(
        True, description="where nothing is routed, vector tables are kept to one model all the same"
    )
    together_model_map: str = Field("", description="comma list of requested=model")
    hana_address: str | None = Field(None, description="host of the database")
    hana_port: int = Field(443, ge=1, le=65_535, description="SQL port")
    hana_user: str | None = Field(None, description="database user")
    hana_password: SecretStr | None = Field(None, description="secret")
    hana_userkey: str | None = Field(None, description="key in the hdbuserstore, instead of the four above")
    hana_schema: str | None = Field(None, description="schema; else the user's own")
    hana_encrypt: bool = Field(True, description="TLS to the database")

    def __init__(self, **values: Any) -> None:
        values = {name if name[:1] == "_" else name.lower(): value for name, value in values.items()}
        hide(values, *_SECRETS)
        if not values.keys() <= (taken := _taken(type(self))):
            _refuse_unknown(values, taken)
        _check_files(values.get("_env_file", self.model_config.get("env_file")))
        warn_of_slips(os.environ, "the environment", _variables())
        try:
            super().__init__(**values)
        except ValidationError as exc:
            wrong = _explain(exc, values)
        else:
            return
        # Out here, so that pydantic's error is no context of this one: its frames hold the key of the environment.
        raise TogetherAISettingsError(wrong)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, then the environment, then `.env`."""
        read_from = (source for source in (env_settings, dotenv_settings) if isinstance(source, EnvSettingsSource))
        return init_settings, *(_Plain(settings_cls, source.env_vars) for source in read_from)

    # Pickles carry no secrets that the settings of the process which loads them can give again.

    def __getstate__(self) -> dict[str, object]:
        here, state = TogetherAISettings(), super().__getstate__()
        fields, carry = state["__dict__"], here.together_pickle_keys
        packed = {name: pack(fields[name], here.known_keys, carry=carry) for name in _KEYS}
        packed["hana_password"] = pack_password(fields["hana_password"], here.hana_password, carry=carry)
        return {**state, "__dict__": {**fields, **dict.fromkeys(_SECRETS)}, "together_ai_keys": packed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        here, fields, packed = TogetherAISettings(), state["__dict__"], state["together_ai_keys"]
        same_user = (fields["hana_address"], fields["hana_user"]) == (here.hana_address, here.hana_user)
        known = {**here.known_keys, "hana_password": here.hana_password if same_user else None}
        found = {name: unpack(packed[name], known, type(self).__name__) for name in _SECRETS}
        super().__setstate__({**state, "__dict__": {**fields, **found}})

    @property
    def known_keys(self) -> Known:
        """The keys, by the names of their settings."""
        return {name: getattr(self, name) for name in _KEYS}

    @field_validator("together_base_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        return check_base_url(value)

    @field_validator("together_api_key", "together_fallback_api_key")
    @classmethod
    def _api_key(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        name = str(info.field_name).upper()
        return None if value is None else SecretStr(check_api_key(value.get_secret_value(), name))

    @field_validator("together_fallback")
    @classmethod
    def _fallback(cls, value: str) -> str:
        parse_fallback(value)
        return value

    @field_validator("together_route_tables")
    @classmethod
    def _route_tables(cls, value: str) -> str:
        for entry in value.split(","):
            if entry.strip() and not entry.strip().lstrip("!-").strip():
                raise TogetherAISettingsError(
                    f"TOGETHER_ROUTE_TABLES has the entry {entry.strip()!r}; entries are patterns such as SALES_* "
                    "or LEGACY.*, separated by commas, with a ! in front of those that stay."
                )
        return value

    @property
    def fallback_targets(self) -> tuple[FallbackTarget, ...]:
        """The targets of TOGETHER_FALLBACK; those at other hosts have TOGETHER_FALLBACK_API_KEY, if it is set."""
        home, key = host_of(self.together_base_url), self.together_fallback_api_key
        return tuple(
            replace(target, api_key=key)
            if key and target.base_url and host_of(target.base_url) != home
            else target
            for target in parse_fallback(self.together_fallback)
        )

    @property
    def enabled(self) -> bool:
        """Whether the toolkit is to be routed to Together."""
        return self.enable_together_ai and self.enable_gpu_acceleration

    def require_enabled(self) -> None:
        """Check that Together is switched on and that there is a key.

        Raises
        ------
        TogetherAINotEnabledError
            It is not; the message lists what to set.
        """
        if self.enabled:
            self.require_api_key()
            return
        steps = []
        if not self.enable_together_ai:
            steps.append("ENABLE_TOGETHER_AI=true")
        if not self.enable_gpu_acceleration:
            steps.append("ENABLE_GPU_ACCELERATION=true (or unset it)")
        if self.together_api_key is None and not is_loopback(self.together_base_url):
            steps.append(f"TOGETHER_API_KEY (from {KEY_PAGE})")
        raise TogetherAINotEnabledError(
            f"Together AI is not enabled. Set {', '.join(steps)} in the environment or in a .env file."
        )

    def require_api_key(self) -> str:
        """Return the key, in the clear.

        Raises
        ------
        TogetherAISettingsError
            There is none, and the address is not on this machine.
        """
        if self.together_api_key is not None:
            return self.together_api_key.get_secret_value()
        if is_loopback(self.together_base_url):
            return "loopback"
        raise TogetherAISettingsError(
            "There is no Together API key. Set the environment variable TOGETHER_API_KEY or pass api_key=...; "
            f"keys are made at {KEY_PAGE}."
        )


class _Plain(PydanticBaseSettingsSource):
    """Variables that are the values of fields; the library's own source looks for lists and the like in them."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        return self._variables.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        return {name: value for name in fields if (value := self._variables.get(name)) is not None}


def current_settings() -> TogetherAISettings:
    """The settings as they are now; only where a variable or `.env` has changed are they read anew.

    Raises
    ------
    TogetherAISettingsError
        As of `TogetherAISettings`.
    """
    state = _state()
    for known, settings in tuple(_current):
        if known == state:
            warn_of_slips(os.environ, "the environment", _variables())
            return settings
    settings = TogetherAISettings()
    _current[:] = [(state, settings)]
    return settings


_current: list[tuple[bytes, TogetherAISettings]] = []
"""The last settings, behind the hash of what they were read from."""


def _state() -> bytes:
    """A hash of what the settings are read from, from which no key can be told."""
    read_here, made = _variables(), blake2b(digest_size=20)
    for name, value in os.environ.items():
        if name.upper() in read_here:
            made.update(f"{name}={value}\0".encode("utf-8", "surrogateescape"))
    made.update(repr(read(str(TogetherAISettings.model_config["env_file"]))).encode())
    return made.digest()


def _check_files(given: object) -> None:
    """Refuse files that can't be read, which pydantic would leave out, or stumble over without a name."""
    for path in given if isinstance(given, (list, tuple)) else (given,):
        if path is None:
            continue
        data = read(path)
        fault = data if isinstance(data, str) else fault_in(data)
        if isinstance(data, str) or fault is not None:
            del data
            raise TogetherAISettingsError(explained(path, str(fault)))
        warn_of_slips(names_in(data), os.path.abspath(path), _variables())  # noqa: PTH100 - quick, for each object


@cache
def _variables() -> frozenset[str]:
    return frozenset(name.upper() for name in TogetherAISettings.model_fields)


@cache
def _taken(kind: type[TogetherAISettings]) -> frozenset[str]:
    options = inspect.signature(BaseSettings.__init__).parameters
    return frozenset([*kind.model_fields, *(name for name in options if name[0] == "_")])


def _refuse_unknown(values: dict[str, Any], taken: frozenset[str]) -> None:
    wrong = []
    for name in sorted(values.keys() - taken):
        near = similar(name, taken)
        wrong.append(f"TogetherAISettings has no {name}{'; ' + question(near) if near else '.'}")
    # The values may be keys, and tools print a traceback with its variables.
    hide(values, *values)
    raise TogetherAISettingsError(" ".join(wrong))


def _explain(exc: ValidationError, given: dict[str, Any]) -> str:
    lines = []
    for error in exc.errors(include_url=False, include_context=True):
        name = str(error["loc"][0]) if error["loc"] else "settings"
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, TogetherAISettingsError):
            lines.append(str(cause))
            continue
        value = "" if name in _SECRETS else f"={error['input']!r}"
        field = TogetherAISettings.model_fields.get(name)
        meaning = f" ({field.description})" if field is not None and field.description else ""
        lines.append(f"{name.upper()}{value}{meaning}: {error['msg']}.")
    return " ".join(lines)
