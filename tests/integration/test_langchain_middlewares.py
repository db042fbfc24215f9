"""Each middleware that langchain exports takes effect in an agent on `ChatTogetherAI`, sync and async."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import langchain.agents.middleware as exported
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.exceptions import ModelError
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from hana_ai.api import ChatTogetherAI, TogetherAIAuthenticationError
from hana_ai.api.local.together import Call, LocalModel, Received, Reply, ScriptedEngine
from tests.conftest import ScriptedTogether

OTHER = "local/other"
Scenario = Callable[["Bench"], None]
_scenarios: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    """Register what shows that a middleware takes effect, under its name."""
    _scenarios[function.__name__] = function
    return function


def found() -> list[str]:
    """Every middleware that langchain exports."""
    return sorted(
        name
        for name in exported.__all__
        if isinstance(kind := getattr(exported, name), type)
        and issubclass(kind, AgentMiddleware)
        and kind is not AgentMiddleware
    )


@tool
def stock(material: str) -> str:
    """Pieces in stock."""
    if material == "M-0":
        raise LookupError("no such material")
    return f"{material}: 42 pieces, ask owner@example.com"


@tool
def price(material: str) -> str:
    """What a material costs."""
    return f"{material}: 7 EUR"


@dataclass
class Bench:
    """An agent's model behind a server, and a way to run agents."""

    server: ScriptedTogether
    asynchronously: bool
    folder: Path

    @property
    def engine(self) -> ScriptedEngine:
        """The script."""
        return self.server.engine

    def chat(self, model: str = ScriptedEngine.CHAT, **fields: Any) -> ChatTogetherAI:
        """A model on the server."""
        return ChatTogetherAI(model=model, max_retries=0, **self.server.client, **fields)

    def agent(self, *middleware: AgentMiddleware[Any, Any], tools: Any = (), **more: Any) -> Any:
        """An agent with some middlewares."""
        return create_agent(self.chat(), list(tools), middleware=middleware, **more)

    def run(self, agent: Any, given: Any, **more: Any) -> dict[str, Any]:
        """The state after a run, from a text, messages or a command."""
        if isinstance(given, str):
            given = {"messages": [HumanMessage(given)]}
        if self.asynchronously:
            return dict(asyncio.run(agent.ainvoke(given, **more)))
        return dict(agent.invoke(given, **more))

    def calls(self, *calls: Call, then: str = "Done.") -> None:
        """Let the model make some calls, one a turn, and then answer."""
        self.engine.reply(*(Reply(tool_calls=[call]) for call in calls), Reply(text=then))

    def sent(self, number: int = -1) -> dict[str, Any]:
        """The body of a request."""
        return dict(self.engine.posts[number].body)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    features = ("FEATURE_TOOL_CALLING", "FEATURE_STRUCTURED_OUTPUT")
    models = [LocalModel(name, "chat", 8192, features=features) for name in (ScriptedEngine.CHAT, OTHER)]
    with ScriptedTogether(ScriptedEngine(models=models)) as server:
        yield Bench(server, request.param, tmp_path)


# langchain's shell leaves the pipes of its process to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("name", found())
def test_it_takes_effect(name: str, bench: Bench) -> None:
    assert name in _scenarios, f"langchain has a new middleware, {name}: write a scenario for it"
    _scenarios[name](bench)


def texts(messages: list[Any], kind: type) -> list[str]:
    return [message.text for message in messages if isinstance(message, kind)]


@scenario
def ContextEditingMiddleware(bench: Bench) -> None:
    edit = exported.ClearToolUsesEdit(trigger=20, keep=1, placeholder="[gone]")
    bench.calls(*(Call("stock", {"material": f"M-{number}"}) for number in range(1, 5)))
    agent = bench.agent(exported.ContextEditingMiddleware(edits=[edit]), tools=[stock])
    bench.run(agent, "How many?")
    results = [one["content"] for one in bench.sent()["messages"] if one["role"] == "tool"]
    assert results[:-1] == ["[gone]"] * 3
    assert results[-1].startswith("M-4: 42")


@scenario
def FilesystemFileSearchMiddleware(bench: Bench) -> None:
    (bench.folder / "pumps.txt").write_text("centrifugal")
    middleware = exported.FilesystemFileSearchMiddleware(root_path=str(bench.folder), use_ripgrep=False)
    bench.calls(Call("glob_search", {"pattern": "*.txt"}), Call("grep_search", {"pattern": "centri"}))
    state = bench.run(bench.agent(middleware), "Which files?")
    assert texts(state["messages"], ToolMessage) == ["/pumps.txt", "/pumps.txt"]


