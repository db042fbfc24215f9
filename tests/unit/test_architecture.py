"""The check of the architecture catches each kind of break, and this package has none."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]

LAZY = """
TYPE_CHECKING = False
if TYPE_CHECKING:
    from hana_ai.api.usage.ledger import Ledger

def __getattr__(name):
    ...
"""

Write = Callable[..., list[str]]


@pytest.fixture(scope="module")
def architecture() -> ModuleType:
    spec = importlib.util.spec_from_file_location("architecture", ROOT / ".ci" / "architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where its dataclasses look for the types of their fields.
    sys.modules["architecture"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def breaks(architecture: ModuleType, tmp_path: Path) -> Write:
    """Write modules of a package of one's own, and check it."""

    def write(**modules: str) -> list[str]:
        for name, text in {"__init__": "", **modules}.items():
            path = tmp_path / "hana_ai" / "api" / f"{name.replace('__0__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        found: list[str] = architecture.check(tmp_path)
        return found

    return write


def test_this_package_is_as_drawn(architecture: ModuleType) -> None:
    assert architecture.check(ROOT) == []


def test_imports_of_the_same_layer_and_of_lower_ones_are_fine(breaks: Write) -> None:
    assert not breaks(
        errors="", wire__0__sse="from hana_ai.api import errors", cli="import hana_ai.api.wire.sse, json"
    )


@pytest.mark.parametrize(
    "text",
    [
        "import hana_ai.api.service",
        "from hana_ai.api.service import get_transport",
        "from hana_ai.api import service",
        "from ..service import get_transport",
        "def late():\n    from hana_ai.api.service import get_transport",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hana_ai.api.service import get_transport",
        "import importlib\nimportlib.import_module('hana_ai.api.service')",
    ],
)
def test_an_import_of_a_higher_layer_is_caught_however_it_is_written(breaks: Write, text: str) -> None:
    [line] = breaks(service="", usage__0__ledger=text)
    assert line.startswith("hana_ai/api/usage/ledger.py:")
    assert "usage is below service" in line
    assert "Let the caller pass in" in line


@pytest.mark.parametrize(
    ("ledger", "user", "said"),
    [
        (
            "",
            {"catalog": "def price():\n    from hana_ai.api.usage import Ledger"},
            "hana_ai/api/catalog.py:2 imports hana_ai.api.usage.ledger",
        ),
        (
            "from hana_ai.api.usage import prices",
            {"usage__0__prices": "from hana_ai.api import usage\nusage.Ledger"},
            "is in an import circle of 2 modules",
        ),
    ],
    ids=["imported", "an attribute"],
)
def test_a_lazy_package_imports_nothing_but_its_names_lead_to_where_they_are_defined(
    breaks: Write, ledger: str, user: dict[str, str], said: str
) -> None:
    [line] = breaks(usage__0____init__=LAZY, usage__0__ledger=ledger, **user)
    assert said in line


def test_a_module_that_hides_a_public_name_of_its_package_is_caught(breaks: Write) -> None:
    names = LAZY.replace("Ledger", "ledger").replace("usage.ledger", "usage.all")
    [line] = breaks(usage__0____init__=names, usage__0__all="", usage__0__ledger="")
    assert line.startswith("hana_ai/api/usage/ledger.py hides the public name ledger of hana_ai.api.usage")


def test_a_module_of_no_layer_is_caught(breaks: Write) -> None:
    [line] = breaks(helpers="")
    assert line.startswith("hana_ai/api/helpers.py has no layer. Move it")


def test_a_circle_is_caught_with_the_way_round(breaks: Write) -> None:
    [line] = breaks(
        wire__0__one="from hana_ai.api.wire import two",
        wire__0__two="def late():\n    from . import three",
        wire__0__three="if False:\n    from hana_ai.api.wire.one import x",
        wire__0__four="from hana_ai.api.wire import one",
    )
    assert "a circle" not in line
    assert (
        "import circle of 3 modules: hana_ai.api.wire.one > hana_ai.api.wire.two > hana_ai.api.wire.three" in line
    )
    assert "Cut one of these imports" in line


