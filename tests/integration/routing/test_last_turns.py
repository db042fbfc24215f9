"""What an agent of the toolkit knows of its last turns at its defaults, as the model is asked."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hana_ai.api import routing
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import Call, Received, Reply
from tests.conftest import ScriptedTogether, export
from tests.integration.routing.answers import text_of
from tests.integration.routing.conftest import activated

pytestmark = pytest.mark.filterwarnings("ignore")

FIRST, SECOND, FETCH = "My cat is called Ada. Remember it.", "What is its name?", "Fetch a row."


def answer(request: Received) -> Reply | None:
    """Call a tool only where that is wished for."""
    if request.path != "/v1/chat/completions":
        return None
    if request.body.get("tools") and text_of(request.body["messages"][-1]).endswith(FETCH):
        return Reply(tool_calls=[Call("fetch_data", {"table_name": "DUMMY", "schema_name": "SYS", "top_n": 1})])
    return Reply(text="I see.")


@pytest.fixture
def together(
    together_environment: ScriptedTogether, hana: LocalHana, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScriptedTogether]:
    export(monkeypatch, {**hana.environment(), "ENABLE_TOGETHER_AI": "true"})
    together_environment.engine.always(answer)
    with activated():
        yield together_environment


@pytest.fixture
def tools(hana: LocalHana) -> Iterator[list[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hana_ai.tools.toolkit import HANAMLToolkit
        from hana_ml.dataframe import ConnectionContext

    context = ConnectionContext(**hana.connection_options())
    yield HANAMLToolkit(connection_context=context, used_tools=["fetch_data"]).get_tools()
    context.close()


def rag_agent(tools: list[Any], **more: Any) -> Any:
    from gen_ai_hub.proxy.langchain import init_llm
    from hana_ai.agents.hanaml_rag_agent import HANAMLRAGAgent

    with pytest.warns(DeprecationWarning, match="This agent has been deprecated"):
        return HANAMLRAGAgent(tools, init_llm("gpt-4.1"), drop_existing_hana_vector_table=False, **more)


def mem0_agent(tools: list[Any], **more: Any) -> Any:
    from gen_ai_hub.proxy.langchain import init_llm
    from hana_ai.agents.mem0_hana_agent import Mem0HANARAGAgent

    with pytest.warns(DeprecationWarning, match="This agent has been deprecated"):
        return Mem0HANARAGAgent(tools, init_llm("gpt-4.1"), **more)


AGENTS = [rag_agent, mem0_agent]


def conversations(together: ScriptedTogether) -> list[list[tuple[str, str]]]:
    """The messages of each request that offers tools, without the system's."""
    return [
        [(said["role"], text_of(said)) for said in request.body["messages"] if said["role"] != "system"]
        for request in together.engine.requests
        if request.path == "/v1/chat/completions" and request.body.get("tools")
    ]


@pytest.mark.parametrize("make", AGENTS)
def test_the_model_is_told_what_was_said_in_the_last_turns(
    together: ScriptedTogether, tools: list[Any], make: Callable[..., Any]
) -> None:
    agent = make(tools)
    answered = agent.chat(FIRST)
    agent.chat(SECOND)
    first, second = conversations(together)
    assert [role for role, _ in first] == ["user"]
    assert [role for role, _ in second] == ["user", "assistant", "user"]
    assert FIRST in second[0][1]
    assert second[1][1] == answered
    assert second[2][1].endswith(SECOND)


@pytest.mark.parametrize("make", AGENTS)
def test_what_is_kept_is_bounded_by_the_window(
    together: ScriptedTogether, tools: list[Any], make: Callable[..., Any]
) -> None:
    agent = make(tools, memory_window=2)
    for number in range(4):
        agent.chat(f"This is turn {number}.")
    last = conversations(together)[-1]
    assert [role for role, _ in last] == ["user", "assistant", "user"]
    assert last[0][1].endswith("This is turn 2.")


def test_without_a_window_the_mem0_agent_is_told_nothing(together: ScriptedTogether, tools: list[Any]) -> None:
    agent = mem0_agent(tools, memory_window=0)
    agent.chat(FIRST)
    agent.chat(SECOND)
    assert [[role for role, _ in said] for said in conversations(together)] == [["user"], ["user"]]


def test_the_rag_agent_forgets_on_request(together: ScriptedTogether, tools: list[Any]) -> None:
    agent = rag_agent(tools)
    agent.chat(FIRST)
    agent.chat("!clear_short_term_memory")
    agent.chat(SECOND)
    assert [role for role, _ in conversations(together)[-1]] == ["user"]


def test_calls_of_tools_are_no_part_of_what_is_kept(together: ScriptedTogether, tools: list[Any]) -> None:
    agent = rag_agent(tools)
    agent.chat(FETCH)
    agent.chat(SECOND)
    *_, with_tool, last = conversations(together)
    assert [role for role, _ in with_tool] == ["user", "assistant", "tool"]
    assert [role for role, _ in last] == ["user", "assistant", "user"]


def test_two_agents_do_not_share_what_was_said(together: ScriptedTogether, tools: list[Any]) -> None:
    rag_agent(tools).chat(FIRST)
    rag_agent(tools).chat(SECOND)
    assert FIRST not in conversations(together)[-1][0][1].partition("Question:")[2]
    assert [role for role, _ in conversations(together)[-1]] == ["user"]


def test_without_the_routing_the_agents_are_as_the_toolkit_has_them(
    together: ScriptedTogether, tools: list[Any]
) -> None:
    agent = mem0_agent(tools)
    agent.chat(FIRST)
    routing.deactivate()
    agent.executor.invoke({"input": SECOND})
    assert [role for role, _ in conversations(together)[-1]] == ["user"]


def test_the_workarounds_for_the_last_turns_are_still_needed() -> None:
    """When this fails, hana_ai hands memory on itself: remove the workaround."""
    compat = importlib.import_module("hana_ai.langchain_compat")
    graph_part = inspect.getsource(compat.build_agent_executor).partition("elif create_graph_agent:")[2]
    assert graph_part
    assert "memory" not in graph_part
    mem0 = importlib.import_module("hana_ai.agents.mem0_hana_agent")
    assert inspect.getsource(mem0.Mem0HANARAGAgent).count("memory_window") == 3, "the parameter and its assignment"
