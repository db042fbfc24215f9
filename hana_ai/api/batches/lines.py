"""Requests as the lines of files that batches take: checked, counted, and split where a file is full."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import orjson

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.langchain.token_estimates import OF_A_MESSAGE, estimated

if TYPE_CHECKING:
    from hana_ai.api.wire.schemas import JSONObject

LONGEST_ID = 64
"""Characters of a `custom_id`."""


@dataclass(frozen=True)
class BatchLimits:
    """How much a batch takes, and how often it is asked for."""

    lines: int = 50_000
    """Requests in a file."""
    bytes: int = 100_000_000
    """Size of a file."""
    first_poll: float = 0.2
    """Seconds before a batch is asked for again; later pauses are longer."""
    longest_poll: float = 30.0
    upload_seconds: float = 1800.0
    """How long a file may take to be sent, or a part of one to be fetched."""
    part_bytes: int = 16 * 1024 * 1024
    """How much of a result is fetched at a time."""


@dataclass
class InputFile:
    """A file of requests."""

    path: Path
    lines: int = 0
    size: int = 0
    digest: str = ""
    """Hex of the SHA-256 of its bytes: what is submitted twice is found again by it."""

    @property
    def name(self) -> str:
        """What it is called at the server."""
        return f"hana-ai-together-{self.digest[:40]}.jsonl"


@dataclass
class Amount:
    """What requests have, added up."""

    lines: int = 0
    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    models: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Prompt tokens, and completion tokens at most, by model."""

    def add(self, body: Mapping[str, object]) -> None:
        """Count a request."""
        prompt = _prompt_tokens(body)
        most = body.get("max_tokens", body.get("max_completion_tokens"))
        bound = most if isinstance(most, int) else None
        self.lines += 1
        self.prompt_tokens += prompt
        self.completion_tokens = (
            None if bound is None or self.completion_tokens is None else self.completion_tokens + bound
        )
        model = str(body.get("model"))
        before = self.models.get(model, (0, 0))
        self.models[model] = (before[0] + prompt, before[1] + (bound or 0))


def _prompt_tokens(body: Mapping[str, object]) -> int:
    messages = body.get("messages")
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        return _text_tokens(body.get("prompt", body.get("input")))
    return sum(
        OF_A_MESSAGE + _text_tokens(message.get("content")) for message in messages if isinstance(message, Mapping)
    )


def _text_tokens(value: object) -> int:
    if isinstance(value, str):
        return estimated(value)
    if isinstance(value, Mapping):
        return _text_tokens(value.get("text"))
    return sum(map(_text_tokens, value)) if isinstance(value, (list, tuple)) else 0


def check_id(id: object) -> str:
    """Check a `custom_id`.

    Raises
    ------
    TogetherAIInputError
        It is no text of 1 to 64 characters.
    """
    if not isinstance(id, str) or not 1 <= len(id) <= LONGEST_ID:
        raise TogetherAIInputError(
            f"{id!r:.80} is no custom_id: that is a string of 1 to {LONGEST_ID} characters."
        )
    return id


def write_files(
    requests: Iterable[tuple[str, JSONObject]], folder: Path, limits: BatchLimits, amount: Amount
) -> Iterator[InputFile]:
    """Write requests into files, each as full as may be; yields every file when it is whole.

    Raises
    ------
    TogetherAIInputError
        An id comes twice, a request is larger than a file may be, or there is none.
    """
    seen: set[str] = set()
    writing: _Writing | None = None
    number = 0
    try:
        for id, body in requests:
            if id in seen:
                raise TogetherAIInputError(f"The custom_id {id!r} comes twice; results are told apart by it.")
            seen.add(id)
            line = orjson.dumps({"custom_id": id, "body": body}, option=orjson.OPT_APPEND_NEWLINE)
            if len(line) > limits.bytes:
                raise TogetherAIInputError(
                    f"The request {id!r} has {len(line):,} bytes; a batch takes {limits.bytes:,} at most."
                )
            amount.add(body)
            if writing is not None and not writing.has_room(len(line), limits):
                yield writing.close()
                writing = None
            if writing is None:
                number += 1
                writing = _Writing(folder / f"{number}.jsonl")
            writing.add(line)
    finally:
        if writing is not None:
            writing.out.close()
    if writing is None:
        raise TogetherAIInputError("There are no requests to submit.")
    yield writing.close()


class _Writing:
    def __init__(self, path: Path) -> None:
        self._file = InputFile(path)
        self._hash = hashlib.sha256()
        self.out: BinaryIO = path.open("wb")

    def has_room(self, size: int, limits: BatchLimits) -> bool:
        return self._file.lines < limits.lines and self._file.size + size <= limits.bytes

    def add(self, line: bytes) -> None:
        self.out.write(line)
        self._hash.update(line)
        self._file.lines += 1
        self._file.size += len(line)

    def close(self) -> InputFile:
        """The file, under the name that it has at the server."""
        self.out.close()
        self._file.digest = self._hash.hexdigest()
        self._file.path = self._file.path.rename(self._file.path.with_name(self._file.name))
        return self._file
