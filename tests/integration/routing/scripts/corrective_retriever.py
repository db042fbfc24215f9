"""The knowledge table, united, with its finds graded by a model."""

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.vectorstore.corrective_retriever import CorrectiveRetriever
from hana_ai.vectorstore.hana_vector_engine import HANAMLinVectorEngine
from loopback_hana import connect

cc = connect()

knowledge = HANAMLinVectorEngine(connection_context=cc, table_name="KNOWLEDGE")
with cc.connection.cursor() as cursor:
    # upsert_knowledge of the toolkit writes DDL that HANA cannot read.
    cursor.execute(
        'UPSERT "KNOWLEDGE" ("id", "description", "example") VALUES (?, ?, ?) WITH PRIMARY KEY',
        ("1", "Counting the rows of a table", "cc.table('SALES').count()"),
    )
print(CorrectiveRetriever(knowledge, init_llm("gpt-4.1")).query("How do I count rows?"))
