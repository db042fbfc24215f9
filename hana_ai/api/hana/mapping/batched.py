"""A map through the Batch API: parts of the rows are submitted, waited for, and read into the result table.

A part is noted in the database before it is submitted, and its rows are found again by their keys. So a run that
was killed submits nothing twice: what is not noted as submitted is looked for at the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event

from hana_ai.api.batches.jobs import Batches
from hana_ai.api.batches.records import Batch, BatchResult
from hana_ai.api.errors import TogetherAIRequestError
from hana_ai.api.hana.mapping.result_table import Part, PartTable, ResultTable, Spent
from hana_ai.api.hana.mapping.stages import Answer, Key, custom_id

_LOST = "the batch has no result for this row"


class StoppedError(Exception):
    """The caller wants no more."""


class BatchedRun:
    """One run over the rows that are missing; parameters as for `OnlineRun`, but for the model."""

    def __init__(
        self,
        result: ResultTable,
        batches: Batches,
        batch_size: int,
        told: Callable[[Spent, Sequence[Batch]], None],
        stop: Event,
    ) -> None:
        self._result, self._batches, self._size, self._told, self._stop = result, batches, batch_size, told, stop
        self._parts = PartTable(result)
        self.spent = Spent()

    def run(self) -> None:
        """Submit what is missing, wait, and read the results.

        Raises
        ------
        TogetherAIRequestError
            A batch failed as a whole, or Together can't be asked; the next run goes on.
        TogetherAIBudgetExceededError
            A part would cost more than what is left; parts that were submitted before go on.
        """
        if not self._parts.is_there():
            self._parts.create()
        known = self._parts.parts()
        for part, done in known:
            if not done and not part.batches:
                self._submit(part)
        self._submit_further(known[-1][0] if known else None)
        for part, done in self._parts.parts():
            if not done:
                self._read(part)
        self._parts.drop()

    # --- submit ---

    def _submit_further(self, last: Part | None) -> None:
        number, after = (0, None) if last is None else (last.number + 1, last.last)
        while (part := self._next_part(number, after)) is not None:
            self._parts.add(part)
            self._submit(part)
            number, after = number + 1, part.last

    def _next_part(self, number: int, after: Key | None) -> Part | None:
        """The next rows, as many as a batch takes."""
        first = last = None
        lines = 0
        for key, _ in self._result.source.rows(self._result.name, (), min(self._most, 10_000), after):
            first = key if first is None else first
            last, lines = key, lines + 1
            if lines == self._most:
                break
        return None if first is None or last is None else Part(number, first, last, lines, ())

    @property
    def _most(self) -> int:
        return self._batches.limits.lines

    def _submit(self, part: Part) -> None:
        submitted = self._batches.submit(self._requests(part))
        self._parts.submitted(part.number, [batch.id for batch in submitted])

    def _requests(self, part: Part) -> Iterator[tuple[str, Mapping[str, object]]]:
        task = self._result.task
        for key, row in self._rows(part, task.prompt.columns()):
            yield custom_id(key), task.request(row)

    def _rows(self, part: Part, columns: Sequence[str]) -> Iterator[tuple[Key, dict[str, object]]]:
        source, size = self._result.source, min(self._most, 10_000)
        yield from source.rows(self._result.name, columns, size, until=part.last)

    # --- read ---

    def _read(self, part: Part) -> None:
        """Wait for a part, and put its results where they belong."""
        if not part.batches:
            # All its rows have their answers, or are gone.
            self._parts.done(part.number)
            return
        self._batches.wait(part.batches, on_progress=self._waiting)
        keys = {custom_id(key): key for key, _ in self._rows(part, ())}
        try:
            results = self._batches.results(part.batches)
        except TogetherAIRequestError as exc:
            if exc.status is None and not exc.is_retryable:
                self._parts.submitted(part.number, ())
            raise
        with results:
            answers: list[tuple[Key, Answer]] = []
            for result in results:
                # A row that is answered already, or was deleted meanwhile, has no key here.
                if (key := keys.pop(result.custom_id, None)) is not None:
                    answers.append((key, self._answer(result)))
                if len(answers) >= self._size:
                    self._commit(answers)
            answers += [(key, self._result.task.failed(_LOST)) for key in keys.values()]
            self._commit(answers)
        self._parts.done(part.number)

    def _answer(self, result: BatchResult) -> Answer:
        if result.body is None:
            return self._result.task.failed(result.error or _LOST)
        return self._result.task.read(result.body)

    def _commit(self, answers: list[tuple[Key, Answer]]) -> None:
        self._result.write(answers)
        for _, answer in answers:
            self.spent.add(answer)
        answers.clear()
        self._told(self.spent, ())

    def _waiting(self, batches: Sequence[Batch]) -> None:
        self._told(self.spent, batches)
        if self._stop.is_set():
            raise StoppedError
