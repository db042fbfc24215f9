"""A pytest plugin that fails a test whose output, logs, warnings or exceptions show a key.

Every key of the tests begins with `MARK`, or is one that a loopback server made up. What is looked at: what
pytest captured of stdout and stderr, what `capsys` and `capfd` were asked for, what child processes wrote, every
log record from DEBUG upwards below `hana_ai.api` (and of other loggers, as far as they are on) with its traceback,
every warning, every exception that `pytest.raises` caught, with its causes, and the report of a failure.

A test that has to show a key says so: `@pytest.mark.shows_a_key("why")`.
"""

from __future__ import annotations

import functools
import logging
import re
import subprocess
import warnings
from collections.abc import Callable, Generator
from typing import Any

import pytest

MARK = "tgp_v1_watched"
"""How the keys of the tests begin."""

KEYS = re.compile(rf"{MARK}[\w-]*|\blocal-[\w-]{{32}}(?![\w-])")
"""`LocalTogether` makes the others up: 24 random bytes in base64."""

_leaks: dict[str, None] = {}
"""Where the running test showed a key; a dict keeps the order."""
_of_the_session: dict[str, None] = {}
"""Warnings, which pytest tells of after their test's last report."""


def look(text: object, where: str) -> None:
    """Note a key in a text."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if isinstance(text, str) and KEYS.search(text):
        _leaks[where] = None


class _Records(logging.Handler):
    """Reads every record as a file or a console would show it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        look(self.format(record), f"a log record of {record.name}")


def _reading(function: Callable[..., Any], where: str) -> Callable[..., Any]:
    """Wrap a function whose result is output that was read."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        for text in result:
            look(text, where)
        return result

    return wrapper


def _raised(function: Callable[..., bool]) -> Callable[..., bool]:
    @functools.wraps(function)
    def wrapper(self: Any, kind: Any, exc: BaseException | None, trace: Any) -> bool:
        if exc is not None:
            for link in _links(exc):
                look(f"{link} {link!r}", f"an exception that was raised, {type(link).__name__}")
        return function(self, kind, exc, trace)

    return wrapper


def _links(exc: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [exc]
    while waiting:
        link = waiting.pop()
        if link is not None and not any(link is seen for seen in found):
            found.append(link)
            waiting += [link.__cause__, link.__context__]
    return found


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shows_a_key(why): the test has to show a key of its own")
    handler = _Records()
    logging.getLogger().addHandler(handler)
    logger = logging.getLogger("hana_ai.api")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    patch = pytest.MonkeyPatch()
    patch.setattr(pytest.RaisesExc, "__exit__", _raised(pytest.RaisesExc.__exit__))
    patch.setattr(pytest.CaptureFixture, "readouterr", _reading(pytest.CaptureFixture.readouterr, "its output"))
    patch.setattr(
        subprocess.Popen, "communicate", _reading(subprocess.Popen.communicate, "the output of a child process")
    )

    def end() -> None:
        patch.undo()
        logger.setLevel(before)
        logging.getLogger().removeHandler(handler)

    config.add_cleanup(end)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    for name, content in report.sections:
        look(content, name)
    look(report.longreprtext, "its report")
    if item.get_closest_marker("shows_a_key") is not None:
        _leaks.clear()
    if _leaks:
        report.outcome = "failed"
        report.longrepr = f"A key is shown by {item.nodeid}, in: {', '.join(_leaks)}."
        report.sections = []
        _leaks.clear()
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_warning_recorded(warning_message: warnings.WarningMessage, nodeid: str) -> None:
    if KEYS.search(str(warning_message.message)):
        _of_the_session[f"a warning of {nodeid or 'the session'}"] = None
        # pytest's summary would show it once more.
        warning_message.message = UserWarning("a warning that showed a key")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if KEYS.search(report.longreprtext):
        _of_the_session[f"the collection of {report.nodeid}"] = None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    leaks = [*_of_the_session, *_leaks]
    worker: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if worker is not None:
        # Only the process that started the worker has an exit status and a terminal.
        worker["keys_shown"] = leaks
    elif leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"A key is shown, in: {', '.join(leaks)}.", red=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Note what a worker of pytest-xdist found."""
    output: dict[str, list[str]] = getattr(node, "workeroutput", {})
    _of_the_session.update(dict.fromkeys(output.get("keys_shown", [])))