def test_the_border_of_the_loopback_servers_is_held_on_both_sides(breaks: Write) -> None:
    outward, inward = breaks(
        errors="",
        transport="from hana_ai.api.local.together import app",
        cli="from hana_ai.api.local.together import app",
        local__0__together__0__app="from hana_ai.api.errors import TogetherAIError",
    )
    assert outward.startswith("hana_ai/api/local/together/app.py:1 imports hana_ai.api.errors.")
    assert inward.startswith("hana_ai/api/transport.py:1 imports hana_ai.api.local.together.app.")


def test_what_has_outgrown_its_limit_is_caught(breaks: Write) -> None:
    methods = "".join(f"    def m{number}(self): ...\n" for number in range(26))
    found = breaks(
        errors="x = 1\n" * 501,
        process=f"class Big:\n{methods}",
        settings="def long():\n" + "    x = 1\n" * 60,
        **{f"wire__0__m{number}": "" for number in range(30)},
    )
    assert [line.partition(",")[0] for line in found] == [
        "hana_ai/api/errors.py has 501 lines",
        "hana_ai/api/process.py:1 Big has 26 methods",
        "hana_ai/api/settings.py:1 long has 61 lines",
    ]


def test_many_entries_side_by_side_are_caught(breaks: Write, tmp_path: Path) -> None:
    for number in range(25):
        (tmp_path / "hana_ai" / "api" / f"part{number}").mkdir(parents=True)
    assert breaks() == ["hana_ai/api has 26 entries, more than 25. Move some of them into rooms."]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import httpx\nclient = httpx.Client()\nclient._transport", "_transport"),
        ("import httpx\ngetattr(httpx.Client(), '_transport')", "_transport"),
        (
            "import httpx\nclass Mine(httpx.Client):\n    def pool(self):\n        return self._transport",
            "_transport",
        ),
        ("from httpx._client import Client", "httpx._client.Client"),
        ("def pool(sdk):\n    return sdk.client._transport", "_transport"),
        ("def renew(session: 'aiohttp.ClientSession'):\n    session._connector", "_connector"),
    ],
)
def test_a_private_part_of_an_http_library_is_caught(breaks: Write, text: str, name: str) -> None:
    [line] = breaks(transport=text)
    assert f"uses {name}, a private part of an HTTP library" in line


def test_what_is_private_here_is_no_private_part_of_a_library(breaks: Write) -> None:
    assert not breaks(
        transport="import httpx\nclass Mine:\n    def __init__(self):\n        self._transport = httpx.Client()\n"
        "    def close(self):\n        self._transport.close()",
    )


# --- docs/architecture.md ---

PAGE = (ROOT / "docs" / "architecture.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/.]+(?:\.py|/))`", PAGE)) - {"hana_ai/api/"})


def test_every_path_on_the_page_exists() -> None:
    assert len(NAMED) > 40
    missing = [
        path for path in NAMED if not (ROOT / path).exists() and not (ROOT / "hana_ai" / "api" / path).exists()
    ]
    # Named to say that it is not there.
    assert missing == ["hana_ai/__init__.py"]


def test_every_room_has_a_paragraph() -> None:
    described = {
        name
        for paragraph in PAGE.partition("## The rooms")[2].split("\n\n")
        if paragraph.startswith("**")
        for name in re.findall(r"`(\w+)(?:\.py|/)`", " ".join(re.findall(r"\*\*(.*?)\*\*", paragraph)))
    }
    rooms = {
        path.stem
        for path in (ROOT / "hana_ai" / "api").iterdir()
        if path.name not in ("__init__.py", "__pycache__", "py.typed")
    }
    assert described == rooms


def test_the_picture_has_the_layers_that_the_check_holds(architecture: ModuleType) -> None:
    svg = "{http://www.w3.org/2000/svg}"
    picture = ElementTree.parse(ROOT / "docs" / "images" / "architecture.svg")
    layers = picture.iterfind(f"{svg}g[@class='room']")
    names = (" ".join(str(line.text) for line in layer.iterfind(f"{svg}text[@class='name']")) for layer in layers)
    drawn = [name.split(" · ") for name in names]
    assert [set(rooms) for rooms in reversed(drawn)] == [set(rooms) for rooms in architecture.LAYERS]
