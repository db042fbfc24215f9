"""TogetherAI: Together's completions in LangChain, for models that continue a text."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from pydantic import AliasChoices, ConfigDict, Field, PrivateAttr

from hana_ai.api.cache.hits import asking, has_cache, tags_of_prompts
from hana_ai.api.errors import TogetherAIInputError, TogetherAIResponseError, TogetherAIStreamError
from hana_ai.api.langchain.client_fields import ClientFields, merged_body, stop_list
from hana_ai.api.langchain.messages import PROVIDER
from hana_ai.api.transport.run_each import arun_each, run_each
from hana_ai.api.wire.shapes import SHAPE_ERRORS, shown, wrong_shape
from hana_ai.api.wire.token_counts import sum_token_counts

if TYPE_CHECKING:
    from hana_ai.api.settings import TogetherAISettings

PATH = "/v1/completions"

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
    "safety_model",
)  # fmt: skip
_NOT_SENT = frozenset({"stream", "stream_usage"})
_OF_LANGCHAIN = frozenset({"tags", "metadata", "run_name", "run_id"})


class TogetherAI(ClientFields, BaseLLM):
    """A language model of Together AI that continues a text.

    Every parameter of a request is a field; None leaves it out. Fields can be assigned later, given to a single
    call (``llm.invoke(..., temperature=0)``) or bound. What has no field goes through `model_kwargs`. Many
    prompts (`generate`, `batch` and their async twins) are sent beside each other, at most `max_concurrency` at
    a time; the first error ends them all.

    Raises
    ------
    TogetherAISettingsError
        There is no key, or a setting has a value that is not allowed.

    Examples
    --------
    >>> from hana_ai.api import TogetherAI
    >>> llm = TogetherAI(max_tokens=20, temperature=0)
    >>> len(llm.invoke("A column store keeps")) > 0
    True
    """

    model_config = ConfigDict(defer_build=False)

    kind: ClassVar[Literal["chat", "language", "embedding", "rerank"]] = "language"

    temperature: float | None = None
    """0 always takes the likeliest token; larger is more random."""
    top_p: float | None = None
    """Sample from the likeliest tokens whose probabilities add up to this."""
    top_k: int | None = None
    """Sample from this many likeliest tokens."""
    min_p: float | None = None
    """Sample from tokens at least this likely, relative to the likeliest."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Most tokens to generate."""
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
    """How many answers to generate for a prompt; streams have one."""
    stop: list[str] | str | None = Field(default=None, validation_alias=AliasChoices("stop", "stop_sequences"))
    """Where to stop generating; a string counts as a list of one."""
    logprobs: int | None = Field(default=None, ge=0, le=20)
    """How many log probabilities to return per token, 0 to 20; they are in `generation_info["logprobs"]`."""
    echo: bool | None = None
    """Return the prompt too; it is in `generation_info["prompt"]`, with its log probabilities if asked for."""
    safety_model: str | None = None
    """Name of a moderation model that watches the answer."""
    stream_usage: bool = True
    """Ask for token counts in streams."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request."""
    extra_body: dict[str, Any] | None = None
    """Further fields of the request that win over all others."""

    _of_call: dict[str, Any] | None = PrivateAttr(default=None)

    @property
    def _llm_type(self) -> str:
        return "together-ai"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        # LangChain's cache takes these for its key: two objects that send other bodies must differ here.
        if self._of_call is not None:
            return {**self._of_call, "base_url": self.base_url}
        further = {**self.model_kwargs, **(self.extra_body or {})}
        return {"model": self.model, "base_url": self.base_url, **self._parameters(), **further}

    def _parameters(self) -> dict[str, Any]:
        fields = self.__dict__
        found = {name: fields[name] for name in _PARAMETERS if fields[name] is not None}
        if self.stop is not None:
            found["stop"] = stop_list(self.stop)
        return found

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        return params

    def _fill_own(self, settings: TogetherAISettings) -> None:
        if self.cache is None and settings.together_cache is not None:
            from hana_ai.api.cache.caches import answers_of

            self.cache = answers_of(settings)

    # --- the cache ---

    def generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Callbacks | list[Callbacks] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Continue several texts; what a cache has is not sent. See LangChain's `BaseLLM.generate`."""
        if not has_cache(self.cache):
            return super().generate(prompts, stop, callbacks, **kwargs)
        body = self._body_of_call(stop, kwargs)
        body["model"] = self._resolve_model(body.get("model"))
        with asking(self, body["model"], tags_of_prompts(len(prompts), kwargs.get("tags"), callbacks)):
            return super(TogetherAI, self._for_call(body)).generate(prompts, stop, callbacks, **kwargs)

    async def agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Callbacks | list[Callbacks] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Continue several texts from a coroutine; see `generate`."""
        if not has_cache(self.cache):
            return await super().agenerate(prompts, stop, callbacks, **kwargs)
        body = self._body_of_call(stop, kwargs)
        body["model"] = await self._aresolve_model(body.get("model"))
        with asking(self, body["model"], tags_of_prompts(len(prompts), kwargs.get("tags"), callbacks)):
            return await super(TogetherAI, self._for_call(body)).agenerate(prompts, stop, callbacks, **kwargs)

    def _body_of_call(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """A call's request but for its prompt, which is what its key in a cache is made of."""
        given = {name: value for name, value in kwargs.items() if name not in _OF_LANGCHAIN}
        body = self._body("", stop, given, stream=False)
        if not body["prompt"]:
            del body["prompt"]
        return body

    def _for_call(self, body: dict[str, Any]) -> TogetherAI:
        """A copy that knows the call's own parameters: LangChain leaves them out of the cache's key."""
        asker = self.model_copy()
        asker._of_call = body
        return asker

    # --- requests ---

    def _body(
        self, prompt: str, stop: list[str] | None, kwargs: dict[str, Any], *, stream: bool
    ) -> dict[str, Any]:
        """The request's body, but for the model's name where that must be asked for."""
        given = {name: value for name, value in kwargs.items() if name not in _NOT_SENT}
        extra = given.pop("extra_body", None)
        if stop is not None:
            given["stop"] = stop
        body = merged_body(
            {"model": self.model, "prompt": prompt},
            self._parameters(),
            self.model_kwargs,
            given,
            self.extra_body,
            extra,
        )
        body = merged_body(body, {"stop": stop_list(body.get("stop"))})
        if stream:
            if body.get("n", 1) > 1:
                raise TogetherAIInputError("A stream has one answer; n > 1 works with invoke and generate.")
            body["stream"] = True
            if kwargs.get("stream_usage", self.stream_usage):
                body.setdefault("stream_options", {"include_usage": True})
        return body

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        # Once for all prompts, so that a catalogue is not read by each of them.
        model = self._resolve_model(self._body("", stop, kwargs, stream=False).get("model"))

        def ask(prompt: str) -> list[Generation]:
            body = {**self._body(prompt, stop, kwargs, stream=False), "model": model}
            reply = self.transport.request(self._call(PATH, body, run=run_manager))
            return generations_from_wire(
                reply.data, request_id=reply.request_id, model=model, fallback=reply.fallback
            )

        return llm_result(run_each(ask, prompts, limit=self._limit(len(prompts))), model=model)

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        model = await self._aresolve_model(self._body("", stop, kwargs, stream=False).get("model"))

        async def ask(prompt: str) -> list[Generation]:
            body = {**self._body(prompt, stop, kwargs, stream=False), "model": model}
            reply = await self.transport.arequest(self._call(PATH, body, run=run_manager))
            return generations_from_wire(
                reply.data, request_id=reply.request_id, model=model, fallback=reply.fallback
            )

        return llm_result(await arun_each(ask, prompts, limit=self._limit(len(prompts))), model=model)

    def _limit(self, prompts: int) -> int:
        return min(prompts, self.max_concurrency or 1)

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        body = self._body(prompt, stop, kwargs, stream=True)
        body["model"] = self._resolve_model(body.get("model"))
        reader = CompletionReader()
        call = self._call(PATH, body, stream=True, run=run_manager)
        stream = self.transport.stream(call)
        try:
            for wire in stream:
                chunk = reader.read(wire)
                if chunk is not None:
                    if run_manager is not None:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk, verbose=self.verbose)
                    yield chunk
        except TogetherAIStreamError as exc:
            exc.partial = reader.text
            raise
        finally:
            stream.close()
        last = reader.finish(call.used)
        if run_manager is not None:
            run_manager.on_llm_new_token(last.text, chunk=last, verbose=self.verbose)
        yield last

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        body = self._body(prompt, stop, kwargs, stream=True)
        body["model"] = await self._aresolve_model(body.get("model"))
        reader = CompletionReader()
        call = self._call(PATH, body, stream=True, run=run_manager)
        stream = self.transport.astream(call)
        try:
            async for wire in stream:
                chunk = reader.read(wire)
                if chunk is not None:
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk, verbose=self.verbose)
                    yield chunk
        except TogetherAIStreamError as exc:
            exc.partial = reader.text
            raise
        finally:
            await stream.aclose()
        last = reader.finish(call.used)
        if run_manager is not None:
            await run_manager.on_llm_new_token(last.text, chunk=last, verbose=self.verbose)
        yield last


