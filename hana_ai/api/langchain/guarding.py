"""`TogetherGuardMiddleware`: let a guard model judge what goes into an agent and what comes out of it.

What is new since the last answer is judged before the model is called, an answer before it enters the agent's
state, so that no tool is run and no later turn is built on what the guard refused.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ContextT,
    ModelRequest,
    ModelResponse,
    ResponseT,
    hook_config,
)
from langchain_core.exceptions import ModelError
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable, RunnableConfig

from hana_ai.api.errors import TogetherAIInputError, TogetherAIResponseError, TogetherAIUnsafeContentError
from hana_ai.api.wire.shapes import shown

if TYPE_CHECKING:
    from langchain_core.language_models import LanguageModelInput
    from langgraph.runtime import Runtime

    Guard: TypeAlias = Runnable[LanguageModelInput, AIMessage]

logger = logging.getLogger(__name__)

Categories: TypeAlias = tuple[str, ...]
ReadVerdict: TypeAlias = "Callable[[str], Categories | None]"
"""Takes a guard's answer; gives None for safe, else the categories that it named. A ValueError is no verdict."""

_REFUSAL = "I can't help with that."
# LangGraph keeps what is tagged so out of the stream of messages that the user sees.
_CONFIG: RunnableConfig = {"tags": ["guard", "nostream"], "metadata": {"lc_source": "guard"}}


def read_verdict(answer: str) -> Categories | None:
    """Read an answer in Llama Guard's form: ``safe``, or ``unsafe`` and the categories such as ``S1,S10``.

    Returns
    -------
    tuple of str or None
        The categories of an unsafe text; None for a safe one.

    Raises
    ------
    ValueError
        The answer begins with neither word.
    """
    verdict, *categories = re.findall(r"[^\s,.:;]+", answer) or [""]
    if verdict.lower() not in ("safe", "unsafe"):
        raise ValueError("it begins with neither 'safe' nor 'unsafe'")
    return tuple(categories) if verdict.lower() == "unsafe" else None


