"""A vector table as a map of its documents: each a point in two dimensions, near those that are like it.

The vectors are projected on the two directions in which they differ most (principal components). Nothing is
embedded, and nothing leaves the database but the rows that are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connection, Context, all_rows, connection_of, only_row
from hana_ai.api.hana.tables import VectorTableInfo, find_table, text_column_of
from hana_ai.api.storage.quoting import quoted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

USUAL = 1_000
MOST = 5_000
"""More points hide each other, and take a browser long."""


@dataclass(frozen=True)
class TableDrawing:
    """A map of a vector table's documents; notebooks show it, and `html()` is a page of it."""

    table: VectorTableInfo
    documents: tuple[str, ...]
    """The texts of the rows that are drawn."""
    points: tuple[tuple[float, float], ...]
    """Where each document is; the larger of the map's sides goes from -1 to 1."""
    shares: tuple[float, float]
    """What part of the vectors' variance lies along each side, 0 to 1."""
    rows: int
    """Rows of the table that have a vector and a text, drawn or not."""

    def html(self) -> str:
        """The map as a page with a search, in one file that fetches nothing; it has the documents' texts."""
        from .drawn_page import drawn

        return drawn(self)

    def _repr_html_(self) -> str:
        from .drawn_page import framed

        return framed(self)


def draw_table(
    connection: Connection | Context,
    table: str,
    *,
    schema: str | None = None,
    vector_column: str | None = None,
    text_column: str | None = None,
    limit: int = USUAL,
) -> TableDrawing:
    """Draw a map of a vector table's documents.

    Parameters
    ----------
    connection : hdbcli.dbapi.Connection or hana_ml.ConnectionContext
    table : str
    schema, vector_column, text_column : str, optional
        Needed only where several could be meant.
    limit : int
        Documents, at most; of a larger table, rows at even distances are taken.

    Raises
    ------
    TogetherAIInputError
        There is no such table or column, it has no vectors, they have several widths, or the limit is not
        allowed.
    hdbcli.dbapi.Error
        The database refuses.

    Examples
    --------
    >>> from hana_ai.api.hana import draw_table
    >>> drawing = draw_table(connection, "MANUALS", limit=500)
    >>> len(drawing.points), drawing.rows, drawing.shares
    """
    if not 1 <= limit <= MOST:
        raise TogetherAIInputError(f"A map shows 1 to {MOST:,} documents, not {limit:,}.")
    connection = connection_of(connection)
    info = find_table(connection, table, schema, vector_column, text_column)
    if info.known == "mixed":
        raise TogetherAIInputError(
            f"{info.name} has vectors of {info.widths[0]} to {info.widths[1]} numbers, which no map can hold."
        )
    vectors, texts = quoted(info.vector_column), quoted(text_column_of(info))
    usable = f"FROM {info.name} WHERE {vectors} IS NOT NULL AND LENGTH({texts}) > 0"
    rows = int(only_row(connection, f"SELECT COUNT(*) {usable}")[0])
    if not rows:
        raise TogetherAIInputError(f"{info.name} has no row with both a vector and a text: nothing to draw.")
    numbered = f'SELECT {texts} AS "TEXT", {vectors} AS "VECTOR", ROW_NUMBER() OVER () AS "NUMBER" {usable}'
    # As text, whatever the connection makes of vectors.
    wanted = (
        f'SELECT TOP {limit} "TEXT", TO_NVARCHAR("VECTOR") FROM ({numbered}) '
        f'WHERE MOD("NUMBER" * {limit}, {rows}) < {limit}'
    )
    found = all_rows(connection, wanted)
    points, shares = projected([json.loads(str(vector)) for _, vector in found])
    return TableDrawing(info, tuple(str(text) for text, _ in found), points, shares, rows)


def projected(
    vectors: Sequence[Sequence[float]],
) -> tuple[tuple[tuple[float, float], ...], tuple[float, float]]:
    """Project vectors on their two principal components.

    Only their directions count, as for a cosine. The same vectors in another order come to lie at the same points.

    Parameters
    ----------
    vectors : sequence of sequences of float
        Shape ``(n, dims)``, n at least 1.

    Returns
    -------
    points : tuple
        Shape ``(n, 2)``: the longer side goes from -1 to 1, the other lies around 0; all 0 where all are alike.
    shares : tuple
        Of the variance, along each.
    """
    import numpy as np

    given = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(given, axis=1, keepdims=True)
    directions = np.divide(given, lengths, out=np.zeros_like(given), where=lengths > 0)
    centred = directions - directions.mean(axis=0)
    left, strengths, components = np.linalg.svd(centred, full_matrices=False)
    # Where vectors are all the same, what is left is rounding.
    strengths = np.where(strengths > 1e-9, strengths, 0.0)
    points = np.zeros((len(given), 2))
    shares = np.zeros(2)
    kept = min(2, len(strengths))
    points[:, :kept] = (left * strengths)[:, :kept] * _signs(components[:kept])
    if total := float((strengths**2).sum()):
        shares[:kept] = strengths[:kept] ** 2 / total
        lowest, highest = points.min(axis=0), points.max(axis=0)
        points = (points - (lowest + highest) / 2) / ((highest - lowest).max() / 2)
    first, second = shares.tolist()
    return tuple((float(x), float(y)) for x, y in points), (first, second)


def _signs(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which way each component points is arbitrary: its largest number becomes positive."""
    import numpy as np

    largest = np.abs(components).argmax(axis=1)
    return np.where(components[np.arange(len(components)), largest] < 0, -1.0, 1.0)
