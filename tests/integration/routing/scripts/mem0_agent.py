"""Two turns of the Mem0HANARAGAgent."""

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.agents.mem0_hana_agent import Mem0HANARAGAgent
from hana_ai.tools.toolkit import HANAMLToolkit
from loopback_hana import connect

cc = connect()

tools = HANAMLToolkit(connection_context=cc, used_tools=["fetch_data"]).get_tools()
agent = Mem0HANARAGAgent(tools=tools, llm=init_llm("gpt-4.1"), hana_vector_table="MEM0_MEMORY")
print(agent.chat("Show the first rows of SALES."))
print(agent.chat("Show the first rows of SALES."))
