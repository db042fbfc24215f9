"""A loopback HANA for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hana_ai.api.local.hana import LocalHana
from tests.conftest import export


@pytest.fixture(scope="module")
def hana() -> Iterator[LocalHana]:
    """The module's own; whatever a test leaves in it, the module's next one finds."""
    with LocalHana() as server:
        yield server


@pytest.fixture
def hana_environment(hana: LocalHana, monkeypatch: pytest.MonkeyPatch) -> LocalHana:
    """The server of `hana`, with the environment pointing at it."""
    export(monkeypatch, hana.environment())
    return hana
