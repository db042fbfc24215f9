"""What the readers of streams have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, TypeVar, cast

from hana_ai.api.errors import TogetherAIResponseError
from hana_ai.api.wire.events import stream_error
from hana_ai.api.wire.replies import CHUNK, unreadable
from hana_ai.api.wire.schemas import GenerationReply
from hana_ai.api.wire.shapes import SHAPE_ERRORS

_Chunk = TypeVar("_Chunk")


class StreamReader(ABC, Generic[_Chunk]):
    """Turns the chunks of one stream into LangChain's, in order."""

    __slots__ = ("_seen", "request_id")

    def __init__(self, request_id: str | None = None) -> None:
        self.request_id = request_id
        self._seen = False

    def read(self, wire: Mapping[str, object]) -> list[_Chunk]:
        """Take one decoded chunk of the wire; gives none, one or several chunks.

        Raises
        ------
        TogetherAIResponseError
            It does not fit; the message names the place.
        TogetherAIStreamError
            The same, after chunks that did.
        """
        begun = self._seen
        try:
            return self._read(cast("GenerationReply", wire))
        except TogetherAIResponseError as exc:
            raise (stream_error(exc) if begun else exc) from exc.__cause__
        except SHAPE_ERRORS as exc:
            error = unreadable(exc, CHUNK, wire, request_id=self.request_id)
            raise (stream_error(error) if begun else error) from exc

    @abstractmethod
    def _read(self, wire: GenerationReply) -> list[_Chunk]: ...

    @abstractmethod
    def finish(self, fallback: Mapping[str, object] | None = None) -> list[_Chunk]:
        """Give what was held back until the end; `fallback` says which target answered, if not the first.

        Raises
        ------
        TogetherAIResponseError
            There was no answer in any chunk.
        """

    @abstractmethod
    def partial(self) -> object:
        """What has been received so far, for `TogetherAIStreamError.partial`."""
