"""Every place in the installed packages that embeds, reranks or asks a model has its line in `status()`.

The table at the end of docs/toolkit.md says which. When this fails, a new release of the toolkit has a place more
or less: find out whether it is routed, let `status()` have a line for it, and write that into the table.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

import pytest
from packaging.version import Version

from hana_ai.api import routing
from tests.integration.routing.places import Place, places_in

PAGE = Path(__file__).parents[3] / "docs" / "toolkit.md"


def is_installed(module: str) -> bool:
    """Whether a module is there; the toolkit's older releases lack some."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def table() -> list[tuple[str, str, list[str]]]:
    """Module, place and lines of `status()`, as docs/toolkit.md has them."""
    rows = re.findall(r"^\| ([\w.]+) \| (`.*`) \| (.*) \|$", PAGE.read_text().partition("## Every place")[2], re.M)
    return [
        (module, place, lines.split("; "))
        for module, places, lines in rows
        for place in re.findall("`(.*?)`", places)
    ]


def installed() -> list[Place]:
    return [*places_in("hana_ai", leave_out="hana_ai.api"), *places_in("gen_ai_hub.proxy.langchain")]


@pytest.fixture
def versions_of_the_table() -> None:
    """Skip a test where an older version is installed than those that the table was read from."""
    read = re.findall(r"(hana-ai|sap-ai-sdk-gen) ([\d.]*\d)", PAGE.read_text().partition("## Every place")[2])
    assert len(read) == 2
    for distribution, version in read:
        if Version(metadata.version(distribution)) < Version(version):
            pytest.skip(f"{distribution} is older than {version}")


@pytest.mark.usefixtures("versions_of_the_table")
def test_every_place_of_the_installed_packages_is_known() -> None:
    known = {(module, place) for module, place, _ in table()}
    assert len(known) > 80
    new = [
        f"{found.path}:{found.line} {found.name} {found.does}"
        for found in installed()
        if (found.module, found.name) not in known
    ]
    assert not new, "unknown places:\n" + "\n".join(new)


@pytest.mark.usefixtures("versions_of_the_table")
def test_every_known_place_is_there_once() -> None:
    counted = Counter((module, place) for module, place, _ in table())
    assert [place for place, count in counted.items() if count > 1] == []
    assert counted.keys() - {(found.module, found.name) for found in installed()} == set()


def test_every_known_place_has_its_line_in_the_status() -> None:
    lines = [place.name for place in routing.status().seams]
    assert len(set(lines)) == len(lines)
    for module, place, named in table():
        if not is_installed(module):
            continue
        for name in named:
            assert name in lines or name.startswith("none: "), f"{module}.{place}: {name}"


# --- what counts as a place ---

SOURCE = '''
class New(Embeddings):
    """VECTOR_EMBEDDING in a docstring is no place."""

    def embed_query(self, text):
        return text

class TheirReranker:
    pass

def pasted(question):
    return f"SELECT VECTOR_EMBEDDING('{question}', 'QUERY', 'M') FROM DUMMY"

def plain(connection, path):
    connection.sql("SELECT 1 FROM DUMMY"); path.encode("utf-8"); socket.bind(("", 0)); model_of(path)

def asks(llm):
    def inner():
        return llm.bind_tools([]).invoke("a")
    return inner

class Agent:
    async def run(self):
        await self.executor.ainvoke({})
        return self.llm("a")

    def rank(self):
        return self.cross_encoder.predict([])

    def tidy(self):
        return self.model_of_time.predict([])

LATE = init_chat_model("gpt-4o")
'''


def test_each_kind_of_place_is_found_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "upstream_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "inner.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = SOURCE.splitlines()
    found = {place.name: place for place in places_in("upstream_package")}
    sys.modules.pop("upstream_package", None)
    assert set(found) == {
        "New", "New.embed_query", "TheirReranker", "pasted", "asks.inner", "Agent.run", "Agent.rank", "(module)",
    }  # fmt: skip
    assert found["Agent.run"].does == "calls executor.ainvoke, calls self.llm"
    for name, text in (
        ("pasted", "VECTOR_EMBEDDING("),
        ("asks.inner", "bind_tools"),
        ("(module)", "init_chat_model"),
    ):
        assert text in lines[found[name].line - 1]
        assert found[name].path == folder / "inner.py"
    assert places_in("upstream_package", leave_out="upstream_package.inner") == []
