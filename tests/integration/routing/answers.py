"""How the scripted server answers the agents: it calls the tool that asks the database, then says what it got."""

from __future__ import annotations

from typing import Any

from hana_ai.api.local.together import Call, Received, Reply

COUNT = "SELECT COUNT(*) FROM SALES"
ARGUMENTS: dict[str, dict[str, Any]] = {
    "grade": {"binary_score": "yes"},
    "fetch_data": {"table_name": "SALES", "select_statement": 'SELECT * FROM "SALES"', "top_n": 2},
    "sql_agent_tool": {"__arg1": "How many rows has SALES?"},
    "sql_db_query": {"query": COUNT},
    "python_repl_ast": {"query": "df.count()"},
}


def agent_answers(request: Received) -> Reply | None:
    if request.path != "/v1/chat/completions":
        return None
    messages = request.body["messages"]
    asked = "\n".join(text_of(message) for message in messages if message["role"] == "user")
    last = messages[-1]
    if "ONLY the raw SQL query" in asked:
        return Reply(text='SELECT MAX("AMOUNT") AS "LARGEST" FROM "SALES"')
    if last["role"] == "tool":
        return Reply(text=f"The database says: {text_of(last)}")
    tools = {tool["function"]["name"] for tool in request.body.get("tools") or []}
    for name, arguments in ARGUMENTS.items():
        if name in tools:
            return Reply(tool_calls=[Call(name, arguments)])
    if "Action Input:" in asked:
        question, _, observed = asked.rpartition("Observation:")
        if question and not observed.strip().startswith("the result"):
            return Reply(
                text=f"I now know the final answer\nFinal Answer: The database says: {observed.split()[0]}"
            )
        return Reply(text=f"Thought: I count.\nAction: sql_db_query\nAction Input: {COUNT}")
    return None


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
