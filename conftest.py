"""Tests see the checkout's hana_ai.api, beside whatever hana_ai is installed."""

import os
from pathlib import Path

import pytest

import hana_ai

_CHECKOUT = str(Path(__file__).parent / "hana_ai")
hana_ai.__path__ = [_CHECKOUT, *(path for path in hana_ai.__path__ if path != _CHECKOUT)]

pytest_plugins = ["tests.secrets_watch", "tests.board"]

MOST_WORKERS = 8
"""Each holds the models and servers that its tests use, about 1 GB."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A worker a core that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MOST_WORKERS)
