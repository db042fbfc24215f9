"""Vector tables in every state in which one may be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hdbcli import dbapi
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from hana_ai.api.hana import stamp_table
from hana_ai.api.hana.vector_column import packed
from tests.integration.hana.conftest import rows, run

OURS = "local/scripted-embedding"
SAP = "SAP_NEB.20240715"
THERE = ["The mill stands by the river.", "Trains are late in winter.", "Invoices are paid within thirty days."]
NEW = "Bees sleep in the hive."


@dataclass(frozen=True)
class Layout:
    """The columns that a door expects."""

    key: str
    text: str
    vector: str
    other: str

    def create(self, connection: dbapi.Connection, vector: str) -> None:
        run(
            connection,
            f'CREATE COLUMN TABLE "T" ({self.key}"{self.text}" NVARCHAR(5000), {self.other}, '
            f'"{self.vector}" {vector})',
        )


LANGCHAIN = Layout("", "VEC_TEXT", "VEC_VECTOR", "\"VEC_META\" NCLOB DEFAULT '{}'")
KNOWLEDGE = Layout(
    '"id" NVARCHAR(5000) DEFAULT SYSUUID PRIMARY KEY, ', "description", "embeddings", '"example" NCLOB'
)


def columns(layout: Layout) -> str:
    example = ', "example"' if layout is KNOWLEDGE else ""
    return f'"{layout.text}"{example}'


def values(layout: Layout, text: str) -> list[object]:
    return [text, text] if layout is KNOWLEDGE else [text]


def new(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
    pass


def empty(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
    layout.create(connection, "REAL_VECTOR(256)")


def written(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
    layout.create(connection, "REAL_VECTOR")
    for text, vector in zip(THERE, made.embed_documents(THERE), strict=True):
        given = values(layout, text)
        run(
            connection,
            f'INSERT INTO "T" ({columns(layout)}, "{layout.vector}") VALUES ({"?, " * len(given)}?)',
            *given,
            packed(vector, "REAL_VECTOR"),
        )


def stamped(model: str) -> Callable[[dbapi.Connection, Layout, Embeddings], None]:
    def make(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
        written(connection, layout, made)
        stamp_table(connection, "T", model, vector_column=layout.vector)

    return make


def generated(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
    layout.create(
        connection, f"REAL_VECTOR GENERATED ALWAYS AS VECTOR_EMBEDDING(\"{layout.text}\", 'DOCUMENT', '{SAP}')"
    )
    for text in THERE:
        given = values(layout, text)
        run(connection, f'INSERT INTO "T" ({columns(layout)}) VALUES ({", ".join("?" * len(given))})', *given)


def of_sap(purpose: str) -> Callable[[dbapi.Connection, Layout, Embeddings], None]:
    def make(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
        layout.create(connection, "REAL_VECTOR")
        for text in THERE:
            given = values(layout, text)
            run(
                connection,
                f'INSERT INTO "T" ({columns(layout)}, "{layout.vector}") '
                f"VALUES ({'?, ' * len(given)}VECTOR_EMBEDDING(?, '{purpose}', ?))",
                *given,
                text,
                SAP,
            )

    return make


def unknown(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
    written(connection, layout, DeterministicFakeEmbedding(size=256))


def mixed_with(vector: list[float]) -> Callable[[dbapi.Connection, Layout, Embeddings], None]:
    """SAP's rows, and one from somebody else."""

    def make(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
        of_sap("DOCUMENT")(connection, layout, made)
        given = values(layout, "mixed in")
        run(
            connection,
            f'INSERT INTO "T" ({columns(layout)}, "{layout.vector}") VALUES ({"?, " * len(given)}?)',
            *given,
            packed(vector, "REAL_VECTOR"),
        )

    return make


of_two_models = mixed_with(DeterministicFakeEmbedding(size=256).embed_query("mixed in"))
of_two_widths = mixed_with([0.5] * 8)


def stored(connection: dbapi.Connection, layout: Layout) -> list[tuple[Any, ...]]:
    return rows(connection, f'SELECT "{layout.text}", TO_NVARCHAR("{layout.vector}") FROM "T" ORDER BY 1')


def stamp(connection: dbapi.Connection, vector: str = "VEC_VECTOR", table: str = "T") -> str | None:
    found = rows(
        connection,
        "SELECT COMMENTS FROM SYS.TABLE_COLUMNS "
        "WHERE SCHEMA_NAME = CURRENT_SCHEMA AND TABLE_NAME = ? AND COLUMN_NAME = ?",
        table,
        vector,
    )
    comment: str | None = found[0][0]
    return comment and comment.removeprefix("[embedding model: ").removesuffix("]")
