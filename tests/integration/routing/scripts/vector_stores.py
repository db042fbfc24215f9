"""The toolkit's embeddings in langchain-hana's vector store, and the adapter of Mem0."""

from hana_ai.mem0.hana_mem0_adapter import Mem0HanaAdapter
from hana_ai.vectorstore.embedding_service import GenAIHubEmbeddings, HANAVectorEmbeddings
from langchain_hana import HanaDB
from loopback_hana import connect

cc = connect()

for number, embedding in enumerate([HANAVectorEmbeddings(cc), GenAIHubEmbeddings()]):
    store = HanaDB(connection=cc.connection, embedding=embedding, table_name=f"STORE_{number}")
    store.add_texts(["The mill stands by the river.", "SALES has three rows."])
    print(store.similarity_search("SALES has three rows.", k=1)[0].page_content)
memory = Mem0HanaAdapter(connection_context=cc, table_name="MEM0_ADAPTER", reranker=False)
memory.add([{"text": "The customer prefers trains."}])
print([found.text for found in memory.search("The customer prefers trains.", rerank=False)])
