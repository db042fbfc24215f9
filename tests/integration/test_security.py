"""Where the key goes, seen from the servers that it reaches: the named host alone, by whatever way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hana_ai.api import ChatTogetherAI, TogetherAIConnector, TogetherAISettings, get_together_ai_client
from hana_ai.api.errors import TogetherAIConnectionError, TogetherAIError, TogetherAISettingsError
from hana_ai.api.local.together import Reply, ScriptedEngine
from hana_ai.api.transport.tls import ssl_context
from tests.certificates import self_signed
from tests.conftest import ScriptedTogether
from tests.wiretap import Api, Proxy, header_names, running

KEY = "tgp_v1_watched-key-that-only-the-named-host-may-see"
HOST = "api.together.test"
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


async def _astream(chat: ChatTogetherAI) -> None:
    async for _ in chat.astream("Hello"):
        pass


FACES: dict[str, Callable[[ChatTogetherAI], object]] = {
    "invoke": lambda chat: chat.invoke("Hello"),
    "stream": lambda chat: list(chat.stream("Hello")),
    "ainvoke": lambda chat: asyncio.run(chat.ainvoke("Hello")),
    "astream": lambda chat: asyncio.run(_astream(chat)),
}
every_face = pytest.mark.parametrize("face", FACES)


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def secure_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """An https server named HOST, whose certificate this process trusts."""
    certificate = self_signed(tmp_path, "api", HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with running(Api(certificate)) as api:
        yield api


@pytest.fixture
def quiet_api() -> Iterator[Api]:
    with running(Api()) as api:
        yield api


HEADERS = {
    "host",
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "user-agent",
    "x-stainless-read-timeout",
    "x-stainless-retry-count",
}


def chat_at(base_url: str, **fields: object) -> ChatTogetherAI:
    return ChatTogetherAI(model="a/model", base_url=base_url, **{"api_key": KEY, "max_retries": 0, **fields})


# --- proxies ---


@every_face
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_an_https_host_is_reached_through_the_proxy_that_the_environment_names(
    face: str, variable: str, secure_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Proxy(secure_api.port)) as proxy:
        monkeypatch.setenv(variable, f"http://user:pass%40word@127.0.0.1:{proxy.port}")
        FACES[face](chat_at(f"https://{HOST}"))

    lines = proxy.requests[0].decode().split("\r\n")
    assert lines[0] == f"CONNECT {HOST}:443 HTTP/1.1"
    assert "Basic dXNlcjpwYXNzQHdvcmQ=" in proxy.requests[0].decode()
    assert f"Bearer {KEY}".encode() in secure_api.seen
    assert KEY.encode() not in proxy.seen
    assert b"dXNlcjpwYXNzQHdvcmQ=" not in secure_api.seen


@every_face
def test_an_address_on_this_machine_is_never_asked_through_a_proxy(
    face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Api()) as api, running(Proxy(api.port)) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        FACES[face](chat_at(f"http://127.0.0.1:{api.port}"))

    assert proxy.requests == []
    assert KEY.encode() in api.seen


@every_face
def test_a_host_in_no_proxy_is_asked_directly(face: str, secure_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(Proxy(secure_api.port)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", ".together.test")
        # The name stands in no DNS: that it is looked for shows that the proxy is not asked.
        with pytest.raises(TogetherAIConnectionError):
            FACES[face](chat_at(f"https://{HOST}"))
    assert proxy.requests == []


@every_face
def test_a_proxy_that_refuses_is_named_without_its_password(
    face: str, secure_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Proxy(secure_api.port, refuse=True)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:proxy-password@127.0.0.1:{proxy.port}")
        with pytest.raises(TogetherAIConnectionError) as caught:
            FACES[face](chat_at(f"https://{HOST}"))
    text = "".join(traceback.format_exception(caught.value))
    assert "407" in str(caught.value)
    assert "proxy-password" not in text
    assert KEY not in text


@every_face
def test_a_kind_of_proxy_that_cannot_be_used_is_said_without_its_address(
    face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:proxy-password@127.0.0.1:1080")
    with pytest.raises(TogetherAISettingsError, match="names a proxy that can't be used") as caught:
        FACES[face](chat_at(f"https://{HOST}"))
    assert "proxy-password" not in "".join(traceback.format_exception(caught.value))


# --- the named host alone ---


@every_face
def test_credentials_in_netrc_neither_replace_nor_join_the_key(
    face: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\ndefault login else password more\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with running(Api()) as api:
        FACES[face](chat_at(f"http://127.0.0.1:{api.port}"))
    assert api.seen.lower().count(b"\r\nauthorization:") == 1
    assert f"Bearer {KEY}".encode() in api.seen
    assert b"Basic" not in api.seen


@every_face
def test_each_host_gets_the_key_of_its_own_object(face: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(Api()) as one, running(Api()) as other, running(Api()) as third:
        monkeypatch.setenv("TOGETHER_BASE_URL", f"http://127.0.0.1:{third.port}")
        monkeypatch.setenv("TOGETHER_API_KEY", "key-of-the-environment")
        for api, key in ((one, "key-of-one"), (other, "key-of-other")):
            FACES[face](chat_at(f"http://127.0.0.1:{api.port}/v1", api_key=key))
    assert b"Bearer key-of-one\r\n" in one.seen
    assert b"Bearer key-of-other\r\n" in other.seen
    assert b"key-of-other" not in one.seen
    assert b"key-of-one" not in other.seen
    assert third.requests == []
    for api in (one, other):
        assert b"key-of-the-environment" not in api.seen
        assert f"host: 127.0.0.1:{api.port}".encode() in api.seen.lower()


@every_face
def test_cookies_are_neither_kept_nor_sent(face: str) -> None:
    with running(Api(headers="set-cookie: session=1; Path=/\r\n")) as api:
        chat = chat_at(f"http://localhost:{api.port}")
        FACES[face](chat)
        FACES[face](chat)
    assert len(api.requests) == 2
    assert all("cookie" not in header_names(request) for request in api.requests)


@every_face
def test_a_certificate_that_is_not_trusted_ends_the_call_before_the_key_is_sent(
    face: str, secure_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    for name, value in (
        ("PYTHONHTTPSVERIFY", "0"),
        ("CURL_CA_BUNDLE", ""),
        ("REQUESTS_CA_BUNDLE", ""),
        ("NODE_TLS_REJECT_UNAUTHORIZED", "0"),
    ):
        monkeypatch.setenv(name, value)
    with running(Proxy(secure_api.port)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(TogetherAIError, match=r"(?i)certificate"):
            FACES[face](chat_at(f"https://{HOST}"))
    assert secure_api.requests == []


# --- nothing but one request, whatever the values are ---

TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        "a\r\nx-injected: 1",
        "a\nx",
        "a\x00b",
        "../../v1/secret",
        "a b",
        "ä€",
        "\ud83d".encode("utf-8", "replace").decode(),
    ]
)


@given(model=TEXTS, prompt=TEXTS, user=TEXTS, stop=TEXTS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("face", ["invoke", "ainvoke"])
def test_no_value_of_a_call_gets_out_of_the_body(
    face: str, quiet_api: Api, model: str, prompt: str, user: str, stop: str
) -> None:
    quiet_api.requests.clear()
    chat = chat_at(f"http://127.0.0.1:{quiet_api.port}", model_kwargs={"user": user}).bind(
        model=model or "m", stop=[stop]
    )
    chat.invoke(prompt) if face == "invoke" else asyncio.run(chat.ainvoke(prompt))
    [request] = quiet_api.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /v1/chat/completions HTTP/1.1"
    assert set(header_names(request)) <= HEADERS
    sent = json.loads(body)
    assert (sent["model"], sent["user"], sent["stop"]) == (model or "m", user, [stop])


@given(
    text=st.text(max_size=12)
    | st.sampled_from(["k\r\nx-injected: 1", "k\nx", "k\x00", "k\x7f", "ké", "k k", " k "])
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_key_is_refused_or_sent_as_one_header(text: str, quiet_api: Api) -> None:
    quiet_api.requests.clear()
    try:
        chat = ChatTogetherAI(
            model="m", base_url=f"http://127.0.0.1:{quiet_api.port}", api_key=text, max_retries=0
        )
    except TogetherAISettingsError:
        assert quiet_api.requests == []
        return
    chat.invoke("Hello")
    [request] = quiet_api.requests
    assert set(header_names(request)) <= HEADERS
    assert f"authorization: Bearer {text.strip()}\r\n".encode().lower() in request.lower()


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.together.ai\r\nx-injected: 1",
        "https://api.together.ai/\x00",
        "https://api.together.ai@evil.test",
        "https://user:pass-of-the-address@api.together.ai",
        "ftp://user:pass-of-the-address@api.together.ai",
        "https://evil.test?x=api.together.ai",
        "https://evil.test#api.together.ai",
        "http://evil.test",
        "http://127.0.0.1.evil.test",
        "http://localhost.evil.test",
        "//127.0.0.1",
        "javascript:alert(1)",
    ],
)
def test_an_address_that_leads_elsewhere_than_it_seems_is_refused(base_url: str) -> None:
    with pytest.raises(TogetherAISettingsError) as caught:
        chat_at(base_url)
    assert "pass-of-the-address" not in str(caught.value)


async def test_an_id_in_a_path_stays_one_segment(together: ScriptedTogether) -> None:
    hostile = "a/../../../v1/files?x=1#y\r\nz: 1"
    async with TogetherAIConnector({**together.client, "project_id": hostile}) as connector:
        for ask in (
            connector.delete_endpoint(hostile),
            connector.get_endpoint_status(hostile),
            connector.list_endpoints(),
            connector._account.call(lambda sdk: sdk.models.retrieve(hostile, project_id="p")),
        ):
            with contextlib.suppress(TogetherAIError, ValueError):
                await ask
    asked = [request for request in together.engine.requests if "files" in request.path]
    assert asked
    for request in asked:
        # Decoded by the server, the value is whole: nothing of it ended the segment, the path or the header.
        assert request.path.startswith("/v2/projects/")
        assert hostile in request.path
        assert "x" not in request.query
        assert "z" not in request.headers


# --- what tools show that print every variable and every log record ---


def shown(exc: BaseException) -> Iterator[str]:
    """Every variable of every frame that is not a test's own, of an exception and all its causes."""
    waiting: list[BaseException | None] = [exc]
    seen: list[BaseException] = []
    while waiting:
        link = waiting.pop()
        if link is None or any(link is one for one in seen):
            continue
        seen.append(link)
        waiting += [link.__cause__, link.__context__]
        yield f"{link!r} {link} {vars(link)!r}"
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                for name, value in frame.f_locals.items():
                    yield f"{frame.f_code.co_name} {name} {value!r}"


