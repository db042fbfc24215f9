"""The options of `hana-ai-together ingest`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

_Flag = Annotated[bool, Parameter(negative=())]
_Columns = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]


@dataclass(frozen=True)
class IngestArguments:
    """How documents become rows."""

    sync: _Flag = False
    """Remove the rows of documents that the source has no more."""
    dry_run: _Flag = False
    """Tell documents, tokens, cost and time; nothing is written."""
    hnsw: _Flag = False
    """Make a vector index at the end."""
    retry_failed: _Flag = False
    """Try documents again that could not be embedded in an earlier run."""
    text: _Columns = ()
    """Column of a table that is embedded; may be repeated."""
    key: _Columns = ()
    """Column that names a row; default: the primary key. May be repeated."""
    metadata: _Columns = ()
    """Column that is kept beside the text; may be repeated."""
    name: str | None = None
    """Under which the source's rows are known in the table; default: its path or table."""
    model: str | None = None
    """Default: TOGETHER_DEFAULT_EMBEDDING_MODEL."""
    chunk_tokens: int | None = None
    """Tokens in a chunk; default: 400, or as many as the model takes."""
    overlap_tokens: int | None = None
    """Tokens that a chunk shares with the one before; default: a tenth."""
    half: _Flag = False
    """Make a column of HALF_VECTOR, which takes half of the memory."""
    writers: int = 2
    """Connections that write at the same time."""
    window: int | None = None
    """Most texts that are sent, but not written yet; default: 4096."""
    schema: str | None = None
    """Default: HANA_SCHEMA, else the user's own."""
    engine: Literal["local", "ray"] = "local"
    """Where it is done: in this process, or by workers of a Ray cluster."""
    workers: int | None = None
    """Workers of the Ray cluster; default: one for each CPU."""
