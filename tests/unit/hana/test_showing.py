"""Progress in one line: in a notebook, at a terminal, in a log."""

from __future__ import annotations

import io
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import IPython
import IPython.display
import pytest

from hana_ai.api.hana import IngestProgress, IngestResult, MapProgress, MigrationProgress, ProgressLine

HALF = IngestProgress(documents=50, total=100, rows=400, tokens=9_000, cost_usd=Decimal("0.02"), seconds=80.0)
WHOLE = IngestProgress(documents=100, total=100, rows=800, tokens=18_000, cost_usd=Decimal("0.04"), seconds=160.0)
SAID = "50 of 100 documents, 400 rows, 9,000 tokens, $0.0200 of about $0.0400, 5 rows/s, 1:20 left"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal_the_line_changes_and_ends_with_the_job() -> None:
    out = Terminal()
    show = ProgressLine(out)
    show(HALF)
    show(WHOLE)
    assert out.getvalue().startswith(f"\r\x1b[2K{SAID}\r\x1b[2K100 of 100 documents, 800 rows")
    assert out.getvalue().count("\n") == 1


def test_a_log_has_a_line_now_and_then_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("hana_ai.api.hana.showing.time", SimpleNamespace(monotonic=lambda: now))
    out = io.StringIO()
    show = ProgressLine(out)
    for _ in range(25):
        now += 1.0
        show(HALF)
    assert out.getvalue().splitlines() == [SAID, SAID]
    show(WHOLE)
    assert len(out.getvalue().splitlines()) == 3
    assert "\r" not in out.getvalue()


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (MapProgress(3, 9, 120, Decimal(0)), "3 of 9 rows, 120 tokens, $0"),
        (MigrationProgress(1_000, 9_000, None, None), "1,000 of 9,000 rows, cost unknown"),
        (IngestProgress(documents=7, rows=9, tokens=5), "7 documents, 9 rows, 5 tokens, cost unknown, 0 rows/s"),
    ],
)
def test_what_is_not_known_is_not_made_up(now: Any, said: str) -> None:
    out = Terminal()
    ProgressLine(out)(now)
    assert out.getvalue() == f"\r\x1b[2K{said}"


def test_a_notebook_has_one_display_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    def display(data: object, **options: object) -> SimpleNamespace:
        shown.append(("new", data, options))
        return SimpleNamespace(update=lambda data, **options: shown.append(("update", data, options)))

    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=None))
    monkeypatch.setattr(IPython.display, "display", display)
    show = ProgressLine()
    show(HALF)
    show(HALF)
    assert shown == [
        ("new", {"text/plain": SAID}, {"raw": True, "display_id": True}),
        ("update", {"text/plain": SAID}, {"raw": True}),
    ]


def test_ipython_in_a_terminal_is_no_notebook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(IPython, "get_ipython", SimpleNamespace)
    ProgressLine()(WHOLE)
    assert capsys.readouterr().err.startswith("100 of 100 documents")


def test_what_an_ingest_did_is_a_table_in_a_notebook() -> None:
    done = IngestResult("MANUALS", "a/model", "manuals", WHOLE, removed=2, problems=(("<b>.txt", "no text"),))
    shown = done._repr_html_()
    assert all(
        f"<bdi>{cell}</bdi>" in shown for cell in ("MANUALS", "a/model", "800", "18,000", "$0.0400", "2:40")
    )
    assert "&lt;b&gt;.txt" in shown
    assert "<b>" not in shown
