"""A real small language model behind the server: llama.cpp in this process, SmolLM2-135M-Instruct by default."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import secrets
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from ..engine import EngineBase, FinishReason, LocalModel, Piece, TokenLogprob, ToolCallDelta, Usage
from ..refusal import Refusal, context_overflow
from ..replies import tool_call_id
from ..requests import ChatBody, CompletionBody, RegexFormat, Tool
from .model_file import model_file
from .prompts import (
    ask_for_arguments,
    ask_for_choice,
    ask_to_use_results,
    choice_grammar,
    format_grammar,
    request_text,
    schema_grammar,
    tool_text,
    turns,
)

MAX_TOKENS = 512
"""A small model left alone may repeat itself to the end of its context, which takes minutes."""
_BUNDLED = "SmolLM2-135M-Instruct"
# Cosine similarity of request and tool from which on a tool is called: unrelated texts stay below 0.1.
_NEAR = 0.12

Chunk: TypeAlias = "dict[str, Any]"
ToolChooser: TypeAlias = Literal["similarity", "model"]


class LlamaCppEngine(EngineBase):
    """Answers chats and completions by llama.cpp.

    Tool calls and response formats are generated under a grammar, so that they are well-formed however weak the
    model is. Which tool is called, and with a free choice whether one is, the bundled model cannot tell; there
    the similarity of the request and the tools' descriptions decides (WordLlama's vectors). A model of your own
    is asked itself.

    Parameters
    ----------
    gguf
        The model file; else the one that TOGETHER_LOCAL_GGUF names, else the bundled one.
    model
        The name to answer for; made from the file's name when left out.
    context_length
        Tokens of prompt and answer together.
    max_tokens
        Tokens of an answer whose request does not bound it; it then ends with the reason "length".
    parallel
        Answers generated at the same time; more wait their turn.
    threads
        CPU threads; half of the cores when left out, since llama.cpp's threads wait by spinning.
    tool_chooser
        "similarity" or "model"; by default "model" unless the bundled model is used.
    """

    CHAT = f"local/{_BUNDLED}"

    def __init__(
        self,
        gguf: str | Path | None = None,
        *,
        model: str | None = None,
        context_length: int = 4096,
        max_tokens: int = MAX_TOKENS,
        parallel: int = 2,
        threads: int | None = None,
        tool_chooser: ToolChooser | None = None,
    ) -> None:
        path = model_file(gguf)
        bundled = path.name.startswith(_BUNDLED)
        self._chooser: ToolChooser = tool_chooser or ("similarity" if bundled else "model")
        name = model or (self.CHAT if bundled else f"local/{path.stem}")
        self._models = (
            LocalModel(
                name,
                "chat",
                context_length,
                display_name=f"{name.removeprefix('local/')} (local stand-in)",
                license="Apache-2.0" if bundled else "",
                features=("FEATURE_TOOL_CALLING", "FEATURE_STRUCTURED_OUTPUT"),
                description="A small model that runs on this machine; a stand-in, not a model of Together's.",
            ),
        )
        self._context_length = context_length
        self._max_tokens = max_tokens
        threads = threads or max(1, (os.cpu_count() or 2) // 2)
        self._load = partial(_load, path, context_length, parallel, threads)
        self._loading = threading.Lock()
        # What may not be a model after all is tried at once.
        self._server: Any = None if bundled else self._load()
        self._closed = False
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="local-together-llama")

    @property
    def models(self) -> Sequence[LocalModel]:
        """The model it answers for."""
        return self._models

    def close(self) -> None:
        """Wait for what is being generated, and free the model."""
        self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._server = None

    def _loaded(self) -> Any:
        """The model; the bundled one is loaded, in about a second, when it is first asked."""
        with self._loading:
            if self._server is None:
                self._server = self._load()
            return self._server

    async def chat(self, body: ChatBody) -> AsyncGenerator[Piece, None]:
        """Answer a chat, or call a tool."""
        given = turns(body)
        tool, spent = await self._chosen_tool(body, given)
        if tool is not None:
            given = ask_for_arguments(given, tool)
            grammar: str | None = schema_grammar(tool.function.parameters or {"type": "object", "properties": {}})
        else:
            grammar = format_grammar(body)
            if grammar is None and self._chooser == "similarity" and body.messages[-1].role == "tool":
                given = ask_to_use_results(given)
        request: Chunk = {"messages": given, **_sampling(body, self._max_tokens)}
        if body.logprobs:
            request |= {"logprobs": True, "top_logprobs": body.logprobs}
        if grammar is not None:
            request["grammar"] = grammar
        truncate = body.context_length_exceeded_behavior == "truncate"
        answers = self._answers(request, body, chat=True, truncate=truncate)
        if tool is not None:
            answers = _as_tool_call(answers, tool.function.name)
        async with aclosing(_checked(answers, body, grammar)) as pieces:
            async for piece in pieces:
                if spent is not None and piece.usage is not None:
                    yield replace(piece, usage=_added(piece.usage, spent))
                else:
                    yield piece

    async def complete(self, body: CompletionBody) -> AsyncGenerator[Piece, None]:
        """Continue a prompt."""
        request: Chunk = {"prompt": body.prompt, **_sampling(body, self._max_tokens)}
        if body.logprobs:
            request["logprobs"] = body.logprobs
        async with aclosing(self._answers(request, body, chat=False, truncate=False)) as pieces:
            async for piece in pieces:
                yield piece

    async def _chosen_tool(self, body: ChatBody, given: list[dict[str, str]]) -> tuple[Tool | None, Usage | None]:
        """The tool to call, if any, and the tokens that asking the model took."""
        wanted, tools = body.calls(), body.callable_tools()
        if wanted == "none":
            return None, None
        free = wanted == "auto"
        if len(tools) == 1 and not free:
            return tools[0], None
        if self._chooser == "similarity":
            # A tool's answer is there to be used: calling again is beyond this model.
            if free and body.messages[-1].role != "user":
                return None, None
            return await asyncio.to_thread(
                _nearest, request_text(body), tools, 0.0 if not free else _NEAR, free
            ), None
        names = [tool.function.name for tool in tools] + (["none"] if free else [])
        request: Chunk = {
            "messages": ask_for_choice(given, tools, free=free),
            "grammar": choice_grammar(names),
            "temperature": 0,
            "max_tokens": 64,
        }
        said, usage = "", None
        async with aclosing(self._generate(request, chat=True)) as pieces:
            async for piece in pieces:
                said += piece.text
                usage = piece.usage or usage
        return next((tool for tool in tools if tool.function.name == said), None), usage

    async def _answers(
        self, request: Chunk, body: ChatBody | CompletionBody, *, chat: bool, truncate: bool
    ) -> AsyncGenerator[Piece, None]:
        """All choices, generated side by side; the usage comes with the last piece."""
        count = body.n or 1
        limit = None if truncate else body.max_tokens
        runs = []
        for index in range(count):
            seed = {} if body.seed is None else {"seed": (body.seed + index) % 2**32}
            runs.append(self._generate({**request, **seed}, chat=chat, index=index, max_tokens=limit))
        total: Usage | None = None
        left = count
        async with aclosing(_merged(runs)) as pieces:
            async for piece in pieces:
                if piece.usage is None:
                    yield piece
                    continue
                # llama.cpp counts each choice apart; the prompt is the same for all of them.
                total = piece.usage if total is None else _added(total, replace(piece.usage, prompt_tokens=0))
                left -= 1
                yield replace(piece, usage=total if left == 0 else None)

    async def _generate(
        self, request: Chunk, *, chat: bool, index: int = 0, max_tokens: int | None = None
    ) -> AsyncGenerator[Piece, None]:
        """One choice, generated in a thread; closing the generator stops it at the next token."""
        if self._closed:
            raise Refusal(503, "The engine is closed.", type="server_error")
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[Chunk | None] = asyncio.Queue()
        stop = threading.Event()
        request = {
            **request,
            "stream": True,
            "stream_options": {"include_usage": True},
            "timings_per_token": True,
        }

        def hand_over(chunk: Chunk | None) -> bool:
            if not stop.is_set():
                try:
                    loop.call_soon_threadsafe(chunks.put_nowait, chunk)
                except RuntimeError:  # the server has ended, so nobody waits for the chunk
                    return True
            return stop.is_set()

        def run() -> None:
            try:
                if not stop.is_set():
                    server = self._loaded()
                    handle = server.handle_chat_completions if chat else server.handle_completions
                    handle(request, hand_over)
            finally:
                hand_over(None)

        work = loop.run_in_executor(self._threads, run)
        reader = _Reader(index, self._context_length, max_tokens)
        try:
            while (chunk := await chunks.get()) is not None:
                piece = reader.piece(chunk)
                if piece is not None:
                    yield piece
            await work
        finally:
            stop.set()
            work.cancel()


class _Reader:
    """Reads llama.cpp's chunks of one choice."""

    def __init__(self, index: int, context_length: int, max_tokens: int | None) -> None:
        self._index = index
        self._context_length = context_length
        self._max_tokens = max_tokens
        self._finish: FinishReason = "stop"

    def piece(self, chunk: Chunk) -> Piece | None:
        """What a chunk adds; None for one that adds nothing.

        Raises
        ------
        Refusal
            When llama.cpp reports an error, or prompt and answer do not fit into the context.
        """
        if "error" in chunk:
            raise self._refusal(chunk["error"])
        if (timings := chunk.get("timings")) and self._max_tokens is not None:
            prompt = timings["prompt_n"] + timings["cache_n"]
            if prompt + self._max_tokens > self._context_length:
                raise context_overflow(self._context_length, prompt, self._max_tokens)
        said: Piece | None = None
        for choice in chunk.get("choices", []):
            if choice.get("finish_reason"):
                self._finish = "length" if choice["finish_reason"] == "length" else "stop"
            text = choice["text"] if "text" in choice else choice["delta"].get("content")
            if text:
                logprobs = _logprobs(choice.get("logprobs"))
                token_id = logprobs[-1].token_id if logprobs else None
                said = Piece(self._index, text, token_id=token_id, logprobs=logprobs)
        if usage := chunk.get("usage"):
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
            last = said or Piece(self._index)
            last.finish_reason = self._finish
            last.usage = Usage(usage["prompt_tokens"], usage["completion_tokens"], cached)
            return last
        return said

    def _refusal(self, error: Chunk) -> Refusal:
        if error.get("type") == "exceed_context_size_error":
            return context_overflow(self._context_length, error["n_prompt_tokens"], self._max_tokens or 1)
        status = int(error.get("code", 500))
        kind = "invalid_request_error" if status < 500 else "server_error"
        return Refusal(status, str(error.get("message", "llama.cpp failed.")), type=kind)


