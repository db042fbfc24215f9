"""A turn of the HANAMLAgentWithMemory, and the stateless call."""

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.agents.hanaml_agent_with_memory import HANAMLAgentWithMemory, stateless_call
from hana_ai.tools.toolkit import HANAMLToolkit
from loopback_hana import connect

cc = connect()

llm = init_llm("gpt-4.1")
tools = HANAMLToolkit(connection_context=cc, used_tools=["fetch_data"]).get_tools()
chatbot = HANAMLAgentWithMemory(llm=llm, tools=tools, session_id="hana_ai_test", n_messages=10)
print(chatbot.run(question="Show the first rows of SALES."))
print(stateless_call(llm=llm, tools=tools, question="Show the first rows of SALES.", chat_history=[]))