# --- wire -> LangChain ---


def read_choices(
    reply: Any, *, request_id: str | None = None, model: str | None = None
) -> list[Mapping[str, Any]]:
    """Return the choices of a reply of completions.

    Raises
    ------
    TogetherAIResponseError
        There are none, or one of them has no text.
    """
    choices = reply.get("choices") if isinstance(reply, Mapping) else None
    if not isinstance(choices, list) or not choices:
        raise TogetherAIResponseError(
            f"a reply without choices: {shown(reply)}", model=model, request_id=request_id
        )
    for choice in choices:
        if not isinstance(choice, Mapping) or not isinstance(choice.get("text"), str):
            raise TogetherAIResponseError(
                f"a choice without a text: {shown(choice)}", model=model, request_id=request_id
            )
    return choices


def generations_from_wire(
    reply: Any,
    *,
    request_id: str | None = None,
    model: str | None = None,
    fallback: Mapping[str, Any] | None = None,
) -> list[Generation]:
    """Turn a reply of completions into LangChain's generations, one a choice.

    `fallback` says which target answered, if not the first; it goes into `generation_info`.

    The reply's `usage` is for all its choices together, so only the first has it, as `token_usage`.

    Raises
    ------
    TogetherAIResponseError
        The reply has no choices, or one of them has no text.
    """
    generations: list[Generation] = []
    for choice in read_choices(reply, request_id=request_id, model=model):
        info = {**_reply_info(reply, request_id), **_choice_info(choice)}
        if fallback is not None:
            info["fallback"] = dict(fallback)
        if choice.get("logprobs"):
            info["logprobs"] = choice["logprobs"]
        if reply.get("prompt"):
            info["prompt"] = reply["prompt"]
        if isinstance(reply.get("usage"), Mapping) and not generations:
            info["token_usage"] = reply["usage"]
        generations.append(Generation(text=choice["text"], generation_info=info))
    return generations


