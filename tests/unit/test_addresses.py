"""An address that no library can take is refused where it is given, by one clear error that shows no key."""

from __future__ import annotations

import asyncio
import string
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from yarl import URL

from hana_ai.api import (
    ChatTogetherAI,
    FallbackTarget,
    TogetherAI,
    TogetherAIConnector,
    TogetherAIEmbeddings,
    TogetherAIRerank,
    TogetherAISettings,
    init_embedding_model,
    init_llm,
    routing,
)
from hana_ai.api.addresses.checks import check_base_url, is_http_address
from hana_ai.api.addresses.proxy import proxy_for
from hana_ai.api.errors import TogetherAISettingsError

KEY = "tgp_v1_watched-of-an-address"

EXAMPLES = settings().max_examples
"""More where slow tests run, too."""

WRONG_HOSTS = [
    "", "[::1", "::1]", "[::1]x", "x[::1]", "[::g]", "[v1.a]", "[]", "[127.0.0.1]", "[::1%]", "xn--a", "a.xn--a",
    "\u00ad", "１２７.0.0.1", "256.1.1.1", "127.1", "1", "0x7f.1", "127.0.0.01", "a..b", ".a", "-a.b", "a-.b",
    "*.x", "x<y", "x%41", "%", "x\\y", "x y", "x\ty", "x\ny", "x\x00y", "x\x7fy", "x\ud800y", "x\u00a0y",
    "x\u2028y", f"{'a' * 64}.example", ".".join(["a" * 63] * 5), "a;b", "a,b", "a\"b", "a'b", "a|b", "a{b}",
    "a^b", "a`b",
]  # fmt: skip
WRONG_PORTS = [
    "80:80",
    "99999",
    "65536",
    "-1",
    "+80",
    "abc",
    "0",
    "00000",
    "8_0",
    "８0",
    " 80",
    "80 x",
    "1e3",
    "9" * 5000,
]
WRONG_SCHEMES = ["ftp", "file", "ws", "javascript", "socks5", "http+unix", "", "1", "ht tp", "HTTP s"]
GOOD_HOSTS = [
    "127.0.0.1", "127.9.9.9", "localhost", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]",
]  # fmt: skip
GOOD_REMOTE_HOSTS = [
    "api.together.ai", "API.Together.AI", "a", "a_b.example", "bücher.example", "xn--bcher-kva.example",
    "中文.example", "a.", "1.example", "a--b.example", "10.0.0.1", "[2001:db8::1]", "[fe80::1%eth0]",
    "[::ffff:10.0.0.1]", "münchen",
]  # fmt: skip


def joined(*parts: Sequence[str]) -> st.SearchStrategy[str]:
    """One of each, put together."""
    return st.tuples(*map(st.sampled_from, parts)).map("".join)


HTTP = ["http://", "https://"]
USERS = ["user@", "user:word@", ":word@", "@", "a@b@"]
NO_URLS = [
    "x",
    "localhost:8000",
    "https",
    "https:",
    "https:/",
    "https://",
    "https:x",
    "//x",
    ":",
    " ",
    "\x00",
    KEY,
]
NO_TEXTS = [5, 1.5, True, ["https://x.example"], {"url": "https://x.example"}, object(), b"\xff"]
WRONG_ENDS = ["?a=b", "#a", "/a b", "/\x00", "/a\nb", "/" + "a" * 3000]

wrong = st.one_of(
    joined(HTTP, WRONG_HOSTS, ["", ":80", "/v1", ":80/v1/"]),
    joined(HTTP, GOOD_HOSTS, [":"], WRONG_PORTS, ["", "/", "/a/v1"]),
    joined(WRONG_SCHEMES, ["://"], GOOD_HOSTS),
    joined(["https://"], GOOD_HOSTS, WRONG_ENDS),
    joined(HTTP, USERS, [*GOOD_HOSTS, "[::1"]),
    joined(["http://"], GOOD_REMOTE_HOSTS),
    st.sampled_from(NO_URLS),
    st.sampled_from(NO_TEXTS),
)
good = st.one_of(
    joined(HTTP, GOOD_HOSTS, ["", ":", ":1", ":8080", ":65535"], ["", "/", "/v1", "/v1/", "/a/b", "/ä//"]),
    joined(["https://"], GOOD_REMOTE_HOSTS, ["", ":443", ":8443"], ["", "/", "/a/v1", "/a%20b"]),
)


def as_tenant(address: object) -> None:
    with routing.tenant(KEY, address):  # type: ignore[arg-type]
        init_llm("a/model")


def fallback_to(address: object) -> list[object]:
    """As a text, unless it would be a model's name."""
    is_url = isinstance(address, str) and "://" in address
    return [f"{address}#b/model" if is_url else FallbackTarget("b/model", address)]  # type: ignore[arg-type]


def assigned(address: object) -> None:
    chat = ChatTogetherAI(model="a/model", api_key=KEY, timeout=5, max_retries=0)
    chat.base_url = address  # type: ignore[assignment]
    chat.invoke("Hello")


