"""What llama.cpp reports is read, and what goes wrong is said in Together's words."""

from __future__ import annotations

import asyncio
import io
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import orjson
import pytest
from starlette.types import Message, Scope

import hana_ai.api.local.together as package
from hana_ai.api.local.together import EngineBase, LocalModel
from hana_ai.api.local.together import __main__ as command
from hana_ai.api.local.together.api.app import build_app
from hana_ai.api.local.together.engine import Embedded, Piece, Usage
from hana_ai.api.local.together.engines.llama import _checked, _merged, _Reader
from hana_ai.api.local.together.refusal import Refusal
from hana_ai.api.local.together.requests import ChatBody, parse
from hana_ai.api.local.together.wire import cut_connection


def read(*chunks: dict[str, Any], max_tokens: int | None = None) -> list[Piece]:
    reader = _Reader(0, 100, max_tokens)
    return [piece for piece in map(reader.piece, chunks) if piece is not None]


def said(text: str | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}], **more}


def test_the_usage_chunk_ends_a_choice_with_its_finish_reason() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}
    pieces = read(said(None), said("a"), said(None, "length"), {"choices": [], "usage": usage})
    assert [piece.text for piece in pieces] == ["a", ""]
    assert (pieces[-1].finish_reason, pieces[-1].usage) == ("length", Usage(5, 2, 3))


def test_a_finish_reason_may_come_together_with_the_usage() -> None:
    chunk = {
        "choices": [{"text": "b", "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
    (piece,) = read(chunk)
    assert (piece.text, piece.finish_reason, piece.usage) == ("b", "stop", Usage(1, 1))


def test_a_prompt_that_leaves_too_little_room_is_refused_at_the_first_token() -> None:
    chunk = said("a", timings={"prompt_n": 60, "cache_n": 20})
    assert read(chunk, max_tokens=20)
    with pytest.raises(Refusal, match="Given: 80 `inputs` tokens and 21"):
        read(chunk, max_tokens=21)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        ({"type": "exceed_context_size_error", "n_prompt_tokens": 200}, 400, "invalid_request_error"),
        ({"code": 400, "message": "no"}, 400, "invalid_request_error"),
        ({"message": "broken"}, 500, "server_error"),
    ],
)
def test_an_error_of_llama_cpp_is_a_refusal(error: dict[str, Any], status: int, kind: str) -> None:
    with pytest.raises(Refusal) as caught:
        read({"error": error})
    assert (caught.value.status, caught.value.type) == (status, kind)


async def pieces_of(*pieces: Piece | Refusal) -> AsyncGenerator[Piece, None]:
    for piece in pieces:
        await asyncio.sleep(0)
        if isinstance(piece, Refusal):
            raise piece
        yield piece


async def collected(pieces: AsyncIterator[Piece]) -> list[Piece]:
    return [piece async for piece in pieces]


def chat(**more: Any) -> ChatBody:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **more}
    return parse(ChatBody, orjson.dumps(body))


@pytest.mark.parametrize(
    ("wanted", "text", "kept"),
    [
        ({"type": "json_object"}, '{"a":1}', True),
        ({"type": "json_object"}, "Sure! Here is", False),
        ({"type": "regex", "pattern": "[0-9]+"}, "42", True),
        ({"type": "regex", "pattern": "[0-9]+"}, "forty-two", False),
    ],
)
async def test_an_answer_that_broke_out_of_its_grammar_ends_in_an_error(
    wanted: Any, text: str, kept: bool
) -> None:
    source = pieces_of(Piece(text=text), Piece(finish_reason="stop"))
    pieces = await collected(_checked(source, chat(response_format=wanted), "a grammar"))
    assert (pieces[-1].error is None) is kept


async def test_the_pieces_of_several_choices_are_merged() -> None:
    runs = [pieces_of(*(Piece(index, str(number)) for number in range(3))) for index in range(2)]
    merged = await collected(_merged(runs))
    for index in range(2):
        assert [piece.text for piece in merged if piece.index == index] == ["0", "1", "2"]


async def test_a_refusal_of_one_choice_is_the_refusal_of_all() -> None:
    with pytest.raises(Refusal, match="no"):
        await collected(_merged([pieces_of(Piece(), Piece()), pieces_of(Refusal(400, "no"))]))


class BrokenEngine(EngineBase):
    """An engine with a bug, and one that reports an error in the middle."""

    models = (LocalModel("m"), LocalModel("e", "embedding"))

    def __init__(self, *pieces: Piece) -> None:
        self._pieces = pieces

    async def chat(self, body: ChatBody) -> AsyncGenerator[Piece, None]:
        for piece in self._pieces:
            yield piece

    async def embed(self, model: str, texts: Any) -> Embedded:
        raise ZeroDivisionError


async def post(engine: Any, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    sent: list[Message] = []
    waiting: list[Message] = [{"type": "http.request", "body": orjson.dumps(body), "more_body": False}]

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(b"authorization", b"Bearer k")],
        "query_string": b"",
    }
    try:
        await build_app([engine], api_key="k")(scope, receive, send)
    except ZeroDivisionError:
        assert sent, "the client gets an answer before the server's log gets the error"
    return sent[0]["status"], orjson.loads(sent[1]["body"])


async def test_a_bug_of_an_engine_is_an_error_in_together_s_shape() -> None:
    status, body = await post(BrokenEngine(), "/v1/embeddings", {"model": "e", "input": "x"})
    assert status == 500
    assert body["error"] == {
        "message": "The engine failed: ZeroDivisionError.",
        "type": "server_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize(("kind", "status"), [("invalid_request_error", 400), ("server_error", 500)])
async def test_an_error_in_the_middle_of_an_answer_is_its_status(kind: str, status: int) -> None:
    engine = BrokenEngine(Piece(text="x"), Piece(error={"message": "no", "type": kind}))
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    assert (await post(engine, "/v1/chat/completions", body))[0] == status


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"model": "m", "prompt": "x"}),
        ("/v1/rerank", {"model": "e", "query": "x", "documents": ["y"]}),
    ],
)
async def test_an_engine_refuses_what_it_does_not_answer(path: str, body: dict[str, Any]) -> None:
    status, answer = await post(BrokenEngine(), path, body)
    assert status == 400
    assert "does not support" in answer["error"]["message"]


async def test_a_connection_that_is_not_known_cannot_be_cut() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(RuntimeError, match="does not know the connection"):
        await cut_connection({"type": "http"}, receive)


def test_the_package_resolves_its_names_when_they_are_used() -> None:
    assert set(package.__all__) == set(dir(package))
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="Nothing"):
        _ = package.Nothing


def test_importing_the_package_needs_nothing_of_the_extra() -> None:
    code = (
        "import sys; import hana_ai.api.local.together; "
        "assert not {'starlette', 'uvicorn', 'xllamacpp', 'wordllama', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.shows_a_key("the command says how to reach its server")
@pytest.mark.parametrize("engine", ["scripted", "llama"])
def test_the_command_ends_when_its_input_ends(
    engine: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    before = signal.getsignal(signal.SIGTERM)
    assert command.main([f"--engine={engine}", "--until-stdin-closes"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    printed = capsys.readouterr().out
    assert printed.startswith("TOGETHER_BASE_URL=http://127.0.0.1:")
    assert "TOGETHER_API_KEY=local-" in printed
