"""hana_ai's knowledge tables: entries of an id, a description that is embedded, and an example.

Everything that comes from a caller is bound, and names are quoted, whoever embeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connection, Cursor, all_rows
from hana_ai.api.storage.quoting import quoted

Entry = tuple[str, str, str | None]
"""Id, description, example."""

COLUMNS = ("id", "description", "example", "embeddings")
"""As hana_ai names them."""

_ORDER = {"COSINE_SIMILARITY": "DESC", "L2DISTANCE": "ASC"}
_FIELDS = COLUMNS[:3]


@dataclass(frozen=True)
class KnowledgeTable:
    """A table of four columns, in the order of `COLUMNS`."""

    schema: str
    name: str
    columns: Sequence[str] = COLUMNS

    @property
    def quoted_name(self) -> str:
        """The table, for SQL."""
        return f"{quoted(self.schema)}.{quoted(self.name)}" if self.schema else quoted(self.name)

    def write(self, cursor: Cursor, entries: Sequence[Sequence[object]], vector: str | None) -> None:
        """Insert entries or replace those with their id.

        Parameters
        ----------
        cursor : hdbcli.dbapi.Cursor
        entries : sequence of sequences
            Id, description, example, then the parameters of `vector`.
        vector : str or None
            The expression of a vector; None where the database computes the column.
        """
        names = self.columns[:3] if vector is None else self.columns[:4]
        values = ["?", "?", "?", *([] if vector is None else [vector])]
        cursor.executemany(
            f"UPSERT {self.quoted_name} ({', '.join(map(quoted, names))}) VALUES ({', '.join(values)}) "
            "WITH PRIMARY KEY",
            [tuple(entry) for entry in entries],
        )

    @staticmethod
    def check(top_n: object, distance: str) -> None:
        """Refuse what cannot be a search, before anything is embedded.

        Raises
        ------
        TogetherAIInputError
            There is no such distance, or `top_n` is below 1.
        """
        if distance.upper() not in _ORDER:
            raise TogetherAIInputError(f"distance is {distance!r}; it is cosine_similarity or l2distance.")
        if not isinstance(top_n, int) or top_n < 1:
            raise TogetherAIInputError(f"top_n is {top_n!r}; it must be a whole number above 0.")

    def closest(
        self, connection: Connection, vector: str, parameters: Sequence[object], top_n: int, distance: str
    ) -> list[tuple[str, float, str]]:
        """Example, distance and id of the `top_n` entries that are closest to a vector, an expression.

        Raises
        ------
        TogetherAIInputError
            There is no such distance, or `top_n` is below 1.
        """
        self.check(top_n, distance)
        function = distance.upper()
        name, _, example, vectors = map(quoted, self.columns[:4])
        rows = all_rows(
            connection,
            f'SELECT TOP {top_n} {example}, {function}({vectors}, {vector}) AS "DISTANCE", {name} '
            f'FROM {self.quoted_name} ORDER BY "DISTANCE" {_ORDER[function]}, {name}',
            tuple(parameters),
        )
        return [(row[0], row[1], row[2]) for row in rows]


class _Asked(Protocol):
    """What an engine keeps of its last answer."""

    current_query_distance: float | None
    current_query_rows: int | None
    model_type: str | None


def take_last(engine: _Asked, rows: Sequence[tuple[str, float, str]]) -> str | None:
    """The last row's example, with what hana_ai's engine keeps of it; None without rows."""
    engine.current_query_rows = len(rows)
    if not rows:
        engine.current_query_distance = engine.model_type = None
        return None
    example, engine.current_query_distance, engine.model_type = rows[-1]
    return example


def read_knowledge(knowledge: Any) -> list[Entry]:
    """Turn what `upsert_knowledge` takes into rows of id, description and example.

    Raises
    ------
    TogetherAIInputError
        An entry lacks a field.
    """
    if hasattr(knowledge, "to_dict") and hasattr(knowledge, "columns"):
        knowledge = knowledge.to_dict(orient="list")
    if isinstance(knowledge, Mapping):
        missing = [name for name in _FIELDS if name not in knowledge]
        if missing:
            raise TogetherAIInputError(f"The knowledge has no {' and no '.join(missing)}.")
        columns = [[value] if isinstance(value := knowledge[name], str) else list(value) for name in _FIELDS]
        if len({len(column) for column in columns}) > 1:
            raise TogetherAIInputError("The knowledge's id, description and example are not of the same length.")
        entries: Iterable[Any] = zip(*columns, strict=True)
    else:
        entries = (tuple(entry.get(name) for name in _FIELDS) for entry in knowledge)
    rows: list[Entry] = []
    for position, (name, description, example) in enumerate(entries):
        if name is None or not isinstance(description, str):
            raise TogetherAIInputError(f"The entry {position} of the knowledge has no id or no description.")
        rows.append((str(name), description, None if example is None else str(example)))
    return rows
