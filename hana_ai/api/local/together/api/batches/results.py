"""The two files of a batch: what was answered, and what went wrong, one line a request."""

from __future__ import annotations

from typing import BinaryIO

import orjson

from ...refusal import JSON, Refusal
from ..files import DataFile, FileStore
from .asking import Answer

_NO_JSON = Refusal(500, "The answer is not JSON.", type="server_error")


class _Lines:
    """A file of the store that is written line by line, and is made with the first one."""

    def __init__(self, store: FileStore, filename: str) -> None:
        self._store = store
        self._filename = filename
        self._file: DataFile | None = None
        self._out: BinaryIO | None = None
        self._count = 0
        self._closed = False

    def add(self, line: object) -> None:
        if self._closed:
            return  # of a request that was under way when the batch ended
        if self._out is None:
            self._file = self._store.reserve(self._filename, "batch-generated", "jsonl")
            self._out = self._file.path.open("wb")
        self._out.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self._count += 1

    def close(self) -> str:
        """Hand the file to the store; returns its id, empty where there was no line."""
        self._closed = True
        if self._file is None or self._out is None:
            return ""
        size = self._out.tell()
        self._out.close()
        self._store.add(self._file, size, self._count)
        return self._file.id


class Results:
    """What a batch has answered so far."""

    def __init__(self, store: FileStore, batch_id: str, ids: list[str]) -> None:
        self._ids = ids
        self._written = bytearray(len(ids))
        self._output = _Lines(store, f"batch-{batch_id}-output.jsonl")
        self._errors = _Lines(store, f"batch-{batch_id}-errors.jsonl")

    def add(self, index: int, answer: Answer) -> None:
        """Take the answer to a request."""
        try:
            body: JSON = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            self.fail(index, _NO_JSON.error())
            return
        if answer.status == 200:
            self._written[index] = True
            response: dict[str, JSON] = {"status_code": answer.status, "body": body}
            self._output.add({"custom_id": self._ids[index], "response": response})
            return
        error = body.get("error") if isinstance(body, dict) else None
        self.fail(index, error if isinstance(error, dict) else {"message": str(body), "type": "server_error"})

    def fail(self, index: int, error: dict[str, JSON]) -> None:
        """Note a request that was not answered well."""
        self._written[index] = True
        self._errors.add({"custom_id": self._ids[index], "error": error})

    def close(self, error: Refusal | None = None) -> tuple[str, str]:
        """Hand the files to the store, requests that were not come to with this error; returns the two ids."""
        if error is not None:
            for index, written in enumerate(self._written):
                if not written:
                    self.fail(index, error.error())
        return self._output.close(), self._errors.close()
