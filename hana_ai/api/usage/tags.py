"""Tags: what a call was for, as the ledger keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_tags: ContextVar[tuple[str, ...]] = ContextVar("together_ai_usage_tags", default=())


@contextmanager
def usage_tags(*tags: str) -> Iterator[None]:
    """Tag the calls that are made inside, in this thread or task and in those that it starts for LangChain.

    Inner tags are added to outer ones. LangChain's own tags (``config={"tags": [...]}``) of a call count as well.

    Examples
    --------
    >>> from hana_ai.api import usage_tags
    >>> with usage_tags("nightly report", "team finance"):
    ...     chat.invoke("How was the month?")
    """
    token = _tags.set((*_tags.get(), *tags))
    try:
        yield
    finally:
        _tags.reset(token)


def current_tags() -> tuple[str, ...]:
    """The tags of the `usage_tags` blocks that this is called in."""
    return _tags.get()


def own_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """A run's tags without those that tell LangChain something, such as `seq:step:1`."""
    return tuple(
        tag for tag in tags if tag != "nostream" and not tag.startswith(("seq:step:", "map:key:", "langsmith:"))
    )
