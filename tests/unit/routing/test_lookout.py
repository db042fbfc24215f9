"""The guard of the vector tables waits for the first door, and is there only where nothing is routed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hana_ai.api import routing
from hana_ai.api.routing import lookout
from hana_ai.api.routing.vector_tables import SEAMS
from hana_ai.api.settings import TogetherAISettings


@pytest.fixture(autouse=True)
def no_door_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in lookout.DOORS:
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_the_doors_are_those_of_the_seams() -> None:
    assert {seam.module for seam in SEAMS} == lookout.DOORS


def test_where_nothing_is_routed_the_sentry_waits_until_the_tables_are_routed_or_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(2):
        assert not routing.activate()
    assert sum(isinstance(finder, lookout.Lookout) for finder in sys.meta_path) == 1
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    assert routing.activate()
    assert not lookout.is_waiting()
    routing.guard_tables()
    assert not lookout.is_waiting()
    routing.deactivate()
    assert not lookout.is_waiting()
    routing.guard_tables()
    assert lookout.is_waiting()
    routing.deactivate()
    assert not lookout.is_waiting()


@pytest.mark.parametrize("value", ["true", "false", "", "0", "TRUE"])
@pytest.mark.parametrize("from_file", [True, False])
def test_a_setting_turns_the_guard_off(value: str, from_file: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if from_file:
        Path(".env").write_text(f"TOGETHER_GUARD_TABLES={value}\n")
    else:
        monkeypatch.setenv("TOGETHER_GUARD_TABLES", value)
    routing.activate()
    assert lookout.is_waiting() == TogetherAISettings().together_guard_tables
    assert lookout.is_waiting() == (value not in ("false", "0"))


def test_a_file_that_cannot_be_read_is_no_matter_where_the_environment_says_no(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_bytes(b"together_guard_tables=\xff\0")
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "false")
    assert not routing.activate()
    assert lookout.is_waiting()
