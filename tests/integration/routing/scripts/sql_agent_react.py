"""The SQL agent as it is by default: ReAct."""

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.agents.hana_sql_agent import create_hana_sql_agent
from loopback_hana import connect

cc = connect()

agent = create_hana_sql_agent(llm=init_llm("gpt-4.1"), connection_context=cc)
print(agent.invoke("How many rows has SALES? Use ReAct.")["output"])
