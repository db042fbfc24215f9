"""What embeds for a vector table: Together's model, the database's, or any of LangChain's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from langchain_core.embeddings import Embeddings

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.vector_column import recorded_name

IN_DATABASE_MODEL = "SAP_NEB.20240715"
"""SAP's embedding model that hana_ai and langchain_hana use unless another is named."""

_OF_DIMENSIONS = re.compile(r"(.+) \(dimensions=([0-9]+)\)")


def embedding_from(embedding: Embeddings | str | None) -> Embeddings:
    """What embeds; a string names a model in the database.

    Raises
    ------
    TogetherAIInputError
        The string is neither "hana" nor "hana:NAME".
    """
    if embedding is None:
        from hana_ai.api.embeddings import TogetherAIEmbeddings

        return TogetherAIEmbeddings()
    if not isinstance(embedding, str):
        return embedding
    from langchain_hana import HanaInternalEmbeddings

    where, _, name = embedding.partition(":")
    if where != "hana":
        raise TogetherAIInputError(
            f'embedding is {embedding!r}; as a string it must be "hana" or "hana:NAME" with the name of one of '
            "SAP's models."
        )
    return HanaInternalEmbeddings(name or IN_DATABASE_MODEL)


def embedding_named(name: str) -> Embeddings:
    """Together's model, or one in the database, of a name as it is recorded."""
    if name.startswith("SAP_"):
        return embedding_from(f"hana:{name}")
    from hana_ai.api.embeddings import TogetherAIEmbeddings

    model, dimensions = model_and_dimensions(name)
    return TogetherAIEmbeddings(model=model, dimensions=dimensions)


def model_and_dimensions(name: str) -> tuple[str, int | None]:
    """The two parts of a name as `model_name` records it."""
    found = _OF_DIMENSIONS.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


def model_name(embedding: Embeddings) -> str:
    """The name under which a model is recorded.

    It is looked up in the attributes that LangChain's classes use; without one, the class name stands in.
    """
    resolve = getattr(embedding, "_resolve_model", None)
    name = resolve() if callable(resolve) else None
    for attribute in ("model", "model_name", "model_id", "model_version"):
        if not isinstance(name, str) or not name:
            name = getattr(embedding, attribute, None)
    if not isinstance(name, str) or not name:
        name = type(embedding).__name__
    dimensions = getattr(embedding, "dimensions", None)
    name = f"{name} (dimensions={dimensions})" if isinstance(dimensions, int) else name
    return recorded_name(name)


def width_of_model(embedding: Embeddings) -> int:
    """How many numbers the model's vectors have; it is asked where it does not say."""
    known = getattr(embedding, "dimension", None)
    return known if isinstance(known, int) else len(embedding.embed_query("dimension"))


def width_of(vectors: Sequence[Sequence[float]]) -> int:
    """The width that all vectors share.

    Raises
    ------
    TogetherAIInputError
        They do not.
    """
    widths = {len(vector) for vector in vectors}
    if len(widths) > 1:
        raise TogetherAIInputError(f"The vectors differ in width: {sorted(widths)}.")
    return widths.pop() if widths else 0
