"""The table that a map fills: made by one statement, with a comment that says which task it belongs to."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connection, all_rows, execute, only_row, transaction
from hana_ai.api.hana.mapping.source import Source
from hana_ai.api.hana.mapping.stages import LONGEST_ERROR, Answer, Key, RowTask
from hana_ai.api.hana.table_copy import read_layout, table_comment
from hana_ai.api.storage.quoting import literal, quoted
from hana_ai.api.wire.token_counts import Tokens

ERROR, PROMPT_TOKENS, COMPLETION_TOKENS = "ERROR", "PROMPT_TOKENS", "COMPLETION_TOKENS"
_OWN = {
    ERROR: f"NVARCHAR({LONGEST_ERROR})",
    PROMPT_TOKENS: "INTEGER",
    COMPLETION_TOKENS: "INTEGER",
}
_MARK = re.compile(r"\[mapped by ([^\[\]]+), task ([0-9a-f]+)\]$")


@dataclass(frozen=True)
class ResultTable:
    """A table of keys, answers, errors and tokens."""

    connection: Connection
    schema: str
    table: str
    source: Source
    task: RowTask

    @property
    def name(self) -> str:
        """The table, for people and for SQL."""
        return f"{quoted(self.schema)}.{quoted(self.table)}"

    @property
    def _columns(self) -> dict[str, str]:
        keys = dict(zip(self.source.key, self.source.key_types, strict=True))
        return {**keys, **{column.name: column.declared for column in self.task.shape.columns}, **_OWN}

    def over(self, connection: Connection | None) -> ResultTable:
        """The same one over another connection; None for one that is pickled."""
        given = cast("Connection", connection)
        return replace(self, connection=given, source=replace(self.source, connection=given))

    def check(self) -> bool:
        """Whether the table is there; refuses one that this task can't fill.

        Raises
        ------
        TogetherAIInputError
            Another program or another task filled it, or a column of the answers has the name of another one.
        """
        names = [*self.source.key, *(column.name for column in self.task.shape.columns), *_OWN]
        for name in names:
            if names.count(name) > 1:
                raise TogetherAIInputError(
                    f"The result would have two columns {name}. Give the field of the shape another name."
                )
        layout = read_layout(self.connection, self.schema, self.table)
        if layout is None:
            return False
        there = [column.name for column in layout.columns]
        if there != names or layout.key != self.source.key:
            raise TogetherAIInputError(
                f"There is a table {self.name} of another shape: it has {', '.join(there)}, and the answers need "
                f"{', '.join(names)}. Name another result, or drop it."
            )
        mark = _MARK.search(layout.comment)
        if mark is None:
            raise TogetherAIInputError(f"There is a table {self.name} that no map has made. Name another result.")
        if (mark[1], mark[2]) != (self.task.model, self.task.digest):
            what = f"by {mark[1]}" if mark[1] != self.task.model else "with another prompt, shape or parameters"
            raise TogetherAIInputError(
                f"{self.name} was filled {what}, so its rows would not be alike. Go on as it was begun, name "
                "another result, or drop it."
            )
        return True

    def create(self) -> None:
        """Make the table."""
        columns = [
            f"{quoted(name)} {kind}" + (" NOT NULL" if name in self.source.key else "")
            for name, kind in self._columns.items()
        ]
        key = ", ".join(map(quoted, self.source.key))
        comment = f"[mapped by {self.task.model}, task {self.task.digest}]"
        execute(
            self.connection,
            f"CREATE COLUMN TABLE {self.name} ({', '.join(columns)}, PRIMARY KEY ({key})) "
            f"COMMENT {literal(comment)}",
        )

    def write(self, answers: Sequence[tuple[Key, Answer]]) -> None:
        """Add rows, and commit them together."""
        if not answers:
            return
        marks = ", ".join("?" * len(self._columns))
        with transaction(self.connection) as cursor:
            cursor.executemany(
                f"INSERT INTO {self.name} VALUES ({marks})",
                [
                    (*key, *answer.values, answer.error, answer.tokens.prompt, answer.tokens.completion)
                    for key, answer in answers
                ],
            )

    def forget_errors(self) -> None:
        """Delete the rows that failed, so that they are asked again."""
        with transaction(self.connection) as cursor:
            cursor.execute(f"DELETE FROM {self.name} WHERE {quoted(ERROR)} IS NOT NULL")

    def counts(self) -> tuple[int, int]:
        """How many rows there are, and how many of them failed."""
        rows, failed = only_row(self.connection, f"SELECT COUNT(*), COUNT({quoted(ERROR)}) FROM {self.name}")
        return int(rows), int(failed)


@dataclass
class Spent:
    """What the answers of a run took."""

    asked: int = 0
    prompt: int | None = 0
    completion: int | None = 0
    cached: int = 0

    def add(self, answer: Answer) -> None:
        """Count an answer; a request that failed took nothing."""
        self.asked += 1
        tokens = answer.tokens
        if answer.error is not None and tokens.prompt is None:
            return
        self.prompt = None if self.prompt is None or tokens.prompt is None else self.prompt + tokens.prompt
        self.completion = (
            None if self.completion is None or tokens.completion is None else self.completion + tokens.completion
        )
        self.cached += tokens.cached or 0

    @property
    def tokens(self) -> Tokens:
        """The sum; None where a reply had no counts."""
        return Tokens(self.prompt, self.completion, self.cached)

    @property
    def total(self) -> int | None:
        """Prompt and completion together."""
        return self.tokens.total


@dataclass(frozen=True)
class Part:
    """Rows that are a batch, or several where they do not fit one."""

    number: int
    first: Key
    last: Key
    lines: int
    batches: tuple[str, ...]
    """Their ids; empty before they are submitted."""


class PartTable:
    """The parts of a map in batches: written before they are submitted, gone when all are read."""

    def __init__(self, result: ResultTable) -> None:
        self._connection = result.connection
        self._schema, self._table = result.schema, f"{result.table}_BATCHES"
        self.name = f"{quoted(self._schema)}.{quoted(self._table)}"

    def is_there(self) -> bool:
        """Whether parts are under way."""
        return table_comment(self._connection, self._schema, self._table) is not None

    def create(self) -> None:
        """Make the table."""
        execute(
            self._connection,
            f'CREATE COLUMN TABLE {self.name} ("NUMBER" INTEGER PRIMARY KEY, "FIRST_KEY" NCLOB, '
            '"LAST_KEY" NCLOB, "LINES" INTEGER, "BATCHES" NCLOB, "DONE" BOOLEAN)',
        )

    def parts(self) -> list[tuple[Part, bool]]:
        """All parts, and whether their results have been read."""
        rows = all_rows(
            self._connection,
            f'SELECT "NUMBER", "FIRST_KEY", "LAST_KEY", "LINES", "BATCHES", "DONE" FROM {self.name} '
            'ORDER BY "NUMBER"',
        )
        return [
            (
                Part(int(row[0]), _loaded(row[1]), _loaded(row[2]), int(row[3]), tuple(json.loads(str(row[4])))),
                bool(row[5]),
            )
            for row in rows
        ]

    def add(self, part: Part) -> None:
        """Note a part before it is submitted."""
        with transaction(self._connection) as cursor:
            cursor.execute(
                f"INSERT INTO {self.name} VALUES (?, ?, ?, ?, ?, FALSE)",
                (part.number, _dumped(part.first), _dumped(part.last), part.lines, json.dumps(part.batches)),
            )

    def submitted(self, number: int, batches: Sequence[str]) -> None:
        """Note which batches a part is."""
        with transaction(self._connection) as cursor:
            cursor.execute(
                f'UPDATE {self.name} SET "BATCHES" = ? WHERE "NUMBER" = ?', (json.dumps(list(batches)), number)
            )

    def done(self, number: int) -> None:
        """Note that a part's results are in the result table."""
        with transaction(self._connection) as cursor:
            cursor.execute(f'UPDATE {self.name} SET "DONE" = TRUE WHERE "NUMBER" = ?', (number,))

    def drop(self) -> None:
        """Forget all parts."""
        execute(self._connection, f"DROP TABLE {self.name}")


def _dumped(key: Key) -> str:
    return json.dumps([part if isinstance(part, (int, str)) else str(part) for part in key])


def _loaded(text: object) -> Key:
    # HANA takes the text of a moment or of a decimal where it compares one with them.
    return tuple(json.loads(str(text)))
