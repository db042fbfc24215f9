"""Workarounds for what is broken in hana_ai with today's packages.

Each is applied only where it is needed, and listed by `status()`. Its test fails once upstream has fixed the
problem, and says that the workaround can go.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, TypedDict

from hana_ai.api.routing.seams import ModuleMaker, NotNeeded, Patcher, Seam, UpstreamChanged

if TYPE_CHECKING:
    from langchain_core.agents import AgentAction
    from langchain_core.messages import BaseMessage, ToolCall

STOPPED = "Agent stopped due to iteration limit or time limit."
"""What LangChain's AgentExecutor answers at its limit."""

_ITERATIONS = 20
_LIMIT = "_together_max_iterations"
_STEPS = "_together_return_intermediate_steps"


def _fill_hanavector(module: ModuleType) -> None:
    from langchain_hana import HanaDB

    module.__doc__ = "Stands in for the module that langchain-community 0.4.2 dropped."
    vars(module).update(HanaDB=HanaDB, __all__=["HanaDB"])


MAKERS = (
    ModuleMaker(
        "langchain_community's HanaDB",
        "langchain_community.vectorstores.hanavector",
        "langchain-community",
        needs="langchain_hana",
        fill=_fill_hanavector,
        what="gone since 0.4.2, which breaks hana_ai.mem0 and three agents; langchain_hana's stands in",
    ),
)
"""The modules that hana_ai imports and that no longer exist."""


# On langchain 1.x the toolkit's agents run as graphs, and the caller's limits and steps are dropped on the way: a
# model that keeps calling tools is asked, and paid for, 5,000 times.


class _State(TypedDict):
    messages: list[BaseMessage]


class _Graph(Protocol):
    def stream(self, graph_input: _State, config: Mapping[str, int], *, stream_mode: str) -> Iterator[_State]: ...


def _remember_limits(original: Callable[..., object], self: object, graph: object) -> None:
    original(self, graph)
    # The caller is `build_agent_executor` or `create_hana_dataframe_agent`, with its arguments.
    given = sys._getframe(2).f_locals
    setattr(self, _LIMIT, given.get("max_iterations", _ITERATIONS))
    setattr(self, _STEPS, bool(given.get("return_intermediate_steps")))


class _Limited:
    """A graph that stops after a number of steps, and remembers the messages that it made."""

    def __init__(self, graph: _Graph, iterations: int | None) -> None:
        self._graph = graph
        self._iterations = iterations
        self.made: list[BaseMessage] = []

    def invoke(self, graph_input: _State) -> _State:
        from langgraph.errors import GraphRecursionError

        # A step of the model and one of its tools; the last step may be the model's alone.
        config = {} if self._iterations is None else {"recursion_limit": 2 * self._iterations + 1}
        result: _State = {"messages": []}
        try:
            for result in self._graph.stream(graph_input, config, stream_mode="values"):
                self.made = result["messages"][len(graph_input["messages"]) :]
        except GraphRecursionError:
            from langchain_core.messages import AIMessage

            return {**result, "messages": [*result["messages"], AIMessage(STOPPED)]}
        return result


def _invoke(original: Callable[..., dict[str, object]], self: object, agent_input: object) -> dict[str, object]:
    limited = _Limited(vars(self)["_graph"], getattr(self, _LIMIT, _ITERATIONS))
    # A copy: another thread may use the same executor.
    executor: object = object.__new__(type(self))
    vars(executor).update(vars(self), _graph=limited)
    answer = original(executor, agent_input)
    if getattr(self, _STEPS, False):
        answer["intermediate_steps"] = intermediate_steps(limited.made)
    return answer


def intermediate_steps(messages: Iterable[BaseMessage]) -> list[tuple[AgentAction, str]]:
    """The tool calls of a conversation with what each returned, as AgentExecutor gives them."""
    from langchain_core.agents import AgentAction

    calls: dict[str | None, ToolCall] = {}
    steps = []
    for message in messages:
        for call in getattr(message, "tool_calls", ()):
            calls[call["id"]] = call
        answered = calls.get(getattr(message, "tool_call_id", ""))
        if answered is not None:
            name, arguments = answered["name"], answered["args"]
            action = AgentAction(name, arguments, f"Invoking {name} with {arguments}")
            steps.append((action, str(message.content)))
    return steps


def _patch_graph_executor(module: ModuleType, patcher: Patcher) -> None:
    executor = getattr(module, "GraphAgentExecutor", None)
    if not isinstance(executor, type):
        raise UpstreamChanged(f"there is no {module.__name__}.GraphAgentExecutor")
    legacy = getattr(module, "AgentExecutor", None) and getattr(module, "create_openai_functions_agent", None)
    if legacy is not None or getattr(module, "create_graph_agent", None) is None:
        raise NotNeeded
    patcher.replace(executor, "__init__", _remember_limits, ["self", "graph"])
    patcher.replace(executor, "invoke", _invoke, ["self", "agent_input"])


SEAMS = (
    Seam(
        "Limits of the agents",
        "hana_ai.langchain_compat",
        "hana-ai",
        "max_iterations and return_intermediate_steps, which langchain 1.x loses, take effect",
        _patch_graph_executor,
    ),
)