@scenario
def HumanInTheLoopMiddleware(bench: Bench) -> None:
    middleware = exported.HumanInTheLoopMiddleware({"stock": True})
    agent = bench.agent(middleware, tools=[stock], checkpointer=InMemorySaver())
    thread = {"config": {"configurable": {"thread_id": "1"}}}
    for decision, result in (({"type": "approve"}, "M-1: 42"), ({"type": "reject", "message": "No."}, "No.")):
        bench.calls(Call("stock", {"material": "M-1"}))
        paused = bench.run(agent, "How many?", **thread)
        assert [request["name"] for request in paused["__interrupt__"][0].value["action_requests"]] == ["stock"]
        state = bench.run(agent, Command(resume={"decisions": [decision]}), **thread)
        assert result in texts(state["messages"], ToolMessage)[-1]
        assert state["messages"][-1].text == "Done."


@scenario
def LLMToolEmulator(bench: Bench) -> None:
    middleware = exported.LLMToolEmulator(tools=[stock], model=bench.chat(OTHER))
    bench.engine.reply(
        Reply(tool_calls=[Call("stock", {"material": "M-1"})]), Reply(text="about 10"), Reply(text="Done.")
    )
    state = bench.run(bench.agent(middleware, tools=[stock]), "How many?")
    assert texts(state["messages"], ToolMessage) == ["about 10"]
    assert [request.body["model"] for request in bench.engine.posts][1] == OTHER


@scenario
def LLMToolSelectorMiddleware(bench: Bench) -> None:
    def choose(request: Received) -> Reply | None:
        if request.body["model"] != OTHER:
            return None
        chosen = '{"tools": ["price"]}'
        if request.body.get("tools"):
            return Reply(tool_calls=[Call(request.body["tools"][0]["function"]["name"], chosen)])
        return Reply(text=chosen)

    bench.engine.on("/v1/chat/completions", choose)
    middleware = exported.LLMToolSelectorMiddleware(model=bench.chat(OTHER), max_tools=1)
    state = bench.run(bench.agent(middleware, tools=[stock, price]), "What does M-1 cost?")
    asked = [request.body for request in bench.engine.posts if request.body["model"] != OTHER]
    assert [one["function"]["name"] for one in asked[0]["tools"]] == ["price"]
    assert [message.name for message in state["messages"] if isinstance(message, ToolMessage)] == ["price"]


@scenario
def ModelCallLimitMiddleware(bench: Bench) -> None:
    bench.engine.always(Reply(tool_calls=[Call("stock", {"material": "M-1"})]))
    state = bench.run(bench.agent(exported.ModelCallLimitMiddleware(run_limit=2), tools=[stock]), "How many?")
    assert "limit" in state["messages"][-1].text
    assert len(bench.engine.posts) == 2


@scenario
def ModelFallbackMiddleware(bench: Bench) -> None:
    bench.engine.reply(Reply(status=503), Reply(text="From the other one."))
    state = bench.run(bench.agent(exported.ModelFallbackMiddleware(bench.chat(OTHER))), "Hello")
    assert state["messages"][-1].text == "From the other one."
    assert bench.sent()["model"] == OTHER


@scenario
def ModelRefusalMiddleware(bench: Bench) -> None:
    # Together has no field for a refusal, so that an answer is never taken for one.
    bench.engine.reply(Reply(text="I can't help with that."))
    state = bench.run(bench.agent(exported.ModelRefusalMiddleware()), "Hello")
    assert state["messages"][-1].text == "I can't help with that."


@scenario
def ModelRetryMiddleware(bench: Bench) -> None:
    bench.engine.reply(Reply(status=503), Reply(drop=True), Reply(text="At last."))
    middleware = exported.ModelRetryMiddleware(
        max_retries=2,
        retry_on=lambda exc: isinstance(exc, ModelError) and exc.is_retryable,
        on_failure="error",
        initial_delay=0.001,
        jitter=False,
    )
    state = bench.run(bench.agent(middleware), "Hello")
    assert (state["messages"][-1].text, len(bench.engine.posts)) == ("At last.", 3)
    bench.engine.reset()
    # What can't get better is not tried again.
    bench.engine.reply(Reply(status=401))
    with pytest.raises(TogetherAIAuthenticationError):
        bench.run(bench.agent(middleware), "Hello")
    assert len(bench.engine.posts) == 1


@scenario
def PIIMiddleware(bench: Bench) -> None:
    middleware = exported.PIIMiddleware("email", apply_to_output=True, apply_to_tool_results=True)
    bench.calls(Call("stock", {"material": "M-1"}), then="Ask me@example.com.")
    state = bench.run(bench.agent(middleware, tools=[stock]), "I am you@example.com")
    assert "example.com" not in str([request.body for request in bench.engine.posts])
    assert state["messages"][-1].text == "Ask [REDACTED_EMAIL]."


@scenario
def ProviderToolSearchMiddleware(bench: Bench) -> None:
    # Together searches no tools on its servers. With none deferred, everything goes through.
    bench.calls(Call("stock", {"material": "M-1"}))
    state = bench.run(bench.agent(exported.ProviderToolSearchMiddleware(), tools=[stock]), "How many?")
    assert state["messages"][-1].text == "Done."
    middleware = exported.ProviderToolSearchMiddleware(searchable_tools=["stock"])
    with pytest.raises(ValueError, match="tool search"):
        bench.run(bench.agent(middleware, tools=[stock]), "How many?")


