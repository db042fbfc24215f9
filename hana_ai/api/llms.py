"""TogetherAI: Together's completions in LangChain, for models that continue a text."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.language_models.llms import BaseLLM
from pydantic import ConfigDict, PrivateAttr

from hana_ai.api.cache.hits import asking, has_cache, tags_of_prompts
from hana_ai.api.langchain.client_fields import Kind
from hana_ai.api.langchain.completions import CompletionReader, generations_from_wire, llm_result
from hana_ai.api.langchain.generation_fields import GenerationFields
from hana_ai.api.langchain.signatures import with_signature
from hana_ai.api.wire.schemas import JSONObject

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.outputs import Generation, GenerationChunk, LLMResult

    from hana_ai.api.langchain.generation_fields import AsyncRun, Stop, SyncRun
    from hana_ai.api.transport.call import Reply

    _Callbacks = Callbacks | list[Callbacks] | None

_OF_LANGCHAIN = frozenset({"tags", "metadata", "run_name", "run_id"})


class TogetherAI(GenerationFields, BaseLLM):
    """A language model of Together AI that continues a text.

    Every parameter of a request is a field; None leaves it out. Fields can be assigned later, given to a single
    call (``llm.invoke(..., temperature=0)``) or bound. What has no field goes through `model_kwargs`. Many
    prompts (`generate`, `batch` and their async twins) are sent at the same time, at most `max_concurrency` of
    them; the first error ends them all. Settings that are missing or wrong raise TogetherAISettingsError.

    Examples
    --------
    >>> from hana_ai.api import TogetherAI
    >>> llm = TogetherAI(max_tokens=20, temperature=0)
    >>> len(llm.invoke("A column store keeps")) > 0
    True
    """

    model_config = ConfigDict(defer_build=False)

    kind: ClassVar[Kind] = "language"
    path: ClassVar[str] = "/v1/completions"
    request_fields: ClassVar[frozenset[str]] = GenerationFields.request_fields | {"prompt"}

    _body_of_call: JSONObject | None = PrivateAttr(default=None)

    @property
    def _llm_type(self) -> str:
        return "together-ai"

    @property
    def _identifying_params(self) -> JSONObject:
        # LangChain's cache takes these for its key: two objects that send other bodies must differ here.
        if self._body_of_call is not None:
            return {**self._body_of_call, "base_url": self.base_url}
        further = {**self.model_kwargs, **(self.extra_body or {})}
        return {"model": self.model, "base_url": self.base_url, **self._parameters(), **further}

    def _get_ls_params(self, stop: Stop = None, **kwargs: object) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        return self._traced(params, stop)

    # --- the cache ---

    def generate(
        self, prompts: list[str], stop: Stop = None, callbacks: _Callbacks = None, **kwargs: Any
    ) -> LLMResult:
        """Continue several texts; what a cache has is not sent. See LangChain's `BaseLLM.generate`."""
        if not has_cache(self.cache):
            return super().generate(prompts, stop, callbacks, **kwargs)
        body = self._with_model(self._body_without_prompt(stop, kwargs))
        with asking(self, body["model"], tags_of_prompts(len(prompts), kwargs.get("tags"), callbacks)):
            return super(TogetherAI, self._asking_for(body)).generate(prompts, stop, callbacks, **kwargs)

    async def agenerate(
        self, prompts: list[str], stop: Stop = None, callbacks: _Callbacks = None, **kwargs: Any
    ) -> LLMResult:
        """Continue several texts from a coroutine; see `generate`, whose errors it raises."""
        if not has_cache(self.cache):
            return await super().agenerate(prompts, stop, callbacks, **kwargs)
        body = await self._awith_model(self._body_without_prompt(stop, kwargs))
        with asking(self, body["model"], tags_of_prompts(len(prompts), kwargs.get("tags"), callbacks)):
            return await super(TogetherAI, self._asking_for(body)).agenerate(prompts, stop, callbacks, **kwargs)

    def _body_without_prompt(self, stop: Stop, kwargs: Mapping[str, object]) -> JSONObject:
        """A call's request but for its prompt, which is what its key in a cache is made of."""
        body = self._body("", stop, {name: value for name, value in kwargs.items() if name not in _OF_LANGCHAIN})
        if not body["prompt"]:
            del body["prompt"]
        return body

    def _asking_for(self, body: JSONObject) -> TogetherAI:
        """A copy that knows the call's own parameters: LangChain leaves them out of the cache's key."""
        asker = self.model_copy()
        asker._body_of_call = body
        return asker

    # --- requests ---

    def _body(self, prompt: str, stop: Stop, kwargs: Mapping[str, object], *, stream: bool = False) -> JSONObject:
        """The request's body, but for the model's name where that must be asked for."""
        return self._merged({"model": self.model, "prompt": prompt}, stop, kwargs, stream)

    def _bodies(
        self, prompts: list[str], stop: Stop, kwargs: Mapping[str, object], model: str
    ) -> Iterator[JSONObject]:
        for prompt in prompts:
            yield {**self._body(prompt, stop, kwargs), "model": model}

    @with_signature
    def _generate(
        self, prompts: list[str], stop: Stop = None, run_manager: SyncRun = None, **kwargs: object
    ) -> LLMResult:
        # Once for all prompts, so that a catalogue is not read by each of them.
        model = self._with_model(self._body("", stop, kwargs))["model"]
        bodies = self._bodies(prompts, stop, kwargs, model)
        return llm_result(self._request_each(bodies, _generations, run_manager), model=model)

    @with_signature
    async def _agenerate(
        self, prompts: list[str], stop: Stop = None, run_manager: AsyncRun = None, **kwargs: object
    ) -> LLMResult:
        model = (await self._awith_model(self._body("", stop, kwargs)))["model"]
        bodies = self._bodies(prompts, stop, kwargs, model)
        return llm_result(await self._arequest_each(bodies, _generations, run_manager), model=model)

    def _stream(
        self, prompt: str, stop: Stop = None, run_manager: SyncRun = None, **kwargs: object
    ) -> Iterator[GenerationChunk]:
        body = self._body(prompt, stop, kwargs, stream=True)
        with closing(self._chunks(body, CompletionReader(), run_manager)) as chunks:
            for chunk in chunks:
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk, verbose=self.verbose)
                yield chunk

    async def _astream(
        self, prompt: str, stop: Stop = None, run_manager: AsyncRun = None, **kwargs: object
    ) -> AsyncIterator[GenerationChunk]:
        body = self._body(prompt, stop, kwargs, stream=True)
        async with aclosing(self._achunks(body, CompletionReader(), run_manager)) as chunks:
            async for chunk in chunks:
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk, verbose=self.verbose)
                yield chunk


def _generations(body: JSONObject, reply: Reply) -> list[Generation]:
    return generations_from_wire(
        reply.data, request_id=reply.request_id, model=body["model"], fallback=reply.fallback
    )