class TogetherGuardMiddleware(AgentMiddleware[AgentState[ResponseT], ContextT, ResponseT]):
    """Judge an agent's input and output by a guard model.

    Each new message of the user is judged once, and each answer of the model with the arguments of its tool calls,
    structured answers included; so a turn costs one call of the guard for its question and one for each answer,
    which the ledger has under the tag ``guard``. Reasoning is not judged. List it first, so that it sees what all
    other middlewares make of an answer. A stream shows an answer's tokens before they are judged.

    Parameters
    ----------
    model : ChatTogetherAI or another Runnable
        The guard, which gets a question, or a question and its answer, as messages.
    apply_to_input : bool
        Judge the user's messages that came after the last answer.
    apply_to_output : bool
        Judge the model's answers.
    apply_to_tool_results : bool
        Judge what tools return.
    exit_behavior : {"end", "error"}
        What follows on an unsafe text. ``"end"`` ends the run with `refusal`, puts a note in the place of the
        unsafe message, and names place and categories in the refusal's ``response_metadata["guard"]``. ``"error"``
        raises `TogetherAIUnsafeContentError`; an unsafe question then stays in the thread, where each further run
        is refused because of it.
    on_outage : {"block", "allow"}
        What follows where the guard can't be reached: no connection, a deadline, a rate limit, a server's error.
        ``"block"`` raises the guard's own error; ``"allow"`` logs a warning and lets the text through. Any other
        failure is raised in both cases: a text too long for the guard, a refused key, an answer that is no
        verdict.
    refusal : str
        What the agent says instead.
    read : callable
        Reads the guard's answer; see `read_verdict`, the default. Returns None for safe, else the categories, and
        raises ValueError where the answer is no verdict.
    name : str
        Name of the middleware; two in one agent need different ones.

    Raises
    ------
    TogetherAIInputError
        `model` is no chat model, or an option has a value that is not allowed.

    Examples
    --------
    >>> guard = TogetherGuardMiddleware(ChatTogetherAI(model="meta-llama/Llama-Guard-4-12B", temperature=0))
    >>> agent = create_agent(ChatTogetherAI(), tools, middleware=[guard])
    """

    def __init__(
        self,
        model: Guard,
        *,
        apply_to_input: bool = True,
        apply_to_output: bool = True,
        apply_to_tool_results: bool = False,
        exit_behavior: Literal["end", "error"] = "end",
        on_outage: Literal["block", "allow"] = "block",
        refusal: str = _REFUSAL,
        read: ReadVerdict = read_verdict,
        name: str = "TogetherGuardMiddleware",
    ) -> None:
        super().__init__()
        if not isinstance(model, Runnable):
            raise TogetherAIInputError(
                f"model takes a chat model, such as ChatTogetherAI(model=...), not {shown(model)}."
            )
        for option, value, allowed in (
            ("exit_behavior", exit_behavior, ("end", "error")),
            ("on_outage", on_outage, ("block", "allow")),
        ):
            if value not in allowed:
                raise TogetherAIInputError(
                    f"{option} must be {' or '.join(map(repr, allowed))}, not {shown(value)}."
                )
        judged = [HumanMessage] * apply_to_input + [ToolMessage] * apply_to_tool_results
        self._judged: tuple[type[BaseMessage], ...] = tuple(judged)
        self._apply_to_output = apply_to_output
        self._model = model
        self._exit_behavior = exit_behavior
        self._on_outage = on_outage
        self._refusal = refusal
        self._read = read
        self._name = name

    @property
    def name(self) -> str:
        """Name of the middleware in its agent."""
        return self._name

    # --- before the model ---

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: AgentState[ResponseT], runtime: Runtime[ContextT]) -> dict[str, object] | None:
        """Judge the messages that came after the last answer."""
        for message, asked in self._new(state["messages"]):
            categories = self._judge(asked)
            if categories is not None:
                return self._stop(message, categories)
        return None

    @hook_config(can_jump_to=["end"])
    async def abefore_model(
        self, state: AgentState[ResponseT], runtime: Runtime[ContextT]
    ) -> dict[str, object] | None:
        """Judge them from a coroutine; raises the same errors as `before_model`."""
        for message, asked in self._new(state["messages"]):
            categories = await self._ajudge(asked)
            if categories is not None:
                return self._stop(message, categories)
        return None

    def _new(self, messages: Sequence[AnyMessage]) -> Iterator[tuple[AnyMessage, list[BaseMessage]]]:
        """Each message to judge, with what to ask the guard."""
        answered = max((at for at, message in enumerate(messages) if isinstance(message, AIMessage)), default=-1)
        for message in messages[answered + 1 :]:
            if isinstance(message, self._judged) and message.content:
                yield message, [HumanMessage(message.content)]

    def _stop(self, message: AnyMessage, categories: Categories) -> dict[str, object]:
        where = "tool result" if isinstance(message, ToolMessage) else "input"
        note = f"[Removed: {_described(categories)}.]"
        removed = message.model_copy(update={"content": note, "additional_kwargs": {}})
        return {"messages": [removed, self._refused(where, categories)], "jump_to": "end"}

    # --- after the model ---

    def wrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], ModelResponse[ResponseT]],
    ) -> ModelResponse[ResponseT]:
        """Judge an answer before it enters the agent's state."""
        response = handler(request)
        if asked := self._answered(request, response):
            categories = self._judge(asked)
            if categories is not None:
                return ModelResponse(result=[self._refused("output", categories)])
        return response

    async def awrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], Awaitable[ModelResponse[ResponseT]]],
    ) -> ModelResponse[ResponseT]:
        """Judge it from a coroutine; raises the same errors as `wrap_model_call`."""
        response = await handler(request)
        if asked := self._answered(request, response):
            categories = await self._ajudge(asked)
            if categories is not None:
                return ModelResponse(result=[self._refused("output", categories)])
        return response

    @hook_config(can_jump_to=["end"])
    def after_model(self, state: AgentState[ResponseT], runtime: Runtime[ContextT]) -> dict[str, object] | None:
        """End the run after a refusal; without this, an agent with a `response_format` asks its model again."""
        last = state["messages"][-1]
        return {"jump_to": "end"} if last.response_metadata.get("guard") else None

    @hook_config(can_jump_to=["end"])
    async def aafter_model(
        self, state: AgentState[ResponseT], runtime: Runtime[ContextT]
    ) -> dict[str, object] | None:
        """End it in a coroutine; see `after_model`."""
        return self.after_model(state, runtime)

    def _answered(self, request: ModelRequest[ContextT], response: ModelResponse[ResponseT]) -> list[BaseMessage]:
        """The last question and the answer to it, as they are put to the guard; empty without an answer."""
        answers = [message for message in response.result if isinstance(message, AIMessage)]
        text = "\n".join(part for message in answers for part in _said(message))
        if not self._apply_to_output or not text:
            return []
        questions = [message for message in request.messages if isinstance(message, HumanMessage)]
        return [*(HumanMessage(message.content) for message in questions[-1:]), AIMessage(text)]

    # --- the verdict ---

    def _judge(self, asked: list[BaseMessage]) -> Categories | None:
        try:
            answer = self._model.invoke(asked, _CONFIG)
        except ModelError as exc:
            self._check_outage(exc)
            return None
        return self._verdict(answer)

    async def _ajudge(self, asked: list[BaseMessage]) -> Categories | None:
        try:
            answer = await self._model.ainvoke(asked, _CONFIG)
        except ModelError as exc:
            self._check_outage(exc)
            return None
        return self._verdict(answer)

    def _check_outage(self, exc: ModelError) -> None:
        """Go on where the guard's failure lets a text pass; else raise it."""
        if self._on_outage == "allow" and exc.is_retryable:
            logger.warning("%s let a text through without a verdict: %s", self._name, exc)
            return
        exc.add_note(f"{self._name} got no verdict, so that the agent stopped.")
        raise exc

    def _verdict(self, answer: AIMessage) -> Categories | None:
        try:
            return self._read(answer.text)
        except ValueError as exc:
            raise TogetherAIResponseError(
                f"The guard's answer {shown(answer.text)} is no verdict: {exc}.",
                model=answer.response_metadata.get("model_name"),
                hint="Name a guard model, or give TogetherGuardMiddleware a read= that knows its answers.",
            ) from None

    def _refused(self, where: str, categories: Categories) -> AIMessage:
        if self._exit_behavior == "error":
            raise TogetherAIUnsafeContentError(
                f"The guard refused the {where}: {_described(categories)}.", where=where, categories=categories
            )
        told = {"where": where, "categories": list(categories)}
        return AIMessage(self._refusal, response_metadata={"guard": told})


def _said(message: AIMessage) -> Iterator[str]:
    """What an answer says to the user and to tools."""
    if text := message.text:
        yield text
    for call in message.tool_calls:
        yield f"{call['name']}({json.dumps(call['args'], ensure_ascii=False, default=str)})"


def _described(categories: Categories) -> str:
    return f"unsafe ({', '.join(categories)})" if categories else "unsafe"
