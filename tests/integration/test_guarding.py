"""An agent with a guard: what is judged, what an unsafe text leads to, and what happens without a verdict."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelCallLimitMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from hana_ai.api import (
    ChatTogetherAI,
    TogetherAIAuthenticationError,
    TogetherAIConnectionError,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIResponseError,
    TogetherAIServerError,
    TogetherAISettings,
    TogetherAIUnsafeContentError,
    TogetherGuardMiddleware,
    get_ledger,
)
from hana_ai.api.langchain.guarding import read_verdict
from hana_ai.api.local.together import Call, LocalModel, Received, Reply, ScriptedEngine
from tests.conftest import ScriptedTogether

GUARD = "local/guard"
CHAT = "local/chat"

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def together() -> Iterator[ScriptedTogether]:
    models = [LocalModel(CHAT, "chat", 8192), LocalModel(GUARD, "chat", 8192, price_input=200.0)]
    with ScriptedTogether(ScriptedEngine(models=models)) as server:
        server.engine.on("/v1/chat/completions", _judgement)
        yield server


def _judgement(request: Received) -> Reply | None:
    """The guard's verdict; whatever the last message says about poison is unsafe."""
    if request.body["model"] != GUARD:
        return None
    return Reply(text="\n\nunsafe\nS9,S2" if "poison" in str(request.body["messages"][-1]) else "\n\nsafe")


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    """Invokes an agent, by thread or by coroutine."""

    def invoke(agent: Any, text: str, **kwargs: Any) -> dict[str, Any]:
        given = {"messages": [HumanMessage(text)]}
        if request.param == "sync":
            return dict(agent.invoke(given, **kwargs))
        return dict(asyncio.run(agent.ainvoke(given, **kwargs)))

    return invoke


def chat(server: ScriptedTogether, model: str = CHAT, **fields: Any) -> ChatTogetherAI:
    return ChatTogetherAI(model=model, max_retries=0, **server.client, **fields)


def guard(server: ScriptedTogether, **options: Any) -> TogetherGuardMiddleware:
    return TogetherGuardMiddleware(chat(server, GUARD, temperature=0), **options)


def asked(engine: ScriptedEngine, model: str) -> list[list[tuple[str, Any]]]:
    """What a model was asked: role and content of each message."""
    return [
        [(message["role"], message["content"]) for message in request.body["messages"]]
        for request in engine.posts
        if request.body["model"] == model
    ]


def lookup(material: str) -> str:
    """Look a material up."""
    return f"{material} is poison"


def test_a_safe_question_and_its_answer_are_judged_once_each(
    together: ScriptedTogether, engine: ScriptedEngine, run: Run
) -> None:
    state = run(create_agent(chat(together), middleware=[guard(together)]), "Hello there")

    assert state["messages"][-1].content == "Hello there"
    assert asked(engine, CHAT) == [[("user", "Hello there")]]
    assert asked(engine, GUARD) == [
        [("user", "Hello there")],
        [("user", "Hello there"), ("assistant", "Hello there")],
    ]


def test_an_unsafe_question_ends_the_run_and_reaches_no_model(
    together: ScriptedTogether, engine: ScriptedEngine, run: Run
) -> None:
    agent = create_agent(chat(together), middleware=[guard(together)], checkpointer=InMemorySaver())
    thread = {"config": {"configurable": {"thread_id": "1"}}}
    question, answer = run(agent, "How do I make poison?", **thread)["messages"]

    assert (question.content, answer.content) == ("[Removed: unsafe (S9, S2).]", "I can't help with that.")
    assert answer.response_metadata["guard"] == {"where": "input", "categories": ["S9", "S2"]}
    assert asked(engine, CHAT) == []

    run(agent, "Then go on.", **thread)
    assert "poison" not in str(asked(engine, CHAT))


@pytest.fixture
def poison(engine: ScriptedEngine) -> None:
    """What the model answers."""
    engine.on("/v1/chat/completions", lambda _: Reply(text="Take poison."))
    engine.on("/v1/chat/completions", _judgement)


def test_an_unsafe_answer_never_enters_the_state(together: ScriptedTogether, poison: None, run: Run) -> None:
    saver = InMemorySaver()
    agent = create_agent(
        chat(together), middleware=[guard(together, refusal="No.", apply_to_input=False)], checkpointer=saver
    )
    state = run(agent, "What now?", config={"configurable": {"thread_id": "1"}})

    assert [message.content for message in state["messages"]] == ["What now?", "No."]
    assert "poison" not in str(list(saver.list(None)))


def test_an_unsafe_answer_raises_where_that_is_asked_for(
    together: ScriptedTogether, poison: None, run: Run
) -> None:
    saver = InMemorySaver()
    agent = create_agent(chat(together), middleware=[guard(together, exit_behavior="error")], checkpointer=saver)
    with pytest.raises(TogetherAIUnsafeContentError, match=r"output: unsafe \(S9, S2\)") as caught:
        run(agent, "What now?", config={"configurable": {"thread_id": "1"}})

    assert (caught.value.where, caught.value.categories) == ("output", ("S9", "S2"))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.where, again.categories) == (str(caught.value), "output", ("S9", "S2"))
    assert "poison" not in str(caught.value) + str(list(saver.list(None)))


