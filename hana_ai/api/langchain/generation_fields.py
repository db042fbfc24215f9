"""What chat models and text completions have in common: the parameters of a request, its body, and its stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, closing, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import AliasChoices, Field, ValidationInfo, field_validator

from hana_ai.api.errors import (
    TogetherAIInputError,
    TogetherAIResponseError,
    TogetherAISettingsError,
    TogetherAIStreamError,
)
from hana_ai.api.langchain.arguments import of_call
from hana_ai.api.langchain.client_fields import ClientFields, Run, merged_body
from hana_ai.api.langchain.ranges import RANGES, check_body, check_field
from hana_ai.api.wire.schemas import PROVIDER, JSONObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.caches import BaseCache
    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.messages import BaseMessage

    from hana_ai.api.langchain.stream_reader import StreamReader
    from hana_ai.api.settings import TogetherAISettings
    from hana_ai.api.transport.call import Call

    Stop = list[str] | None
    SyncRun = CallbackManagerForLLMRun | None
    AsyncRun = AsyncCallbackManagerForLLMRun | None

_Chunk = TypeVar("_Chunk")


class GenerationFields(ClientFields):
    """Parameters of a request, each of which None leaves out."""

    parameters: ClassVar[tuple[str, ...]] = (
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
    """The fields that are sent under their own names, beside `stop`."""
    request_fields: ClassVar[frozenset[str]] = frozenset({"model", "stop", "stream_options"})
    not_sent: ClassVar[frozenset[str]] = frozenset({"stream", "stream_usage"})
    """Arguments of a call that are for this package or for LangChain."""

    temperature: float | None = None
    """0 to 2; 0 always takes the likeliest token, larger is more random."""
    top_p: float | None = None
    """0 to 1: sample from the likeliest tokens whose probabilities add up to this."""
    top_k: int | None = None
    """Sample from this many likeliest tokens; -1 from all."""
    min_p: float | None = None
    """0 to 1: sample from tokens at least this likely, relative to the likeliest."""
    max_tokens: int | None = Field(
        default=None, validation_alias=AliasChoices("max_tokens", "max_completion_tokens")
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
    """For reproducible answers, as far as the server can."""
    n: int | None = None
    """How many answers to generate for a prompt, 1 to 128; streams have one."""
    stop: list[str] | str | None = Field(default=None, validation_alias=AliasChoices("stop", "stop_sequences"))
    """Where to stop generating; a string counts as a list of one."""
    logprobs: int | None = None
    """How many log probabilities to return per token, 0 to 20. They are in a message's
    ``response_metadata["logprobs"]``, and in a completion's ``generation_info["logprobs"]``."""
    echo: bool | None = None
    """Return the prompt too; it is where the log probabilities are, as ``"prompt"``."""
    safety_model: str | None = None
    """Name of a moderation model that watches the answer."""
    stream_usage: bool = True
    """Ask for token counts in streams."""
    model_kwargs: JSONObject = Field(default_factory=dict)
    """Further fields of the request."""
    extra_body: JSONObject | None = None
    """Further fields of the request that win over all others, and are sent as they are, without any check."""

    if TYPE_CHECKING:
        # Fields of LangChain's own base, which stands beside this one.
        cache: BaseCache | bool | None
        custom_get_token_ids: Callable[[str], list[int]] | None

    @field_validator(*RANGES)
    @classmethod
    def _in_range(cls, value: object, info: ValidationInfo) -> object:
        check_field(str(info.field_name), value)
        return value

    def _fill_own(self, settings: TogetherAISettings) -> None:
        if self.cache is None and settings.together_cache is not None:
            from hana_ai.api.cache.caches import answers_of

            self.cache = answers_of(settings)

    # --- tokens ---

    def get_token_ids(self, text: str) -> list[int]:
        """Return the ids of a text's tokens, by `custom_get_token_ids` or the model's tokenizer, if it is at hand.

        Raises
        ------
        TogetherAISettingsError
            It is not; the message says how it would be.
        """
        ids_of = self._tokenizer
        if ids_of is None:
            raise TogetherAISettingsError(
                f"There is no tokenizer of {self.model} here. Give the object custom_get_token_ids=..., or have "
                "its tokenizer.json in the cache of Hugging Face and the package tokenizers installed. "
                "get_num_tokens goes without one, by an estimate."
            )
        return ids_of(text)

    def get_num_tokens(self, text: str) -> int:
        """Count the tokens of a text: exactly where `get_token_ids` has a tokenizer, else by an estimate.

        That is within 20 % of the tokenizers of recent models in Western European languages, code and data, and
        within 50 % in other scripts.
        """
        ids_of = self._tokenizer
        if ids_of is not None:
            return len(ids_of(text))
        from hana_ai.api.langchain.token_estimates import estimated

        return estimated(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Count the tokens of messages, and of tools, as `get_num_tokens` counts their texts.

        Four more stand for the frame of each message in a chat template, and 1,600 for each picture.
        """
        from hana_ai.api.langchain.token_estimates import of_messages

        return of_messages(messages, tools, self.get_num_tokens)

    @property
    def _tokenizer(self) -> Callable[[str], list[int]] | None:
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids
        from hana_ai.api.langchain.token_estimates import tokenizer_of

        return tokenizer_of(self.model)

    # --- requests ---

    def _traced(self, params: LangSmithParams, stop: Stop) -> LangSmithParams:
        """What LangSmith is told beside what LangChain's base tells it."""
        params["ls_provider"] = PROVIDER
        if stops := stop_list(self.stop if stop is None else stop):
            params["ls_stop"] = stops
        return params

    def _parameters(self) -> JSONObject:
        """The fields that a request of this object has, as they are now."""
        fields = self.__dict__
        found = {name: value for name in self.parameters if (value := fields[name]) is not None}
        if self.stop is not None:
            found["stop"] = stop_list(self.stop)
        return found

    def _merged(self, own: JSONObject, stop: Stop, kwargs: Mapping[str, object], stream: bool) -> JSONObject:
        """Put a body together from what the class itself sends, the fields, and the arguments of one call."""
        given = of_call(type(self), kwargs) if kwargs else {}
        extra = given.pop("extra_body", None)
        for name in self.not_sent & given.keys():
            del given[name]
        if stop is not None:
            given["stop"] = stop
        body = merged_body(own, self._parameters(), self.model_kwargs, given)
        check_body(body)
        if self.extra_body or extra:
            body = merged_body(body, self.extra_body, extra)
        if "stop" in body and (stops := stop_list(body.pop("stop"))):
            # An empty list asks for nothing and takes the object's own stops away.
            body["stop"] = stops
        if stream:
            if body.get("n", 1) > 1:
                raise TogetherAIInputError("A stream has one answer; n > 1 works with invoke and generate.")
            body["stream"] = True
            if kwargs.get("stream_usage", self.stream_usage):
                body.setdefault("stream_options", {"include_usage": True})
        return body

    def _chunks(
        self, body: JSONObject, reader: StreamReader[_Chunk], run: Run | None
    ) -> Generator[_Chunk, None, None]:
        """Send a request and yield what a reader makes of the chunks."""
        call = self._call(self._with_model(body), stream=True, run=run)
        with _told_of(call, reader):
            with closing(self.transport.stream(call)) as stream:
                for wire in stream:
                    yield from reader.read(wire)
            last = reader.finish(call.used)
        yield from last

    async def _achunks(
        self, body: JSONObject, reader: StreamReader[_Chunk], run: Run | None
    ) -> AsyncGenerator[_Chunk, None]:
        """Yield the chunks from a coroutine; raises the same errors as `_chunks`."""
        call = self._call(await self._awith_model(body), stream=True, run=run)
        with _told_of(call, reader):
            async with aclosing(self.transport.astream(call)) as stream:
                async for wire in stream:
                    for chunk in reader.read(wire):
                        yield chunk
            last = reader.finish(call.used)
        for chunk in last:
            yield chunk


@contextmanager
def _told_of(call: Call, reader: StreamReader[_Chunk]) -> Iterator[None]:
    """Let the error of a stream name its request, and carry what was received if it breaks."""
    try:
        yield
    except TogetherAIResponseError as exc:
        exc.request_id, exc.model = exc.request_id or call.request_id, exc.model or call.model
        raise
    except TogetherAIStreamError as exc:
        exc.request_id, exc.model = exc.request_id or call.request_id, exc.model or call.model
        exc.partial = reader.partial()
        raise


def stop_list(stop: str | list[str] | tuple[str, ...] | None) -> list[str] | None:
    """Stop sequences as the list that the API insists on; None for none."""
    if stop is None:
        return None
    if isinstance(stop, str):
        return [stop]
    if not all(isinstance(item, str) for item in stop):
        raise TogetherAIInputError("stop takes a string or a list of strings.")
    return list(stop) or None