PLACES: dict[str, Callable[[object], object]] = {
    "chat": lambda address: ChatTogetherAI(model="a/model", api_key=KEY, base_url=address),
    "completions": lambda address: TogetherAI(model="a/model", api_key=KEY, base_url=address),
    "embeddings": lambda address: TogetherAIEmbeddings(model="a/model", api_key=KEY, base_url=address),
    "reranking": lambda address: TogetherAIRerank(model="a/model", api_key=KEY, base_url=address),
    "assigned": assigned,
    "settings": lambda address: TogetherAISettings(together_api_key=KEY, together_base_url=address),
    "fallback target": lambda address: FallbackTarget("a/model", address, KEY),  # type: ignore[arg-type]
    "fallback": lambda address: ChatTogetherAI(model="a/model", api_key=KEY, fallback=fallback_to(address)),
    "init_llm": lambda address: init_llm("a/model", api_key=KEY, base_url=address),
    "init_embedding_model": lambda address: init_embedding_model("a/model", api_key=KEY, base_url=address),
    "tenant": as_tenant,
    "connector": lambda address: asyncio.run(TogetherAIConnector().connect({"api_key": KEY, "base_url": address})),
}


def shown(exc: BaseException | None) -> list[str]:
    """What a tool shows that prints a traceback with its variables, without those of the tests."""
    found = []
    while exc is not None:
        found.append(f"{exc!r} {exc} {vars(exc)!r}")
        for frame, _ in traceback.walk_tb(exc.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                found += [f"{frame.f_code.co_name} {name} {value!r}" for name, value in frame.f_locals.items()]
        exc = exc.__cause__ or exc.__context__
    return found


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=EXAMPLES * 3 // 2
)
@pytest.mark.parametrize("place", PLACES)
@given(address=wrong)
@example(address="http://[::1")
@example(address="https://xn--a")
@example(address="http://127.0.0.1:abc")
def test_what_is_no_address_is_refused_wherever_it_is_given(place: str, address: object) -> None:
    with pytest.raises(TogetherAISettingsError) as caught:
        PLACES[place](address)
    assert [text.split(" ")[:2] for text in shown(caught.value) if KEY in text and address != KEY] == []
    assert KEY not in str(caught.value)
    assert ":word" not in str(caught.value)


@settings(deadline=None, max_examples=EXAMPLES * 3)
@given(address=good)
def test_what_is_an_address_is_taken_everywhere(address: str) -> None:
    url = check_base_url(address)
    assert check_base_url(url) == url
    assert not url.endswith(("/", "/v1"))
    assert httpx.URL(url).host
    assert URL(url).raw_host
    assert TogetherAISettings(together_base_url=address).together_base_url == url
    assert FallbackTarget("m", address).base_url == url
    assert ChatTogetherAI(model="m", api_key=KEY, base_url=address).base_url == url


@settings(max_examples=EXAMPLES * 20, deadline=None)
@given(st.text(string.ascii_letters + string.digits + "-._~:/?#[]@!$&'()*+,;=% \\\n\x00äß中１。", max_size=30))
def test_what_is_taken_is_taken_by_every_library(rest: str) -> None:
    url = f"https://{rest}"
    if is_http_address(url):
        assert httpx.URL(url).host
        assert URL(url).raw_host
        assert httpx.URL(url).port is None or 0 < httpx.URL(url).port < 65_536


@pytest.mark.parametrize("name", ["TOGETHER_BASE_URL", "TOGETHER_FALLBACK"])
@pytest.mark.parametrize("from_file", [False, True], ids=["environment", ".env"])
@pytest.mark.parametrize(
    "address", ["http://[::1", "https://xn--a", "http://127.0.0.1:80:80", "http://127.0.0.1:-1"]
)
def test_the_variable_of_a_wrong_address_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, from_file: bool, address: str
) -> None:
    value = address if name == "TOGETHER_BASE_URL" else f"{address}#a/model"
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)
    if from_file:
        Path(".env").write_text(f"{name}={value}\n")
    else:
        monkeypatch.setenv(name, value)
    for make in (TogetherAISettings, ChatTogetherAI, lambda: init_llm("a/model")):
        with pytest.raises(TogetherAISettingsError, match=name) as caught:
            make()
        assert [text.split(" ")[:2] for text in shown(caught.value) if KEY in text] == []


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    address=st.one_of(
        joined(["http://user:proxy-word@"], GOOD_HOSTS, [":"], WRONG_PORTS),
        joined(["http://user:proxy-word@"], WRONG_HOSTS),
        joined(["socks5://user:proxy-word@127.0.0.1", "http://us\udcffer:proxy-word@127.0.0.1"]),
    )
)
def test_a_proxy_that_can_not_be_is_refused_without_its_password(address: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        try:
            patch.setenv("HTTPS_PROXY", address)
        except (ValueError, UnicodeEncodeError):  # no environment can hold it
            return
        with pytest.raises(TogetherAISettingsError, match="HTTPS_PROXY") as caught:
            proxy_for("https://api.together.ai")
    assert [text for text in shown(caught.value) if "proxy-word" in text] == []


@pytest.mark.parametrize(
    "address",
    ["http://u:p%40w@[::1]:3128", "proxy.example:3128", "https://proxy.example", "http://bücher.example/"],
)
def test_a_proxy_that_can_be_is_taken(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)
    found = proxy_for("https://api.together.ai")
    assert found is not None
    assert "@" not in found.url
    with suppress(ModuleNotFoundError):
        assert httpx.Proxy(found.url)
