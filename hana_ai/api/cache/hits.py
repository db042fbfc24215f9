"""Hits in the ledger: a call that a cache answered is a call of no tokens and no cost, with the status "cached".

LangChain asks a cache by prompt and parameters alone. Who asks, and for which ledger, stands in a context variable
while it does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache
from pydantic import SecretStr

from hana_ai.api.usage.key import UsageKey
from hana_ai.api.usage.record import UsageRecord
from hana_ai.api.usage.tags import own_tags

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun

OURS = "together-ai:"
"""How the `llm_string` of this provider's classes begins."""

_OPERATIONS = {"chat": "chat", "language": "completion", "embedding": "embedding"}


class Asker(Protocol):
    """What is asked of an object that asks a cache."""

    @property
    def kind(self) -> str: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def api_key(self) -> SecretStr | None: ...
    @property
    def _usage(self) -> UsageKey: ...


class _Asking:
    """An object that asks a cache for the answers to some prompts, one after the other."""

    def __init__(self, who: Asker, model: str, tags: Sequence[tuple[str, ...]]) -> None:
        self._who = who
        self._model = model
        self._tags = list(tags)
        self._started = time.monotonic()

    def looked_up(self, hit: bool) -> None:
        """Note how the cache answered for the next prompt."""
        if self._tags:
            tags = self._tags.pop(0)
            if hit:
                record_hit(self._who, self._model, self._started, tags)
        self._started = time.monotonic()


def record_hit(who: Asker, model: str, started: float, tags: tuple[str, ...] = ()) -> None:
    """Note in the ledger a call that a cache answered.

    Parameters
    ----------
    who : Asker
        Whose call it was.
    model : str
        The model that would have been asked.
    started : float
        When, by `time.monotonic`.
    tags : tuple of str
        Beside those of `usage_tags`.
    """
    from hana_ai.api.service import ledger_for

    ledger_for(who._usage).record(
        UsageRecord.of_hit(
            _OPERATIONS[who.kind],
            model,
            tags=tags,
            seconds=time.monotonic() - started,
            base_url=str(who.base_url),
            api_key=who.api_key or SecretStr(""),
        )
    )


_asking: ContextVar[_Asking | None] = ContextVar("together_ai_asking_a_cache", default=None)


@contextmanager
def asking(who: Asker, model: str, tags: Sequence[tuple[str, ...]]) -> Iterator[None]:
    """Let the cache know inside the block who asks, for which model, and the tags of each prompt."""
    token = _asking.set(_Asking(who, model, tags))
    try:
        yield
    finally:
        _asking.reset(token)


def has_cache(cache: BaseCache | bool | None) -> bool:
    """Whether a model with this `cache` asks one, by LangChain's rules."""
    return isinstance(cache, BaseCache) or (cache is not False and get_llm_cache() is not None)


def looked_up(hit: bool) -> None:
    """Note how a cache answered; nothing, where no object of this provider asked."""
    who = _asking.get()
    if who is not None:
        who.looked_up(hit)


def tags_of_prompts(count: int, tags: Any, callbacks: Any) -> list[tuple[str, ...]]:
    """The tags of each prompt, from arguments of LangChain's `generate`, which come in several shapes."""
    each_tags = tags if isinstance(tags, list) and tags and isinstance(tags[0], list) else [tags] * count
    several = isinstance(callbacks, list) and len(callbacks) == count and hasattr(callbacks[0], "inheritable_tags")
    each_callbacks = callbacks if several else [callbacks] * count
    return [
        own_tags(dict.fromkeys([*(getattr(each, "inheritable_tags", None) or ()), *(some or ())]))
        for some, each in zip(each_tags, each_callbacks, strict=False)
    ] or [()]


def tags_of_run(run: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None) -> list[tuple[str, ...]]:
    """The tags of one prompt, from its run."""
    return [own_tags(run.tags) if run is not None else ()]
