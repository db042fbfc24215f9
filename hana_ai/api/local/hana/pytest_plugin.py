"""Fixtures for test suites that need a HANA.

Use them with ``pytest_plugins = ["hana_ai.api.local.hana.pytest_plugin"]`` in the top conftest.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from hana_ai.api.local.hana.process import LocalHana

if TYPE_CHECKING:
    from hdbcli.dbapi import Connection  # type: ignore[import-untyped]


@pytest.fixture(scope="session")
def local_hana() -> Iterator[LocalHana]:
    """Return a running loopback HANA, one for the whole session, its data in memory."""
    with LocalHana() as hana:
        yield hana


@pytest.fixture
def local_hana_connection(local_hana: LocalHana) -> Iterator[Connection]:
    """Return an open connection of hdbcli to it; what the test has not committed is rolled back."""
    connection = local_hana.connect()
    yield connection
    if connection.isconnected():
        connection.close()
