"""langchain-tests' standard suite for embeddings, unit part, in full."""

from __future__ import annotations

from typing import Any

from langchain_tests.unit_tests import EmbeddingsUnitTests

from hana_ai.api.embeddings import TogetherAIEmbeddings


class TestStandardEmbeddings(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[TogetherAIEmbeddings]:
        return TogetherAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "some/embedding", "api_key": "a-key"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return (
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
