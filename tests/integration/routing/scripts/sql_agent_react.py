"""The SQL agent as it is by default: ReAct."""

import os

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.agents.hana_sql_agent import create_hana_sql_agent
from hana_ml.dataframe import ConnectionContext

cc = ConnectionContext(
    address=os.environ["HANA_ADDRESS"],
    port=int(os.environ["HANA_PORT"]),
    user=os.environ["HANA_USER"],
    password=os.environ["HANA_PASSWORD"],
)

agent = create_hana_sql_agent(llm=init_llm("gpt-4.1"), connection_context=cc)
print(agent.invoke("How many rows has SALES? Use ReAct.")["output"])
