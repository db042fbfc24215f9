"""What it costs to embed texts, told before they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from pydantic import SecretStr

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIError
from hana_ai.api.service import catalog_for
from hana_ai.api.wire.token_counts import Tokens

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from hana_ai.api.catalog.model_info import ModelInfo

CHARACTERS_IN_A_TOKEN = 4
"""In English prose; code and other languages have fewer. Only the server knows the tokens of a text."""


def estimated_tokens(characters: int) -> int:
    """About how many tokens a text has."""
    return -(-characters // CHARACTERS_IN_A_TOKEN)


def cost_of(embedding: Embeddings, tokens: int | None) -> Decimal | None:
    """USD for embedding so many tokens, by the catalogue's prices; None if the price is unknown.

    Only Together's models have a price here: what the database charges for its own is not known.
    """
    if tokens is None or not isinstance(embedding, TogetherAIEmbeddings):
        return None
    info = models_of(embedding).get(embedding.model or "")
    return None if info is None else info.cost_of(Tokens(prompt=tokens, completion=0))


def context_length_of(embedding: TogetherAIEmbeddings) -> int | None:
    """How many tokens a text for the object's model may have, by the catalogue; None if that is unknown."""
    try:
        info = models_of(embedding).get(embedding._resolve_model())
    except TogetherAIError:
        # The job itself says what is wrong with the model.
        return None
    return None if info is None else info.context_length


def models_of(embedding: TogetherAIEmbeddings) -> Mapping[str, ModelInfo]:
    """The catalogue at an object's address; empty if it cannot be read, since a price is no reason to fail."""
    key = embedding.api_key
    try:
        return catalog_for(
            str(embedding.base_url), key if isinstance(key, SecretStr) else SecretStr(str(key))
        ).models()
    except TogetherAIError:
        return {}
