"""Where else a call can go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from hana_ai.api.addresses.checks import check_api_key, check_base_url, hide, is_loopback, shown_address
from hana_ai.api.errors import TogetherAISettingsError


@dataclass(frozen=True, slots=True, init=False)
class FallbackTarget:
    """A model, at the same address or at another one.

    Parameters
    ----------
    model : str
        Name of a model or of an endpoint, as its address knows it.
    base_url : str, optional
        Anything that speaks Together's or OpenAI's API, with or without `/v1`. Default: the address of the object
        whose call it is.
    api_key : SecretStr or str, optional
        For this address. Default: the object's own key for its own host, else TOGETHER_FALLBACK_API_KEY. A key is
        never sent to a host that it was not given for.

    Examples
    --------
    >>> from hana_ai.api import ChatTogetherAI, FallbackTarget
    >>> chat = ChatTogetherAI(fallback=["another/model", FallbackTarget("my-model", "https://llm.example.com")])
    >>> [str(target) for target in chat.fallback]
    ['another/model', 'https://llm.example.com#my-model']
    """

    model: str
    base_url: str | None = None
    api_key: SecretStr | None = None

    # Written out, since the frame of a generated one would hold the key of a target whose address is wrong.
    def __init__(self, model: str, base_url: str | None = None, api_key: SecretStr | str | None = None) -> None:
        given: dict[str, object] = {"model": model, "base_url": base_url, "api_key": api_key}
        del api_key
        hide(given, "api_key")
        for name, value in given.items():
            object.__setattr__(self, name, value)
        if not isinstance(model, str) or not model or model != model.strip():
            raise TogetherAISettingsError(f"{model!r} does not name a model to fall back on.")
        if base_url is not None:
            object.__setattr__(self, "base_url", check_base_url(base_url, "The address of a fallback"))
        if self.api_key is not None:
            object.__setattr__(self, "api_key", SecretStr(check_api_key(self.api_key.get_secret_value())))

    def __reduce__(self) -> tuple[object, ...]:
        # No key: whoever loads it has the key of the settings, as for a target that is given none.
        return FallbackTarget, (self.model, self.base_url)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __str__(self) -> str:
        return self.model if self.base_url is None else f"{self.base_url}#{self.model}"

    def completed(
        self, base_url: str, api_key: SecretStr, fallback_api_key: SecretStr | None = None
    ) -> FallbackTarget:
        """Return the same target with its address and key.

        Parameters
        ----------
        base_url, api_key
            Of the object that falls back; its key is for its own host only.
        fallback_api_key : SecretStr, optional
            For other hosts.

        Raises
        ------
        TogetherAISettingsError
            It is at another host, and there is no key for it.
        """
        address = self.base_url or base_url
        if self.api_key is not None:
            return FallbackTarget(self.model, address, self.api_key)
        key = api_key if host_of(address) == host_of(base_url) else fallback_api_key
        if key is None and is_loopback(address):
            key = SecretStr("loopback")
        if key is None:
            raise TogetherAISettingsError(
                f"The fallback {self} is at another host than {base_url}, to which the key of the latter is not "
                "sent. Set TOGETHER_FALLBACK_API_KEY, or give FallbackTarget(..., api_key=...)."
            )
        return FallbackTarget(self.model, address, key)


def host_of(url: str) -> tuple[str, str | None, int | None]:
    """What two addresses share that a key may be sent to: scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def parse_fallback(text: str, name: str = "TOGETHER_FALLBACK") -> tuple[FallbackTarget, ...]:
    """Read a comma list of `model` or `base_url#model`.

    Raises
    ------
    TogetherAISettingsError
        An entry is neither; the message names it.
    """
    return tuple(_parse_one(entry.strip(), name) for entry in text.split(",") if entry.strip())


def _parse_one(entry: str, name: str) -> FallbackTarget:
    base_url, _, model = entry.rpartition("#") if "://" in entry else ("", "", entry)
    if ("://" in entry and not (base_url and model)) or any(c.isspace() for c in entry):
        raise TogetherAISettingsError(
            f"{name}{shown_address(entry)} is neither a model's name nor an address with a model, such as "
            "'https://llm.example.com#my-model'."
        )
    if not base_url:
        return FallbackTarget(model)
    return FallbackTarget(model, check_base_url(base_url, f"An address in {name}"))


def targets_of(given: str | FallbackTarget | Iterable[str | FallbackTarget]) -> tuple[FallbackTarget, ...]:
    """Read what `fallback=` takes: a comma list, or a list of entries and targets."""
    if isinstance(given, (str, FallbackTarget)):
        given = [given]
    found: list[FallbackTarget] = []
    for entry in given:
        if not isinstance(entry, (str, FallbackTarget)):
            raise TogetherAISettingsError(
                f"fallback: a {type(entry).__name__} names neither a model nor an address."
            )
        found += [entry] if isinstance(entry, FallbackTarget) else parse_fallback(entry, "fallback")
    return tuple(found)
