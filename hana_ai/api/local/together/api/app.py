"""Together's HTTP API as a Starlette application over one or more engines.

A further part of the API, such as the management API, adds its routes through the `extra_routes` of
`build_app`, answers with `http.reply` and refuses with `engine.Refusal`.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from typing import TypeVar

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..contract import check_query
from ..engine import Engine, LocalModel, Piece, WireWrapper
from ..refusal import JSON, Refusal
from ..replies import ChatStream, Chunk, Collected, completion_chunks, request_id, seed_of
from ..requests import ChatBody, CompletionBody, EmbeddingsBody, RerankBody, message_text, parse
from ..wire import client_left
from . import catalog
from .batches import Answer, Batches, InProcess, batch_routes
from .batches.records import CHAT, COMPLETIONS, EMBEDDINGS
from .evaluations import Evaluations, evaluation_routes
from .files import FileStore, file_routes
from .fine_tunes import FineTunes, fine_tune_routes
from .http import reply
from .management import STORAGE_PATH, Management, Measurement, Measuring, management_routes
from .media import media_routes

T = TypeVar("T")
RoutedT = TypeVar("RoutedT", ChatBody, CompletionBody, EmbeddingsBody, RerankBody)

_DONE = b"data: [DONE]\n\n"
_ID_HEADER = "x-request-id"
_TYPES = {CHAT: ("chat",), COMPLETIONS: ("chat", "language"), EMBEDDINGS: ("embedding",)}
"""The types of models that answer at an endpoint."""


class Directory:
    """Which engine answers for which model."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines: dict[str, tuple[LocalModel, Engine]] = {}
        for engine in engines:
            for model in engine.models:
                if model.id in self._engines:
                    raise ValueError(f"Two engines answer for the model {model.id!r}.")
                self._engines[model.id] = (model, engine)

    @property
    def models(self) -> list[LocalModel]:
        """All models, in the order of the engines."""
        return [model for model, _ in self._engines.values()]

    def find(self, name: str, *types: str) -> Engine:
        """The engine of a model of one of these types.

        Raises
        ------
        Refusal
            404 or 400 model_not_available, as Together answers for an unknown model and for one that needs a
            dedicated endpoint; 400 for a model of another type.
        """
        if name not in self._engines:
            raise Refusal(
                404,
                f"Unable to access model {name}. Please visit https://api.together.ai/models to view the "
                "list of supported models.",
                code="model_not_available",
            )
        model, _ = self._engines[name]
        if not model.serverless:
            raise Refusal(
                400,
                f"Unable to access non-serverless model {name}. Please visit "
                f"https://api.together.ai/models/{name} to create and start a new dedicated endpoint for the "
                "model.",
                code="model_not_available",
            )
        return self.dedicated(name, *types)

    def dedicated(self, name: str, *types: str) -> Engine:
        """The engine of a model that an endpoint serves, serverless or not; 400 for one of another type."""
        model, engine = self._engines[name]
        if model.type not in types:
            raise Refusal(400, f"Model {name} is of type {model.type}, not {' or '.join(types)}.", param="model")
        return engine


