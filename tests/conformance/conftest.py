"""The two worlds: loopback servers, and the real services where the environment names them.

`make live` runs the suite in both. It says what it may cost, holds it to a budget, takes away what it made, and
ends with a report of what differs. docs/live.md is the manual.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest

from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import LocalTogether, ScriptedEngine

from . import plan
from .hana_world import HanaWorld
from .report import Findings
from .together_world import TogetherWorld

ASIDE = dict(os.environ)
"""The user's variables, taken before tests/conftest.py removes them for each test."""
PRETEND = "CONFORMANCE_LOOPBACK_IS_REAL"
"""Set, a loopback address counts as the real Together: for the suite's own tests."""
BUDGET = Decimal("0.10")
TOGETHER = "https://api.together.ai"
BOTH = ["loopback", pytest.param("real", marks=pytest.mark.live)]
_DEFAULTS = {
    "chat": "TOGETHER_DEFAULT_MODEL",
    "embedding": "TOGETHER_DEFAULT_EMBEDDING_MODEL",
    "rerank": "TOGETHER_DEFAULT_RERANK_MODEL",
}

_HERE = Path(__file__).parent
_run = pytest.StashKey["Run"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--spend", action="store_true", default=False, help="Also take the steps that cost more.")
    group.addoption("--budget-usd", default=None, help="What calls of Together's models may cost; 0.10.")
    group.addoption("--abandoned-after", default="60", metavar="MINUTES", help="Age of leftovers to delete; 60.")
    group.addoption("--report", default=None, metavar="FILE", help="Where to write what differs.")


class Run:
    """What belongs to the whole run: the real worlds, the budget, and what was seen."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.findings = Findings()
        self.live = False
        self.spends = bool(config.getoption("spend", False))
        self.abandoned_after = timedelta(minutes=float(config.getoption("abandoned_after", "60")))
        self.together: TogetherWorld | None = None
        self.hana: HanaWorld | None = None

    @property
    def budget(self) -> Decimal:
        """USD that calls of models may cost: the option's, else the user's budget, no more than `BUDGET`."""
        given = self.config.getoption("budget_usd", None)
        theirs = ASIDE.get("TOGETHER_BUDGET_USD", "")
        try:
            if given is not None:
                return Decimal(given)
            return min(BUDGET, Decimal(theirs)) if theirs else BUDGET
        except InvalidOperation as exc:
            raise pytest.UsageError(f"The budget is no number of USD: {given or theirs}") from exc

    def real_together(self, folder: Path) -> TogetherWorld | None:
        """The real Together; None where the environment does not name it."""
        address = ASIDE.get("TOGETHER_BASE_URL") or TOGETHER
        key = ASIDE.get("TOGETHER_API_KEY")
        loopback = urlsplit(address).hostname in ("127.0.0.1", "::1", "localhost")
        if not key or (loopback and not ASIDE.get(PRETEND)):
            return None
        if self.together is None:
            address = address.rstrip("/").removesuffix("/v1")
            wanted = {kind: ASIDE[name] for kind, name in _DEFAULTS.items() if ASIDE.get(name)}
            self.findings.secrets |= {key: "<api key>", str(urlsplit(address).hostname): "<host>"}
            if urlsplit(address).hostname == urlsplit(TOGETHER).hostname:
                del self.findings.secrets[str(urlsplit(TOGETHER).hostname)]
            self.together = TogetherWorld("real", address, key, self.budget, folder, wanted)
        return self.together

    def real_hana(self) -> HanaWorld | None:
        """The real HANA; None where the environment does not name it."""
        address = ASIDE.get("HANA_ADDRESS")
        if not address:
            return None
        if self.hana is None:
            user, password = ASIDE.get("HANA_USER", ""), ASIDE.get("HANA_PASSWORD", "")
            names = {address: "<host>", user: "<user>", user.upper(): "<user>", password: "<password>"}
            self.findings.secrets |= {secret: instead for secret, instead in names.items() if secret}
            options = {
                "address": address,
                "port": int(ASIDE.get("HANA_PORT") or 443),
                "user": user,
                "password": password,
                "encrypt": ASIDE.get("HANA_ENCRYPT", "true").lower() not in ("false", "0", "no", "off"),
            }
            self.hana = HanaWorld("real", options)
        return self.hana

    def announce(self, folder: Path) -> None:
        """Say what the run may cost, before it begins."""
        together = self.real_together(folder)
        if together is None:
            self.say("Together AI: left out, since TOGETHER_API_KEY is not set or the address is a loopback's.")
        else:
            estimate = plan.estimate(together.models)
            models = ", ".join(model.id for model in together.models.values())
            self.say(
                f"Together AI: {estimate.calls} calls of {models} cost at most ${estimate.usd:.4f} by the "
                f"catalogue's prices. Beyond ${together.budget} no further call is sent."
            )
            self.findings.notes.append(f"Together AI with {models}")
            if estimate.unpriced:
                self.say(f"The catalogue has no price for {', '.join(estimate.unpriced)}: not counted above.")
            if estimate.usd > together.budget:
                pytest.exit("That is more than the budget. Choose cheaper models, or set --budget-usd.", 2)
            if self.spends:
                self.say("--spend: beside that, a dedicated endpoint of the cheapest hardware, for minutes.")
        if not ASIDE.get("HANA_ADDRESS"):
            self.say("SAP HANA: left out, since HANA_ADDRESS is not set.")
        else:
            self.say("SAP HANA: works in a schema of its own, which is dropped at the end.")

    def say(self, line: str) -> None:
        """Show a line at once."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(line)

    def end(self) -> None:
        """Note what was spent and what was taken away."""
        notes = self.findings.notes
        notes.insert(0, f"{datetime.now(UTC):%Y-%m-%d}, Python {sys.version.split()[0]}")
        if self.together is not None:
            spent = self.together.ledger.totals()
            cost = spent["total_cost_usd"] or Decimal(0)
            notes.append(f"{spent['total_requests']} calls, ${cost:.6f} of ${self.together.budget}")
        if self.hana is not None:
            notes.append(f"SAP HANA {self.hana.version}")
        for world in (self.together, self.hana):
            if world is not None:
                notes += [f"taken away: {name}" for name in world.removed]
                notes += [f"**left behind**: {name}" for name in world.missing]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_run] = Run(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE) and item.get_closest_marker("live") is not None:
            # All others stay behind the fence of pytest-socket.
            item.add_marker(pytest.mark.enable_socket)


