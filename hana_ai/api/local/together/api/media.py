"""Images, speech, transcripts and videos: checked, and refused as Together refuses a model that is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..contract import check_form
from ..refusal import Refusal
from ..requests import decode_as
from .files.multipart import form_of
from .http import reply
from .routes import Handler, refusing

Finding: TypeAlias = Callable[[str, str], object]
"""Raises `Refusal` for a model, by its name, that is not there or not of a type."""

_JSON_BODIES = {
    "/v1/images/generations": ("ImageRequest", "image"),
    "/v1/audio/speech": ("AudioSpeechRequest", "audio"),
    "/v2/videos": ("CreateVideoBody", "video"),
}
_FORMS = {
    "/v1/audio/transcriptions": "AudioTranscriptionRequest",
    "/v1/audio/translations": "AudioTranslationRequest",
}
_TRANSCRIBER = b"openai/whisper-large-v3"
"""The document's default, and its only model."""


def media_routes(find: Finding, check_fault: Callable[[str, str], None]) -> list[BaseRoute]:
    """The routes; no model of this server draws, speaks or listens."""

    guarded = refusing(check_fault)

    def asking(schema: str, type: str) -> Handler:
        async def ask(request: Request) -> Response:
            fields = decode_as(schema, await request.body())
            find(fields["model"], type)
            raise AssertionError(f"A model of the type {type} is there, but nothing that asks it.")

        return ask

    def listening(schema: str) -> Handler:
        async def listen(request: Request) -> Response:
            form = form_of(request.headers.get("content-type", ""), await request.body())
            check_form(schema, form)
            find(form.get("model", _TRANSCRIBER).decode(), "transcribe")
            raise AssertionError("A model that transcribes is there, but nothing that asks it.")

        return listen

    async def video(request: Request) -> Response:
        raise Refusal(404, f"Video {request.path_params['id']} not found.", code="not_found")

    async def voices(request: Request) -> Response:
        return reply({"data": []})

    return [
        *(Route(path, guarded(asking(*one)), methods=["POST"]) for path, one in _JSON_BODIES.items()),
        *(Route(path, guarded(listening(schema)), methods=["POST"]) for path, schema in _FORMS.items()),
        Route("/v2/videos/{id}", video, methods=["GET"]),
        Route("/v1/voices", voices, methods=["GET"]),
    ]
