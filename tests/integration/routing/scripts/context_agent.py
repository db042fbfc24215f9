"""A turn of the ContextAgent with a tool of the toolkit."""

import os

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.iagents import ContextAgent
from hana_ai.tools.toolkit import HANAMLToolkit
from hana_ml.dataframe import ConnectionContext

cc = ConnectionContext(
    address=os.environ["HANA_ADDRESS"],
    port=int(os.environ["HANA_PORT"]),
    user=os.environ["HANA_USER"],
    password=os.environ["HANA_PASSWORD"],
)

tools = HANAMLToolkit(connection_context=cc, used_tools=["fetch_data"]).get_tools()
agent = ContextAgent(llm=init_llm("gpt-4.1", temperature=0.0), tools=tools)
print(agent.chat("Show the first rows of SALES."))
