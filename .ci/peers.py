"""Record the arguments of other packages' classes, for docs/migration.md, which is written without them.

python .ci/peers.py

It records those that are installed, in their versions; the others keep what was recorded before.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "peers.json"
PACKAGES = {
    "langchain-together": ("langchain_together", ("ChatTogether", "Together", "TogetherEmbeddings")),
    "langchain-openai": ("langchain_openai", ("ChatOpenAI", "OpenAI", "OpenAIEmbeddings")),
    "sap-ai-sdk-gen": ("gen_ai_hub.proxy.langchain.openai", ("ChatOpenAI", "OpenAI", "OpenAIEmbeddings")),
}
_LANGCHAIN = ("BaseChatModel", "BaseLLM", "Embeddings")
_GIVEN = {"model": "a/model", "api_key": "a-key", "base_url": "https://api.together.ai/v1"}
_LONGEST = 60


def recorded() -> dict[str, Any]:
    """Version and classes of each package; of each class its arguments with their defaults, as `shown`."""
    return dict(json.loads(PAGE.read_text()))


def installed(package: str) -> dict[str, Any] | None:
    """What `recorded` has of a package, as it is installed now; None where it is not."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    name, classes = PACKAGES[package]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(name)
        found = {kind: dict(sorted(_arguments(getattr(module, kind)))) for kind in classes}
    return {"version": version, "classes": found}


def _arguments(kind: Any) -> Iterator[tuple[str, str]]:
    """The arguments that a class has beside those of LangChain's own base, by each of their names."""
    base = next(one for one in kind.__mro__ if one.__name__ in _LANGCHAIN)
    made = _made(kind)
    for name, field in kind.model_fields.items():
        if name in getattr(base, "model_fields", ()):
            continue
        given = {name, field.alias} & _GIVEN.keys()
        # A validator may fill in what the field has not.
        default = _default(field) if made is None or given or field.exclude else shown(getattr(made, name))
        for argument in {name, field.alias or name}:
            yield argument, default


def _made(kind: Any) -> Any:
    """An object pointed at Together; None where that needs more, as SAP's classes do."""
    try:
        return kind(**_GIVEN)
    except Exception:  # noqa: BLE001 - each of them fails in its own way
        return None


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    try:
        return shown(field.get_default(call_default_factory=True))
    except ValueError:  # it wants an environment variable
        return "required"


def shown(value: object) -> str:
    """A default as the tables show it."""
    if isinstance(value, str):
        return f'"{value[:_LONGEST]}"'
    return str(value)[:_LONGEST]


def main() -> int:
    """Write down what is installed."""
    for name in [name for name in os.environ if name.startswith(("TOGETHER_", "OPENAI_", "AICORE_"))]:
        del os.environ[name]
    found = recorded() if PAGE.exists() else {}
    for package in PACKAGES:
        found[package] = installed(package) or found[package]
    PAGE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