TROUBLE = {
    "refused": Reply(status=401),
    "no JSON": Reply(body="<html>", content_type="text/html"),
    "hung up": Reply(drop=True),
    "stalled": Reply(stall=True),
}


@every_face
@pytest.mark.parametrize("trouble", TROUBLE)
def test_no_variable_of_a_traceback_holds_the_key(
    face: str, trouble: str, together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    together.check_answers = False
    engine.always(TROUBLE[trouble])
    chat = ChatTogetherAI(model="m", timeout=1.0, max_retries=0, **together.client)
    with pytest.raises(TogetherAIError) as caught:
        FACES[face](chat)
    leaks = [text.split(" ")[:2] for text in shown(caught.value) if str(together.api_key) in text]
    assert leaks == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ChatTogetherAI(model="m", api_key=KEY, timeout=-1),
        lambda: ChatTogetherAI(model="m", api_key=f"{KEY}\r\nx"),
        lambda: ChatTogetherAI(model="m", api_key=KEY, base_url="http://evil.test"),
        lambda: TogetherAISettings(together_api_key=KEY, together_timeout=-1),
        lambda: TogetherAISettings(TOGETHER_API_KEY=f"{KEY} x"),
        lambda: TogetherAISettings(together_fallback_api_key=f"{KEY} x"),
        lambda: TogetherAISettings(hana_password=KEY, hana_port=-1),
        lambda: get_together_ai_client(TogetherAISettings(together_api_key=KEY)).chat_model(timeout=-1),
        lambda: asyncio.run(TogetherAIConnector().connect({"api_key": f"{KEY} x"})),
        lambda: asyncio.run(TogetherAIConnector().connect({"api_key": KEY, "base_url": "http://evil.test"})),
    ],
)
def test_no_variable_of_a_refused_setting_holds_the_key(wrong: Callable[[], object]) -> None:
    with pytest.raises((TogetherAISettingsError, ValueError)) as caught:
        wrong()
    assert [text.split(" ")[:2] for text in shown(caught.value) if KEY in text] == []


