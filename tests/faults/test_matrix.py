"""Every fault, met by every way to ask: the right answer or the right error, in time, and nothing left behind."""

from __future__ import annotations

import gc
import itertools
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from hana_ai.api import service
from hana_ai.api.errors import TogetherAIConnectionError, TogetherAIError
from hana_ai.api.transport.attempts import RetryPolicy
from hana_ai.api.transport.destinations import destinations_of
from hana_ai.api.transport.engine import get_engine
from hana_ai.api.transport.transport import Transport
from hana_ai.api.usage import ledger as usage
from tests.board import FAULTS
from tests.conftest import ScriptedTogether
from tests.faults import catalogue
from tests.faults.catalogue import ANSWER, BOUND, GONE, LATE, LONG, RETRIES, SHORT, Expected, Fault, fails
from tests.faults.certificates import Authority
from tests.faults.faces import FACES, Face
from tests.faults.server import Exchange, FaultyServer, Listener, closed_port, deaf_port, silent_port

SLACK = 5.0
"""Seconds beyond the deadline that a busy machine may take."""

Quick = Callable[..., None]


@pytest.fixture(scope="module")
def right(good_server: ScriptedTogether) -> dict[str, Any]:
    """What each face gets where nothing is wrong."""
    answers = {face.name: face.ask(good_server.base_url, str(good_server.api_key)) for face in FACES}
    close_everything()
    assert all(answers.values())
    return answers


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Quick:
    """Settings for a row; retries come soon."""
    monkeypatch.setattr(Transport, "retry_policy", RetryPolicy(first_wait=0.01))

    def settings(timeout: float, connecting: float = LONG) -> None:
        monkeypatch.setenv("TOGETHER_TIMEOUT", str(timeout))
        monkeypatch.setenv("TOGETHER_STREAM_IDLE_TIMEOUT", str(timeout))
        monkeypatch.setenv("TOGETHER_CONNECT_TIMEOUT", str(connecting))
        monkeypatch.setenv("TOGETHER_MAX_RETRIES", str(RETRIES))

    return settings


def close_everything() -> None:
    usage.close_all()
    service.close_all()


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


