"""What is broken in hana_ai with today's packages, and cured where it is.

Each cure is applied only where it is needed, and listed by `status()`. The test of each one fails when upstream
has put the thing right, and says that the cure can go.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

from hana_ai.api.routing.hooks import ModuleMaker, Patcher, Seam, UpstreamChanged, not_needed

STOPPED = "Agent stopped due to iteration limit or time limit."
"""What LangChain's AgentExecutor answers at its limit."""

_ITERATIONS = 20
_LIMIT = "_together_max_iterations"
_STEPS = "_together_return_intermediate_steps"


def _fill_hanavector(module: ModuleType) -> None:
    from langchain_hana import HanaDB

    module.__doc__ = "Stands in for the module that langchain-community 0.4.2 dropped."
    module.HanaDB = HanaDB  # type: ignore[attr-defined]
    module.__all__ = ["HanaDB"]  # type: ignore[attr-defined]


def makers() -> Sequence[ModuleMaker]:
    """The modules that hana_ai imports and that are gone."""
    return (
        ModuleMaker(
            "langchain_community's HanaDB",
            "langchain_community.vectorstores.hanavector",
            "langchain-community",
            needs="langchain_hana",
            fill=_fill_hanavector,
            what="gone since 0.4.2, which breaks hana_ai.mem0 and three agents; langchain_hana's stands in",
        ),
    )


# On langchain 1.x the toolkit's agents run as graphs, and what the caller said about limits and steps is dropped
# on the way: a model that calls tools for ever is asked 5,000 times, and paid for.


def _remember_limits(original: Callable[..., None], self: Any, graph: Any) -> None:
    original(self, graph)
    # The caller is `build_agent_executor` or `create_hana_dataframe_agent`, with its arguments.
    given = sys._getframe(2).f_locals
    setattr(self, _LIMIT, given.get("max_iterations", _ITERATIONS))
    setattr(self, _STEPS, bool(given.get("return_intermediate_steps")))


class _Limited:
    """A graph that stops after so many steps, and remembers the messages that it made."""

    def __init__(self, graph: Any, iterations: int | None) -> None:
        self._graph = graph
        self._iterations = iterations
        self.made: list[Any] = []

    def invoke(self, graph_input: dict[str, Any]) -> Any:
        from langgraph.errors import GraphRecursionError

        # A step of the model and one of its tools; the last step may be the model's alone.
        config = {} if self._iterations is None else {"recursion_limit": 2 * self._iterations + 1}
        result: Any = {"messages": []}
        try:
            for result in self._graph.stream(graph_input, config, stream_mode="values"):
                self.made = result["messages"][len(graph_input["messages"]) :]
        except GraphRecursionError:
            from langchain_core.messages import AIMessage

            return {**result, "messages": [*result["messages"], AIMessage(STOPPED)]}
        return result


def _invoke(original: Callable[..., dict[str, Any]], self: Any, agent_input: Any) -> dict[str, Any]:
    graph = self._graph
    limited = _Limited(graph, getattr(self, _LIMIT, _ITERATIONS))
    # A copy: another thread may use the same executor.
    executor = object.__new__(type(self))
    executor.__dict__.update(self.__dict__, _graph=limited)
    answer = original(executor, agent_input)
    if getattr(self, _STEPS, False):
        answer["intermediate_steps"] = intermediate_steps(limited.made)
    return answer


def intermediate_steps(messages: Iterable[Any]) -> list[tuple[Any, str]]:
    """The tool calls of a conversation with what each returned, as AgentExecutor gives them."""
    from langchain_core.agents import AgentAction

    calls: dict[str, Any] = {}
    steps = []
    for message in messages:
        for call in getattr(message, "tool_calls", ()):
            calls[call["id"]] = call
        call = calls.get(getattr(message, "tool_call_id", ""))
        if call is not None:
            action = AgentAction(call["name"], call["args"], f"Invoking {call['name']} with {call['args']}")
            steps.append((action, str(message.content)))
    return steps


def _patch_graph_executor(module: ModuleType, patcher: Patcher) -> None:
    executor = getattr(module, "GraphAgentExecutor", None)
    if executor is None:
        raise UpstreamChanged(f"there is no {module.__name__}.GraphAgentExecutor")
    legacy = getattr(module, "AgentExecutor", None) and getattr(module, "create_openai_functions_agent", None)
    if legacy is not None or getattr(module, "create_graph_agent", None) is None:
        raise not_needed()
    patcher.replace(executor, "__init__", _remember_limits, ["self", "graph"])
    patcher.replace(executor, "invoke", _invoke, ["self", "agent_input"])


SEAMS = (
    Seam(
        "Limits of the agents",
        "hana_ai.langchain_compat",
        "hana-ai",
        "max_iterations and return_intermediate_steps are heeded, which are lost on langchain 1.x",
        _patch_graph_executor,
    ),
)
