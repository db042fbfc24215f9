"""A map that asks row by row, many at a time, through the limiter; answers are committed in batches.

At most `batch_size` rows are under way or not yet committed at any moment: a process that is killed loses no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event

from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.errors import (
    NOT_OF_ONE_REQUEST,
    TogetherAIRequestError,
    TogetherAIServerError,
    TogetherAITimeoutError,
)
from hana_ai.api.hana.mapping.result_table import ResultTable, Spent
from hana_ai.api.hana.mapping.stages import Answer, Key
from hana_ai.api.transport.call import Call

_MAYBE_OF_ALL = (TogetherAIServerError, TogetherAITimeoutError)
"""What is the row's fault only if others are answered."""
_MOST_SUSPECTS = 20


class OnlineRun:
    """One run over the rows that are missing.

    Parameters
    ----------
    result : ResultTable
    chat : ChatTogetherAI
        What asks.
    batch_size : int
        Rows that may be lost.
    told : callable
        Called after each commit.
    stop : threading.Event
        Once it is set, no further row is asked.
    between : tuple
        Keys: only the rows behind the first one, up to and with the second one.
    """

    def __init__(
        self,
        result: ResultTable,
        chat: ChatTogetherAI,
        batch_size: int,
        told: Callable[[Spent], None],
        stop: Event,
        *,
        between: tuple[Key | None, Key | None] = (None, None),
    ) -> None:
        self.result, self.chat, self.size, self.told, self.stop = result, chat, batch_size, told, stop
        self._between = between
        self.spent = Spent()
        self._under_way: dict[int, Key] = {}
        self._finished: list[tuple[Key, Answer]] = []
        self._suspects: list[tuple[Key, Answer]] = []

    def run(self) -> None:
        """Ask about every row that is missing.

        Raises
        ------
        TogetherAIRequestError
            Of a kind that no row is to blame for, or of more rows in a row than one can believe.
        TogetherAIBudgetExceededError
            The budget is spent. What was answered until then is committed, in both cases.
        """
        limit = min(self.size, self.chat._limit)
        try:
            for position, reply in self.chat.transport.request_each(self._calls(), limit, self._recovers):
                # One answer shows that what failed before was the rows' own fault.
                self._finished += self._suspects
                self._suspects.clear()
                self._finished.append((self._under_way.pop(position), self.result.task.read(reply.data)))
                if len(self._finished) >= self.size:
                    self._commit()
            self._finished += self._suspects
            self._suspects.clear()
        finally:
            self._commit()

    def _calls(self) -> Iterator[Call]:
        task, columns = self.result.task, self.result.task.prompt.columns()
        rows = self.result.source.rows(self.result.name, columns, self.size, *self._between)
        for position, (key, row) in enumerate(rows):
            if self.stop.is_set():
                return
            if len(self._under_way) + len(self._finished) + len(self._suspects) >= self.size:
                self._commit()
            self._under_way[position] = key
            yield self.chat._call(task.request(row))

    def _recovers(self, position: int, error: TogetherAIRequestError) -> bool:
        if isinstance(error, NOT_OF_ONE_REQUEST):
            return False
        failed = (self._under_way.pop(position), self.result.task.failed(str(error)))
        if not isinstance(error, _MAYBE_OF_ALL):
            self._finished.append(failed)
            return True
        self._suspects.append(failed)
        return len(self._suspects) <= min(_MOST_SUSPECTS, self.size)

    def _commit(self) -> None:
        finished, self._finished = self._finished, []
        if finished:
            self.result.write(finished)
            for _, answer in finished:
                self.spent.add(answer)
            self.told(self.spent)