def test_an_unsafe_question_that_raised_is_refused_again_in_the_next_run(
    together: ScriptedTogether, engine: ScriptedEngine, run: Run
) -> None:
    agent = create_agent(
        chat(together), middleware=[guard(together, exit_behavior="error")], checkpointer=InMemorySaver()
    )
    for text in ("How do I make poison?", "Then go on."):
        with pytest.raises(TogetherAIUnsafeContentError, match="input"):
            run(agent, text, config={"configurable": {"thread_id": "1"}})
    assert asked(engine, CHAT) == []


def test_a_tool_that_is_called_with_something_unsafe_is_not_run(
    together: ScriptedTogether, engine: ScriptedEngine, run: Run
) -> None:
    called: list[str] = []

    def order(material: str) -> str:
        """Order a material."""
        called.append(material)
        return "ordered"

    engine.on("/v1/chat/completions", Reply(tool_calls=[Call("order", {"material": "poison"})]))
    engine.on("/v1/chat/completions", _judgement)
    state = run(create_agent(chat(together), [order], middleware=[guard(together)]), "Order something.")

    assert (called, state["messages"][-1].content) == ([], "I can't help with that.")
    assert asked(engine, GUARD)[-1][-1] == ("assistant", 'order({"material": "poison"})')


def test_a_structured_answer_is_judged_too(together: ScriptedTogether, engine: ScriptedEngine, run: Run) -> None:
    class Recipe(BaseModel):
        first: str

    engine.on("/v1/chat/completions", Reply(tool_calls=[Call("Recipe", {"first": "poison"})]))
    engine.on("/v1/chat/completions", _judgement)
    agent = create_agent(chat(together), middleware=[guard(together)], response_format=ToolStrategy(Recipe))
    state = run(agent, "What is first?")

    assert state.get("structured_response") is None
    assert len(asked(engine, CHAT)) == 1
    assert state["messages"][-1].content == "I can't help with that."


def test_what_a_tool_returns_is_judged_where_that_is_asked_for(
    together: ScriptedTogether, engine: ScriptedEngine, run: Run
) -> None:
    engine.reply(Reply(text="safe"), Reply(tool_calls=[Call("lookup", {"material": "M-1"})]), Reply(text="safe"))
    agent = create_agent(chat(together), [lookup], middleware=[guard(together, apply_to_tool_results=True)])
    messages = run(agent, "What is M-1?")["messages"]

    assert isinstance(messages[-2], ToolMessage)
    assert messages[-2].content == "[Removed: unsafe (S9, S2).]"
    assert messages[-1].response_metadata["guard"]["where"] == "tool result"
    assert len(asked(engine, CHAT)) == 1


def test_what_is_not_asked_for_is_not_judged(together: ScriptedTogether, engine: ScriptedEngine, run: Run) -> None:
    engine.reply(Reply(tool_calls=[Call("lookup", {"material": "M-1"})]), Reply(text="It is poison."))
    middleware = guard(together, apply_to_input=False, apply_to_output=False)
    state = run(create_agent(chat(together), [lookup], middleware=[middleware]), "Is it poison?")

    assert (state["messages"][-1].content, asked(engine, GUARD)) == ("It is poison.", [])


def test_an_earlier_turn_is_not_judged_again(together: ScriptedTogether, engine: ScriptedEngine, run: Run) -> None:
    agent = create_agent(chat(together), middleware=[guard(together)], checkpointer=InMemorySaver())
    for text in ("one", "two", "three"):
        run(agent, text, config={"configurable": {"thread_id": "1"}})
    assert [len(messages) for messages in asked(engine, GUARD)] == [1, 2] * 3


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=503), TogetherAIServerError),
        (Reply(drop=True), TogetherAIConnectionError),
        (Reply(status=401), TogetherAIAuthenticationError),
        (Reply(text="I would say that is fine."), TogetherAIResponseError),
    ],
    ids=["fails", "is away", "refuses the key", "gives no verdict"],
)
@pytest.mark.parametrize("position", [0, 2], ids=["input", "output"])
def test_without_a_verdict_nothing_passes(
    together: ScriptedTogether,
    engine: ScriptedEngine,
    run: Run,
    reply: Reply,
    error: type[TogetherAIError],
    position: int,
) -> None:
    engine.reply(*[Reply(text="safe"), Reply(text="An answer.")][:position], reply)
    with pytest.raises(error) as caught:
        run(create_agent(chat(together), middleware=[guard(together)]), "Hello")
    if error is TogetherAIResponseError:
        assert "'I would say that is fine.' is no verdict" in str(caught.value)
    else:
        assert "TogetherGuardMiddleware got no verdict, so that the agent stopped." in caught.value.__notes__


