"""Caches of answers and of vectors, in a SQLite file or in a table of SAP HANA, shared by all who name it.

Where TOGETHER_CACHE is set, `ChatTogetherAI`, `TogetherAI` and `TogetherAIEmbeddings` use them by themselves.
A cache never fails a call: while its database is away, locked, full or damaged, calls go on without it.

>>> from hana_ai.api import ChatTogetherAI, TogetherAICache
>>> chat = ChatTogetherAI(cache=TogetherAICache("answers.db"))
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache

from hana_ai.api.cache.hits import looked_up
from hana_ai.api.cache.store import PATIENCE, VECTORS, Bounds, CacheKey, CacheStore, Patience, cache_key, driver_of
from hana_ai.api.cache.values import (
    answer_from_text,
    answer_to_text,
    response_key,
    vector_from_bytes,
    vector_keys,
    vector_to_bytes,
)
from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.process import RenewableLock, Stage, close_each, on_exit, on_fork
from hana_ai.api.settings import TogetherAISettings, current_settings

__all__ = ["CacheStats", "TogetherAICache", "TogetherAIEmbeddingCache", "answers_of", "close_all", "vectors_of"]

logger = logging.getLogger(__name__)

ANSWERS_BYTES = 2**30
"""Most bytes of answers that are kept, unless a cache is told otherwise."""
VECTORS_BYTES = 8 * 2**30
"""Most bytes of vectors that are kept, unless a cache is told otherwise."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache did in this process, and what it holds."""

    hits: int
    """Answers, or texts to embed, that were found."""
    misses: int
    """Those that were not."""
    entries: int | None
    """How many there are, of all processes; None while the database can't be asked."""
    bytes: int | None
    """What they take, without keys and indexes."""

    @property
    def hit_rate(self) -> float:
        """Share of what was found, from 0 to 1; 0 when nothing was asked for."""
        return self.hits / (self.hits + self.misses) if self.hits else 0.0


class _Cache:
    """What both caches have in common: a table and two counts."""

    _suffix: ClassVar[str]

    def _set_up(
        self, database: str | os.PathLike[str] | None, bounds: Bounds, settings: TogetherAISettings | None
    ) -> None:
        key = cache_key(settings or current_settings(), None if database is None else str(database))
        if key is None:
            raise TogetherAISettingsError(
                "There is no database for the cache. Set TOGETHER_CACHE, or name a SQLite path or hana:TABLE."
            )
        self._open(key, bounds.check(), PATIENCE)

    def _open(self, key: CacheKey, bounds: Bounds, patience: Patience) -> None:
        self._made_of = key, bounds, patience
        driver = driver_of(key)
        self._store = CacheStore(driver, bounds, suffix=self._suffix, patience=patience)
        # At the end of the process they are closed all together.
        weakref.finalize(self, self._store.close).atexit = False
        self._hits = self._misses = 0
        self._begin_counting()
        _alive.add(self)

    def _begin_counting(self) -> None:
        self._counting = threading.Lock()

    @classmethod
    def of(cls, key: CacheKey, bounds: Bounds, patience: Patience = PATIENCE) -> Self:
        """Make a cache as a setting names it."""
        made = cls.__new__(cls)
        made._open(key, bounds, patience)
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._store.name!r})"

    def __reduce__(self) -> tuple[object, ...]:
        # Objects that have a cache are sent to other processes: there it is the same database.
        return _shared, (type(self), *self._made_of)

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def _count(self, hits: int, misses: int) -> None:
        with self._counting:
            self._hits += hits
            self._misses += misses

    def stats(self) -> CacheStats:
        """Tell how often something was found in this process, and what the cache holds."""
        entries, size = self._store.size() or (None, None)
        return CacheStats(self._hits, self._misses, entries, size)

    async def astats(self) -> CacheStats:
        """Tell from a coroutine; see `stats`."""
        return await asyncio.to_thread(self.stats)

    def clear(self, **kwargs: object) -> None:
        """Delete all entries, of all processes that share the database. Arguments are ignored."""
        self._store.clear()

    async def aclear(self, **kwargs: object) -> None:
        """Delete all entries from a coroutine; see `clear`."""
        await asyncio.to_thread(self.clear)

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self._store.close()