def _logprobs(given: Chunk | None) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            token["token"],
            token["logprob"],
            token["id"],
            tuple((top["token"], top["logprob"]) for top in token["top_logprobs"]),
        )
        for token in (given or {}).get("content") or []
    )


def _sampling(body: ChatBody | CompletionBody, max_tokens: int) -> Chunk:
    """The parameters in llama.cpp's words; what is not given is left to llama.cpp, but for a bound."""
    names = {
        "max_tokens": body.max_tokens or max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "min_p": body.min_p,
        "repeat_penalty": body.repetition_penalty,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "logit_bias": body.logit_bias,
        "stop": body.stop or None,
    }
    return {name: value for name, value in names.items() if value is not None}


def _added(first: Usage, second: Usage) -> Usage:
    return Usage(
        first.prompt_tokens + second.prompt_tokens,
        first.completion_tokens + second.completion_tokens,
        first.cached_tokens,
    )


def _nearest(request: str, tools: Sequence[Tool], least: float, free: bool) -> Tool | None:
    """The tool whose description is nearest to the request; None if the choice is free and none is near."""
    from hana_ai.api.local.word_vectors import WordVectors

    words = WordVectors.shared()
    vectors = words.embed(words.tokens([request, *map(tool_text, tools)]))
    similarities = vectors[1:] @ vectors[0]
    best = int(similarities.argmax())
    return None if free and similarities[best] < least else tools[best]


