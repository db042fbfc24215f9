"""Where the key goes, seen from the servers that it reaches: the named host alone, by whatever way."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hana_ai.api import ChatTogetherAI
from hana_ai.api import _connections as connections
from hana_ai.api.errors import TogetherAIConnectionError, TogetherAIError, TogetherAISettingsError
from tests.wiretap import Api, Proxy, header_names, make_certificate, running

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
    certificate = make_certificate(tmp_path, HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    connections._ssl_context.cache_clear()
    with running(Api(certificate)) as api:
        yield api
    connections._ssl_context.cache_clear()


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
    connections._ssl_context.cache_clear()
    with running(Proxy(secure_api.port)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(TogetherAIError, match=r"(?i)certificate"):
            FACES[face](chat_at(f"https://{HOST}"))
    assert secure_api.requests == []
