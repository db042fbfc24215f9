"""ChatTogetherAI: Together's chat models in LangChain."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict

from hana_ai.api.cache.hits import OURS, asking, has_cache, tags_of_run
from hana_ai.api.langchain.client_fields import Kind
from hana_ai.api.langchain.generation_fields import GenerationFields
from hana_ai.api.langchain.messages import (
    chat_result,
    check_shape,
    messages_to_wire,
    settle_tools,
    tool_choice_to_wire,
)
from hana_ai.api.langchain.signatures import with_signature
from hana_ai.api.wire.schemas import JSONObject

if TYPE_CHECKING:
    from langchain_core.language_models import LanguageModelInput, ModelProfile
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import ChatGenerationChunk, ChatResult
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool
    from pydantic import BaseModel

    from hana_ai.api.langchain.chat_chunks import ChunkReader
    from hana_ai.api.langchain.generation_fields import AsyncRun, Stop, SyncRun
    from hana_ai.api.langchain.structured_output import Method, Schema, Tool
    from hana_ai.api.settings import TogetherAISettings
    from hana_ai.api.transport.call import Reply


class ChatTogetherAI(GenerationFields, BaseChatModel):
    """A chat model of Together AI.

    Every parameter of a request is a field; None leaves it out. Fields can be assigned later, given to a single
    call (``model.invoke(..., temperature=0)``) or bound. What has no field goes through `model_kwargs`. A Pydantic
    class as a call's `response_format` puts its object into the message, as ``additional_kwargs["parsed"]``.

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

    kind: ClassVar[Kind] = "chat"
    path: ClassVar[str] = "/v1/chat/completions"
    parameters: ClassVar[tuple[str, ...]] = (
        *GenerationFields.parameters,
        "response_format",
        "compliance",
        "context_length_exceeded_behavior",
        "reasoning",
        "reasoning_effort",
        "chat_template_kwargs",
    )
    request_fields: ClassVar[frozenset[str]] = GenerationFields.request_fields | {
        "messages",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "function_call",
    }
    not_sent: ClassVar[frozenset[str]] = GenerationFields.not_sent | {
        "ls_structured_output_format",
        "structured_output_format",
        "strict",
    }

    response_format: JSONObject | None = None
    """`json_schema`, `json_object` or `regex`, in Together's form; see also `with_structured_output`."""
    compliance: Literal["hipaa"] | None = None
    """Handle the request under these rules."""
    context_length_exceeded_behavior: Literal["truncate", "error"] | None = None
    """What to do when the input does not fit."""
    reasoning: JSONObject | None = None
    """``{"enabled": False}`` switches a hybrid model's reasoning off."""
    reasoning_effort: str | None = None
    """low, medium or high; some models know other levels."""
    chat_template_kwargs: JSONObject | None = None
    """Arguments of the model's chat template."""
    streaming: bool = False
    """Use the streaming API for `invoke` too."""

    @property
    def _llm_type(self) -> str:
        return "together-ai-chat"

    @property
    def _identifying_params(self) -> JSONObject:
        return {"model": self.model, "base_url": self.base_url, **self._parameters()}

    def _get_llm_string(self, stop: Stop = None, **kwargs: object) -> str:
        # The request as it would be sent: what does not change it, such as deadlines, does not split a cache.
        body = self._body([], stop, kwargs)
        if not body["messages"]:
            del body["messages"]
        request = {"base_url": self.base_url, "output_version": self.output_version, "body": body}
        return OURS + self._llm_type + json.dumps(request, sort_keys=True, default=repr)

    def _get_ls_params(self, stop: Stop = None, **kwargs: object) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        return self._traced(params, stop)

    # --- the profile ---

    def _fill_own(self, settings: TogetherAISettings) -> None:
        super()._fill_own(settings)
        if self.__dict__.get("profile") is None:
            # What is no attribute is asked of `__getattr__`, each time, so that it follows address, key and model.
            self.__dict__.pop("profile", None)

    if not TYPE_CHECKING:
        # Type checkers would take it for leave to use any name.

        def __getattr__(self, name: str) -> Any:
            if name == "profile":
                from hana_ai.api.catalog.profiles import lazy_profile

                return lazy_profile(self._read_profile)
            return super().__getattr__(name)

    def _read_profile(self) -> ModelProfile:
        from hana_ai.api.catalog.profiles import profile_of

        return profile_of(self._catalog, self.model, self.kind)

    # --- requests ---

    def _body(
        self, messages: list[BaseMessage], stop: Stop, kwargs: Mapping[str, object], *, stream: bool = False
    ) -> JSONObject:
        """The request's body, but for the model's name where that must be asked for."""
        own = {"model": self.model, "messages": messages_to_wire(messages)}
        body = self._merged(own, stop, kwargs, stream)
        wanted = body.get("response_format")
        if isinstance(wanted, type) or (isinstance(wanted, dict) and "properties" in wanted):
            from hana_ai.api.langchain.parsed_answers import as_wire

            body["response_format"] = as_wire(wanted, kwargs.get("strict"))
        settle_tools(body)
        return body

    def _generate_with_cache(
        self, messages: list[BaseMessage], stop: Stop = None, run_manager: SyncRun = None, **kwargs: object
    ) -> ChatResult:
        if _class_in(kwargs) is not None:
            from hana_ai.api.langchain.parsed_answers import on_the_wire, with_parsed

            # Out here: a cache keeps the text alone.
            kind, kwargs = on_the_wire(kwargs)
            return with_parsed(self._generate_with_cache(messages, stop, run_manager, **kwargs), kind)
        if not has_cache(self.cache):
            return super()._generate_with_cache(messages, stop, run_manager, **kwargs)
        # Before the cache is asked: an answer must not be kept under "whatever is recommended today".
        model = self._with_model(self._body([], stop, kwargs))["model"]
        with asking(self, model, tags_of_run(run_manager)):
            return super()._generate_with_cache(messages, stop, run_manager, **kwargs)

    async def _agenerate_with_cache(
        self, messages: list[BaseMessage], stop: Stop = None, run_manager: AsyncRun = None, **kwargs: object
    ) -> ChatResult:
        if _class_in(kwargs) is not None:
            from hana_ai.api.langchain.parsed_answers import on_the_wire, with_parsed

            kind, kwargs = on_the_wire(kwargs)
            return with_parsed(await self._agenerate_with_cache(messages, stop, run_manager, **kwargs), kind)
        if not has_cache(self.cache):
            return await super()._agenerate_with_cache(messages, stop, run_manager, **kwargs)
        model = (await self._awith_model(self._body([], stop, kwargs)))["model"]
        with asking(self, model, tags_of_run(run_manager)):
            return await super()._agenerate_with_cache(messages, stop, run_manager, **kwargs)

    @with_signature
    def _generate(
        self, messages: list[BaseMessage], stop: Stop = None, run_manager: SyncRun = None, **kwargs: object
    ) -> ChatResult:
        body = self._with_model(self._body(messages, stop, kwargs))
        return _result(body, self.transport.request(self._call(body, run=run_manager)))

    @with_signature
    async def _agenerate(
        self, messages: list[BaseMessage], stop: Stop = None, run_manager: AsyncRun = None, **kwargs: object
    ) -> ChatResult:
        body = await self._awith_model(self._body(messages, stop, kwargs))
        return _result(body, await self.transport.arequest(self._call(body, run=run_manager)))

    def _stream(
        self, messages: list[BaseMessage], stop: Stop = None, run_manager: SyncRun = None, **kwargs: object
    ) -> Iterator[ChatGenerationChunk]:
        chunks = self._chunks(self._body(messages, stop, kwargs, stream=True), _chunk_reader(), run_manager)
        if (kind := _class_in(kwargs)) is None:
            return chunks
        from hana_ai.api.langchain.parsed_answers import then_parsed

        return then_parsed(chunks, kind)

    def _astream(
        self, messages: list[BaseMessage], stop: Stop = None, run_manager: AsyncRun = None, **kwargs: object
    ) -> AsyncIterator[ChatGenerationChunk]:
        chunks = self._achunks(self._body(messages, stop, kwargs, stream=True), _chunk_reader(), run_manager)
        if (kind := _class_in(kwargs)) is None:
            return chunks
        from hana_ai.api.langchain.parsed_answers import athen_parsed

        return athen_parsed(chunks, kind)

    # --- tools and structure ---

    def bind_tools(
        self,
        tools: Sequence[Tool],
        *,
        tool_choice: str | bool | Mapping[str, object] | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: object,
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
            `tool_choice` names a tool that is not among `tools`, or there is a `response_format`, too.
        """
        formatted = [convert_to_openai_tool(cast("BaseTool", tool), strict=strict) for tool in tools]
        check_shape(formatted, kwargs.get("response_format"))
        names = [tool["function"]["name"] for tool in formatted if "function" in tool]
        choice = tool_choice_to_wire(tool_choice, names)
        if choice is not None:
            kwargs["tool_choice"] = choice
        if parallel_tool_calls is not None:
            kwargs["parallel_tool_calls"] = parallel_tool_calls
        return self.bind(tools=formatted, **kwargs)

    def with_structured_output(
        self,
        schema: Schema | None = None,
        *,
        method: Method | None = "function_calling",
        include_raw: bool = False,
        strict: bool | None = None,
        tools: Sequence[Tool] | None = None,
        **kwargs: object,
    ) -> Runnable[LanguageModelInput, JSONObject | BaseModel]:
        """Answer in a given shape.

        Parameters
        ----------
        schema
            A Pydantic class (the answer is an object of it), or a TypedDict, JSON schema or OpenAI tool (the
            answer is a dict). Optional for ``json_mode``.
        method : {"function_calling", "json_schema", "json_mode"}
            How to ask for it. The default is the same for every model, so that the same code sends the same
            request. Together advises to describe the shape in the prompt as well; with ``json_mode`` that is the
            only description.
        include_raw : bool
            Return ``{"raw": AIMessage, "parsed": ..., "parsing_error": ...}`` and raise nothing.
        strict : bool, optional
            Ask the server to keep to the schema exactly.
        tools : list, optional
            Further tools that the model may call instead (``function_calling`` only).

        Raises
        ------
        TogetherAIInputError
            `method` is not one of these, lacks a schema, or does not go together with `tools`.
        TogetherAIStructuredOutputError
            When called: the answer does not have the shape; the message has the finish reason.
        """
        from hana_ai.api.langchain.structured_output import structured

        return structured(
            self,
            schema,
            method=method or "function_calling",
            include_raw=include_raw,
            strict=strict,
            tools=tools,
            kwargs=kwargs,
        )

    def _combine_llm_outputs(self, llm_outputs: list[JSONObject | None], /) -> JSONObject:
        """Add the token counts of a batch's replies."""
        usage: dict[str, int] = {}
        combined: JSONObject = {"model_name": self.model}
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


def _class_in(kwargs: Mapping[str, object]) -> type | None:
    """The class, a Pydantic one, that a call has for its `response_format`, if it has one."""
    kind = kwargs.get("response_format")
    return kind if isinstance(kind, type) else None


def _chunk_reader() -> ChunkReader:
    from hana_ai.api.langchain.chat_chunks import ChunkReader

    return ChunkReader()


def _result(body: JSONObject, reply: Reply) -> ChatResult:
    return chat_result(reply.data, request_id=reply.request_id, model=body["model"], fallback=reply.fallback)