def llm_result(answers: list[list[Generation]], *, model: str) -> LLMResult:
    """Put the answers of several prompts together; `llm_output` has the model and the sums of the token counts."""
    first = [answer[0].generation_info or {} for answer in answers]
    output: dict[str, Any] = {"model_name": next((info["model_name"] for info in first), None) or model}
    usage = sum_token_counts(info.get("token_usage") for info in first)
    if usage is not None:
        output["token_usage"] = usage
    return LLMResult(generations=[list(answer) for answer in answers], llm_output=output)


def _reply_info(reply: Mapping[str, Any], request_id: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"model_provider": PROVIDER, "model_name": reply.get("model")}
    for name in ("id", "created", "system_fingerprint", "warnings"):
        if reply.get(name) is not None:
            found[name] = reply[name]
    if request_id:
        found["request_id"] = request_id
    return found


def _choice_info(choice: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"finish_reason": choice.get("finish_reason")}
    if choice.get("seed") is not None:
        found["seed"] = choice["seed"]
    return found


class CompletionReader:
    """Turn the chunks of one stream into LangChain's.

    What describes the whole answer (finish reason, model, usage) is held back and given once, by `finish`:
    LangChain joins strings and adds numbers when it merges chunks.
    """

    __slots__ = ("_info", "_parts", "_seen", "_usage")

    def __init__(self) -> None:
        self._info: dict[str, Any] = {}
        self._parts: list[str] = []
        self._seen = False
        self._usage: Any = None

    @property
    def text(self) -> str:
        """What has been received so far."""
        return "".join(self._parts)

    def read(self, wire: Mapping[str, Any]) -> GenerationChunk | None:
        """Take one decoded chunk of the wire; None if it has no text.

        Raises
        ------
        TogetherAIResponseError
            It is not what the API promises.
        """
        try:
            return self._read(wire)
        except SHAPE_ERRORS as exc:
            raise wrong_shape(exc) from exc

    def _read(self, wire: Mapping[str, Any]) -> GenerationChunk | None:
        self._usage = wire.get("usage") or self._usage
        if not self._info:
            self._info = _reply_info(wire, None)
        choice = next((choice for choice in wire.get("choices") or () if not choice.get("index")), None)
        token = wire.get("token") or {}
        self._seen = self._seen or choice is not None or bool(token)
        found = {"finish_reason": wire.get("finish_reason"), "seed": wire.get("seed")}
        if choice is not None:
            found.update(_choice_info(choice))
        self._info.update({name: value for name, value in found.items() if value is not None})
        text = _chunk_text(choice, token)
        if not text:
            return None
        self._parts.append(text)
        logprobs = _chunk_logprobs(choice or {}, token, text)
        return GenerationChunk(text=text, generation_info={"logprobs": logprobs} if logprobs else None)

    def finish(self, fallback: Mapping[str, Any] | None = None) -> GenerationChunk:
        """Give what was held back, as the last chunk; `fallback` as for `generations_from_wire`.

        Raises
        ------
        TogetherAIResponseError
            There was no answer in any chunk.
        """
        if not self._seen:
            raise TogetherAIResponseError("the stream had no choices")
        info = {name: value for name, value in self._info.items() if value is not None}
        if isinstance(self._usage, Mapping) and self._usage:
            info["token_usage"] = self._usage
        if fallback is not None:
            info["fallback"] = dict(fallback)
        return GenerationChunk(text="", generation_info=info)


def _chunk_text(choice: Mapping[str, Any] | None, token: Mapping[str, Any]) -> str:
    """A chunk's text; the document has it in the choice, its delta and the token, and requires only the last."""
    if choice is not None:
        delta = choice.get("delta") or {}
        for text in (choice.get("text"), delta.get("content")):
            if isinstance(text, str):
                return text
            if text is not None:
                raise TypeError(f"a choice's text is {shown(text)}")
    return "" if token.get("special") else str(token.get("text") or "")


def _chunk_logprobs(choice: Mapping[str, Any], token: Mapping[str, Any], text: str) -> dict[str, Any] | None:
    """A chunk's log probabilities as lists of one, the form of a whole answer, which LangChain joins."""
    logprob = choice.get("logprobs")
    if isinstance(logprob, Mapping):
        return {name: values for name, values in logprob.items() if isinstance(values, list)}
    if logprob is None:
        return None
    found: dict[str, Any] = {"tokens": [text], "token_logprobs": [logprob]}
    if token.get("id") is not None:
        found["token_ids"] = [token["id"]]
    if choice.get("top_logprobs"):
        # One JSON object a token; LangChain's merging would add up numbers of equal tokens in bare objects.
        found["top_logprobs"] = [choice["top_logprobs"]]
    return found
