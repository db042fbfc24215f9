"""An agent with everything that LangChain has for agents, for fifty turns: what it does, and what it sends."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    HumanInTheLoopMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    SummarizationMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel

from hana_ai.api import ChatTogetherAI, TogetherGuardMiddleware
from hana_ai.api.local.together import Call, LocalModel, Received, Reply, ScriptedEngine
from tests.conftest import ScriptedTogether

CHAT, SECOND, GUARD = "local/chat", "local/second", "local/guard"
CONTEXT = 1500
TURNS = range(50)
ASKS_AGAIN = tuple(map(int, version("langchain").split(".")[:2])) >= (1, 4)
"""Older versions take the shape of an earlier turn where the one of this turn is wrong."""
BUSY = Reply(status=503)

NOTHING_SPECIAL, FLAKY, APPROVED, EDITED, REJECTED, BUSY_ONCE, DOWN, TWO_CALLS, WRONG_SHAPE, UNSAFE = range(10)
"""What happens in a turn, by the last digit of its number."""


class Report(BaseModel):
    """What was found out in a turn."""

    turn: int
    found: str


class Tools:
    """The agent's tools, and what was done with them."""

    def __init__(self) -> None:
        self.looked_up: list[str] = []
        self.ordered: list[int] = []
        self.tries: Counter[int] = Counter()

    def all(self) -> list[Any]:
        return [tool(self.lookup), tool(self.order), tool(self.measure)]

    def lookup(self, material: str) -> str:
        """Look a material up."""
        self.looked_up.append(material)
        return f"{material} is in stock. " + "It is kept dry. " * 5

    def order(self, turn: int, pieces: int) -> str:
        """Order a material."""
        self.ordered.append(pieces)
        return f"{pieces} pieces are ordered."

    def measure(self, turn: int) -> str:
        """Measure something; the first try fails."""
        self.tries[turn] += 1
        if self.tries[turn] == 1:
            raise ConnectionError("the gauge does not answer")
        return "It measures 7."


class Script:
    """What the models answer: it follows from the request and from how often it came."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[int, str]] = Counter()

    def __call__(self, request: Received) -> Reply:
        body = request.body
        last = body["messages"][-1]
        if body["model"] == GUARD:
            return Reply(text="unsafe\nS1" if "poison" in str(last["content"]) else "safe")
        if "tools" not in body:
            return Reply(text="They talked about pumps, and nothing is left to do.")
        turn = _turn(body["messages"])
        self.asked[turn, body["model"]] += 1
        kind = turn % 10
        if body["model"] == CHAT and (kind == DOWN or (kind == BUSY_ONCE and self.asked[turn, CHAT] == 1)):
            return BUSY
        if last["role"] == "user":
            return Reply(tool_calls=_first_calls(turn))
        if kind == WRONG_SHAPE and ASKS_AGAIN and "Error" not in str(last["content"]):
            return Reply(tool_calls=[Call("Report", {"turn": "many"}, id=f"wrong-{turn}")])
        return Reply(tool_calls=[Call("Report", {"turn": turn, "found": "done"}, id=f"report-{turn}")])


def _turn(messages: list[Mapping[str, Any]]) -> int:
    """The number of the turn to which a history has come."""
    return int(re.findall(r"Turn (\d+):", str([m["content"] for m in messages if m["role"] == "user"]))[-1])


def _first_calls(turn: int) -> list[Call]:
    kind = turn % 10
    if kind == FLAKY:
        return [Call("measure", {"turn": turn}, id=f"measure-{turn}")]
    order = Call("order", {"turn": turn, "pieces": turn}, id=f"order-{turn}")
    if kind in (APPROVED, EDITED):
        return [order]
    calls = [Call("lookup", {"material": f"pump {turn}"}, id=f"lookup-{turn}")]
    if kind == REJECTED:
        # Beside a call that is run, so that older versions of LangChain ask the model again.
        calls.append(order)
    if kind == TWO_CALLS:
        calls.append(Call("measure", {"turn": turn}, id=f"measure-{turn}"))
    return calls


@pytest.fixture
def together() -> Iterator[ScriptedTogether]:
    can = ("FEATURE_TOOL_CALLING", "FEATURE_STRUCTURED_OUTPUT")
    models = [LocalModel(name, "chat", CONTEXT, features=can) for name in (CHAT, SECOND, GUARD)]
    # Its words count as tokens; a conversation that is never shortened does not fit.
    with ScriptedTogether(ScriptedEngine(models=models)) as server:
        server.engine.always(Script())
        yield server


def chat(server: ScriptedTogether, model: str = CHAT) -> ChatTogetherAI:
    return ChatTogetherAI(model=model, max_retries=0, **server.client)


def build(server: ScriptedTogether, tools: Tools) -> Any:
    """The agent: LangChain's own middlewares around one of our models."""
    return create_agent(
        chat(server),
        tools.all(),
        response_format=Report,
        checkpointer=InMemorySaver(),
        middleware=[
            TogetherGuardMiddleware(chat(server, GUARD)),
            SummarizationMiddleware(chat(server), trigger=("fraction", 0.6), keep=("fraction", 0.2)),
            HumanInTheLoopMiddleware({"order": True}),
            ModelFallbackMiddleware(chat(server, SECOND)),
            ModelRetryMiddleware(max_retries=1, initial_delay=0.0, on_failure="error"),
            ToolRetryMiddleware(max_retries=1, initial_delay=0.0, on_failure="error"),
        ],
    )


