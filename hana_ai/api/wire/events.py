"""A stream's bytes to its decoded events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hana_ai.api.errors import (
    TogetherAIConnectionError,
    TogetherAIRequestError,
    TogetherAIResponseError,
    TogetherAIStatusError,
    TogetherAIStreamError,
)
from hana_ai.api.wire.encoding import loads
from hana_ai.api.wire.error_bodies import error_from_body
from hana_ai.api.wire.schemas import JSONObject
from hana_ai.api.wire.sse import MAX_EVENT_BYTES, SSEDecoder


class EventReader:
    """Turn a stream's bytes into its decoded events and know whether it ended as it should.

    Parameters
    ----------
    model, request_id : str, optional
        For the errors.
    max_event_bytes : int
        Bound of one event, in bytes.
    """

    __slots__ = ("_decoder", "_failure", "_last", "done", "model", "request_id", "usage")

    def __init__(
        self, *, model: str | None, request_id: str | None, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        self._decoder = SSEDecoder(max_event_bytes)
        self._failure: TogetherAIRequestError | None = None
        self._last: JSONObject = {}
        self.done = False
        self.model = model
        self.request_id = request_id
        self.usage: Any = None
        """The token counts that came last."""

    @property
    def model_name(self) -> Any:
        """The model that the stream names, as it came."""
        return self._last.get("model")

    @property
    def last(self) -> Mapping[str, object]:
        """The chunk that came last; empty before the first one."""
        return self._last

    def feed(self, chunk: bytes) -> list[JSONObject]:
        """Take bytes and return the decoded chunks that they complete.

        Raises
        ------
        TogetherAIStatusError
            The server sent an error as an event.
        TogetherAIResponseError
            An event is not the JSON object that the API promises, or is too large.
        """
        if self._failure is not None:
            raise self._failure
        out: list[JSONObject] = []
        try:
            events = self._decoder.feed(chunk)
        except ValueError as exc:
            raise TogetherAIResponseError(str(exc), model=self.model, request_id=self.request_id) from exc
        for data, _ in events:
            if data == b"[DONE]":
                self.done = True
                break
            try:
                decoded = loads(data)
            except ValueError:
                decoded = None
            if not isinstance(decoded, dict):
                self._failure = TogetherAIResponseError(
                    f"a chunk of the stream is no JSON object: {data[:200]!r}",
                    model=self.model,
                    request_id=self.request_id,
                )
            elif decoded.get("error"):
                self._failure = self._error_event(decoded)
            if self._failure is not None:
                if out:
                    # What came before the error is handed out first; the next call raises.
                    return out
                raise self._failure
            self._last = decoded
            if decoded.get("usage"):
                self.usage = decoded["usage"]
            out.append(decoded)
        return out

    def finish(self) -> None:
        """Check, at the end of the bytes, that the stream was complete.

        Raises
        ------
        TogetherAIRequestError
            An error that `feed` held back, since chunks came before it.
        TogetherAIConnectionError
            Neither `[DONE]` nor a finish reason came: the server or the network cut it off.
        """
        if self._failure is not None:
            raise self._failure
        choices = self._last.get("choices")
        if self.done or (isinstance(choices, list) and any(map(_finish_reason, choices))):
            return
        if self._last and not choices and self._last.get("usage"):
            return
        raise TogetherAIConnectionError(
            "the stream ended before the answer was complete", model=self.model, request_id=self.request_id
        )

    def _error_event(self, decoded: JSONObject) -> TogetherAIStatusError:
        inner = decoded["error"]
        code = str(inner.get("code")) if isinstance(inner, Mapping) else ""
        status = int(code) if code.isdigit() and 400 <= int(code) < 600 else 500
        return error_from_body(status, decoded, model=self.model, request_id=self.request_id)


def _finish_reason(choice: object) -> object:
    return choice.get("finish_reason") if isinstance(choice, dict) else None


def stream_error(exc: TogetherAIRequestError) -> TogetherAIStreamError:
    """Say of an error that it came in the middle of a stream, where no retry is possible."""
    error = TogetherAIStreamError(
        f"the stream broke: {exc.message}",
        status=exc.status,
        code=exc.code,
        type=exc.type,
        param=exc.param,
        request_id=exc.request_id,
        model=exc.model,
        hint="What was received until then is in this error's `partial`; ask again for a whole answer.",
    )
    error.__cause__ = exc
    return error