def sample(number: int, faces: Iterable[Face]) -> list[Face]:
    """One face of each kind, one row with and the next without `await`; another one for the row after these."""
    groups: dict[str, list[list[Face]]] = {}
    for kind, alike in itertools.groupby(sorted(faces, key=_alike), key=_alike):
        groups.setdefault(kind[0], []).append(list(alike))
    chosen = [group[number % len(group)] for group in groups.values()]
    return [alike[number // 2 % len(alike)] for alike in chosen]


def _alike(face: Face) -> tuple[str, bool]:
    return face.kind, face.is_async


def rows() -> list[Any]:
    """Every fault with a sample of the faces, and for the long run with all."""
    found = []
    for number, fault in enumerate(catalogue.faults()):
        faces = [face for face in FACES if expected_of(fault, face) is not None]
        slow = [pytest.mark.slow]
        marks = slow if fault.slow else []
        found.append(pytest.param(fault, sample(number, faces), id=fault.name, marks=marks))
        found.append(pytest.param(fault, faces, id=f"{fault.name}, every face", marks=slow))
    return found


@dataclass
class Cell:
    """A face that is to meet a fault."""

    face: Face
    expected: Expected
    url: str
    listener: Listener | None = None

    def ask(self, key: str, right: Any, timeout: float) -> str:
        """Ask; gives what is wrong with the answer or error."""
        begin = time.monotonic()
        answer, error = None, None
        try:
            answer = self.face.ask(self.url, key)
        except Exception as exc:  # noqa: BLE001 - any other than the expected one is told
            error = exc
        took = time.monotonic() - begin
        problem = _wrong(self.expected, answer, error, right, key)
        if not problem and took > timeout + SLACK:
            problem = f"took {took:.2f} s"
        tries = len(self.listener.requests) if self.listener is not None else None
        if not problem and None not in (tries, self.expected.tries) and tries != self.expected.tries:
            problem = f"{tries} tries, not {self.expected.tries}"
        return problem


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


def left_behind(cells: list[Cell], key: str) -> Iterator[str]:
    """What each cell left: places in a limiter, connections."""
    deadline = time.monotonic() + SLACK
    taken = []
    for cell in cells:
        destination = destinations_of(get_engine()).at(cell.url, SecretStr(key))
        while destination.in_use and time.monotonic() < deadline:
            time.sleep(0.01)
        taken.append(destination.in_use)
    close_everything()
    deadline = time.monotonic() + SLACK
    for cell, places in zip(cells, taken, strict=True):
        listener = cell.listener
        while listener is not None and listener.open and time.monotonic() < deadline:
            time.sleep(0.005)
        if places:
            yield f"{places} places are still taken"
        else:
            yield f"{listener.open} connections are left open" if listener is not None and listener.open else ""


def own_threads() -> set[threading.Thread]:
    """The threads, but for the engine's, which stays, and those of asyncio's own pool."""
    kept = ("together-ai-engine", "asyncio_")
    return {thread for thread in threading.enumerate() if not thread.name.startswith(kept)}


def sockets() -> int:
    """Sockets of this process."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += str(entry.readlink()).startswith("socket:")
        except OSError:
            continue  # it was the one that listed them
    return found


@contextmanager
def nothing_left() -> Iterator[None]:
    """Count sockets and threads before and after a row."""
    close_everything()
    # A new engine: what was learned about an address is not true of the next server that gets its port.
    get_engine().close()
    get_engine()
    before, threads = sockets(), own_threads()
    yield
    close_everything()
    begin = time.monotonic()
    while (sockets() > before or own_threads() - threads) and time.monotonic() < begin + 5:
        if time.monotonic() > begin + 1:
            gc.collect()  # takes so long that it comes last
        time.sleep(0.01)
    assert sockets() <= before
    assert not own_threads() - threads


RunRow = Callable[[str, list[Cell], float], None]


@pytest.fixture
def run_row(good_server: ScriptedTogether, right: dict[str, Any]) -> RunRow:
    """Run the cells of a fault side by side, note what they came to, and fail if one is wrong."""
    key = str(good_server.api_key)

    def run(name: str, cells: list[Cell], timeout: float) -> None:
        def ask(cell: Cell) -> str:
            return cell.ask(key, right[cell.face.name], timeout)

        with ThreadPoolExecutor(len(FACES)) as pool:
            asked = list(pool.map(ask, cells))
        # Not before all have ended: it closes the connections of the whole process.
        left = list(left_behind(cells, key))
        wrong = []
        for cell, problem, remains in zip(cells, asked, left, strict=True):
            found = problem or remains
            face = cell.face
            FAULTS.note(
                name, f"{face.part} {face.kind} {'async' if face.is_async else 'sync'}", "X" if found else "."
            )
            wrong += [f"{face.name}: {found}"] if found else []
        assert not wrong, "\n".join(wrong)

    return run


@pytest.mark.parametrize(("fault", "faces"), rows())
def test_every_way_to_ask_bears(
    fault: Fault,
    faces: list[Face],
    faulty: FaultyServer,
    run_row: RunRow,
    quick: Quick,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick(fault.timeout)
    if fault.bounded:
        monkeypatch.setattr(Transport, "max_reply_bytes", BOUND)
    monkeypatch.setattr(catalogue, "OTHER_HOST", [])

    async def arrived(exchange: Exchange) -> None:
        await exchange.close()

    with nothing_left(), ExitStack() as ports:
        elsewhere = ports.enter_context(faulty.listen(arrived))
        catalogue.OTHER_HOST.append(elsewhere.url)
        cells = []
        for face in faces:
            expected = expected_of(fault, face)
            assert expected is not None
            listener = ports.enter_context(faulty.listen(fault.play, face.paths))
            cells.append(Cell(face, expected, listener.url, listener))
        run_row(fault.name, cells, fault.timeout)
    assert not elsewhere.accepted, "somebody followed a redirect"


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no name be found; addresses are."""
    found = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        if str(host).endswith("invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


async def passes(exchange: Exchange) -> None:
    """No fault in HTTP."""
    await exchange.send((await exchange.good()).wire())


_NUMBERS = itertools.count()
UNTRUSTED = fails(TogetherAIConnectionError, tries=0, words="certificate.*can't be trusted.*SSL_CERT_FILE")
BARRIERS: dict[str, tuple[Callable[[FaultyServer, Authority], AbstractContextManager[Any]], Expected]] = {
    "nobody listens": (lambda faulty, authority: closed_port(), GONE),
    "no answer to connecting": (lambda faulty, authority: deaf_port(), LATE),
    "a name that nobody knows": (
        lambda faulty, authority: nullcontext(f"https://nothing-{next(_NUMBERS)}.invalid"),
        GONE,
    ),
    "TLS: a certificate signed by itself": (
        lambda faulty, authority: faulty.listen(passes, tls=authority.server(own=True)),
        UNTRUSTED,
    ),
    "TLS: a certificate of an unknown authority": (
        lambda faulty, authority: faulty.listen(passes, tls=authority.server()),
        UNTRUSTED,
    ),
    "TLS: a server that speaks none": (
        lambda faulty, authority: faulty.listen(passes),
        fails(TogetherAIConnectionError, tries=None, words="does not speak TLS.*TOGETHER_BASE_URL"),
    ),
    "TLS: a certificate for another host": (
        lambda faulty, authority: faulty.listen(passes, tls=authority.server("127.0.0.2")),
        UNTRUSTED,
    ),
    "TLS: a certificate that has expired": (
        lambda faulty, authority: faulty.listen(passes, tls=authority.server(expired=True)),
        UNTRUSTED,
    ),
    "a server that says nothing": (lambda faulty, authority: silent_port(), LATE),
    "TLS: a server that says nothing": (lambda faulty, authority: silent_port("https"), LATE),
    "TLS: a certificate of a trusted authority": (
        lambda faulty, authority: faulty.listen(passes, tls=authority.server()),
        ANSWER,
    ),
}


BARRED = [
    row
    for number, name in enumerate(BARRIERS)
    for row in (
        pytest.param(name, sample(number, FACES), id=name),
        pytest.param(name, list(FACES), id=f"{name}, every face", marks=pytest.mark.slow),
    )
]


@pytest.mark.parametrize(("name", "faces"), BARRED)
def test_every_way_to_ask_bears_that_no_connection_comes_about(
    name: str,
    faces: list[Face],
    faulty: FaultyServer,
    run_row: RunRow,
    quick: Quick,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late = BARRIERS[name][1] is LATE
    quick(SHORT if late else LONG, connecting=SHORT / 2 if late else LONG)
    if name.endswith(("another host", "expired", "trusted authority")):
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    # What is said to turn verification off elsewhere does not do so here.
    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
    monkeypatch.setenv("CURL_CA_BUNDLE", "")
    begin, expected = BARRIERS[name]

    with nothing_left(), ExitStack() as ports:
        cells = []
        for face in faces:
            where = ports.enter_context(begin(faulty, authority))
            url = where if isinstance(where, str) else where.url
            if name == "TLS: a server that speaks none":
                url = url.replace("http:", "https:")
            told = replace(expected, tries=None) if face.kind == "account" else expected
            cells.append(Cell(face, told, url, where if isinstance(where, Listener) else None))
        run_row(name, cells, SHORT * 4)
