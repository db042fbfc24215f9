"""An agent that another agent uses as a tool."""

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.agents.hana_sql_agent import create_hana_sql_agent
from hana_ai.agents.hanaml_agent_with_memory import HANAMLAgentWithMemory
from hana_ai.tools.agent_as_a_tool import AgentAsATool
from loopback_hana import connect

cc = connect()

llm = init_llm("gpt-4.1")
sql_agent = create_hana_sql_agent(llm=llm, connection_context=cc, agent_type="tool-calling")
sql_tool = AgentAsATool(agent=sql_agent, name="sql_agent_tool", description="To answer by SQL")
chatbot = HANAMLAgentWithMemory(llm=llm, tools=[sql_tool], session_id="hana_ai_test", n_messages=10)
print(chatbot.run(question="How many rows has SALES?"))
