"""langchain-tests' standard suite for embeddings, integration part, in full."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests

from hana_ai.api.embeddings import TogetherAIEmbeddings
from tests.conftest import ScriptedTogether


class TestStandardEmbeddings(EmbeddingsIntegrationTests):
    embeddings_class = TogetherAIEmbeddings

    @pytest.fixture(autouse=True)
    def server(self, together: ScriptedTogether) -> None:
        self.together = together

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": self.together.model("embedding"), **self.together.client}
