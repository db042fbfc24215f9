"""A turn of the ContextAgent with a tool of the toolkit."""

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.iagents import ContextAgent
from hana_ai.tools.toolkit import HANAMLToolkit
from loopback_hana import connect

cc = connect()

tools = HANAMLToolkit(connection_context=cc, used_tools=["fetch_data"]).get_tools()
agent = ContextAgent(llm=init_llm("gpt-4.1", temperature=0.0), tools=tools)
print(agent.chat("Show the first rows of SALES."))