class TogetherAICache(_Cache, BaseCache):
    """A cache of answers, for `ChatTogetherAI`, `TogetherAI` and any other model of LangChain.

    Parameters
    ----------
    database : str or path, optional
        A SQLite path, or `hana:TABLE`. Default: TOGETHER_CACHE.
    max_bytes : int, optional
        Most bytes to keep; None for no bound. Default: 1 GiB.
    max_entries : int, optional
        Most answers to keep. Default: no bound.
    max_age : float, optional
        Seconds after which an answer counts no more. Default: no bound.
    settings : TogetherAISettings, optional
        Where SAP HANA is. Default: read from the environment and `.env`.

    Raises
    ------
    TogetherAISettingsError
        The database can't be used, or a bound is not above 0; the message says what to do.

    Examples
    --------
    >>> from hana_ai.api import ChatTogetherAI, TogetherAICache
    >>> chat = ChatTogetherAI(temperature=0, cache=TogetherAICache("answers.db", max_age=86_400))
    >>> chat.invoke("What is a column store?") == chat.invoke("What is a column store?")
    """

    _suffix = ""

    def __init__(
        self,
        database: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int | None = ANSWERS_BYTES,
        max_entries: int | None = None,
        max_age: float | None = None,
        settings: TogetherAISettings | None = None,
    ) -> None:
        self._set_up(database, Bounds(max_bytes, max_entries, max_age), settings)

    # LangChain makes the twins for coroutines of these, in a thread.

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """Look an answer up.

        Returns
        -------
        list of Generation or None
            None when there is none, or none that can be read.
        """
        key = response_key(prompt, llm_string)
        value = self._store.read([key]).get(key)
        answer = None if value is None else answer_from_text(value.decode("utf-8", "replace"))
        if value is not None and answer is None:
            logger.warning("an answer in %s can't be read and was deleted", self._store.name)
            self._store.forget([key])
        hit = answer is not None
        self._count(int(hit), int(not hit))
        looked_up(hit)
        return answer

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep an answer, if it is whole: see docs/caching.md for what is not."""
        text = answer_to_text(return_val)
        if text is not None:
            self._store.write({response_key(prompt, llm_string): text.encode()})


class TogetherAIEmbeddingCache(_Cache):
    """A cache of vectors, for `TogetherAIEmbeddings`; it never mixes models, dimensions or parameters.

    Parameters
    ----------
    database : str or path, optional
        A SQLite path, or `hana:TABLE`; the table's name gets `_VECTORS` in addition. Default: TOGETHER_CACHE.
    max_bytes : int, optional
        Most bytes to keep, 4 for each number; None for no bound. Default: 8 GiB.
    max_entries, max_age, settings
        As for `TogetherAICache`.

    Raises
    ------
    TogetherAISettingsError
        As for `TogetherAICache`.

    Examples
    --------
    >>> from hana_ai.api import TogetherAIEmbeddingCache, TogetherAIEmbeddings
    >>> embeddings = TogetherAIEmbeddings(cache=TogetherAIEmbeddingCache("vectors.db"))
    """

    _suffix = VECTORS

    def __init__(
        self,
        database: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int | None = VECTORS_BYTES,
        max_entries: int | None = None,
        max_age: float | None = None,
        settings: TogetherAISettings | None = None,
    ) -> None:
        self._set_up(database, Bounds(max_bytes, max_entries, max_age), settings)

    def read(self, space: str, texts: Sequence[str]) -> dict[str, list[float]]:
        """Look vectors up.

        Parameters
        ----------
        space : str
            What the vectors must have in common: model, dimensions and all parameters.
        texts : sequence of str
            Different texts, as they would be sent.

        Returns
        -------
        dict of str to list of float
            Vectors by text, of those that were found.
        """
        keys = dict(zip(vector_keys(space, texts), texts, strict=True))
        found: dict[str, list[float]] = {}
        wrong: list[str] = []
        for key, value in self._store.read(list(keys)).items():
            vector = vector_from_bytes(value)
            if vector is None:
                wrong.append(key)
            elif key in keys:
                found[keys[key]] = vector
        if wrong:
            logger.warning("%d vectors in %s can't be read and were deleted", len(wrong), self._store.name)
            self._store.forget(wrong)
        self._count(len(found), len(texts) - len(found))
        return found

    async def aread(self, space: str, texts: Sequence[str]) -> dict[str, list[float]]:
        """Look vectors up from a coroutine; see `read`."""
        return await asyncio.to_thread(self.read, space, texts)

    def write(self, space: str, vectors: Mapping[str, Sequence[float]]) -> None:
        """Keep vectors by text, as 32-bit floats; see `read`."""
        packed = map(vector_to_bytes, vectors.values())
        pairs = zip(vector_keys(space, list(vectors)), packed, strict=True)
        values = {key: value for key, value in pairs if value is not None}
        if values:
            self._store.write(values)

    async def awrite(self, space: str, vectors: Mapping[str, Sequence[float]]) -> None:
        """Keep vectors from a coroutine; see `write`."""
        await asyncio.to_thread(self.write, space, vectors)


# --- one cache for all who ask for the same ---

_C = TypeVar("_C", bound=_Cache)
_caches: dict[tuple[type[_Cache], CacheKey, Bounds, Patience], _Cache] = {}
_alive: weakref.WeakSet[_Cache] = weakref.WeakSet()
_lock = RenewableLock()


def _shared(kind: type[_C], key: CacheKey, bounds: Bounds, patience: Patience = PATIENCE) -> _C:
    """The process's cache of a kind for a key."""
    with _lock:
        found = _caches.get((kind, key, bounds, patience))
        if not isinstance(found, kind):
            found = _caches[kind, key, bounds, patience] = kind.of(key, bounds, patience)
        return found


def answers_of(settings: TogetherAISettings) -> TogetherAICache | None:
    """The process's cache of answers for the settings; None where TOGETHER_CACHE is not set."""
    key = cache_key(settings)
    return None if key is None else _shared(TogetherAICache, key, Bounds(ANSWERS_BYTES, None, None))


def vectors_of(settings: TogetherAISettings) -> TogetherAIEmbeddingCache | None:
    """The process's cache of vectors for the settings; None where TOGETHER_CACHE is not set."""
    key = cache_key(settings)
    return None if key is None else _shared(TogetherAIEmbeddingCache, key, Bounds(VECTORS_BYTES, None, None))


def close_all() -> None:
    """Close every shared cache; objects that have one open it again when they use it."""
    close_each(_caches, _lock)


def _end() -> None:
    close_all()
    for cache in list(_alive):
        cache.close()


def _begin_anew() -> None:
    # A forked child may have its parent's locks, held by threads that it lacks; the connections see to themselves.
    for cache in list(_alive):
        cache._begin_counting()


on_fork(in_child=_begin_anew)
on_exit(Stage.CACHES, _end)
