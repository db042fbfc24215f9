"""SmartDataFrame: ask and transform."""

import os

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.smart_dataframe import SmartDataFrame
from hana_ai.tools.df_tools.fetch_tools import FetchDataTool
from hana_ml.dataframe import ConnectionContext

cc = ConnectionContext(
    address=os.environ["HANA_ADDRESS"],
    port=int(os.environ["HANA_PORT"]),
    user=os.environ["HANA_USER"],
    password=os.environ["HANA_PASSWORD"],
)

frame = SmartDataFrame(cc.table("SALES"))
frame.configure(llm=init_llm("gpt-4.1"), tools=[FetchDataTool(cc)])
print(frame.ask("Show the first rows of SALES."))
print(frame.transform("Only the largest amount.").collect().to_string())
