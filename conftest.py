"""Tests see the checkout's hana_ai.api, beside whatever hana_ai is installed."""

from pathlib import Path

import hana_ai

_CHECKOUT = str(Path(__file__).parent / "hana_ai")
hana_ai.__path__ = [_CHECKOUT, *(path for path in hana_ai.__path__ if path != _CHECKOUT)]

pytest_plugins = ["tests.secrets_watch"]
