"""The report of the ledger as a page, and what notebooks show."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pydantic import SecretStr

from hana_ai.api import ChatTogetherAI, TogetherAIClient, TogetherAISettings, get_ledger, usage_tags
from hana_ai.api.cli.app import run
from hana_ai.api.cli.report import percentile
from hana_ai.api.local.together import LocalModel, Reply, ScriptedEngine
from hana_ai.api.usage.ledger import Ledger
from hana_ai.api.usage.record import UsageRecord
from tests.conftest import ScriptedTogether, export

HOSTILE = """</title><script>alert("x")</script>'&<img src=//example.org/a onerror=alert(1)>"""
VOID = {"meta", "rect", "line"}


class Page(HTMLParser):
    """What a page has, if it is well formed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: dict[str, str] = {}
        self.tables: dict[str, dict[str, list[str]]] = {}
        """By section, then by name: the `value` of each number in a row."""
        self.headings: dict[str, list[str]] = {}
        self.summary: dict[str, str] = {}
        self.captions = ""
        self._open: list[str] = []
        self._section = ""
        self._name = ""
        self._row: list[str] | None = None
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes += given.items()
        if identity := given.get("id"):
            assert identity not in self.ids, "twice"
            self.ids[identity] = ""
        if tag == "section":
            self._section = given["id"]
            self.tables[self._section] = {}
            self.headings[self._section] = []
        if tag in ("dt", "tr"):
            self._name = ""
            self._row = [] if tag == "tr" else None
        if tag == "data":
            if self._row is None:
                self.summary[self._name] = given["value"]
            else:
                self._row.append(given["value"])
        if tag == "td":
            self._cell = ""
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "tr" and self._row:
            self.tables[self._section][self._name] = self._row
            self._row = None

    def handle_data(self, data: str) -> None:
        here = self._open[-1] if self._open else ""
        if here == "bdi" or here == "dt":
            self._name += data
        elif here == "th":
            self.headings[self._section].append(data)
        elif here == "figcaption":
            self.captions += data + "\n"


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in a file with calls of two days, of three models, and of every outcome."""
    monkeypatch.setenv("TOGETHER_USAGE_DB", str(tmp_path / "usage.db"))
    monkeypatch.setenv("TOGETHER_BUDGET_USD", "0.05")
    engine = ScriptedEngine(
        models=[
            LocalModel("m", "chat", price_input=100, price_output=1000),
            LocalModel(HOSTILE, "chat", price_input=3, price_output=7),
        ]
    )
    with ScriptedTogether(engine) as server:
        export(monkeypatch, server.environment())
        with usage_tags("nightly", HOSTILE):
            ChatTogetherAI(model="m").invoke("One two")
            ChatTogetherAI(model=HOSTILE).invoke("One two three")
        engine.reply(Reply(status=503, headers={"retry-after": "0.05"}), Reply("four five"))
        ChatTogetherAI(model="m").invoke("One")
        list(ChatTogetherAI(model="m").stream("One two"))
        made = get_ledger()
        made.flush()
        for day, (model, status) in enumerate((("m", "cached"), ("elsewhere", "ok"), ("m", "TogetherAIError"))):
            made.record(
                UsageRecord(
                    called_at=1767225600.0 + 86400 * (day // 2),
                    operation="chat",
                    model=model,
                    tags=(),
                    usage={"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020},
                    latency=2.5,
                    status=status,
                    http_status=500 if status == "TogetherAIError" else None,
                    retries=day,
                    base_url=str(server.client["base_url"]),
                    api_key=SecretStr("x"),
                )
            )
        yield made


COUNTS = [
    "total_requests",
    "failed_requests",
    "cached_requests",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "unknown_cost_requests",
]
"""What a row of the page's tables has, in this order."""


def written(tmp_path: Path, *arguments: str) -> Page:
    target = tmp_path / "report.html"
    assert run(["usage", "--html", str(target), *arguments]) == 0
    return Page(target.read_text("utf-8"))


def test_every_number_of_the_page_is_the_ledgers(ledger: Ledger, tmp_path: Path) -> None:
    page, total = written(tmp_path), ledger.totals()
    assert page.summary == {
        "cost": f"{total['total_cost_usd']}",
        "calls": "7",
        "tokens": f"{total['total_tokens']}",
        "from a cache": "1",
        "failed": f"{total['failed_requests']}",
        "retries": f"{sum(event.retries for event in ledger.events())}",
        "calls of unknown cost, not in the sums": f"{total['unknown_cost_requests']}",
    }
    for by in ("day", "model", "tag", "operation"):
        rows = page.tables[f"by-{by}"]
        groups = ledger.totals_by(by)  # type: ignore[arg-type]
        assert set(rows) == {name or "-" for name in groups}
        for name, sums in groups.items():
            *counts, cost = (
                rows[name or "-"] if sums["total_cost_usd"] is not None else [*rows[name or "-"], "unknown"]
            )
            assert [int(count) for count in counts] == [sums[name] for name in COUNTS]
            assert cost == "unknown" or Decimal(cost) == sums["total_cost_usd"]
    assert page.tables["by-model"]["elsewhere"][-1] == "1", "an unknown cost is no zero"
    assert Decimal(page.tables["budget"]["this month"][0]) == ledger.spent_usd
    assert page.tables["budget"]["this month"][1] == "0.05"


def test_latencies_are_those_of_calls_that_were_answered(ledger: Ledger, tmp_path: Path) -> None:
    page = written(tmp_path)
    events = [event for event in ledger.events() if event.model == "m" and event.status == "ok"]
    latencies = sorted(event.latency_seconds for event in events)
    assert page.headings["latency"] == ["model", "calls", "p50", "p90", "p99"]
    assert page.tables["latency"]["m"] == ["3", *(repr(value) for value in (latencies[1], *latencies[2:] * 2))]
    (first,) = [event.first_token_seconds for event in events if event.first_token_seconds is not None]
    assert page.tables["first-token"] == {"m": ["1", *[repr(first)] * 3]}


def test_retries_and_hits_are_counted_by_day(ledger: Ledger, tmp_path: Path) -> None:
    page = written(tmp_path)
    assert page.tables["health"]["2026-01-01"] == ["2", "1", "50.0", "1", "1", "0"]
    assert page.tables["health"]["2026-01-02"] == ["1", "0", "0.0", "2", "1", "1"]
    today = max(page.tables["health"])
    assert page.tables["health"][today] == ["4", "0", "0.0", "1", "1", "0"]


def test_the_page_asks_nobody_for_anything_and_can_be_read_aloud(ledger: Ledger, tmp_path: Path) -> None:
    page = written(tmp_path)
    assert not {"script", "link", "img", "iframe", "object", "base", "a"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert not {"src", "href", "xlink:href", "action", "srcset"} & names
    assert not any(name.startswith("on") for name in names)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    labels = [value.split() for name, value in page.attributes if name == "aria-labelledby"]
    assert len(labels) == page.tags.count("svg") == page.tags.count("desc") == 13
    assert all(label in page.ids for pair in labels for label in pair)
    assert page.tags.count("table") == 8


def test_names_are_text_and_no_markup(ledger: Ledger, tmp_path: Path) -> None:
    page = written(tmp_path)
    assert HOSTILE in page.tables["by-model"]
    assert HOSTILE in page.tables["by-tag"]
    assert page.tags.count("title") > 1
    assert "script" not in page.tags
    assert "img" not in page.tags


def test_the_days_and_the_order_are_those_that_were_asked_for(ledger: Ledger, tmp_path: Path) -> None:
    page = written(tmp_path, "--start", "2026-01-01", "--end", "2026-01-01", "--by", "tag")
    assert list(page.tables["by-day"]) == ["2026-01-01"]
    assert page.summary["calls"] == f"{ledger.totals(date(2026, 1, 1), date(2026, 1, 1))['total_requests']}" == "2"
    assert next(name for name in page.tables if name.startswith("by-")) == "by-tag"
    assert page.tables["first-token"] == {}, "no call of that day was streamed"


def test_more_days_than_fit_are_left_to_the_table(ledger: Ledger, tmp_path: Path) -> None:
    page = written(tmp_path)
    days = (date.fromisoformat(max(page.tables["by-day"])) - date(2026, 1, 1)).days + 1
    assert days > 92, "the fixture's first calls are of 1 January 2026"
    assert f"The last 92 of {days} days; the table has all." in page.captions


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run(["usage", *arguments]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    return shown.err


def test_only_a_report_is_replaced_without_force(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "index.html"
    target.write_text("<!doctype html><p>mine", "utf-8")
    target.chmod(0o640)
    assert "--force" in refused(capsys, "--html", str(target))
    assert target.read_text("utf-8") == "<!doctype html><p>mine"
    assert run(["usage", "--html", str(target), "--force"]) == 0
    first = target.read_text("utf-8")
    assert "Usage of Together AI" in first
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert run(["usage", "--html", str(target), "--by", "model"]) == 0
    assert target.read_text("utf-8") != first
    assert {path.name for path in tmp_path.iterdir() if "html" in path.name} == {"index.html"}


def test_what_can_not_be_written_is_one_line(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is no file" in refused(capsys, "--html", str(tmp_path), "--force")
    assert "is no file" in refused(capsys, "--html", os.devnull, "--force")
    assert "there is no folder" in refused(capsys, "--html", str(tmp_path / "away" / "report.html"))
    assert "choose one" in refused(capsys, "--html", str(tmp_path / "report.html"), "--json")
    assert "--force goes with --html" in refused(capsys, "--force")
    assert "no day lies between" in refused(
        capsys, "--html", str(tmp_path / "report.html"), "--start", "2026-02-01", "--end", "2026-01-01"
    )
    assert not (tmp_path / "report.html").exists()


def test_no_calls_are_no_report(ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "report.html"
    said = refused(capsys, "--html", str(target), "--start", "2001-01-01", "--end", "2001-12-31")
    assert "No calls in" in said
    assert not target.exists()


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([5.0], 50, 5.0), ([1.0, 2.0], 50, 1.0), ([4.0, 1.0, 3.0, 2.0], 90, 4.0), ([*range(1, 101)], 99, 99)],
)
def test_percentiles_are_by_nearest_rank(values: list[float], percent: int, expected: float) -> None:
    assert percentile(values, percent) == expected


# --- notebooks ---


def test_answers_in_notebooks(ledger: Ledger) -> None:
    client = TogetherAIClient(TogetherAISettings(together_default_model="m"))
    answer = client.generate_chat_completion(HOSTILE)
    shown = answer._repr_html_()
    assert "<script" not in shown
    assert "<img" not in shown
    assert f"cost: <bdi>${answer.cost_usd}</bdi>" in shown
    assert "color" not in shown, "the notebook's own colours are readable in the dark"
    assert repr(answer).startswith("Completion(text=")


def test_lists_in_notebooks_are_lists(ledger: Ledger) -> None:
    models = TogetherAIClient().get_available_models()
    assert models == [*models]
    assert repr(models) == repr([*models])
    shown = models._repr_html_()  # type: ignore[attr-defined]
    assert shown.count("<tr>") == 1 + len(models)
    assert "<script" not in shown
    assert models[0]._repr_html_().count("<tr>") == 2
    sums = ledger.totals_by("tag")
    assert sums == dict(sums)
    assert repr(sums) == repr(dict(sums))
    shown = sums._repr_html_()  # type: ignore[attr-defined]
    assert "<script" not in shown
    assert f"${sums['nightly']['total_cost_usd']}" in shown


def test_the_routing_in_notebooks() -> None:
    from hana_ai.api import routing

    status = routing.status()
    shown = status._repr_html_()
    assert shown.count("<tr>") == 1 + len(status.seams) + bool(status.tables) + len(status.tables)
    assert str(status).splitlines()[0] in shown
