"""Servers for the faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import ScriptedTogether
from tests.faults.server import FaultyServer


@pytest.fixture(scope="session")
def good_server() -> Iterator[ScriptedTogether]:
    """The loopback server behind all faults."""
    with ScriptedTogether() as server:
        yield server


@pytest.fixture(scope="session")
def faulty(good_server: ScriptedTogether) -> Iterator[FaultyServer]:
    """Ports that damage what comes from `good_server`."""
    with FaultyServer(good_server.base_url) as server:
        yield server
