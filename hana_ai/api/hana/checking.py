"""Asking a table's vectors which model made them: in the database, and on consent at Together as well."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import mul
from typing import TYPE_CHECKING

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIRequestError
from hana_ai.api.hana.connections import Connection, Context, all_rows, connection_of
from hana_ai.api.hana.costs import cost_of, estimated_tokens, models_of
from hana_ai.api.hana.embedding import embedding_named, model_name
from hana_ai.api.hana.ownership import SAME, ask, samples
from hana_ai.api.hana.tables import VectorTableInfo, find_table, text_column_of, vector_column_of

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings


@dataclass(frozen=True)
class TableCheck:
    """What a table's vectors say."""

    table: VectorTableInfo
    owner: str | None
    """The model that makes the stored vectors of the texts; None if none that was asked does."""
    answers: tuple[str, ...]
    """What every model answered."""
    models: tuple[str, ...]
    """Together's models that were asked, or would be."""
    texts: int
    """Different texts that each of these models gets: at most three."""
    tokens: int | None
    """Tokens of these texts for all these models together, about; None if there is no such model."""
    cost_usd: Decimal | None
    """What that costs; None if a price is unknown."""
    sent: int
    """Texts that were sent, counted once for each model; 0 without consent."""

    @property
    def agrees(self) -> bool:
        """Whether the model that was found is the recorded one."""
        return self.owner is not None and self.owner == self.table.model


def check_table(
    connection: Connection | Context,
    table: str,
    *,
    schema: str | None = None,
    vector_column: str | None = None,
    text_column: str | None = None,
    together: bool | str = False,
    embedding: Embeddings | None = None,
    consent: bool = False,
) -> TableCheck:
    """Find out which model made a table's vectors, by embedding up to three of its texts again.

    The database's own models are asked first, inside it. Only if none of them made the vectors, and only with
    `consent`, are the texts sent to the models that `together` or `embedding` name. Nothing is written: to record
    what was found, use `stamp_table`.

    Parameters
    ----------
    connection : hdbcli.dbapi.Connection or hana_ml.ConnectionContext
    table : str
    schema, vector_column, text_column : str, optional
        Needed only where several could be meant.
    together : bool or str
        Name of a model of Together's; True means the recorded one, else each embedding model of the catalogue.
    embedding : langchain_core.embeddings.Embeddings, optional
        Another model to ask, instead of `together`.
    consent : bool
        Send the texts. Without it, the result says how many texts would be sent, to which models, and what that
        would cost.

    Raises
    ------
    TogetherAIInputError
        There is no such table or column, or a column must be named.
    TogetherAISettingsError
        Together's models are to be asked, and there is no key.
    hdbcli.dbapi.Error
        The database refuses.

    Examples
    --------
    >>> from hana_ai.api.hana import check_table
    >>> found = check_table(connection, "MANUALS", together=True, consent=True)
    >>> found.owner, found.sent, found.cost_usd
    """
    connection = connection_of(connection)
    info = find_table(connection, table, schema, vector_column, text_column)
    candidates = list(_candidates(info, together, embedding))
    if info.known == "generated":
        return _report(info, info.model, ("The database makes these vectors itself.",), candidates, [])
    if info.known == "mixed":
        several = (
            f"There are vectors of {info.widths[0]} to {info.widths[1]} numbers, so several models made them."
        )
        return _report(info, None, (several,), candidates, [])
    if not info.vectors:
        return _report(info, info.model, ("There are no vectors.",), candidates, [])
    column = vector_column_of(info)
    answer = ask(connection, column, text_column_of(info), info.model or "")
    if answer.owner is not None:
        said = f"{answer.owner} made them all."
        return _report(info, answer.owner, (*answer.others, said), candidates, [])
    rows = _samples(connection, info)
    if not consent or not rows:
        return _report(info, None, answer.others, candidates, rows)
    answers, sent = list(answer.others), 0
    owner: str | None = None
    for candidate in candidates:
        same, said, texts = _compare(candidate, rows)
        answers.append(said)
        sent += texts
        if same:
            owner = model_name(candidate)
            break
    return _report(info, owner, tuple(answers), candidates, rows, sent=sent)


def _candidates(info: VectorTableInfo, together: bool | str, embedding: Embeddings | None) -> Iterator[Embeddings]:
    if embedding is not None:
        yield embedding
        return
    if isinstance(together, str):
        yield embedding_named(together)
        return
    if not together:
        return
    if info.model is not None and not info.model.startswith("SAP_"):
        yield embedding_named(info.model)
        return
    models = models_of(TogetherAIEmbeddings()).values()
    for name in sorted(model.id for model in models if "embedding" in model.kinds):
        yield embedding_named(name)


def _samples(connection: Connection, info: VectorTableInfo) -> list[tuple[str, list[float]]]:
    """Up to three texts with their vectors, each text once."""
    found: dict[str, list[float]] = {}
    for rows in samples(vector_column_of(info), text_column_of(info)):
        # As text, whatever the connection makes of vectors.
        for text, vector in all_rows(connection, f'SELECT "TEXT", TO_NVARCHAR("VECTOR") FROM ({rows})'):
            if str(text).strip():
                found.setdefault(str(text), [float(number) for number in json.loads(str(vector))])
    return list(found.items())


def _compare(embedding: Embeddings, rows: Sequence[tuple[str, list[float]]]) -> tuple[bool, str, int]:
    """Whether a model made the vectors, what to say about it, and how many texts were sent."""
    name = model_name(embedding)
    texts = [text for text, _ in rows]
    stored = [vector for _, vector in rows]
    try:
        made = embedding.embed_documents(texts)
    except TogetherAIRequestError as exc:
        return False, f"{name} cannot be asked ({exc})", len(texts)
    if len(made[0]) != len(stored[0]):
        return False, f"{name} makes vectors of {len(made[0])} numbers", len(texts)
    same = [cosine(one, other) > SAME for one, other in zip(made, stored, strict=True)]
    said = "all" if all(same) else "only some" if any(same) else "none"
    return all(same), f"{name} made {said} of them", len(texts)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of two vectors of the same width; 0 if one of them has no direction."""
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(map(mul, one, other)) / lengths if lengths else 0.0


def _report(
    info: VectorTableInfo,
    owner: str | None,
    answers: tuple[str, ...],
    candidates: Sequence[Embeddings],
    rows: Sequence[tuple[str, list[float]]],
    *,
    sent: int = 0,
) -> TableCheck:
    each = estimated_tokens(sum(len(text) for text, _ in rows))
    asked = candidates if rows else ()
    costs = [cost_of(candidate, each) for candidate in asked]
    known = [cost for cost in costs if cost is not None]
    return TableCheck(
        table=info,
        owner=owner,
        answers=answers,
        models=tuple(model_name(candidate) for candidate in asked),
        texts=len(rows),
        tokens=each * len(asked) if asked else None,
        cost_usd=sum(known, Decimal(0)) if asked and len(known) == len(costs) else None,
        sent=sent,
    )
