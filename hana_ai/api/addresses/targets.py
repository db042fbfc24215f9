"""Where else a call can go, and the circuit breakers that say where not to go for a while."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from hana_ai.api.addresses.checks import check_api_key, check_base_url, is_loopback
from hana_ai.api.errors import TogetherAISettingsError

if TYPE_CHECKING:
    from hana_ai.api.settings import TogetherAISettings

logger = logging.getLogger(__name__)

OPENS_AFTER = 5
"""Failures in a row after which a target is left alone."""
FIRST_REST = 5.0
"""Seconds until one call probes a target that was left alone."""
LONGEST_REST = 60.0
"""Each failed probe doubles the rest, up to these seconds."""


@dataclass(frozen=True, slots=True)
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

    def __post_init__(self) -> None:
        if not self.model or self.model != self.model.strip():
            raise TogetherAISettingsError(f"{self.model!r} is no name of a model to fall back on.")
        if self.base_url is not None:
            object.__setattr__(self, "base_url", check_base_url(self.base_url, "The address of a fallback"))
        if isinstance(self.api_key, str):
            object.__setattr__(self, "api_key", SecretStr(check_api_key(self.api_key)))

    def __str__(self) -> str:
        return self.model if self.base_url is None else f"{self.base_url}#{self.model}"

    def completed(self, base_url: str, api_key: SecretStr) -> FallbackTarget:
        """Return the same target with its address and key, for an object at `base_url`.

        Raises
        ------
        TogetherAISettingsError
            It is at another host, and there is no key for it.
        """
        from hana_ai.api.settings import TogetherAISettings

        address = self.base_url or base_url
        if self.api_key is not None:
            return FallbackTarget(self.model, address, self.api_key)
        if _host(address) == _host(base_url):
            return FallbackTarget(self.model, address, api_key)
        key = TogetherAISettings().together_fallback_api_key
        if key is None and is_loopback(address):
            key = SecretStr("loopback")
        if key is None:
            raise TogetherAISettingsError(
                f"The fallback {self} is at another host than {base_url}, to which the key of the latter is not "
                "sent. Set TOGETHER_FALLBACK_API_KEY, or give FallbackTarget(..., api_key=...)."
            )
        return FallbackTarget(self.model, address, key)


def _host(url: str) -> tuple[str, str | None, int | None]:
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
            f"{name}: {entry!r} is neither a model's name nor an address with a model, such as "
            "'https://llm.example.com#my-model'."
        )
    if not base_url:
        return FallbackTarget(model)
    return FallbackTarget(model, check_base_url(base_url, f"An address in {name}"))


def targets_from(settings: TogetherAISettings) -> list[FallbackTarget]:
    """The targets of TOGETHER_FALLBACK; those at other hosts have TOGETHER_FALLBACK_API_KEY, if it is set."""
    home, key = _host(settings.together_base_url), settings.together_fallback_api_key
    return [
        replace(target, api_key=key) if key and target.base_url and _host(target.base_url) != home else target
        for target in parse_fallback(settings.together_fallback)
    ]


def targets_of(given: str | FallbackTarget | Iterable[str | FallbackTarget]) -> tuple[FallbackTarget, ...]:
    """Read what `fallback=` takes: a comma list, or a list of entries and targets."""
    if isinstance(given, (str, FallbackTarget)):
        given = [given]
    found: list[FallbackTarget] = []
    for entry in given:
        found += [entry] if isinstance(entry, FallbackTarget) else parse_fallback(entry, "fallback")
    return tuple(found)


class CircuitBreaker:
    """Leaves a target alone after failures in a row, and lets one call at a time probe it again. Thread-safe.

    Closed: every call may go. After `OPENS_AFTER` failures in a row it opens: none may, for `FIRST_REST` seconds.
    Then it is half open: one call may; if that succeeds the breaker closes, if not it rests twice as long.
    A stream has succeeded at its end; one that breaks before has failed.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._rest = FIRST_REST
        self._open_until: float | None = None
        self._probing = False

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        if self._open_until is None:
            return "closed"
        return "open" if self._clock() < self._open_until else "half-open"

    @property
    def is_open(self) -> bool:
        """Whether calls had better go elsewhere."""
        return self._open_until is not None

    def allow(self) -> bool:
        """Whether a call may go; True for the one that probes, which must then tell how it went."""
        if self._open_until is None:
            return True
        with self._lock:
            if self._open_until is None:
                return True
            if self._probing or self._clock() < self._open_until:
                return False
            self._probing = True
            return True

    def succeeded(self) -> None:
        """Tell that the target answered."""
        if not self._failures and self._open_until is None:
            return
        with self._lock:
            was_open, self._open_until = self._open_until is not None, None
            self._failures, self._rest, self._probing = 0, FIRST_REST, False
        if was_open:
            logger.warning("%s answers again", self._name)

    def began(self) -> None:
        """Tell that the target's stream began: an open breaker closes, but one more failure opens it again."""
        if self._open_until is None:
            return
        with self._lock:
            self._failures, self._open_until, self._probing = OPENS_AFTER - 1, None, False
        logger.warning("%s answers again", self._name)

    def failed(self) -> None:
        """Tell that the target failed."""
        with self._lock:
            self._failures += 1
            if self._open_until is None:
                if self._failures < OPENS_AFTER:
                    return
                logger.warning(
                    "%s failed %d times in a row; calls go elsewhere for %g s",
                    self._name,
                    self._failures,
                    self._rest,
                )
            elif self._probing:
                self._rest = min(LONGEST_REST, self._rest * 2)
            else:
                # A call from before it opened; it says nothing new.
                return
            self._probing = False
            self._open_until = self._clock() + self._rest

    def abandoned(self) -> None:
        """Tell that a call ended without an outcome, such as by a cancellation."""
        with self._lock:
            self._probing = False


_breakers: dict[tuple[str, SecretStr, str | None], CircuitBreaker] = {}


def breaker_of(base_url: str, api_key: SecretStr, model: str | None) -> CircuitBreaker:
    """The process's breaker of a model at an address."""
    key = (base_url, api_key, model)
    breaker = _breakers.get(key)
    return breaker or _breakers.setdefault(key, CircuitBreaker(f"{model} at {base_url}"))


if hasattr(os, "register_at_fork"):
    # A lock may be held, and a probe under way, in a thread that the child has not.
    os.register_at_fork(after_in_child=_breakers.clear)
