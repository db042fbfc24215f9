"""What SAP's packages bind, imported before anything is activated, as a notebook may have done."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from gen_ai_hub.proxy.langchain import init_embedding_model, init_llm
    from hana_ai.vectorstore.embedding_service import (
        GenAIHubEmbeddings,
        HANAVectorEmbeddings,
        PALModelEmbeddings,
    )
    from hana_ai.vectorstore.pal_cross_encoder import PALCrossEncoder

__all__ = [
    "ASKED_FOR_CREDENTIALS",
    "Context",
    "GenAIHubEmbeddings",
    "HANAVectorEmbeddings",
    "NoDatabase",
    "PALCrossEncoder",
    "PALModelEmbeddings",
    "init_embedding_model",
    "init_llm",
]

ASKED_FOR_CREDENTIALS = pytest.raises(Exception, match=r"(?i)credential|base_url|auth|AICORE")
"""SAP's SDK goes on to ask for credentials of AI Core."""


class NoDatabase(Exception):
    """What the toolkit does itself ends here."""


class Context:
    """In the place of a connection: whoever asks the database is found out."""

    def __getattr__(self, name: str) -> Any:
        raise NoDatabase(name)
