"""What applies to a block of code instead of the whole process: `stay()` and `tenant()`.

Both are context variables, so a block holds for its own thread or coroutine, and for what copies their context:
tasks, `asyncio.to_thread`, `contextvars.copy_context().run`. An object remembers the blocks that it was made in.

Loading this module loads nothing but the standard library: it runs in processes that never use Together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Tenant:
    """Whose key and address to use."""

    api_key: str = field(repr=False)
    base_url: str | None = None


@dataclass(frozen=True)
class Scope:
    """The blocks that something is in."""

    stays: bool = False
    """Whether it is in a block of `stay`."""
    tenant: Tenant | None = None
    """That of the innermost block of `tenant`."""


_MADE_IN = "_together_scope"
_NO_SCOPE = Scope()
_current: ContextVar[Scope] = ContextVar("hana_ai_together_scope", default=_NO_SCOPE)


def current() -> Scope:
    """The blocks that the caller is in."""
    return _current.get()


def is_staying() -> bool:
    """Whether the caller is in a block of `stay`."""
    return _current.get().stays


@contextmanager
def stay() -> Iterator[None]:
    """Let the toolkit go its own way inside the block, as if the routing were off.

    What is made in the block stays the toolkit's own for its life, wherever it is used: embedding services,
    rerankers, vector stores, models of SAP's GenAI Hub. What was made outside keeps its model inside as well, so
    that no table gets vectors of two models.

    Examples
    --------
    >>> from hana_ai.api import routing
    >>> with routing.stay():
    ...     embeddings = HANAVectorEmbeddings(connection_context)
    >>> embeddings.embed_query("a column store")  # in the database
    """
    with within(replace(_current.get(), stays=True)):
        yield


@contextmanager
def tenant(api_key: str, base_url: str | None = None) -> Iterator[None]:
    """Use a key of somebody's own for everything that is routed inside the block.

    What is made in the block keeps the key for its life, wherever it is used. What was made before, outside any
    such block and without a key of its own, takes the key of the block that calls it.

    Parameters
    ----------
    api_key : str
        In place of TOGETHER_API_KEY.
    base_url : str, optional
        In place of TOGETHER_BASE_URL.

    Raises
    ------
    TogetherAISettingsError
        `base_url` is not an address.

    Examples
    --------
    >>> from hana_ai.api import routing
    >>> with routing.tenant(api_key=customer.key):
    ...     llm = init_llm("gpt-4o")
    """
    chosen = Tenant(api_key, base_url)
    # Some tools print a traceback with its variables.
    del api_key
    if base_url:
        from hana_ai.api.addresses.checks import check_base_url

        check_base_url(base_url, "base_url")
    with within(replace(_current.get(), tenant=chosen)):
        yield


@contextmanager
def within(scope: Scope) -> Iterator[None]:
    """Run a block in the scope of something else."""
    token = _current.set(scope)
    try:
        yield
    finally:
        _current.reset(token)


def remember(made: object) -> None:
    """Let an object know the blocks that it is made in."""
    setattr(made, _MADE_IN, _current.get())


def has_stayed(made: object) -> bool:
    """Whether an object was made in a block of `stay`."""
    return bool(getattr(made, _MADE_IN, _NO_SCOPE).stays)


def scope_of(made: object) -> Scope:
    """The scope in which an object's calls are made: its own tenant's, or else the caller's."""
    tenant: Tenant | None = getattr(made, _MADE_IN, _NO_SCOPE).tenant
    return Scope(tenant=tenant or _current.get().tenant)
