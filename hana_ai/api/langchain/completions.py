"""Replies of completions to LangChain's generations. Pure functions: no I/O, no settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

from langchain_core.outputs import Generation, GenerationChunk, LLMResult

from hana_ai.api.errors import TogetherAIResponseError
from hana_ai.api.langchain.messages import choice_metadata, reply_metadata
from hana_ai.api.langchain.stream_reader import StreamReader
from hana_ai.api.wire.replies import CHUNK, COMPLETION, check_reply
from hana_ai.api.wire.shapes import shown
from hana_ai.api.wire.token_counts import sum_token_counts

if TYPE_CHECKING:
    from hana_ai.api.wire.schemas import Choice, GenerationReply, JSONObject, Token


def read_choices(reply: object, *, request_id: str | None = None, model: str | None = None) -> list[Choice]:
    """Return the choices of a reply of completions.

    Raises
    ------
    TogetherAIResponseError
        There are none, or one of them has no text; the message names the place.
    """
    check_reply(COMPLETION, reply, model=model, request_id=request_id)
    return cast("GenerationReply", reply)["choices"]


def generations_from_wire(
    reply: object,
    *,
    request_id: str | None = None,
    model: str | None = None,
    fallback: Mapping[str, object] | None = None,
) -> list[Generation]:
    """Turn a reply of completions into LangChain's generations, one a choice.

    The reply's `usage` is for all its choices together, so only the first has it, as `token_usage`. `fallback`
    says which target answered, if not the first; it goes into `generation_info`.

    Raises
    ------
    TogetherAIResponseError
        The reply has no choices, or one of them has no text.
    """
    choices = read_choices(reply, request_id=request_id, model=model)
    read = cast("GenerationReply", reply)
    common = reply_metadata(read, request_id, fallback)
    generations = [
        Generation(text=choice["text"] or "", generation_info={**common, **choice_metadata(choice)})
        for choice in choices
    ]
    usage, info = read.get("usage"), generations[0].generation_info
    if isinstance(usage, Mapping) and info is not None:
        info["token_usage"] = usage
    return generations


def llm_result(answers: Iterable[list[Generation]], *, model: str) -> LLMResult:
    """Put the answers of several prompts together; `llm_output` has the model and the sums of the token counts."""
    answers = list(answers)
    first = [answer[0].generation_info or {} for answer in answers]
    output: JSONObject = {"model_name": next((info["model_name"] for info in first), None) or model}
    usage = sum_token_counts(info.get("token_usage") for info in first)
    if usage is not None:
        output["token_usage"] = usage
    return LLMResult(generations=[list(answer) for answer in answers], llm_output=output)


class CompletionReader(StreamReader[GenerationChunk]):
    """Turn the chunks of one stream into LangChain's.

    What describes the whole answer (finish reason, model, usage) is held back and given once, by `finish`:
    LangChain joins strings and adds numbers when it merges chunks.
    """

    __slots__ = ("_info", "_parts", "_usage")

    def __init__(self) -> None:
        super().__init__()
        self._info: JSONObject = {}
        self._parts: list[str] = []
        self._usage: object = None

    def partial(self) -> str:
        return "".join(self._parts)

    def _read(self, wire: GenerationReply) -> list[GenerationChunk]:
        self._usage = wire.get("usage") or self._usage
        if not self._info:
            self._info = reply_metadata(wire, None)
        first = next((choice for choice in wire.get("choices") or () if not choice.get("index")), None)
        choice: Choice = {} if first is None else first
        token: Token = wire.get("token") or {}
        text = _text(choice, token)
        if not text or token or choice.get("index") not in (0, None) or choice.get("logprobs") is not None:
            # Most chunks are a text alone.
            check_reply(CHUNK, wire)
        self._seen = self._seen or first is not None or bool(token)
        for name in ("finish_reason", "seed"):
            value = wire.get(name) if choice.get(name) is None else choice[name]
            if value is not None:
                self._info[name] = value
        if not text:
            return []
        self._parts.append(text)
        logprobs = _logprobs(choice, token, text)
        return [GenerationChunk(text=text, generation_info={"logprobs": logprobs} if logprobs else None)]

    def finish(self, fallback: Mapping[str, object] | None = None) -> list[GenerationChunk]:
        if not self._seen:
            raise TogetherAIResponseError("the stream had no choices")
        info = {name: value for name, value in self._info.items() if value is not None}
        if isinstance(self._usage, Mapping) and self._usage:
            info["token_usage"] = self._usage
        if fallback is not None:
            info["fallback"] = dict(fallback)
        return [GenerationChunk(text="", generation_info=info)]


def _text(choice: Choice, token: Token) -> str:
    """A chunk's text; the document has it in the choice, its delta and the token, and requires only the last."""
    delta = choice.get("delta") or {}
    for text in (choice.get("text"), delta.get("content")):
        if isinstance(text, str):
            return text
        if text is not None:
            raise TypeError(f"a choice's text is {shown(text)}")
    return "" if token.get("special") else token.get("text") or ""


def _logprobs(choice: Choice, token: Token, text: str) -> JSONObject | None:
    """A chunk's log probabilities as lists of one, the form of a whole answer, which LangChain joins."""
    logprob = choice.get("logprobs")
    if isinstance(logprob, Mapping):
        return {name: values for name, values in logprob.items() if isinstance(values, list)}
    if logprob is None:
        return None
    found: JSONObject = {"tokens": [text], "token_logprobs": [logprob]}
    if token.get("id") is not None:
        found["token_ids"] = [token["id"]]
    if choice.get("top_logprobs"):
        # One JSON object a token; LangChain's merging would add up numbers of equal tokens in bare objects.
        found["top_logprobs"] = [choice["top_logprobs"]]
    return found
