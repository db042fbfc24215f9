"""The DataFrame agent."""

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.agents.hana_dataframe_agent import create_hana_dataframe_agent
from loopback_hana import connect

cc = connect()

agent = create_hana_dataframe_agent(llm=init_llm("gpt-4.1"), df=cc.table("SALES"))
print(agent.invoke("How many rows has df?")["output"])