def _connect(chat: ChatTogetherAI) -> object:
    """Ask the management API, which the SDK does over httpx; both of them log every request."""
    assert chat.api_key is not None
    return asyncio.run(TogetherAIConnector().connect({"api_key": chat.api_key, "base_url": chat.base_url}))


@pytest.mark.parametrize("trouble", [None, *TROUBLE])
@pytest.mark.parametrize("face", [*FACES, "connect"])
def test_no_logger_of_any_library_shows_the_key_at_debug(
    face: str,
    trouble: str | None,
    together: ScriptedTogether,
    engine: ScriptedEngine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    together.check_answers = False
    if trouble is not None:
        engine.always(TROUBLE[trouble])
    chat = ChatTogetherAI(model="m", timeout=1.0, max_retries=0, **together.client)
    # The watch over the whole suite reads these records, too; here every logger is on.
    with caplog.at_level(logging.DEBUG):
        for name in ("together", "httpx", "httpcore", "aiohttp", "asyncio", "hana_ai"):
            caplog.set_level(logging.DEBUG, name)
        with contextlib.suppress(TogetherAIError):
            {**FACES, "connect": _connect}[face](chat)
    if face == "connect":
        assert {"together", "httpcore"} <= {record.name.split(".")[0] for record in caplog.records}
    text = "".join(caplog.handler.format(record) for record in caplog.records)
    assert str(together.api_key) not in text


def test_verification_of_certificates_has_no_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONHTTPSVERIFY", "SSL_CERT_VERIFY", "TOGETHER_VERIFY", "HTTPX_VERIFY"):
        monkeypatch.setenv(name, "0")
    context = ssl_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    names = {name for name in [*TogetherAISettings.model_fields, *ChatTogetherAI.model_fields] if "verif" in name}
    assert names == set()
