"""What `hana_ai.api` offers, and what it costs to import."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import hana_ai.api
from hana_ai.api import errors
from tests.programs import printed

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", hana_ai.api.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(hana_ai.api, name).__name__ == name
    assert name in dir(hana_ai.api)


def test_type_checkers_are_told_the_same_names() -> None:
    tree = ast.parse(Path(hana_ai.api.__file__).read_text())
    told = [
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "__all__"
    ]
    assert told == [hana_ai.api.__all__]


def test_every_error_is_public() -> None:
    assert {name for name in vars(errors) if name.startswith("TogetherAI")} <= set(hana_ai.api.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        hana_ai.api.no_such_name  # noqa: B018


@pytest.mark.parametrize(
    ("absent", "name", "said"),
    [
        (
            "langchain_hana",
            "TogetherHanaDB",
            "TogetherHanaDB needs langchain_hana: pip install 'hana-ai-together[toolkit]'",
        ),
        ("orjson", "UsageEvent", "import of orjson halted; None in sys.modules"),
    ],
)
def test_what_is_not_installed_is_named_and_so_is_the_extra_that_installs_it(
    absent: str, name: str, said: str
) -> None:
    code = (
        "import sys, hana_ai.api as api\n"
        "sys.modules[sys.argv[1]] = None\n"
        "try: getattr(api, sys.argv[2])\n"
        "except ModuleNotFoundError as exc: print(exc.name, exc, sep=': ')"
    )
    assert printed(code, absent, name).strip() == f"{absent}: {said}"


def _loaded_by(module: str, *, after: str = "sys") -> set[str]:
    """Modules that importing one adds in a fresh interpreter to what another has loaded."""
    code = (
        "import sys, hana_ai; hana_ai.__path__ = [sys.argv[1], *hana_ai.__path__]; "
        f"import {after}; before = set(sys.modules); import {module}; print(*sorted(set(sys.modules) - before))"
    )
    return set(printed(code, str(_ROOT / "hana_ai")).split())


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("hana_ai.api", ("langchain_core", "pydantic", "together", "httpx", "hana_ml")),
        (
            "hana_ai.api.chat_models",
            ("together", "aiohttp", "sqlite3", "hana_ml", "pandas", "langchain_hana", "pydantic_settings"),
        ),
        (
            "hana_ai.api.embeddings",
            ("together", "aiohttp", "hana_ml", "pandas", "langchain_hana", "pydantic_settings"),
        ),
    ],
)
def test_importing_loads_only_what_it_needs(module: str, absent: tuple[str, ...]) -> None:
    assert not set(absent) & _loaded_by(module)


def test_the_chat_models_load_nothing_beyond_langchains_own_base_but_this_package() -> None:
    # LangChain's base brings langsmith, and that httpx, requests and more; nobody here can help that.
    loaded = _loaded_by("hana_ai.api.chat_models", after="langchain_core.language_models.chat_models")
    standard = {name for name in loaded if name.partition(".")[0] in sys.stdlib_module_names}
    ours = {name for name in loaded if name.partition(".")[0] == "hana_ai"}
    assert loaded - standard - ours == set()
    assert not ours & {
        f"hana_ai.api.{name}"
        for name in (
            "settings",
            "langchain.structured_output",
            "usage.ledger",
            "connector.connector",
        )
    }
    assert "sqlite3" not in standard