@scenario
def ShellToolMiddleware(bench: Bench) -> None:
    if sys.platform == "win32":
        pytest.skip("langchain's shell needs POSIX")
    middleware = exported.ShellToolMiddleware(str(bench.folder), execution_policy=exported.HostExecutionPolicy())
    bench.calls(Call("shell", {"command": "echo from the shell"}))
    state = bench.run(bench.agent(middleware), "Say it.")
    assert "from the shell" in texts(state["messages"], ToolMessage)[0]


@scenario
def SummarizationMiddleware(bench: Bench) -> None:
    def summarize(request: Received) -> Reply | None:
        return Reply(text="They greeted.") if request.body["model"] == OTHER else None

    bench.engine.on("/v1/chat/completions", summarize)
    middleware = exported.SummarizationMiddleware(bench.chat(OTHER), trigger=("messages", 5), keep=("messages", 1))
    agent = bench.agent(middleware, checkpointer=InMemorySaver())
    for text in ("one", "two", "three"):
        state = bench.run(agent, text, config={"configurable": {"thread_id": "1"}})
    assert "They greeted." in state["messages"][0].text
    assert [message.text for message in state["messages"][1:]] == ["three", "three"]
    assert [one["role"] for one in bench.sent()["messages"]] == ["user", "user"]


@scenario
def TodoListMiddleware(bench: Bench) -> None:
    todos = [{"content": "count", "status": "in_progress"}]
    bench.calls(Call("write_todos", {"todos": todos}))
    state = bench.run(bench.agent(exported.TodoListMiddleware()), "Plan it.")
    assert state["todos"] == todos
    assert bench.sent(0)["messages"][0]["role"] == "system"


@scenario
def ToolCallLimitMiddleware(bench: Bench) -> None:
    bench.calls(*[Call("stock", {"material": "M-1"})] * 3)
    middleware = exported.ToolCallLimitMiddleware(run_limit=2)
    state = bench.run(bench.agent(middleware, tools=[stock]), "How many?")
    results = texts(state["messages"], ToolMessage)
    assert ["42" in result for result in results] == [True, True, False]


@scenario
def ToolErrorMiddleware(bench: Bench) -> None:
    bench.calls(Call("stock", {"material": "M-0"}))
    middleware = exported.ToolErrorMiddleware(lambda exc, _: type(exc).__name__)
    state = bench.run(bench.agent(middleware, tools=[stock]), "How many?")
    assert texts(state["messages"], ToolMessage) == ["LookupError"]


@scenario
def ToolRetryMiddleware(bench: Bench) -> None:
    tries: list[str] = []

    @tool
    def flaky(material: str) -> str:
        """Works the second time."""
        tries.append(material)
        if len(tries) == 1:
            raise ConnectionError
        return "here"

    bench.calls(Call("flaky", {"material": "M-1"}))
    middleware = exported.ToolRetryMiddleware(initial_delay=0.001, jitter=False)
    state = bench.run(bench.agent(middleware, tools=[flaky]), "Try.")
    assert (texts(state["messages"], ToolMessage), tries) == (["here"], ["M-1", "M-1"])


def test_a_prompt_that_a_middleware_makes_reaches_the_model(bench: Bench) -> None:
    if bench.asynchronously:

        @exported.dynamic_prompt
        async def prompt(request: Any) -> str:
            return f"{len(request.messages)} messages so far."
    else:

        @exported.dynamic_prompt
        def prompt(request: Any) -> str:
            return f"{len(request.messages)} messages so far."

    state = bench.run(bench.agent(prompt), "Hello")
    assert bench.sent()["messages"][0] == {"role": "system", "content": "1 messages so far."}
    assert not texts(state["messages"], SystemMessage)


def test_all_of_them_together_serve_a_turn(bench: Bench) -> None:
    middlewares = [
        exported.TodoListMiddleware(),
        exported.PIIMiddleware("email"),
        exported.SummarizationMiddleware(bench.chat(OTHER), trigger=("messages", 50)),
        exported.ContextEditingMiddleware(),
        exported.ModelCallLimitMiddleware(run_limit=5),
        exported.ToolCallLimitMiddleware(run_limit=5),
        exported.ModelFallbackMiddleware(bench.chat(OTHER)),
        exported.ModelRetryMiddleware(initial_delay=0.001),
        exported.ToolRetryMiddleware(initial_delay=0.001),
    ]
    bench.calls(Call("stock", {"material": "M-1"}))
    state = bench.run(bench.agent(*middlewares, tools=[stock]), "How many?")
    assert state["messages"][-1].text == "Done."
    assert isinstance(state["messages"][-1], AIMessage)
