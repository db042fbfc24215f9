"""Particulars that the page of faults promises: figures, places, and what is tried again."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr

from hana_ai.api import ChatTogetherAI, TogetherAI, TogetherAIConnector
from hana_ai.api.connector.account import Limits
from hana_ai.api.errors import (
    TogetherAIConflictError,
    TogetherAIConnectionError,
    TogetherAIInvalidRequestError,
    TogetherAIResponseError,
    TogetherAISettingsError,
    TogetherAITimeoutError,
)
from hana_ai.api.local.together import ScriptedEngine
from hana_ai.api.local.together.refusal import Refusal
from hana_ai.api.transport.attempts import RetryPolicy
from hana_ai.api.transport.body import Inflater
from hana_ai.api.transport.call import Call, RetryEvent
from hana_ai.api.transport.tls import ssl_context
from hana_ai.api.transport.transport import Transport
from hana_ai.api.wire.encoding import MAX_DEPTH
from hana_ai.api.wire.events import EventReader
from tests.conftest import ScriptedTogether
from tests.faults.catalogue import answers
from tests.faults.certificates import Authority
from tests.faults.server import Exchange, FaultyServer, closed_port, deaf_port, silent_port

KEY = "key-of-the-particulars"
MIB = 1024 * 1024
PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transport, "retry_policy", RetryPolicy(first_wait=0.01))
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


async def passes(exchange: Exchange) -> None:
    await exchange.send((await exchange.good()).wire())


def chat(url: str, **fields: object) -> ChatTogetherAI:
    return ChatTogetherAI(model=ScriptedEngine.CHAT, base_url=url, **{"api_key": KEY, "max_retries": 0, **fields})


def retries(url: str, error: type[Exception], words: str, **fields: float) -> list[RetryEvent]:
    """The tries that come after the first one of a call that fails."""
    seen: list[RetryEvent] = []
    transport = Transport(base_url=url, api_key=SecretStr(KEY))
    call = Call(
        "/v1/chat/completions",
        {"model": "m", "messages": [{"role": "user", "content": "Hello"}]},
        model="m",
        max_retries=2,
        on_retry=seen.append,
        **{"timeout": 20.0, **fields},  # type: ignore[arg-type]
    )
    with pytest.raises(error, match=words):
        transport.request(call)
    transport.close()
    return seen


@pytest.mark.parametrize("what", ["no answer", "a handshake that stalls"])
def test_connecting_that_takes_too_long_is_tried_again(what: str) -> None:
    with deaf_port() if what == "no answer" else silent_port("https") as url:
        seen = retries(url, TogetherAITimeoutError, "while connecting", connect_timeout=0.2)
    assert len(seen) == 2


@pytest.mark.parametrize("what", ["unknown authority", "another host", "expired", "no TLS"])
def test_what_can_not_be_trusted_is_not_tried_again(
    what: str, faulty: FaultyServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With these the authority would be trusted, if they had an effect.
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(authority.file))
    if what in ("another host", "expired"):
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    if what == "no TLS":
        tls = None
    else:
        tls = authority.server("127.0.0.2" if what == "another host" else "127.0.0.1", expired=what == "expired")
    with faulty.listen(passes, tls=tls) as listener:
        url = re.sub("^https?", "https", listener.url)
        words = "does not speak TLS.*port" if what == "no TLS" else "SSL_CERT_FILE"
        assert retries(url, TogetherAIConnectionError, words) == []
        assert listener.requests == [] or what == "no TLS"


@pytest.fixture
def folder_of_authorities(authority: Authority, tmp_path: Path) -> Iterator[Path]:
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs openssl to name the file by its hash")
    asked = [openssl, "x509", "-hash", "-noout", "-in", str(authority.file)]
    name = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    shutil.copy(authority.file, tmp_path / f"{name}.0")
    yield tmp_path


def test_a_folder_of_authorities_is_trusted(
    folder_of_authorities: Path,
    faulty: FaultyServer,
    authority: Authority,
    good_server: ScriptedTogether,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One of several may be missing.
    monkeypatch.setenv(
        "SSL_CERT_DIR", os.pathsep.join([str(folder_of_authorities / "gone"), str(folder_of_authorities)])
    )
    with faulty.listen(passes, tls=authority.server()) as listener:
        assert chat(listener.url, api_key=str(good_server.api_key)).invoke("Hello").content == "Hello"


def test_an_authority_of_ones_own_replaces_the_bundled_ones(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(ssl_context().get_ca_certs()) > 50
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    assert len(ssl_context().get_ca_certs()) == 1


def test_a_folder_of_authorities_that_can_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nowhere"))
    with closed_port() as url, pytest.raises(TogetherAISettingsError, match=r"SSL_CERT_DIR=.*nowhere"):
        chat(url.replace("http:", "https:")).invoke("Hello")


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"content": 7}, r"choices\[0\]\.message\.content: Input should be a valid string, not 7"),
        (None, r"choices\[0\]\.message: Input should be a valid dictionary, not None"),
    ],
)
def test_the_place_of_what_does_not_fit_is_named(message: object, place: str, faulty: FaultyServer) -> None:
    body = orjson.dumps({"choices": [{"index": 0, "message": message}]})
    with faulty.listen(answers(200, body)) as listener, pytest.raises(TogetherAIResponseError, match=place):
        chat(listener.url).invoke("Hello")


@pytest.mark.parametrize("choices", [b"[]", b"null"])
@pytest.mark.parametrize("cls", [ChatTogetherAI, TogetherAI])
def test_a_stream_of_chunks_without_an_answer_is_an_error(
    cls: type[ChatTogetherAI] | type[TogetherAI], choices: bytes, faulty: FaultyServer
) -> None:
    body = b'data: {"choices":' + choices + b"}\n\ndata: [DONE]\n\n"
    with faulty.listen(answers(200, body, "text/event-stream")) as listener:
        model = cls(model=ScriptedEngine.CHAT, base_url=listener.url, api_key=KEY)
        with pytest.raises(TogetherAIResponseError, match="the stream had no choices"):
            list(model.stream("Hello"))
        assert len(listener.requests) == 1


async def test_the_management_api_does_not_repeat_a_conflict(together: ScriptedTogether) -> None:
    together.management.refuse("GET", "/endpoints$", Refusal(409, "changed meanwhile"), times=9)
    async with TogetherAIConnector({**together.client}) as connector:
        with pytest.raises(TogetherAIConflictError):
            await connector.list_endpoints()
    assert sum(request.path.endswith("/endpoints") for request in together.engine.requests) == 1


@pytest.mark.parametrize("size", [16 * MIB - 1000, 16 * MIB + 1])
def test_an_event_may_have_16_mib(size: int) -> None:
    event = b'data: {"text":"' + b"x" * size + b'"}\n\n'
    reader = EventReader(model="m", request_id="r")
    parts = [event[at : at + MIB] for at in range(0, len(event), MIB)]
    if size < 16 * MIB:
        assert [len(chunk["text"]) for part in parts for chunk in reader.feed(part)] == [size]
    else:
        with pytest.raises(TogetherAIResponseError, match="larger than 16777216 bytes"):
            list(chain.from_iterable(map(reader.feed, parts)))


@pytest.mark.parametrize("size", [64 * 1024 - 100, 64 * 1024 + 1])
def test_of_an_error_64_kib_are_read(size: int, faulty: FaultyServer) -> None:
    body = b'{"error":{"message":"the reason"},"more":"' + b"x" * size + b'"}'
    with faulty.listen(answers(400, body)) as listener, pytest.raises(TogetherAIInvalidRequestError) as caught:
        chat(listener.url).invoke("Hello")
    # What is cut off is JSON no longer: its beginning is shown as it is.
    assert ("Error code: 400 - the reason" in str(caught.value)) is (size < 64 * 1024)


def test_a_servers_text_is_cut_in_a_message(faulty: FaultyServer) -> None:
    body = orjson.dumps({"error": {"message": "w" * 5_000}})
    with faulty.listen(answers(400, body)) as listener, pytest.raises(TogetherAIInvalidRequestError) as caught:
        chat(listener.url).invoke("Hello")
    assert str(caught.value).count("w") == 2_000


def test_a_reply_is_decompressed_in_parts() -> None:
    parts = [len(part) for part in Inflater("gzip").feed(gzip.compress(b" " * 2 * MIB))]
    assert (max(parts), sum(parts)) == (256 * 1024, 2 * MIB)


def test_the_figures_of_the_page_are_those_that_hold() -> None:
    text = re.sub(r"\s+", " ", PAGE.read_text(encoding="utf-8"))
    limits = Limits()
    told = {
        f"| {Transport.max_reply_bytes // MIB} MiB |": "a reply",
        f"| {MAX_DEPTH} |": "nesting",
        f"ends after {limits.pages:,} pages ({limits.pages * limits.page:,} entries": "a list",
        f"within {limits.undo_seconds:.0f} seconds, or {limits.grace_seconds:.0f} once": "an undo",
        f"may take {limits.stop_seconds:,.0f} seconds to stop": "the end of a block",
    }
    assert [what for words, what in told.items() if words not in text] == []
