"""The connector under the toolkit's name for it; `plugins` and `plugins.connectors` are namespaces of many."""

from hana_ai.api.connector.connector import TogetherAIConnector

__all__ = ["TogetherAIConnector"]
