"""Every fault, met by every way to ask: the right answer or the right error, in time, and nothing left behind."""

from __future__ import annotations

import gc
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from hana_ai.api import sse, usage
from hana_ai.api import transport as transport_module
from hana_ai.api.errors import TogetherAIError, TogetherAIRequestError
from hana_ai.api.transport import Transport
from tests.conftest import ScriptedTogether
from tests.faults import board, catalogue
from tests.faults.catalogue import ANSWER, BOUND, LONG, RETRIES, Expected, Fault
from tests.faults.faces import FACES, Face
from tests.faults.server import Exchange, FaultyServer, Listener

SLACK = 3.0
"""Seconds beyond the deadline that a busy machine may take."""
WORKERS = 8

ROWS = list(catalogue.faults())


@pytest.fixture(scope="module")
def right(good_server: ScriptedTogether) -> dict[str, Any]:
    """What each face gets where nothing is wrong."""
    answers = {face.name: face.ask(good_server.base_url, str(good_server.api_key)) for face in FACES}
    close_everything()
    assert all(answers.values())
    return answers


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Settings for a row; retries come soon."""
    monkeypatch.setattr(transport_module, "_FIRST_WAIT", 0.01)

    def settings(timeout: float) -> None:
        monkeypatch.setenv("TOGETHER_TIMEOUT", str(timeout))
        monkeypatch.setenv("TOGETHER_STREAM_IDLE_TIMEOUT", str(timeout))
        monkeypatch.setenv("TOGETHER_CONNECT_TIMEOUT", "0.3")
        monkeypatch.setenv("TOGETHER_MAX_RETRIES", str(RETRIES))

    return settings


def close_everything() -> None:
    usage.close_all()
    transport_module.close_all()


def expected_of(fault: Fault, face: Face) -> Expected | None:
    if face.kind in fault.skip or face.part in fault.skip:
        return None
    if face.kind == "stream":
        return fault.stream
    if face.kind != "account":
        return fault.plain
    expected = fault.account or fault.plain
    # aiohttp itself repeats a GET whose connection broke.
    return None if expected is None else replace(expected, tries=None)


def check(
    face: Face,
    expected: Expected,
    url: str,
    key: str,
    right: Any,
    timeout: float,
    listener: Listener | None = None,
) -> str:
    """Run one cell; gives what is wrong with it."""
    begin = time.monotonic()
    answer, error = None, None
    try:
        answer = face.ask(url, key)
    except Exception as exc:
        error = exc
    took = time.monotonic() - begin
    problem = _wrong(expected, answer, error, right, key)
    if not problem and took > timeout + SLACK:
        problem = f"took {took:.2f} s"
    if not problem and listener is not None and expected.tries is not None:
        if len(listener.requests) != expected.tries:
            problem = f"{len(listener.requests)} tries, not {expected.tries}"
    return problem or _left_behind(url, listener)


def _wrong(expected: Expected, answer: Any, error: Exception | None, right: Any, key: str) -> str:
    if error is None:
        if expected.any_answer or (expected.error is None and answer == right):
            return ""
        return f"the answer is {answer!r:.200}, not {right!r:.100}"
    said = f"{type(error).__name__}: {error}"
    if expected.error is None or not isinstance(error, expected.error):
        return f"wrong error, {said}"
    if not isinstance(error, TogetherAIError):
        return f"an error of another tree, {said}"
    if key in said or key in repr(error):
        return f"the key shows: {said}"
    if len(said) > 3000:
        return f"a message of {len(said)} letters"
    return "" if re.search(expected.words, str(error)) else f"does not say {expected.words!r}: {said}"


def _left_behind(url: str, listener: Listener | None) -> str:
    """What a cell left: places in a limiter, connections."""
    mine: list[Transport] = [made for key, made in list(transport_module._shared.items()) if key[0] == url]
    for transport in mine:
        for name, limiter in transport._limiters.items():
            if limiter.in_use:
                return f"{limiter.in_use} places of {name} are still taken"
        transport.close()
    deadline = time.monotonic() + 5
    while listener is not None and listener.open and time.monotonic() < deadline:
        time.sleep(0.005)
    return f"{listener.open} connections are left open" if listener is not None and listener.open else ""


def sockets() -> int:
    """Sockets of this process."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:
            continue  # it was the one that listed them
    return found


@contextmanager
def nothing_left() -> Iterator[None]:
    """Count sockets and threads before and after a row."""
    close_everything()
    gc.collect()
    before, threads = sockets(), set(threading.enumerate())
    yield
    close_everything()
    deadline = time.monotonic() + 5
    while (sockets() > before or set(threading.enumerate()) - threads) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert sockets() <= before
    assert not set(threading.enumerate()) - threads


def run_row(name: str, cells: list[tuple[Face, Callable[[], str]]]) -> None:
    """Run the cells of a fault side by side, note what they came to, and fail if one is wrong."""

    def one(cell: tuple[Face, Callable[[], str]]) -> board.Cell:
        begin = time.monotonic()
        problem = cell[1]()
        return board.Cell(name, cell[0], problem, time.monotonic() - begin)

    with nothing_left(), ThreadPoolExecutor(WORKERS) as pool:
        done = list(pool.map(one, cells))
    board.CELLS.extend(done)
    wrong = [f"{cell.face.name}: {cell.problem}" for cell in done if cell.problem]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("fault", ROWS, ids=lambda fault: fault.name)
def test_every_way_to_ask_bears(
    fault: Fault,
    faulty: FaultyServer,
    good_server: ScriptedTogether,
    right: dict[str, Any],
    quick: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick(fault.timeout)
    if fault.bounded:
        monkeypatch.setattr(transport_module, "MAX_REPLY_BYTES", BOUND)
        monkeypatch.setattr(sse, "_MAX_EVENT_BYTES", BOUND)
    monkeypatch.setattr(catalogue, "OTHER_HOST", [])
    key = str(good_server.api_key)

    async def arrived(exchange: Exchange) -> None:
        await exchange.close()

    with faulty.listen(arrived) as elsewhere:
        catalogue.OTHER_HOST.append(elsewhere.url)

        def cell(face: Face, expected: Expected) -> Callable[[], str]:
            def run() -> str:
                with faulty.listen(fault.play, face.paths) as listener:
                    return check(face, expected, listener.url, key, right[face.name], fault.timeout, listener)

            return run

        run_row(
            fault.name,
            [(face, cell(face, expected)) for face in FACES if (expected := expected_of(fault, face)) is not None],
        )
    assert not elsewhere.requests