class EventStream(Response):
    """Server-sent events, one body message an event; a client that leaves stops the engine."""

    media_type = "text/event-stream;charset=utf-8"

    def __init__(self, events: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        self.status_code = 200
        self.background = None
        self._events = events
        self.init_headers({**headers, "cache-control": "no-cache"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or the client leaves."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await _unless_client_leaves(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        async for event in self._events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _unless_client_leaves(receive: Receive, work: Coroutine[object, None, T]) -> T:
    """Do the work, but cancel it when the client closes the connection.

    Raises
    ------
    ClientDisconnect
        When the client left first.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(client_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


class Inference:
    """The handlers of the inference calls and of the catalogue."""

    def __init__(self, engines: Sequence[Engine], management: Management) -> None:
        self.directory = Directory(engines)
        self._management = management

    def _routed(self, request: Request, body: RoutedT, *types: str) -> tuple[Engine, RoutedT]:
        """The engine, and the body under the name that the engine knows, where an endpoint was named."""
        served = self._management.served_by(body.model, _measured(request))
        if served is None:
            return self.directory.find(body.model, *types), body
        return self.directory.dedicated(served, *types), body.model_copy(update={"model": served})

    def check_model(self, name: str, path: str) -> None:
        """Raise `Refusal` for a model that does not answer at a path; an endpoint's is left to the request."""
        if not self._management.is_endpoint(name):
            self.directory.find(name, *_TYPES.get(path, ("audio",)))

    def routes(self) -> list[BaseRoute]:
        """The routes of the inference API and of the catalogue."""
        return [
            Route(CHAT, self.chat, methods=["POST"]),
            Route(COMPLETIONS, self.complete, methods=["POST"]),
            Route(EMBEDDINGS, self.embed, methods=["POST"]),
            Route("/v1/rerank", self.rerank, methods=["POST"]),
            Route("/v1/models", self.list_models, methods=["GET"]),
            Route("/v2/supported-models", self.list_supported, methods=["GET"]),
            Route("/v2/supported-models/{id:path}", self.get_supported, methods=["GET"]),
        ]

    async def chat(self, request: Request) -> Response:
        body = parse(ChatBody, await request.body())
        engine, routed = self._routed(request, body, *_TYPES[CHAT])
        id, seed = request.state.id, seed_of(body.seed)
        pieces = _measured(request).over(engine.chat(routed))
        if body.stream:
            stream = ChatStream(id=id, model=body.model, seed=seed, logprobs=bool(body.logprobs))
            return await self._stream(request, pieces, stream.chunks)
        prompt = "\n".join(message_text(message.content) for message in body.messages) if body.echo else None
        answer = await _unless_client_leaves(request.receive, _collect(pieces))
        return reply(answer.chat(id=id, model=body.model, seed=seed, logprobs=bool(body.logprobs), prompt=prompt))

    async def complete(self, request: Request) -> Response:
        body = parse(CompletionBody, await request.body())
        engine, routed = self._routed(request, body, *_TYPES[COMPLETIONS])
        id, seed, logprobs = request.state.id, seed_of(body.seed), bool(body.logprobs)
        pieces = _measured(request).over(engine.complete(routed))
        if body.stream:
            chunks = completion_chunks(id=id, model=body.model, seed=seed, logprobs=logprobs)
            return await self._stream(request, pieces, chunks)
        prompt = body.prompt if body.echo else None
        answer = await _unless_client_leaves(request.receive, _collect(pieces))
        return reply(answer.completion(id=id, model=body.model, seed=seed, logprobs=logprobs, prompt=prompt))

    @staticmethod
    async def _stream(
        request: Request, pieces: AsyncGenerator[Piece, None], chunks: Callable[[Piece], Iterator[Chunk]]
    ) -> Response:
        # The first piece is awaited before the status is sent, so that a refusal is still an HTTP error.
        first = await _unless_client_leaves(request.receive, _first(pieces))
        return EventStream(_events(first, pieces, chunks), {_ID_HEADER: request.state.id})

    async def embed(self, request: Request) -> Response:
        body = parse(EmbeddingsBody, await request.body())
        texts = body.texts()
        if not texts:
            raise Refusal(400, "Input validation error: input: must hold at least one text", param="input")
        engine, routed = self._routed(request, body, *_TYPES[EMBEDDINGS])
        embedded = await _unless_client_leaves(request.receive, engine.embed(routed.model, texts))
        _measured(request).count(embedded.tokens)
        return reply(
            {
                "id": request.state.id,
                "object": "list",
                "model": body.model,
                "data": [
                    {"index": index, "object": "embedding", "embedding": vector}
                    for index, vector in enumerate(embedded.vectors)
                ],
                "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
            }
        )

    async def rerank(self, request: Request) -> Response:
        body = parse(RerankBody, await request.body())
        engine, routed = self._routed(request, body, "rerank", "embedding")
        texts = body.texts()
        ranked = await _unless_client_leaves(request.receive, engine.rank(routed.model, body.query, texts))
        _measured(request).count(ranked.tokens)
        order = sorted(range(len(texts)), key=lambda index: -ranked.scores[index])
        results: list[JSON] = []
        for index in order[: body.top_n]:
            document: dict[str, JSON] = {}
            if body.return_documents:
                given = body.documents[index]
                document = {"text": given} if isinstance(given, str) else given
            results.append({"index": index, "relevance_score": float(ranked.scores[index]), "document": document})
        return reply(
            {
                "id": request.state.id,
                "object": "rerank",
                "model": body.model,
                "results": results,
                "usage": {
                    "prompt_tokens": ranked.tokens,
                    "completion_tokens": 0,
                    "total_tokens": ranked.tokens,
                },
            }
        )

    async def list_models(self, request: Request) -> Response:
        check_query("/v1/models", request.query_params)
        dedicated = request.query_params.get("dedicated") == "true"
        models = [model for model in self.directory.models if not (dedicated and model.serverless)]
        return reply([catalog.model_info(model) for model in models])

    async def list_supported(self, request: Request) -> Response:
        return reply(catalog.supported_page(self.directory.models, request.query_params))

    async def get_supported(self, request: Request) -> Response:
        model = catalog.find_supported(self.directory.models, request.path_params["id"])
        return reply(catalog.supported_model(model))


def _measured(request: Request) -> Measurement:
    measured: Measurement = request.state.measured
    return measured


async def _collect(pieces: AsyncGenerator[Piece, None]) -> Collected:
    collected = Collected()
    async with aclosing(pieces):
        async for piece in pieces:
            if piece.error is not None:
                kind = str(piece.error.get("type", "server_error"))
                status = 400 if kind == "invalid_request_error" else 500
                raise Refusal(status, str(piece.error.get("message")), type=kind)
            collected.add(piece)
    return collected


async def _first(pieces: AsyncGenerator[Piece, None]) -> Piece | None:
    return await anext(pieces, None)


async def _events(
    first: Piece | None, pieces: AsyncGenerator[Piece, None], chunks: Callable[[Piece], Iterator[Chunk]]
) -> AsyncIterator[bytes]:
    async with aclosing(pieces):
        piece = first
        while piece is not None:
            for chunk in chunks(piece):
                yield b"data: " + orjson.dumps(chunk) + b"\n\n"
            piece = await anext(pieces, None)
        yield _DONE


class _Gate:
    """Gives every request an id, refuses those without the key, and turns refusals into Together's shape."""

    def __init__(self, app: ASGIApp, api_key: str | None) -> None:
        self._app = app
        self._api_key = api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        id = request_id()
        scope.setdefault("state", {})["id"] = id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                if not any(name == _ID_HEADER.encode() for name, _ in headers):
                    headers.append((_ID_HEADER.encode(), id.encode()))
            await send(message)

        # A presigned address carries its own proof.
        open_to_all = scope["path"].startswith(STORAGE_PATH)
        if not open_to_all and not self._admits(
            dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        ):
            refusal = Refusal(
                401,
                "Invalid API key provided. You can find your API key at https://api.together.ai/settings/api-keys.",
                code="invalid_api_key",
            )
            await _refused(id, refusal)(scope, receive, send_with_id)
            return
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            return  # nobody is left to answer

    def _admits(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key:
            return False
        return self._api_key is None or hmac.compare_digest(key.encode(), self._api_key.encode())


def _refused(id: str, refusal: Refusal) -> Response:
    return reply({"id": id, "error": refusal.error()}, refusal.status, refusal.headers)


async def _on_refusal(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, Refusal)
    return _refused(request.state.id, exc)


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    message = f"{exc.detail}: {request.method} {request.url.path}"
    return _refused(request.state.id, Refusal(exc.status_code, message, code="not_found"))


async def _on_error(request: Request, exc: Exception) -> Response:
    # Starlette raises the exception again once this is sent, so that the server's log has it.
    return _refused(
        request.state.id, Refusal(500, f"The engine failed: {type(exc).__name__}.", type="server_error")
    )


def build_app(
    engines: Sequence[Engine],
    *,
    api_key: str | None,
    extra_routes: Sequence[BaseRoute] = (),
    management: Management | None = None,
    batches: Batches | None = None,
    fine_tunes: FineTunes | None = None,
    evaluations: Evaluations | None = None,
) -> ASGIApp:
    """The application.

    Parameters
    ----------
    engines
        What answers; their models together are the catalogue.
    api_key
        The key to ask for; None takes any key, but not a missing one.
    extra_routes
        Further parts of the API.
    management
        What the management API keeps; by default a fresh account.
    batches
        The batches, and the files from which they come; by default none yet.
    fine_tunes, evaluations
        The jobs over the same files; by default none yet.
    """
    if management is None:
        management = Management([model for engine in engines for model in engine.models])
    if batches is None:
        batches = Batches(FileStore())
    if fine_tunes is None:
        fine_tunes = FineTunes(batches.files, management)
    if evaluations is None:
        evaluations = Evaluations(batches.files)
    inference = Inference(engines, management)

    async def ask(path: str, body: bytes) -> Answer:
        return await InProcess(app, api_key)(path, body)

    routes = [
        *inference.routes(),
        *file_routes(batches.files, management),
        *batch_routes(batches, management, ask, inference.check_model),
        *fine_tune_routes(fine_tunes),
        *evaluation_routes(evaluations, management, ask),
        *media_routes(inference.directory.find, management.check_fault),
        *management_routes(management),
        *extra_routes,
    ]
    starlette = Starlette(
        routes=routes,
        exception_handlers={Refusal: _on_refusal, HTTPException: _on_http_exception, Exception: _on_error},
    )
    app: ASGIApp = _Gate(Measuring(starlette), api_key)
    for engine in engines:
        if isinstance(engine, WireWrapper):
            app = engine.wrap(app)
    return app