async def _as_tool_call(pieces: AsyncGenerator[Piece, None], name: str) -> AsyncGenerator[Piece, None]:
    """Generated arguments as a call of a tool, in every choice."""
    begun: set[int] = set()
    async with aclosing(pieces):
        async for piece in pieces:
            if piece.index not in begun:
                begun.add(piece.index)
                yield Piece(piece.index, tool_call=ToolCallDelta(0, tool_call_id(), name))
            if piece.text:
                yield replace(piece, text="", tool_call=ToolCallDelta(0, arguments=piece.text))
            elif piece.finish_reason is not None:
                reason: FinishReason = "length" if piece.finish_reason == "length" else "tool_calls"
                yield replace(piece, finish_reason=reason)


async def _checked(
    pieces: AsyncGenerator[Piece, None], body: ChatBody, grammar: str | None
) -> AsyncGenerator[Piece, None]:
    """The pieces; an error event instead of the end if the answer does not keep to its grammar.

    llama.cpp generates freely, without a word, when it does not understand a grammar.
    """
    said: dict[int, str] = {}
    async with aclosing(pieces):
        async for piece in pieces:
            if grammar is None:
                yield piece
                continue
            arguments = piece.tool_call.arguments if piece.tool_call is not None else ""
            said[piece.index] = said.get(piece.index, "") + piece.text + arguments
            ended = piece.finish_reason in ("stop", "tool_calls") and not body.stop
            if ended and not _keeps_to_format(said[piece.index], body, piece.finish_reason == "tool_calls"):
                message = "This model cannot keep to the schema or pattern that was asked for."
                yield Piece(piece.index, error={"message": message, "type": "invalid_request_error"})
                return
            yield piece


