"""Workarounds for what is broken in hana_ai with today's packages.

Each is applied only where it is needed, and listed by `status()`. Its test fails once upstream has fixed the
problem, and says that the workaround can go.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, TypedDict

from hana_ai.api.routing.seams import ModuleMaker, NotNeeded, Patcher, Seam, UpstreamChanged, class_in

if TYPE_CHECKING:
    from langchain_core.agents import AgentAction
    from langchain_core.messages import BaseMessage, ToolCall

STOPPED = "Agent stopped due to iteration limit or time limit."
"""What LangChain's AgentExecutor answers at its limit."""

_ITERATIONS = 20
_LIMIT = "_together_max_iterations"
_STEPS = "_together_return_intermediate_steps"
_MEMORY = "_together_memory"


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


# On langchain 1.x the toolkit's agents run as graphs, and the caller's limits, steps and memory are dropped on the
# way: a model that keeps calling tools is asked, and paid for, 5,000 times, and none knows what was said before.


class _State(TypedDict):
    messages: list[BaseMessage]


class _Graph(Protocol):
    def stream(self, graph_input: _State, config: Mapping[str, int], *, stream_mode: str) -> Iterator[_State]: ...


class _Memory(Protocol):
    """LangChain's conversation memory, or the toolkit's stand-in for it."""

    def load_memory_variables(self, inputs: dict[str, object], /) -> dict[str, object]: ...
    def save_context(self, inputs: dict[str, object], outputs: dict[str, str], /) -> None: ...


def _remember_limits(original: Callable[..., object], self: object, graph: object) -> None:
    original(self, graph)
    # The caller is `build_agent_executor` or `create_hana_dataframe_agent`, with its arguments.
    given = sys._getframe(2).f_locals
    setattr(self, _LIMIT, given.get("max_iterations", _ITERATIONS))
    setattr(self, _STEPS, bool(given.get("return_intermediate_steps")))
    setattr(self, _MEMORY, given.get("memory"))


class _Limited:
    """A graph that stops after a number of steps, and remembers the messages that it made.

    It is told what was said before; what it returns begins with what it is asked now.
    """

    def __init__(self, graph: _Graph, iterations: int | None, before: list[BaseMessage]) -> None:
        self._graph = graph
        self._iterations = iterations
        self._before = before
        self.made: list[BaseMessage] = []

    def invoke(self, graph_input: _State) -> _State:
        from langgraph.errors import GraphRecursionError

        # A step of the model and one of its tools; the last step may be the model's alone.
        config = {} if self._iterations is None else {"recursion_limit": 2 * self._iterations + 1}
        result: _State = {"messages": []}
        asked: _State = {"messages": [*self._before, *graph_input["messages"]]}
        try:
            for state in self._graph.stream(asked, config, stream_mode="values"):
                result = {**state, "messages": state["messages"][len(self._before) :]}
                self.made = result["messages"][len(graph_input["messages"]) :]
        except GraphRecursionError:
            from langchain_core.messages import AIMessage

            return {**result, "messages": [*result["messages"], AIMessage(STOPPED)]}
        return result


def _invoke(original: Callable[..., dict[str, object]], self: object, agent_input: object) -> dict[str, object]:
    memory: _Memory | None = getattr(self, _MEMORY, None)
    limited = _Limited(vars(self)["_graph"], getattr(self, _LIMIT, _ITERATIONS), _said_before(memory))
    # A copy: another thread may use the same executor.
    executor: object = object.__new__(type(self))
    vars(executor).update(vars(self), _graph=limited)
    answer = original(executor, agent_input)
    if getattr(self, _STEPS, False):
        answer["intermediate_steps"] = intermediate_steps(limited.made)
    if memory is not None:
        memory.save_context({"input": _text_of(agent_input)}, {"output": str(answer["output"])})
    return answer


def _said_before(memory: _Memory | None) -> list[BaseMessage]:
    """The messages of the last turns; none of a memory that keeps a text."""
    loaded = memory.load_memory_variables({}).values() if memory is not None else ()
    return [message for messages in loaded if isinstance(messages, list) for message in messages]


def _text_of(agent_input: object) -> str:
    """What is asked, of the forms that the toolkit's agents give it."""
    asked = agent_input.get("input") if isinstance(agent_input, dict) else agent_input
    if isinstance(asked, list):
        return "\n".join(str(part.get("text", "") if isinstance(part, dict) else part) for part in asked)
    return str(asked)


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


def _give_memory(original: Callable[..., object], self: object) -> None:
    original(self)
    executor, compat = vars(self)["executor"], sys.modules["hana_ai.langchain_compat"]
    window = vars(self)["memory_window"]
    # A window of 0 is none; the toolkit's stand-in would keep everything.
    if window and getattr(executor, _MEMORY, True) is None:
        memory = compat.get_conversation_buffer_window_memory(
            memory_key="chat_history", k=window, return_messages=True
        )
        setattr(executor, _MEMORY, memory)


def _patch_mem0_agent(module: ModuleType, patcher: Patcher) -> None:
    owner = class_in(module, "Mem0HANARAGAgent")
    patcher.replace(owner, "_initialize_agent", _give_memory, ["self"])


SEAMS = (
    Seam(
        "Limits and memory of the agents",
        "hana_ai.langchain_compat",
        "hana-ai",
        "max_iterations, return_intermediate_steps and memory, which langchain 1.x loses, take effect",
        _patch_graph_executor,
    ),
    Seam(
        "Mem0HANARAGAgent's last turns",
        "hana_ai.agents.mem0_hana_agent",
        "hana-ai",
        "memory_window, which the toolkit takes and does not use, takes effect",
        _patch_mem0_agent,
    ),
)
