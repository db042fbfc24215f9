"""Note in the record of statements what a session prepares and runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from hana_ai.api.local.hana.catalog.environment import SessionState
from hana_ai.api.local.hana.engine.planning import Plan


def note_preparation(state: SessionState, plan: Plan, begun: float) -> None:
    """A plan was made; `begun` is when that began, by `time.perf_counter`."""
    if plan.is_recorded:
        taken = time.perf_counter() - begun
        state.record.prepared(plan.sql, state.user, state.schema, len(plan.parameters), taken)


@contextmanager
def noted(state: SessionState, plan: Plan) -> Iterator[None]:
    """Around the execution of a plan; one that fails is not counted."""
    begun = time.perf_counter()
    yield
    if plan.is_recorded:
        taken = time.perf_counter() - begun
        state.record.executed(plan.sql, state.user, state.schema, state.connection_id, taken)


def counting(state: SessionState, plan: Plan) -> Callable[[int], None]:
    """What is told how many rows a statement gave or changed."""
    return partial(state.record.counted, plan.sql, state.user, state.schema)
