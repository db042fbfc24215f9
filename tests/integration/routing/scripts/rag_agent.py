"""Two turns of the HANAMLRAGAgent: it remembers the first."""

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.agents.hanaml_rag_agent import HANAMLRAGAgent
from hana_ai.tools.toolkit import HANAMLToolkit
from loopback_hana import connect

cc = connect()

tools = HANAMLToolkit(connection_context=cc, used_tools=["fetch_data"]).get_tools()
agent = HANAMLRAGAgent(
    tools=tools, llm=init_llm("gpt-4.1"), hana_vector_table="RAG_MEMORY", drop_existing_hana_vector_table=False
)
print(agent.chat("Show the first rows of SALES."))
print(agent.chat("Show the first rows of SALES."))
