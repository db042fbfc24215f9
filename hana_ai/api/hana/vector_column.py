"""A vector column, and the rule that it keeps to one embedding model.

The model's name is kept in the column's comment, so that it survives when the table is renamed or exported. The
rest of the comment stays as it is.
"""

from __future__ import annotations

import re
import shlex
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connection, first_row, only_row
from hana_ai.api.storage.quoting import quoted

_RECORD = re.compile(r"\[embedding model: ([^\[\]]+)\]")
_GENERATED_BY = re.compile(r"VECTOR_EMBEDDING\s*\(.*,\s*'(?:DOCUMENT|QUERY)'\s*,\s*'([^']+)'", re.I | re.S)


@dataclass(frozen=True)
class VectorColumn:
    """A vector column as the database describes it."""

    schema: str
    """Empty is the connection's current schema."""
    table: str
    column: str
    type: str
    """REAL_VECTOR or HALF_VECTOR."""
    width: int
    """Numbers in a vector: declared or found in a row; 0 is any."""
    comment: str = ""
    generated: str = ""
    """The expression from which the database itself makes the vectors; empty if clients write them."""

    @property
    def model(self) -> str | None:
        """The embedding model that makes the column's vectors; None if it is not recorded."""
        found = _GENERATED_BY.search(self.generated) if self.generated else _RECORD.search(self.comment)
        return found[1] if found else None

    def without_model(self) -> VectorColumn:
        """The column without the record of its model."""
        return replace(self, comment=_RECORD.sub("", self.comment).strip())

    @property
    def table_name(self) -> str:
        """The table, for SQL."""
        return ".".join(quoted(part) for part in (self.schema, self.table) if part)

    @property
    def name(self) -> str:
        """The column, for people and for SQL."""
        return ".".join(quoted(part) for part in (self.schema, self.table, self.column) if part)

    def check_model(self, model: str) -> None:
        """Refuse any model but the one that wrote the column.

        Raises
        ------
        TogetherAIInputError
            It is another model; the message names both, and two ways out.
        """
        if self.model is not None and self.model != model:
            raise TogetherAIInputError(
                f"{self.name} holds vectors of {self.model}, but {model} would embed now; vectors of two models "
                f"cannot be compared. {self._ways_out(self.model)}"
            )

    def check_width(self, width: int, model: str) -> None:
        """Refuse vectors that the column cannot take.

        Raises
        ------
        TogetherAIInputError
            They have another width; the message names both, and two ways out.
        """
        if self.width not in (0, width):
            raise TogetherAIInputError(
                f"{self.name} is a {self.type}({self.width}), but {model} makes vectors of {width} numbers. "
                f"{self._ways_out(self.model)}"
            )

    def _ways_out(self, model: str | None) -> str:
        if model is None:
            stay = (
                'Either embed with the model that wrote the table (if that is SAP\'s: embedding="hana", or '
                "TOGETHER_ROUTE_EMBEDDINGS=off for the toolkit's own classes)"
            )
        elif model.startswith("SAP_"):
            stay = (
                'Either stay with it (embedding="hana" embeds in the database; TOGETHER_ROUTE_EMBEDDINGS=off for '
                "the toolkit's own classes)"
            )
        else:
            stay = f"Either stay with it (model={model!r} or TOGETHER_DEFAULT_EMBEDDING_MODEL={model})"
        return f"{stay}, or embed the texts again into a new table: {self.command('migrate')}"

    def command(self, action: str) -> str:
        """What to type to check or migrate the table."""
        words = ["hana-ai-together", "tables", action, self.table]
        if self.schema:
            words += ["--schema", self.schema]
        return shlex.join(words)


