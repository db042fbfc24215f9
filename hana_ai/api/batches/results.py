"""The results of batches, read line by line from the files that were fetched."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Self

from hana_ai.api.batches.records import Batch, BatchResult, read_result
from hana_ai.api.wire.token_counts import Tokens


class BatchResults:
    """What came of the requests of some batches; iterating yields a `BatchResult` for each, in any order.

    The results are in files that are removed by `close`, at the end of a `with` block, or with this object.
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = tuple(batches)
        self.answered = 0
        """Requests that were answered."""
        self.failed = 0
        """Requests that were not."""
        self.tokens = Tokens()
        """Of all requests together; None where a reply has no counts."""
        self.cost_usd: Decimal | None = None
        """USD; None if tokens or a price are unknown."""
        self._folder = tempfile.TemporaryDirectory(prefix="hana-ai-together-")

    def __repr__(self) -> str:
        return f"BatchResults(answered={self.answered}, failed={self.failed}, cost_usd={self.cost_usd})"

    def path(self, file_id: str) -> Path:
        """Where a file of results is kept."""
        return Path(self._folder.name) / "".join(one if one.isalnum() else "_" for one in file_id)

    def __iter__(self) -> Iterator[BatchResult]:
        for batch in self.batches:
            yield from self._of(batch.output_file_id)
            yield from self._of(batch.error_file_id)

    def errors(self) -> Iterator[BatchResult]:
        """Yield the requests that failed."""
        return (result for result in self if result.error is not None)

    def by_id(self) -> dict[str, BatchResult]:
        """Every result by its `custom_id`, in memory."""
        return {result.custom_id: result for result in self}

    def of(self, batch: Batch) -> Iterator[BatchResult]:
        """Yield the results of one of the batches."""
        yield from self._of(batch.output_file_id)
        yield from self._of(batch.error_file_id)

    def _of(self, file_id: str | None) -> Iterator[BatchResult]:
        if file_id is not None:
            with self.path(file_id).open("rb") as lines:
                yield from (read_result(line) for line in lines if line.strip())

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Sums:
    """Tokens of many replies; unknown as soon as one is."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self.model: str | None = None
        self._tokens: Tokens | None = None

    @property
    def tokens(self) -> Tokens:
        """The sum; nothing was taken where nothing was answered."""
        return self._tokens if self._tokens is not None else Tokens(0, 0, 0, 0)

    def add(self, result: BatchResult) -> None:
        """Count one result."""
        if result.body is None:
            self.failed += 1
            return
        self.answered += 1
        model = result.body.get("model")
        self.model = self.model or (model if isinstance(model, str) else None)
        self._add(result.tokens)

    def merge(self, other: Sums) -> None:
        """Count the results that another one has."""
        self.answered += other.answered
        self.failed += other.failed
        if other.answered:
            self._add(other.tokens)

    def _add(self, new: Tokens) -> None:
        old = self.tokens
        self._tokens = Tokens(
            _sum(old.prompt, new.prompt),
            _sum(old.completion, new.completion),
            (old.cached or 0) + (new.cached or 0),
            (old.reasoning or 0) + (new.reasoning or 0),
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