def pytest_collection_finish(session: pytest.Session) -> None:
    run = session.config.stash[_run]
    run.live = any(
        item.path.is_relative_to(_HERE) and item.get_closest_marker("live") is not None for item in session.items
    )
    if run.live and not session.config.option.collectonly:

        def stop(*_: object) -> NoReturn:
            # As Ctrl-C: what was made is taken away, and what was seen is told.
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, stop)
        factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        run.announce(factory.mktemp("conformance"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and item.path.is_relative_to(_HERE) and item.get_closest_marker("live") is not None:
        said = str(call.excinfo.value) if call.excinfo is not None else report.longreprtext
        item.config.stash[_run].findings.failed.append((item.name, said))
    return report


def pytest_terminal_summary(config: pytest.Config) -> None:
    run = config.stash[_run]
    if not run.live or (run.together is None and run.hana is None):
        return
    run.end()
    text = run.findings.markdown()
    for line in ["", *text.splitlines()]:
        run.say(line)
    if path := config.getoption("report", None):
        Path(path).write_text(text, encoding="utf-8")
        run.say(f"This report is in {path}.")


@pytest.fixture(scope="session", params=BOTH)
def together_world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TogetherWorld]:
    """Together's API in one of the worlds."""
    run = request.config.stash[_run]
    folder = tmp_path_factory.mktemp("together")
    if request.param == "loopback":
        with LocalTogether(ScriptedEngine()) as server:
            world = TogetherWorld("loopback", server.base_url, str(server.api_key), BUDGET, folder)
            yield world
            world.close()
        assert world.missing == []
        return
    real = run.real_together(folder)
    if real is None:
        pytest.skip("TOGETHER_API_KEY is not set, or TOGETHER_BASE_URL is a loopback address.")
    try:
        real.sweep(run.abandoned_after)
        yield real
    finally:
        real.close()


@pytest.fixture(scope="session", params=BOTH)
def hana_session(request: pytest.FixtureRequest) -> Iterator[HanaWorld]:
    """HANA in one of the worlds, with this run's schema."""
    if request.param == "loopback":
        with LocalHana() as server:
            world = HanaWorld("loopback", server.connection_options())
            world.begin()
            yield world
            world.close()
        assert world.missing == []
        return
    run = request.config.stash[_run]
    real = run.real_hana()
    if real is None:
        pytest.skip("HANA_ADDRESS is not set.")
    try:
        real.sweep(run.abandoned_after)
        real.begin()
        yield real
    finally:
        real.close()


@pytest.fixture
def hana_world(hana_session: HanaWorld) -> HanaWorld:
    """HANA with an empty schema."""
    hana_session.clear()
    return hana_session


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Callable[[str, Any], None]:
    """Note what was seen, by a name: what both worlds saw is compared at the end."""
    run = request.config.stash[_run]
    name = "together_world" if "together_world" in request.fixturenames else "hana_session"
    world = request.getfixturevalue(name).world

    def note(name: str, value: Any) -> None:
        run.findings.saw(world, name, value)

    return note


@pytest.fixture
def dear(request: pytest.FixtureRequest) -> None:
    """Skip what costs more, in the real world, unless `--spend` was given."""
    run = request.config.stash[_run]
    if request.getfixturevalue("together_world").is_real and not run.spends:
        pytest.skip("This costs more: run it with --spend.")


@pytest.fixture
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Arguments of the product's classes for a kind of model, held against the same budget."""
    world: TogetherWorld = request.getfixturevalue("together_world")
    monkeypatch.setenv("TOGETHER_USAGE_DB", str(world.usage_db))
    monkeypatch.setenv("TOGETHER_BUDGET_USD", str(world.budget))

    def arguments(kind: str) -> dict[str, Any]:
        return {"base_url": world.base_url, "api_key": world.api_key, "model": world.model(kind)}

    return arguments
