"""httpx over aiohttp: requests and replies arrive as they are, and errors are httpx's."""

from __future__ import annotations

import asyncio
import gc
import socket
import zlib
from collections.abc import AsyncIterator

import aiohttp
import httpx
import pytest
from hana_ai.api.transport.aiohttp_transport import AiohttpTransport
from hana_ai.api.transport.connections import Connections

from hana_ai.api import ChatTogetherAI, TogetherAIEmbeddings
from hana_ai.api.local.together import Reply, ScriptedEngine
from tests.conftest import ScriptedTogether, eventually

PATH = "/v1/chat/completions"
BODY = {"model": ScriptedEngine.CHAT, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def client(together: ScriptedTogether) -> AsyncIterator[httpx.AsyncClient]:
    together.check_answers = False
    headers = {"authorization": f"Bearer {together.api_key}"}
    transport = AiohttpTransport(aiohttp.ClientSession())
    async with httpx.AsyncClient(transport=transport, base_url=together.base_url, headers=headers) as made:
        yield made


async def test_a_body_goes_out_whole_or_in_parts(client: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    whole = await client.post(PATH, json=BODY)
    content = whole.request.content

    async def parts() -> AsyncIterator[bytes]:
        yield content[:10]
        yield content[10:]

    json = {"content-type": "application/json"}
    for headers in (json, {**json, "content-length": str(len(content))}):
        in_parts = await client.post(PATH, content=parts(), headers=headers)
        assert in_parts.json()["usage"] == whole.json()["usage"]
    assert [request.body for request in engine.posts] == [BODY] * 3
    assert [request.headers.get("transfer-encoding") for request in engine.posts] == [None, "chunked", None]


async def test_an_address_is_not_quoted_again(client: httpx.AsyncClient) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = httpx.URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/%41%2Fb?name=%2F%41+%7E")
    async with server:
        await client.get(url)
    assert asked == [url.raw_path] == [b"/v1/%41%2Fb?name=%2F%41+%7E"]


async def test_a_reply_is_neither_unpacked_nor_followed(client: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    packed = zlib.compress(b"{}")
    engine.on("/v1/packed", Reply(body=packed, headers={"content-encoding": "deflate"}))
    engine.on("/v1/elsewhere", Reply(status=302, headers={"location": "/v1/models"}))
    async with client.stream("GET", "/v1/packed") as response:
        assert b"".join([part async for part in response.aiter_raw()]) == packed
    assert (await client.get("/v1/elsewhere")).status_code == 302
    assert [request.path for request in engine.requests] == ["/v1/packed", "/v1/elsewhere"]


async def test_a_body_that_is_not_read_to_its_end_closes_the_connection(
    client: httpx.AsyncClient, together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    engine.reply(Reply(text="one two three", stall_at_chunk=2), Reply(), Reply())
    async with client.stream("POST", PATH, json={**BODY, "stream": True}) as response:
        assert b"one" in await anext(response.aiter_raw())
    await eventually(lambda: together.statistics.open_connections == 0)
    for _ in range(2):
        await client.post(PATH, json=BODY)
    assert together.statistics.open_connections == 1


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(stall=True), httpx.ReadTimeout),
        (Reply(drop=True), httpx.RemoteProtocolError),
        (Reply(text="one two three", break_at_chunk=2), httpx.NetworkError),
    ],
)
async def test_errors_are_httpxs(
    client: httpx.AsyncClient, engine: ScriptedEngine, reply: Reply, error: type[Exception]
) -> None:
    engine.reply(reply)
    with pytest.raises(error):
        await client.post(PATH, json={**BODY, "stream": True}, timeout=httpx.Timeout(5, read=0.3))


async def test_errors_of_connecting_are_httpxs(client: httpx.AsyncClient) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(httpx.ConnectError):
            await client.get(address)
        proxied = AiohttpTransport(aiohttp.ClientSession(), httpx.Proxy(address))
        async with httpx.AsyncClient(transport=proxied) as through:
            with pytest.raises(httpx.ProxyError):
                await through.get("http://example.invalid/")


def test_a_posted_request_is_what_httpx_would_build(together: ScriptedTogether) -> None:
    connections = Connections(together.base_url, ChatTogetherAI(**together.client).api_key)  # type: ignore[arg-type]
    http = connections.sync_client()._client
    url, content = httpx.URL(together.base_url + PATH), b'{"a": 1}'
    headers = httpx.Headers({"Authorization": "Bearer key", "Accept-Encoding": "gzip", "User-Agent": "u"})
    timeout = httpx.Timeout(3, connect=1)
    built = http.build_request("post", url, headers=headers, timeout=timeout, content=content, files=None)
    plain = httpx.Client()
    right = plain.build_request("post", url, headers=headers, timeout=timeout, content=content, files=None)
    assert (built.method, built.url, built.content) == (right.method, right.url, right.content)
    assert built.extensions == right.extensions
    # Both are what HTTP/1.1 does unasked.
    for name in ("connection", "accept"):
        right.headers.pop(name)
    assert dict(built.headers) == dict(right.headers)
    plain.close()
    connections.close()


async def test_a_call_leaves_nothing_to_the_garbage_collector(together: ScriptedTogether) -> None:
    chat = ChatTogetherAI(model=ScriptedEngine.CHAT, **together.client)
    embeddings = TogetherAIEmbeddings(model=ScriptedEngine.EMBEDDING, **together.client)

    async def calls() -> None:
        chat.invoke("Hello")
        await chat.ainvoke("Hello")
        assert list(chat.stream("Hello"))
        assert [chunk async for chunk in chat.astream("Hello")]
        embeddings.embed_query("Hello")
        await embeddings.aembed_query("Hello")

    await calls()
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        await calls()
        await asyncio.sleep(0)
        gc.collect()
        kinds = {type(thing).__module__.partition(".")[0] for thing in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not kinds & {"httpx", "httpcore", "aiohttp", "together", "hana_ai"}
