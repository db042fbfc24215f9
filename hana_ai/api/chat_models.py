"""ChatTogetherAI: Together's chat models in LangChain."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from hana_ai.api.cache.hits import OURS, asking, has_cache, tags_of_run
from hana_ai.api.errors import TogetherAIInputError, TogetherAIStreamError
from hana_ai.api.langchain.client_fields import ClientFields, merged_body, stop_list
from hana_ai.api.langchain.messages import (
    PROVIDER,
    chat_result,
    messages_to_wire,
    tool_choice_to_wire,
)

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import LanguageModelInput, ModelProfile
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import ChatGenerationChunk, ChatResult
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool

    from hana_ai.api.langchain.structured_output import Method, Schema
    from hana_ai.api.settings import TogetherAISettings

PATH = "/v1/chat/completions"

_PARAMETERS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "n",
    "logprobs",
    "echo",
    "response_format",
    "safety_model",
    "compliance",
    "context_length_exceeded_behavior",
    "reasoning",
    "reasoning_effort",
    "chat_template_kwargs",
)  # fmt: skip
_NOT_SENT = frozenset(
    {"ls_structured_output_format", "structured_output_format", "stream", "stream_usage", "strict"}
)


class ChatTogetherAI(ClientFields, BaseChatModel):
    """A chat model of Together AI.

    Every parameter of a request is a field; None leaves it out. Fields can be assigned later, given to a single
    call (``model.invoke(..., temperature=0)``) or bound. What has no field goes through `model_kwargs`.

    Raises
    ------
    TogetherAISettingsError
        There is no key, or a setting has a value that is not allowed.

    Examples
    --------
    >>> from hana_ai.api import ChatTogetherAI
    >>> chat = ChatTogetherAI(temperature=0)
    >>> answer = chat.invoke("What is a column store?")
    >>> answer.usage_metadata["output_tokens"] > 0
    True
    """

    model_config = ConfigDict(defer_build=False)

    kind: ClassVar[Literal["chat", "language", "embedding", "rerank"]] = "chat"

    temperature: float | None = None
    """0 always takes the likeliest token; larger is more random."""
    top_p: float | None = None
    """Sample from the likeliest tokens whose probabilities add up to this."""
    top_k: int | None = None
    """Sample from this many likeliest tokens."""
    min_p: float | None = None
    """Sample from tokens at least this likely, relative to the likeliest."""
    max_tokens: int | None = Field(
        default=None, ge=1, validation_alias=AliasChoices("max_tokens", "max_completion_tokens")
    )
    """Most tokens to generate, reasoning included."""
    repetition_penalty: float | None = None
    """Above 1 makes repetitions less likely."""
    presence_penalty: float | None = None
    """-2 to 2; above 0 makes new topics likelier."""
    frequency_penalty: float | None = None
    """-2 to 2; above 0 makes tokens less likely the more often they occurred."""
    logit_bias: dict[str, float] | None = None
    """Token ids and what is added to their logits."""
    seed: int | None = None
    """For answers that can be repeated, as far as the server can."""
    n: int | None = Field(default=None, ge=1, le=128)
    """How many answers to generate; streams have one."""
    stop: list[str] | str | None = Field(default=None, validation_alias=AliasChoices("stop", "stop_sequences"))
    """Where to stop generating; a string counts as a list of one."""
    logprobs: int | None = Field(default=None, ge=0, le=20)
    """How many log probabilities to return per token, 0 to 20; they are in `response_metadata["logprobs"]`."""
    echo: bool | None = None
    """Return the prompt too; it is in `response_metadata["prompt"]`."""
    response_format: dict[str, Any] | None = None
    """`json_schema`, `json_object` or `regex`, in Together's form; see also `with_structured_output`."""
    safety_model: str | None = None
    """Name of a moderation model that watches the answer."""
    compliance: Literal["hipaa"] | None = None
    """Handle the request under these rules."""
    context_length_exceeded_behavior: Literal["truncate", "error"] | None = None
    """What to do when the input does not fit."""
    reasoning: dict[str, Any] | None = None
    """``{"enabled": False}`` switches a hybrid model's reasoning off."""
    reasoning_effort: str | None = None
    """low, medium or high; some models know other levels."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Arguments of the model's chat template."""
    streaming: bool = False
    """Use the streaming API for `invoke` too."""
    stream_usage: bool = True
    """Ask for token counts in streams."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request."""
    extra_body: dict[str, Any] | None = None
    """Further fields of the request that win over all others."""

    @property
    def _llm_type(self) -> str:
        return "together-ai-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "base_url": self.base_url, **self._parameters()}

    def _parameters(self) -> dict[str, Any]:
        fields = self.__dict__
        found = {name: value for name in _PARAMETERS if (value := fields[name]) is not None}
        if self.stop is not None:
            found["stop"] = stop_list(self.stop)
        return found

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        # The request as it would be sent: what does not change it, such as deadlines, does not split a cache.
        body = self._body([], stop, kwargs, stream=False)
        if not body["messages"]:
            del body["messages"]
        request = {"base_url": self.base_url, "output_version": self.output_version, "body": body}
        return OURS + self._llm_type + json.dumps(request, sort_keys=True, default=repr)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        return params

    def _fill_own(self, settings: TogetherAISettings) -> None:
        if self.cache is None and settings.together_cache is not None:
            from hana_ai.api.cache.caches import answers_of

            self.cache = answers_of(settings)
        # LangChain resolves the profile before the settings are read, when address and model may be missing.
        if self.profile is None:
            self.profile = self._resolve_model_profile()

    def _resolve_model_profile(self) -> ModelProfile | None:
        if self.model is None or self.base_url is None or self.api_key is None:
            return None
        # Only what is known already: making an object asks no server.
        info = (self.transport.catalog.cached or {}).get(self.model)
        return info.profile() if info is not None else None

    # --- requests ---

    def _body(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any], *, stream: bool
    ) -> dict[str, Any]:
        """The request's body, but for the model's name where that must be asked for."""
        given = {name: value for name, value in kwargs.items() if name not in _NOT_SENT}
        extra = given.pop("extra_body", None)
        if stop is not None:
            given["stop"] = stop
        body = merged_body(
            {"model": self.model, "messages": messages_to_wire(messages)},
            self._parameters(),
            self.model_kwargs,
            given,
            self.extra_body,
            extra,
        )
        if "stop" in body:
            # An empty list asks for nothing and takes the object's own stops away.
            body = merged_body(body, {"stop": stop_list(body["stop"])})
        if stream:
            if body.get("n", 1) > 1:
                raise TogetherAIInputError("A stream has one answer; n > 1 works with invoke and generate.")
            body["stream"] = True
            if kwargs.get("stream_usage", self.stream_usage):
                body.setdefault("stream_options", {"include_usage": True})
        return body

    def _generate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if not has_cache(self.cache):
            return super()._generate_with_cache(messages, stop, run_manager, **kwargs)
        # Before the cache is asked: an answer must not be kept under "whatever is recommended today".
        model = self._resolve_model(self._body([], stop, kwargs, stream=False).get("model"))
        with asking(self, model, tags_of_run(run_manager)):
            return super()._generate_with_cache(messages, stop, run_manager, **kwargs)

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if not has_cache(self.cache):
            return await super()._agenerate_with_cache(messages, stop, run_manager, **kwargs)
        model = await self._aresolve_model(self._body([], stop, kwargs, stream=False).get("model"))
        with asking(self, model, tags_of_run(run_manager)):
            return await super()._agenerate_with_cache(messages, stop, run_manager, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        body = self._body(messages, stop, kwargs, stream=False)
        body["model"] = self._resolve_model(body.get("model"))
        reply = self.transport.request(self._call(PATH, body, run=run_manager))
        return chat_result(reply.data, request_id=reply.request_id, model=body["model"], fallback=reply.fallback)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        body = self._body(messages, stop, kwargs, stream=False)
        body["model"] = await self._aresolve_model(body.get("model"))
        reply = await self.transport.arequest(self._call(PATH, body, run=run_manager))
        return chat_result(reply.data, request_id=reply.request_id, model=body["model"], fallback=reply.fallback)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        from hana_ai.api.langchain.chat_chunks import ChunkReader

        body = self._body(messages, stop, kwargs, stream=True)
        body["model"] = self._resolve_model(body.get("model"))
        reader = ChunkReader()
        call = self._call(PATH, body, stream=True, run=run_manager)
        stream = self.transport.stream(call)
        try:
            for wire in stream:
                yield from reader.read(wire)
        except TogetherAIStreamError as exc:
            exc.partial = reader.partial()
            raise
        finally:
            stream.close()
        yield from reader.finish(call.used)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        from hana_ai.api.langchain.chat_chunks import ChunkReader

        body = self._body(messages, stop, kwargs, stream=True)
        body["model"] = await self._aresolve_model(body.get("model"))
        reader = ChunkReader()
        call = self._call(PATH, body, stream=True, run=run_manager)
        stream = self.transport.astream(call)
        try:
            async for wire in stream:
                for chunk in reader.read(wire):
                    yield chunk
        except TogetherAIStreamError as exc:
            exc.partial = reader.partial()
            raise
        finally:
            await stream.aclose()
        for chunk in reader.finish(call.used):
            yield chunk

    # --- tools and structure ---

    def bind_tools(
        self,
        tools: Sequence[Mapping[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | Mapping[str, Any] | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Let the model call tools.

        Parameters
        ----------
        tools
            Pydantic classes, functions, LangChain tools or OpenAI's dict form.
        tool_choice
            None (the server's default), ``"auto"``, ``"none"``, ``"any"``, ``"required"`` or True (some tool),
            a tool's name, or the dict form of OpenAI or Anthropic.
        strict : bool, optional
            Ask for arguments that match the schema exactly.
        parallel_tool_calls : bool, optional
            False asks for one call at a time.
        **kwargs
            Further fields of the request.

        Raises
        ------
        TogetherAIInputError
            `tool_choice` names a tool that is not among `tools`.
        """
        formatted = [convert_to_openai_tool(cast("Any", tool), strict=strict) for tool in tools]
        names = [tool["function"]["name"] for tool in formatted if "function" in tool]
        choice = tool_choice_to_wire(tool_choice, names)
        if choice is not None:
            kwargs["tool_choice"] = choice
        if parallel_tool_calls is not None:
            kwargs["parallel_tool_calls"] = parallel_tool_calls
        return cast("Runnable[LanguageModelInput, AIMessage]", self.bind(tools=formatted, **kwargs))

    def with_structured_output(
        self,
        schema: Schema | None = None,
        *,
        method: Method | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        tools: list[Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Answer in a given shape.

        Parameters
        ----------
        schema
            A Pydantic class (the answer is an object of it), or a TypedDict, JSON schema or OpenAI tool (the
            answer is a dict). Optional for ``json_mode``.
        method : {"function_calling", "json_schema", "json_mode"}, optional
            Default: ``json_schema`` where the catalogue, if it has been read, says that the model can do it,
            else ``function_calling``. Together advises to describe the shape in the prompt as well; with
            ``json_mode`` that is the only description.
        include_raw : bool
            Return ``{"raw": AIMessage, "parsed": ..., "parsing_error": ...}`` and raise nothing.
        strict : bool, optional
            Ask the server to keep to the schema exactly.
        tools : list, optional
            Further tools that the model may call instead (``function_calling`` only).

        Raises
        ------
        TogetherAIStructuredOutputError
            When called: the answer does not have the shape; the message has the finish reason.
        """
        from hana_ai.api.langchain.structured_output import structured

        if method is None:
            profile = self.profile or self._resolve_model_profile() or {}
            method = "json_schema" if profile.get("structured_output") else "function_calling"
        return structured(
            self,
            schema,
            method=method,
            include_raw=include_raw,
            strict=strict,
            tools=tools,
            kwargs=kwargs,
        )

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None], /) -> dict[str, Any]:
        """Add the token counts of a batch's replies."""
        usage: dict[str, Any] = {}
        combined: dict[str, Any] = {"model_name": self.model}
        for output in llm_outputs:
            if not output:
                continue
            combined["model_name"] = output.get("model_name") or combined["model_name"]
            for name, count in (output.get("token_usage") or {}).items():
                if isinstance(count, int):
                    usage[name] = usage.get(name, 0) + count
        if usage:
            combined["token_usage"] = usage
        return combined
