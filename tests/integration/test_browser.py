"""Site, report and map as a browser shows them: nothing scrolls sideways, fails, or is fetched elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from hana_ai.api.cli.app import run
from hana_ai.api.hana.drawing import TableDrawing, projected
from hana_ai.api.hana.tables import VectorTableInfo
from hana_ai.api.settings import TogetherAISettings
from hana_ai.api.usage.ledger import get_ledger
from hana_ai.api.usage.record import UsageRecord
from tests.browser import CHROMIUM, DESKTOP, PHONE, Browser, Served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed, and pages are looked at in it"),
]

ROOT = Path(__file__).parents[2]
HOSTILE = "</script><img src=x onerror=\"document.title='broken'\">" + "w" * 200


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site with the notebooks' outputs, as `make docs` builds it."""
    pytest.importorskip("mkdocs", reason="`make docs` installs what builds the site")
    folder = tmp_path_factory.mktemp("site")
    ours = [sys.executable, "-m", "hana_ai.api.cli"]
    command = [
        *ours,
        "serve",
        "all",
        "--",
        *ours,
        "run",
        "--",
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
    ]
    done = subprocess.run(
        [*command, "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "DOCS_EXECUTE": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def is_whole(browser: Browser, url: str) -> None:
    """Look at a page at both widths, in light and dark."""
    for width in (PHONE, DESKTOP):
        for dark in (False, True):
            seen = browser.look(url, width, dark=dark)
            assert (seen.errors, seen.elsewhere) == ([], [])
            assert seen.content_width <= width


@pytest.mark.timeout(1800)
def test_every_page_of_the_site_is_whole(browser: Browser, site: Path) -> None:
    pages = sorted(page.parent.relative_to(site).as_posix() for page in site.rglob("index.html"))
    docs = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "notebooks").glob("*.ipynb")]
    names = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in docs}
    assert set(pages) == names - {"index"} | {"."}
    wrong = []
    with Served(site) as url:
        for page in pages:
            try:
                is_whole(browser, f"{url}/{page}/")
            except AssertionError as exc:
                wrong.append(AssertionError(f"{page}: {exc}"))
    if wrong:
        raise ExceptionGroup("pages that are not whole", wrong)


def test_the_report_is_whole(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_USAGE_DB", str(tmp_path / "usage.db"))
    ledger = get_ledger(TogetherAISettings())
    for number in range(300):
        ledger.record(
            UsageRecord(
                called_at=time.time() - 86400 * (number % 40),
                operation="chat",
                model=f"maker/{HOSTILE}-{number % 5}",
                tags=(HOSTILE,),
                usage={"prompt_tokens": number * 1000, "completion_tokens": 9, "total_tokens": number * 1000 + 9},
                latency=number / 10,
                first_token=number / 100,
                status="cached" if number % 7 == 0 else "ok",
                base_url="http://127.0.0.1:9/v1",
                api_key=SecretStr("x"),
            )
        )
    assert run(["usage", "--html", str(tmp_path / "report.html")]) == 0
    is_whole(browser, (tmp_path / "report.html").as_uri())


def test_the_map_is_whole_and_finds_documents(browser: Browser, tmp_path: Path) -> None:
    documents = (HOSTILE, "The mill is by the river.", "The miller sleeps.", "Bread is made of flour.")
    points, shares = projected([[1, 0, 0], [0, 1, 0], [0, 0.9, 0.1], [0, 0, 1]])
    info = VectorTableInfo(
        schema="S", table="T" * 127, vector_column="V", text_column="X", type="REAL_VECTOR", widths=(3, 3),
        rows=4, vectors=4, model="m", known="stamp", generated=False, index=None,
    )  # fmt: skip
    page = tmp_path / "map.html"
    page.write_text(TableDrawing(info, documents, points, shares, 4).html(), "utf-8")
    is_whole(browser, page.as_uri())
    assert browser.value("document.title") != "broken"

    browser.value("search.value = 'the MILL'; search.dispatchEvent(new Event('input'))")
    assert browser.value("document.querySelector('output').value") == "2 of 4"
    shown = "[...document.querySelectorAll('li:not([hidden])')].map(item => item.textContent)"
    assert browser.value(shown) == list(documents[1:3])
    assert browser.value("document.querySelectorAll('circle.other').length") == 2
    # A real pointer over the second document's point.
    box = browser.value("JSON.parse(JSON.stringify(circles[1].getBoundingClientRect()))")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert browser.value("document.querySelector('#chosen').textContent") == documents[1]
    browser.value("search.value = ''; search.dispatchEvent(new Event('input')); buttons[0].focus()")
    assert browser.value("document.querySelector('#chosen').textContent") == documents[0]