def read_vector_column(connection: Connection, schema: str, table: str, column: str) -> VectorColumn | None:
    """Read a vector column's description; None if there is no column of this name.

    Raises
    ------
    TogetherAIInputError
        It is not a vector column.
    """
    row = read_column(connection, schema, table, column)
    if row is None:
        return None
    type_name, width, comment, generated = row
    if type_name not in ("REAL_VECTOR", "HALF_VECTOR"):
        raise TogetherAIInputError(
            f"{quoted(table)}.{quoted(column)} is a {type_name}, not a REAL_VECTOR or HALF_VECTOR. Name the "
            "vector column with vector_column=..., or take another table."
        )
    found = VectorColumn(schema, table, column, type_name, max(width, 0), comment or "", generated or "")
    if found.width == 0 and not found.generated:
        # Its rows tell which width it must keep.
        found = replace(found, width=_width_in_use(connection, found))
    return found


def _width_in_use(connection: Connection, column: VectorColumn) -> int:
    name = quoted(column.column)
    width = f"SELECT TOP 1 CARDINALITY({name}) FROM {column.table_name} WHERE {name} IS NOT NULL"
    row = first_row(connection, width)
    return int(row[0]) if row else 0


def read_column(
    connection: Connection, schema: str, table: str, column: str
) -> tuple[str, int, str | None, str | None] | None:
    """Type, length, comment and generating expression of a column; None if there is none of this name."""
    condition, parameters = in_schema(schema)
    row = first_row(
        connection,
        "SELECT DATA_TYPE_NAME, LENGTH, COMMENTS, GENERATED_ALWAYS_AS FROM SYS.TABLE_COLUMNS "
        f"WHERE {condition} AND TABLE_NAME = ? AND COLUMN_NAME = ?",
        (*parameters, table, column),
    )
    return None if row is None else (str(row[0]), int(row[1] or 0), row[2], row[3])


def has_table(connection: Connection, schema: str, table: str) -> bool:
    """Whether there is a table of this name."""
    condition, parameters = in_schema(schema)
    counted = f"SELECT COUNT(*) FROM SYS.TABLES WHERE {condition} AND TABLE_NAME = ?"
    return bool(only_row(connection, counted, (*parameters, table))[0])


def in_schema(schema: str) -> tuple[str, tuple[str, ...]]:
    """A condition on SCHEMA_NAME with its parameters; an empty name means the current schema."""
    return ("SCHEMA_NAME = ?", (schema,)) if schema else ("SCHEMA_NAME = CURRENT_SCHEMA", ())


def record(model: str, comment: str = "") -> str:
    """A comment with the model's name added."""
    return f"{comment} [embedding model: {recorded_name(model)}]".strip()


def recorded_name(model: str) -> str:
    """A model's name as it is recorded: printable ASCII without brackets."""
    return re.sub(r"[^ -~]|[][]", "_", model)


def packed(vector: Sequence[float], type: str) -> bytes:
    """A vector as hdbcli binds it to a column of this type: its width, then the numbers."""
    return _layout(len(vector), type).pack(len(vector), *vector)


@dataclass(frozen=True)
class Packing:
    """Vectors as hdbcli binds them to a column of a type.

    Raises
    ------
    OverflowError
        A number is too large for the type.
    """

    type: str

    def __call__(self, vector: Sequence[float]) -> bytes:
        """One vector, as `packed`."""
        return packed(vector, self.type)

    def blocks(self, vectors: Sequence[memoryview[float]]) -> list[bytes]:
        """Vectors that are blocks of 64-bit floats, rounded by numpy without a Python float for each number."""
        import numpy as np

        kind = np.dtype("<f2" if self.type == "HALF_VECTOR" else "<f4")
        packed, width, block = [], 0, bytearray()
        try:
            with np.errstate(over="raise"):
                for vector in vectors:
                    if len(vector) != width:
                        width = len(vector)
                        block = bytearray(width.to_bytes(4, "little") + bytes(width * kind.itemsize))
                        numbers = np.frombuffer(block, kind, offset=4)
                    # numpy's stubs know no memoryview of floats.
                    numbers[:] = np.frombuffer(vector)  # type: ignore[arg-type]
                    packed.append(bytes(block))
        except FloatingPointError as exc:
            raise OverflowError(f"a number is too large for a {self.type}") from exc
        return packed


@lru_cache(maxsize=16)
def _layout(width: int, type: str) -> struct.Struct:
    return struct.Struct(f"<I{width}{'e' if type == 'HALF_VECTOR' else 'f'}")
