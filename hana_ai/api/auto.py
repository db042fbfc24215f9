"""Importing this module routes the toolkit to Together AI, if enabled: ``import hana_ai.api.auto``."""

from hana_ai.api.routing import activate

activate()
