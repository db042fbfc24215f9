"""The knowledge table, united, with its finds graded by a model."""

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.tools.code_template_tools import GetCodeTemplateFromVectorDB
from hana_ai.vectorstore.corrective_retriever import CorrectiveRetriever
from hana_ai.vectorstore.hana_vector_engine import HANAMLinVectorEngine
from hana_ai.vectorstore.union_vector_stores import UnionVectorStores
from loopback_hana import connect

cc = connect()

knowledge = HANAMLinVectorEngine(connection_context=cc, table_name="KNOWLEDGE")
knowledge.upsert_knowledge(
    {"id": ["1"], "description": ["Counting the rows of a table"], "example": ["cc.table('SALES').count()"]}
)
print(CorrectiveRetriever(knowledge, init_llm("gpt-4.1")).query("What's the number of rows?"))
tool = GetCodeTemplateFromVectorDB()
tool.set_vectordb(knowledge)
print(tool.invoke("What's a way to count?"))
print(UnionVectorStores([knowledge]).query("What's a way to count?"))
