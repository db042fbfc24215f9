"""What programs make themselves: a chat model, and the toolkit's embeddings."""

from gen_ai_hub.proxy.langchain import init_embedding_model, init_llm
from hana_ai.vectorstore.embedding_service import GenAIHubEmbeddings, HANAVectorEmbeddings, PALModelEmbeddings

print(init_llm("gpt-4.1").invoke("An echo.").content)
for embeddings in (
    HANAVectorEmbeddings(None),
    PALModelEmbeddings(None),
    GenAIHubEmbeddings(),
    init_embedding_model("text-embedding-3-small"),
):
    print(len(embeddings.embed_query("one")), [len(vector) for vector in embeddings.embed_documents(["a", "b"])])