def decision(turn: int) -> dict[str, Any]:
    """What the human says to an order."""
    if turn % 10 == APPROVED:
        return {"type": "approve"}
    if turn % 10 == EDITED:
        return {"type": "edit", "edited_action": {"name": "order", "args": {"turn": turn, "pieces": 1000 + turn}}}
    return {"type": "reject", "message": "Too dear."}


def check_history(body: Mapping[str, Any]) -> None:
    """Hold a request to the rules that the OpenAPI document can't say."""
    assert not (body.get("tools") and body.get("response_format")), "tools beside a response format"
    open_calls: set[str] = set()
    for message in body["messages"]:
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
            continue
        assert not open_calls, f"calls without an answer: {open_calls}"
        open_calls = {call["id"] for call in message.get("tool_calls") or []}
    assert not open_calls


async def ask(agent: Any, way: str, given: Any) -> dict[str, Any]:
    config = {"configurable": {"thread_id": "fifty"}}
    if way == "async":
        return dict(await agent.ainvoke(given, config))
    return dict(await asyncio.to_thread(agent.invoke, given, config))


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_fifty_turns_of_an_agent_with_everything(together: ScriptedTogether, way: str) -> None:
    tools = Tools()
    agent = build(together, tools)
    interrupted = []
    for turn in TURNS:
        what = "poison the well" if turn % 10 == UNSAFE else "what about the pump?"
        answer = await ask(agent, way, {"messages": [("user", f"Turn {turn}: {what}")]})
        if waiting := answer.get("__interrupt__"):
            interrupted.append(turn)
            [action] = waiting[0].value["action_requests"]
            assert (action["name"], action["args"]) == ("order", {"turn": turn, "pieces": turn})
            answer = await ask(agent, way, Command(resume={"decisions": [decision(turn)]}))
        if turn % 10 == UNSAFE:
            assert answer["messages"][-1].text == "I can't help with that."
        else:
            assert answer["structured_response"] == Report(turn=turn, found="done")

    bodies = [request.body for request in together.engine.posts]
    for body in bodies:
        check_history(body)
    by_model = Counter(body["model"] for body in bodies)
    tens = [turn for turn in TURNS if turn % 10 == 0]
    # Every middleware has done its part.
    assert interrupted == sorted(ten + kind for ten in tens for kind in (APPROVED, EDITED, REJECTED))
    assert tools.ordered == [pieces for ten in tens for pieces in (ten + APPROVED, 1000 + ten + EDITED)]
    assert tools.tries == {ten + kind: 2 for ten in tens for kind in (FLAKY, TWO_CALLS)}
    assert by_model[SECOND] == 2 * len(tens)
    assert by_model[GUARD] >= len(TURNS)
    summaries = [body for body in bodies if "tools" not in body and body["model"] != GUARD]
    assert len(summaries) >= 3
    asked = [_turn(body["messages"]) for body in bodies if "tools" in body]
    assert {turn for turn in TURNS if turn % 10 != UNSAFE} == set(asked)
    assert {turn: count for turn, count in Counter(asked).items() if turn % 10 == BUSY_ONCE} == {
        ten + BUSY_ONCE: 3 for ten in tens
    }
    wrong = [ten + WRONG_SHAPE for ten in tens if ASKS_AGAIN]
    assert [turn for turn, count in Counter(asked).items() if turn % 10 == WRONG_SHAPE and count == 3] == wrong
    # One question to the catalogue, for the fraction; nothing that was sent depended on it.
    assert [request.path for request in together.engine.requests if request.method == "GET"] == [
        "/v2/supported-models"
    ]
