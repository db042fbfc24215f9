"""Two turns of the HANAMLRAGAgent: it remembers the first."""

import os

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.agents.hanaml_rag_agent import HANAMLRAGAgent
from hana_ai.tools.toolkit import HANAMLToolkit
from hana_ml.dataframe import ConnectionContext

cc = ConnectionContext(
    address=os.environ["HANA_ADDRESS"],
    port=int(os.environ["HANA_PORT"]),
    user=os.environ["HANA_USER"],
    password=os.environ["HANA_PASSWORD"],
)

tools = HANAMLToolkit(connection_context=cc, used_tools=["fetch_data"]).get_tools()
agent = HANAMLRAGAgent(
    tools=tools, llm=init_llm("gpt-4.1"), hana_vector_table="RAG_MEMORY", drop_existing_hana_vector_table=False
)
print(agent.chat("Show the first rows of SALES."))
print(agent.chat("Show the first rows of SALES."))
