"""SmartDataFrame: ask and transform."""

from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.smart_dataframe import SmartDataFrame
from hana_ai.tools.df_tools.fetch_tools import FetchDataTool
from loopback_hana import connect

cc = connect()

frame = SmartDataFrame(cc.table("SALES"))
frame.configure(llm=init_llm("gpt-4.1"), tools=[FetchDataTool(cc)])
print(frame.ask("Show the first rows of SALES."))
print(frame.transform("Only the largest amount.").collect().to_string())
