"""What stays the toolkit's or SAP's own, whatever the settings say, and why: for `status()` alone."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from hana_ai.api.routing.seams import SeamStatus, has_module, version_of


@dataclass(frozen=True)
class Staying:
    """A place that embeds, reranks or asks a model, and is not routed."""

    name: str
    module: str
    distribution: str
    reason: str

    def status(self) -> SeamStatus | None:
        """What `status()` says of it; None where this version of the distribution does not have it."""
        version = version_of(self.distribution)
        if version is None:
            return SeamStatus(self.name, self.module, self.distribution, None, "not installed")
        if not has_module(self.module):
            return None
        return SeamStatus(self.name, self.module, self.distribution, version, "stays", self.reason)


_ITS_OWN_PROTOCOL = "speaks its vendor's own protocol to AI Core; init_llm and the LangChain classes are routed"

STAYING = (
    Staying(
        "Language models of the toolkit's agents",
        "hana_ai",
        "hana-ai",
        "hana_ai makes none: it asks the one that the program brings, which is routed where GenAI Hub makes it",
    ),
    Staying(
        "FAISS of HANAMLRAGAgent",
        "langchain_community.vectorstores.faiss",
        "langchain-community",
        "a local file, which embeds with the agent's embedding service",
    ),
    Staying(
        "SQL procedures of hana_ai.retrieval",
        "hana_ai.retrieval",
        "hana-ai",
        "their agent runs inside the database, and asks its model through a remote source",
    ),
    Staying("GenAI Hub's native OpenAI", "gen_ai_hub.proxy.native.openai", "sap-ai-sdk-gen", _ITS_OWN_PROTOCOL),
    Staying("GenAI Hub's native Amazon", "gen_ai_hub.proxy.native.amazon", "sap-ai-sdk-gen", _ITS_OWN_PROTOCOL),
    Staying(
        "GenAI Hub's native Google", "gen_ai_hub.proxy.native.google_genai", "sap-ai-sdk-gen", _ITS_OWN_PROTOCOL
    ),
    Staying(
        "GenAI Hub's orchestration",
        "gen_ai_hub.orchestration",
        "sap-ai-sdk-gen",
        "templates, filters and masking run in AI Core, together with the model",
    ),
    Staying(
        "GenAI Hub's orchestration, version 2",
        "gen_ai_hub.orchestration_v2",
        "sap-ai-sdk-gen",
        "templates, filters and masking run in AI Core, together with the model",
    ),
    Staying("GenAI Hub's batches", "gen_ai_hub.batch_service", "sap-ai-sdk-gen", "jobs of AI Core"),
    Staying("GenAI Hub's evaluations", "gen_ai_hub.evaluations", "sap-ai-sdk-gen", "jobs of AI Core"),
    Staying(
        "GenAI Hub's document grounding",
        "gen_ai_hub.document_grounding",
        "sap-ai-sdk-gen",
        "a service of AI Core with vectors of its own",
    ),
    Staying(
        "hana_ml's PALEmbeddings",
        "hana_ml.text.pal_embeddings",
        "hana-ml",
        "embeds a table inside the database; PALModelEmbeddings on it is routed",
    ),
    Staying(
        "hana_ml's PAL cross encoder",
        "hana_ml.text.pal_cross_encoder",
        "hana-ml",
        "scores a table inside the database; hana_ai's PALCrossEncoder is routed",
    ),
    Staying(
        "hana_ml's DataFrame.add_vector",
        "hana_ml.dataframe",
        "hana-ml",
        "VECTOR_EMBEDDING on a table, inside the database; HANAVectorEmbeddings on it is routed",
    ),
)
"""As of hana-ai 1.1.26081400, sap-ai-sdk-gen 7.4.1 and hana-ml 2.30."""


def staying(routed: Container[str]) -> list[SeamStatus]:
    """A line of each for `status()`, but for those places that have one already."""
    others = (place for place in STAYING if place.name not in routed)
    return [found for place in others if (found := place.status()) is not None]
