"""What the tests of the loopback HANA share."""

from __future__ import annotations

import pytest


@pytest.fixture
def lock_timeout() -> float:
    """Seconds that a change waits for a row; tests in which it gets the row name more."""
    return 0.3
