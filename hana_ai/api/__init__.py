"""Together AI as a model provider of SAP's Generative AI Toolkit for SAP HANA Cloud, and of LangChain.

The public names are resolved when they are first used, so that importing this package costs next to nothing.
"""

from __future__ import annotations

# As in typing, whose import takes longer than that of this package.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from hana_ai.api.addresses.targets import FallbackTarget
    from hana_ai.api.cache.caches import CacheStats, TogetherAICache, TogetherAIEmbeddingCache
    from hana_ai.api.chat_models import ChatTogetherAI
    from hana_ai.api.connector.connector import TogetherAIConnector
    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.errors import (
        TogetherAIAuthenticationError,
        TogetherAIBudgetExceededError,
        TogetherAIClusterError,
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
        TogetherAIUnsafeContentError,
    )
    from hana_ai.api.hana.vector_engine import TogetherVectorEngine
    from hana_ai.api.hana.vector_store import TogetherHanaDB
    from hana_ai.api.langchain.guarding import TogetherGuardMiddleware
    from hana_ai.api.llms import TogetherAI
    from hana_ai.api.rerankers import TogetherAIRerank
    from hana_ai.api.routing import activate, deactivate
    from hana_ai.api.routing.gen_ai_hub import init_embedding_model, init_llm
    from hana_ai.api.settings import TogetherAISettings
    from hana_ai.api.together_ai import TogetherAIClient, get_together_ai_client
    from hana_ai.api.transport.call import RetryEvent
    from hana_ai.api.usage.ledger import BudgetWarning, Ledger, UsageEvent, get_ledger, usage_tags

    # The names for a type checker; in a program, those that can be imported, see `__getattr__`.
    __all__ = [
        "BudgetWarning",
        "CacheStats",
        "ChatTogetherAI",
        "FallbackTarget",
        "Ledger",
        "RetryEvent",
        "TogetherAI",
        "TogetherAIAuthenticationError",
        "TogetherAIBudgetExceededError",
        "TogetherAICache",
        "TogetherAIClient",
        "TogetherAIClusterError",
        "TogetherAIConflictError",
        "TogetherAIConnectionError",
        "TogetherAIConnector",
        "TogetherAIContextOverflowError",
        "TogetherAIEmbeddingCache",
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
        "TogetherAIUnsafeContentError",
        "TogetherGuardMiddleware",
        "TogetherHanaDB",
        "TogetherVectorEngine",
        "UsageEvent",
        "activate",
        "deactivate",
        "get_ledger",
        "get_together_ai_client",
        "init_embedding_model",
        "init_llm",
        "usage_tags",
    ]

__version__ = "0.1.0"

_MODULES = {
    "BudgetWarning": "usage",
    "CacheStats": "cache",
    "ChatTogetherAI": "chat_models",
    "FallbackTarget": "addresses.targets",
    "Ledger": "usage",
    "RetryEvent": "transport",
    "TogetherAI": "llms",
    "TogetherAIAuthenticationError": "errors",
    "TogetherAIBudgetExceededError": "errors",
    "TogetherAICache": "cache",
    "TogetherAIClient": "together_ai",
    "TogetherAIClusterError": "errors",
    "TogetherAIConflictError": "errors",
    "TogetherAIConnectionError": "errors",
    "TogetherAIConnector": "connector",
    "TogetherAIContextOverflowError": "errors",
    "TogetherAIEmbeddingCache": "cache",
    "TogetherAIEmbeddings": "embeddings",
    "TogetherAIError": "errors",
    "TogetherAIInputError": "errors",
    "TogetherAIInvalidRequestError": "errors",
    "TogetherAIModelNotFoundError": "errors",
    "TogetherAINotEnabledError": "errors",
    "TogetherAIPaymentRequiredError": "errors",
    "TogetherAIPermissionDeniedError": "errors",
    "TogetherAIRateLimitError": "errors",
    "TogetherAIRequestError": "errors",
    "TogetherAIRerank": "rerankers",
    "TogetherAIResponseError": "errors",
    "TogetherAIServerError": "errors",
    "TogetherAISettings": "settings",
    "TogetherAISettingsError": "errors",
    "TogetherAIStatusError": "errors",
    "TogetherAIStreamError": "errors",
    "TogetherAIStructuredOutputError": "errors",
    "TogetherAITimeoutError": "errors",
    "TogetherAIUnsafeContentError": "errors",
    "TogetherGuardMiddleware": "langchain.guarding",
    "TogetherHanaDB": "hana.vector_store",
    "TogetherVectorEngine": "hana.vector_engine",
    "UsageEvent": "usage",
    "activate": "routing",
    "deactivate": "routing",
    "get_ledger": "usage",
    "get_together_ai_client": "together_ai",
    "init_embedding_model": "routing.gen_ai_hub",
    "init_llm": "routing.gen_ai_hub",
    "usage_tags": "usage",
}


def resolve_lazily(package: dict[str, object], modules: dict[str, str], name: str) -> object:
    """Import a public name of a package when it is first used (PEP 562), and keep it in the package.

    Parameters
    ----------
    package : dict
        The package's ``globals()``.
    modules : dict
        The module below the package that defines each public name.
    name : str

    Raises
    ------
    AttributeError
        The package has no such public name.
    """
    if name not in modules:
        raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{package['__name__']}.{modules[name]}"), name)
    package[name] = value
    return value


def __getattr__(name: str) -> object:
    if name == "__all__":
        return _importable()
    try:
        return resolve_lazily(globals(), _MODULES, name)
    except ModuleNotFoundError as exc:
        absent = (exc.name or "").partition(".")[0]
        if _MODULES[name].startswith("hana."):
            installed_by = "'hana-ai-together[toolkit]'"
        elif absent in ("langchain", "langgraph"):
            installed_by = "langchain"
        else:
            raise
        message = f"{name} needs {absent}: pip install {installed_by}"
        raise ModuleNotFoundError(message, name=absent) from exc


def _importable() -> list[str]:
    """The public names without those whose packages are not installed, so that ``import *`` works without them."""
    from importlib.util import find_spec

    def present(*packages: str) -> bool:
        return all(find_spec(package) is not None for package in packages)

    absent = [] if present("langchain_hana", "hana_ml") else ["hana."]
    absent += [] if present("langchain") else ["langchain.guarding"]
    return [name for name, module in _MODULES.items() if not module.startswith(tuple(absent))]


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


def load_ipython_extension(ipython: object) -> None:
    """Route the toolkit to Together AI, for ``%load_ext hana_ai.api``, and print what happened; see `activate`.

    Adds the magics ``%together`` and ``%%together``, too.
    """
    from hana_ai.api.routing import activate
    from hana_ai.api.routing.magic import register
    from hana_ai.api.routing.report import what_happened

    register(ipython)
    print(what_happened(activate()))  # noqa: T201 - for whoever loads it in a notebook


def unload_ipython_extension(ipython: object) -> None:
    """Restore the toolkit, for ``%unload_ext hana_ai.api``."""
    from hana_ai.api.routing import deactivate
    from hana_ai.api.routing.magic import unregister

    unregister(ipython)
    deactivate()
    print("The toolkit is not routed to Together AI any more.")  # noqa: T201