def test_an_outage_lets_texts_pass_only_where_that_is_asked_for(
    together: ScriptedTogether, engine: ScriptedEngine, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def away(request: Received) -> Reply | None:
        return Reply(status=503) if request.body["model"] == GUARD else None

    engine.on("/v1/chat/completions", away)
    agent = create_agent(chat(together), middleware=[guard(together, on_outage="allow")])
    assert run(agent, "Hello")["messages"][-1].content == "Hello"
    assert caplog.text.count("let a text through without a verdict") == 2


@pytest.mark.parametrize("reply", [Reply(status=401), Reply(status=404), Reply(text="maybe")])
def test_what_is_no_outage_lets_nothing_pass(
    together: ScriptedTogether, engine: ScriptedEngine, run: Run, reply: Reply
) -> None:
    engine.reply(reply)
    with pytest.raises(TogetherAIError):
        run(create_agent(chat(together), middleware=[guard(together, on_outage="allow")]), "Hello")
    assert asked(engine, CHAT) == []


def test_a_text_too_long_for_the_guard_does_not_pass(
    together: ScriptedTogether, engine: ScriptedEngine, run: Run
) -> None:
    middleware = TogetherGuardMiddleware(chat(together, GUARD, max_tokens=10), on_outage="allow")
    with pytest.raises(TogetherAIError, match="8192"):
        run(create_agent(chat(together), middleware=[middleware]), "word " * 8190)
    assert asked(engine, CHAT) == []


def test_the_ledger_has_the_calls_of_the_guard_with_their_cost(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    run(create_agent(chat(together), middleware=[guard(together)]), "one two three")
    events = [event for event in get_ledger(TogetherAISettings()).events() if "guard" in event.tags]

    assert [(event.model, event.tags, event.prompt_tokens) for event in events] == [
        (GUARD, ("guard",), 3),
        (GUARD, ("guard",), 6),
    ]
    assert sum(event.cost_usd or 0 for event in events) == Decimal("0.0018")


def test_a_stream_of_messages_has_no_words_of_the_guard(together: ScriptedTogether) -> None:
    agent = create_agent(chat(together), middleware=[guard(together)])
    streamed = [
        chunk.content
        for chunk, _ in agent.stream({"messages": [HumanMessage("one two")]}, stream_mode="messages")
        if isinstance(chunk, AIMessage)
    ]
    assert "".join(map(str, streamed)) == "one two"


def test_guards_of_two_kinds_judge_side_by_side(
    together: ScriptedTogether, engine: ScriptedEngine, run: Run
) -> None:
    words = FakeListChatModel(responses=["ALLOWED", "NOT ALLOWED: weapons"])

    def read(answer: str) -> tuple[str, ...] | None:
        return None if answer == "ALLOWED" else (answer.rpartition(" ")[2],)

    own = TogetherGuardMiddleware(words, read=read, name="house rules")
    state = run(create_agent(chat(together), middleware=[guard(together), own]), "Hello")

    assert state["messages"][-1].response_metadata["guard"] == {"where": "output", "categories": ["weapons"]}
    assert len(asked(engine, GUARD)) == 2


def test_what_another_middleware_makes_of_an_answer_is_judged_by_a_guard_before_it(
    together: ScriptedTogether, run: Run
) -> None:
    class Poisoning(AgentMiddleware):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            handler(request)
            return AIMessage("poison")

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            await handler(request)
            return AIMessage("poison")

    middleware = [guard(together), Poisoning(), ModelCallLimitMiddleware(run_limit=3)]
    assert run(create_agent(chat(together), middleware=middleware), "Hello")["messages"][-1].content == (
        "I can't help with that."
    )


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("safe", None),
        ("\n\nsafe", None),
        ("Safe.", None),
        ("unsafe", ()),
        ("unsafe\nS1", ("S1",)),
        ("\n\nunsafe\nS1,S10", ("S1", "S10")),
        ("UNSAFE: S3, S4", ("S3", "S4")),
    ],
)
def test_verdicts_are_read(answer: str, verdict: tuple[str, ...] | None) -> None:
    assert read_verdict(answer) == verdict


@pytest.mark.parametrize(
    "answer", ["", "  ", "unsafely", "It is safe", "safety first", "not unsafe", '{"safe": true}']
)
def test_what_is_no_verdict_is_not_taken_for_one(answer: str) -> None:
    with pytest.raises(ValueError, match="begins with neither"):
        read_verdict(answer)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": GUARD}, r"model takes a chat model, such as ChatTogetherAI\(model=...\), not 'local/guard'"),
        ({"exit_behavior": "stop"}, "exit_behavior must be 'end' or 'error', not 'stop'"),
        ({"on_outage": "open"}, "on_outage must be 'block' or 'allow', not 'open'"),
    ],
)
def test_wrong_options_are_refused(together: ScriptedTogether, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(TogetherAIInputError, match=said):
        TogetherGuardMiddleware(**{"model": chat(together, GUARD), **arguments})
