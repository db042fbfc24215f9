"""Hits in the ledger: a call that a cache answered is a call of no tokens and no cost, with the status "cached".

LangChain asks a cache by prompt and parameters alone. Who asks, and for which ledger, stands in a context variable
while it does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache

from hana_ai.api.langchain.client_fields import ClientFields, own_tags

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun

OURS = "together-ai:"
"""How the `llm_string` of this provider's classes begins."""

_OPERATIONS = {"chat": "chat", "language": "completion", "embedding": "embedding"}


class _Asking:
    """An object that asks a cache for the answers to some prompts, one after the other."""

    def __init__(self, who: ClientFields, name: str, tags: Sequence[tuple[str, ...]]) -> None:
        self._who = who
        self._name = name
        self._tags = list(tags)
        self._started = time.monotonic()

    def looked_up(self, hit: bool) -> None:
        """Note how the cache answered for the next prompt."""
        if self._tags:
            tags = self._tags.pop(0)
            if hit:
                record_hit(self._who, self._name, self._started, tags)
        self._started = time.monotonic()


def record_hit(who: ClientFields, name: str, started: float, tags: tuple[str, ...] = ()) -> None:
    """Write a call that a cache answered to the ledger.

    Parameters
    ----------
    who : ClientFields
        Whose call it was.
    name : str
        The model that would have been asked.
    started : float
        When, by `time.monotonic`.
    tags : tuple of str
        Beside those of `usage_tags`.
    """
    from hana_ai.api.usage.meter import CACHED, NO_TOKENS, UsageRecord, current_tags

    transport = who.transport
    if transport.recorder is None:
        return
    seconds = time.monotonic() - started
    transport.recorder.record(
        UsageRecord(
            called_at=time.time() - seconds,
            operation=_OPERATIONS[who.kind],
            model=name,
            answering=None,
            tags=tags + current_tags(),
            usage=NO_TOKENS,
            latency=seconds,
            first_token=None,
            status=CACHED,
            http_status=None,
            retries=0,
            request_id=None,
            catalog=transport.catalog,
        )
    )


_asking: ContextVar[_Asking | None] = ContextVar("together_ai_asking_a_cache", default=None)


@contextmanager
def asking(who: ClientFields, name: str, tags: Sequence[tuple[str, ...]]) -> Iterator[None]:
    """Let the cache know inside the block who asks, for which model, and the tags of each prompt."""
    token = _asking.set(_Asking(who, name, tags))
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
