"""Together AI as a model provider of SAP's Generative AI Toolkit for SAP HANA Cloud, and of LangChain.

The public names are resolved when they are first used, so that importing this package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hana_ai.api.chat_models import ChatTogetherAI
    from hana_ai.api.connector import TogetherAIConnector
    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.errors import (
        TogetherAIAuthenticationError,
        TogetherAIConflictError,
        TogetherAIConnectionError,
        TogetherAIContextOverflowError,
        TogetherAIError,
        TogetherAIInputError,
        TogetherAIInvalidRequestError,
        TogetherAIModelNotFoundError,
        TogetherAINotEnabledError,
        TogetherAIPaymentRequiredError,
        TogetherAIPermissionDeniedError,
        TogetherAIRateLimitError,
        TogetherAIRequestError,
        TogetherAIResponseError,
        TogetherAIServerError,
        TogetherAISettingsError,
        TogetherAIStatusError,
        TogetherAIStreamError,
        TogetherAIStructuredOutputError,
        TogetherAITimeoutError,
    )
    from hana_ai.api.llms import TogetherAI
    from hana_ai.api.rerankers import TogetherAIRerank
    from hana_ai.api.settings import TogetherAISettings
    from hana_ai.api.together_ai import TogetherAIClient, get_together_ai_client
    from hana_ai.api.transport import RetryEvent

__version__ = "0.1.0"

_MODULES = {
    "ChatTogetherAI": "chat_models",
    "RetryEvent": "transport",
    "TogetherAI": "llms",
    "TogetherAIClient": "together_ai",
    "TogetherAIConnector": "connector",
    "TogetherAIEmbeddings": "embeddings",
    "TogetherAIRerank": "rerankers",
    "TogetherAISettings": "settings",
    "get_together_ai_client": "together_ai",
}

__all__ = [
    "ChatTogetherAI",
    "RetryEvent",
    "TogetherAI",
    "TogetherAIAuthenticationError",
    "TogetherAIClient",
    "TogetherAIConflictError",
    "TogetherAIConnectionError",
    "TogetherAIConnector",
    "TogetherAIContextOverflowError",
    "TogetherAIEmbeddings",
    "TogetherAIError",
    "TogetherAIInputError",
    "TogetherAIInvalidRequestError",
    "TogetherAIModelNotFoundError",
    "TogetherAINotEnabledError",
    "TogetherAIPaymentRequiredError",
    "TogetherAIPermissionDeniedError",
    "TogetherAIRateLimitError",
    "TogetherAIRequestError",
    "TogetherAIRerank",
    "TogetherAIResponseError",
    "TogetherAIServerError",
    "TogetherAISettings",
    "TogetherAISettingsError",
    "TogetherAIStatusError",
    "TogetherAIStreamError",
    "TogetherAIStructuredOutputError",
    "TogetherAITimeoutError",
    "get_together_ai_client",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Every other public name is an error.
    module = _MODULES.get(name, "errors")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