def _keeps_to_format(text: str, body: ChatBody, call: bool) -> bool:
    if isinstance(body.response_format, RegexFormat) and not call:
        return re.fullmatch(body.response_format.pattern, text) is not None
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


async def _merged(runs: Sequence[AsyncGenerator[Piece, None]]) -> AsyncGenerator[Piece, None]:
    """The pieces of several generators as they come."""
    if len(runs) == 1:
        async with aclosing(runs[0]) as only:
            async for piece in only:
                yield piece
        return
    pieces: asyncio.Queue[Piece | BaseException | None] = asyncio.Queue()

    async def pump(run: AsyncGenerator[Piece, None]) -> None:
        try:
            async with aclosing(run):
                async for piece in run:
                    pieces.put_nowait(piece)
            pieces.put_nowait(None)
        except Refusal as exc:
            pieces.put_nowait(exc)

    pumps = [asyncio.ensure_future(pump(run)) for run in runs]
    try:
        left = len(runs)
        while left:
            got = await pieces.get()
            if isinstance(got, BaseException):
                raise got
            if got is None:
                left -= 1
            else:
                yield got
    finally:
        for one in pumps:
            one.cancel()
        await asyncio.wait(pumps)


def _load(path: Path, context_length: int, parallel: int, threads: int) -> Any:
    import xllamacpp  # type: ignore[import-untyped]

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context_length * parallel
    params.n_parallel = parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup = False
    params.verbosity = 0
    # llama.cpp's own HTTP server cannot be left out: no pages, and a key that nobody knows.
    params.ui = False
    params.endpoint_slots = False
    params.api_keys = [secrets.token_urlsafe(24)]
    with _signals_kept():
        server = xllamacpp.Server(params)
    # Once it has answered, its loop runs. Freed before that, it would wait for the loop's end for ever.
    server.handle_completions({"prompt": " ", "max_tokens": 1}, lambda _: False)
    return server


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Give SIGINT and SIGTERM back to Python: llama.cpp takes them, and then Ctrl-C ends the process."""
    if sys.platform == "win32":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    handlers = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        handlers[number] = libc.signal(number, None)
        libc.signal(number, handlers[number])
    try:
        yield
    finally:
        for number, handler in handlers.items():
            libc.signal(number, handler)
            # `signal` restarts interrupted calls; Python wants to see them interrupted.
            libc.siginterrupt(number, 1)
