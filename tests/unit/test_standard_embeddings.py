"""langchain-tests' standard suite for embeddings, unit part, in full."""

from __future__ import annotations

from typing import Any, ClassVar

from langchain_tests.unit_tests import EmbeddingsUnitTests

from hana_ai.api.embeddings import TogetherAIEmbeddings


class TestStandardEmbeddings(EmbeddingsUnitTests):
    embeddings_class = TogetherAIEmbeddings
    embedding_model_params: ClassVar[dict[str, Any]] = {"model": "some/embedding", "api_key": "a-key"}

    init_from_env_params: ClassVar[tuple[dict[str, str], dict[str, Any], dict[str, Any]]] = (
        {
            "TOGETHER_API_KEY": "a-key",
            "TOGETHER_BASE_URL": "https://gateway.example/v1",
            "TOGETHER_DEFAULT_EMBEDDING_MODEL": "some/embedding",
            "TOGETHER_EMBEDDING_BATCH_SIZE": "32",
        },
        {},
        {
            "api_key": "a-key",
            "base_url": "https://gateway.example",
            "model": "some/embedding",
            "batch_size": 32,
        },
    )
