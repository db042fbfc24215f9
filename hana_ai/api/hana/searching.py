"""Answering from a vector table: the model that made it searches it, and what is found precedes the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, SystemMessage

from hana_ai.api.errors import TogetherAIInputError

if TYPE_CHECKING:
    from langchain_core.documents import Document

_PASSAGES = """Answer from the passages below alone, and name the numbers of those that you used, such as [1].
If the answer is not in them, say so.

{passages}"""

Found = Sequence[tuple["Document", float]]
"""Passages and how near each is."""


def searcher(connection: Any, table: str, schema: str | None, k: int) -> Callable[[str], Found]:
    """Give what searches a vector table by the model that made its vectors.

    Parameters
    ----------
    connection : hdbcli.dbapi.Connection
    table : str
    schema : str, optional
        None is HANA_SCHEMA, else the user's own.
    k : int
        Passages, at most.

    Raises
    ------
    TogetherAIInputError
        There is no such table, or it is not recorded which model made its vectors.
    """
    from hana_ai.api.hana.embedding import embedding_named
    from hana_ai.api.hana.tables import find_table, text_column_of
    from hana_ai.api.hana.vector_store import TogetherHanaDB

    info = find_table(connection, table, schema, None)
    if info.model is None:
        raise TogetherAIInputError(
            f"It is not recorded which model made the vectors of {info.name}. "
            f"Find out: hana-ai-together tables check {info.table}"
        )
    store = TogetherHanaDB(
        connection,
        embedding_named(info.model),
        table_name=info.table,
        schema_name=info.schema,
        content_column=text_column_of(info),
        vector_column=info.vector_column,
    )
    return lambda question: store.similarity_search_with_score(question, k=k)


def with_passages(history: Sequence[BaseMessage], found: Found) -> list[BaseMessage]:
    """Append what was found to the messages that come before a question."""
    if not found:
        return list(history)
    passages = "\n\n".join(f"[{rank}] {passage.page_content}" for rank, (passage, _) in enumerate(found, 1))
    return [*history, SystemMessage(_PASSAGES.format(passages=passages))]


def source_lines(found: Found, width: int = 160) -> list[str]:
    """What was found, in a line each: number, source, similarity and the beginning of the text."""
    lines = []
    for rank, (passage, score) in enumerate(found, 1):
        source = passage.metadata.get("source") or passage.id or ""
        lines.append(f"[{rank}] {source} ({score:.2f}) {' '.join(passage.page_content.split())[:width]}")
    return lines
