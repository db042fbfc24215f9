"""Profiles: what LangChain's middlewares and agents ask about a model before they send anything.

A profile is made of the catalogue when something of it is asked for that only the catalogue knows. It is the same
in a process that has read the catalogue for another reason and in one that has not.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, cast

from hana_ai.api.catalog.choosing import default_of
from hana_ai.api.errors import TogetherAIError
from hana_ai.api.process import RenewableLock

if TYPE_CHECKING:
    from langchain_core.language_models import ModelProfile

    from hana_ai.api.catalog.catalog import Catalog
    from hana_ai.api.catalog.model_info import ModelInfo

logger = logging.getLogger(__name__)

DEFAULT_MAX_INPUT_TOKENS = 8192
"""Taken for the context of a model of which the catalogue can't tell it; few chat models have less."""
TRY_AGAIN_SECONDS = 300.0
"""How long a catalogue that could not be read is left alone by profiles."""

_CONSTANT: Mapping[str, object] = {"text_inputs": True, "text_outputs": True, "structured_output": False}

_tried: weakref.WeakKeyDictionary[Catalog, float] = weakref.WeakKeyDictionary()
_warned: set[tuple[str, str | None]] = set()
_lock = RenewableLock()


def lazy_profile(read: Callable[[], ModelProfile]) -> ModelProfile:
    """A profile that is read when it is needed.

    What holds for every model needs no reading: an agent asks for `structured_output` before each of its calls,
    in the event loop of whoever runs it.
    """
    return cast("ModelProfile", _LazyProfile(read))


def profile_of(catalog: Catalog, model: str | None, kind: str) -> ModelProfile:
    """The profile of a model; None is the one that the catalogue recommends for a kind.

    What the catalogue does not tell has the defaults; a warning says so, once an address or model.
    """
    try:
        models = _models(catalog, model)
        name = model or default_of(models.values(), kind, catalog.base_url)
    except TogetherAIError as exc:
        reason = f"The catalogue of {catalog.base_url} gives no profile ({str(exc).rstrip('.')})"
        return _default(catalog.base_url, None, reason)
    info = models.get(name)
    if info is None or info.context_length is None:
        known = {} if info is None else info.profile()
        reason = f"The catalogue of {catalog.base_url} does not tell the context length of {name}"
        return cast("ModelProfile", {**_default(catalog.base_url, name, reason), **known})
    return info.profile()


def _models(catalog: Catalog, model: str | None) -> Mapping[str, ModelInfo]:
    known = catalog.cached
    if known is not None and (model in known or catalog.fresh):
        return known
    tried = _tried.get(catalog)
    if tried is not None and time.monotonic() - tried < TRY_AGAIN_SECONDS:
        if known is not None:
            return known
        raise TogetherAIError("it is tried again later")
    try:
        return catalog.models()
    except TogetherAIError:
        _tried[catalog] = time.monotonic()
        if known is not None:
            return known
        raise


def _default(base_url: str, model: str | None, reason: str) -> ModelProfile:
    with _lock:
        is_new = (base_url, model) not in _warned
        _warned.add((base_url, model))
    if is_new:
        logger.warning(
            '%s. Profiles have max_input_tokens=%d instead; ChatTogetherAI(profile={"max_input_tokens": ...}) '
            "says what it is.",
            reason,
            DEFAULT_MAX_INPUT_TOKENS,
        )
    return cast("ModelProfile", {**_CONSTANT, "max_input_tokens": DEFAULT_MAX_INPUT_TOKENS})


class _LazyProfile(dict[str, object]):
    """Has what is the same for every model from the beginning, and everything once anything else is asked for."""

    def __init__(self, read: Callable[[], ModelProfile]) -> None:
        super().__init__(_CONSTANT)
        self._read: Callable[[], ModelProfile] | None = read

    def _fill(self, key: object = None) -> None:
        if self._read is not None and key not in _CONSTANT:
            self.update(cast("Mapping[str, object]", self._read()))
            self._read = None

    def __getitem__(self, key: str) -> object:
        self._fill(key)
        return super().__getitem__(key)

    def get(self, key: str, default: object = None) -> object:
        """The value of a key, or a default."""
        self._fill(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self._fill(key)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return super().__iter__()

    def __len__(self) -> int:
        self._fill()
        return super().__len__()

    def __eq__(self, other: object) -> bool:
        self._fill()
        if isinstance(other, _LazyProfile):
            other._fill()
        return super().__eq__(other)

    __hash__ = None

    def __repr__(self) -> str:
        self._fill()
        return super().__repr__()

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        """The keys."""
        self._fill()
        return super().keys()

    def values(self) -> ValuesView[object]:  # type: ignore[override]
        """The values."""
        self._fill()
        return super().values()

    def items(self) -> ItemsView[str, object]:  # type: ignore[override]
        """The pairs of keys and values."""
        self._fill()
        return super().items()

    def copy(self) -> dict[str, object]:
        """A plain dict of the same."""
        self._fill()
        return super().copy()

    def __reduce__(self) -> tuple[type[dict[str, object]], tuple[dict[str, object]]]:
        return dict, (self.copy(),)
