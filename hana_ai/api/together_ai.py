"""The front door: one client that makes LangChain objects and answers simple questions with their cost.

>>> client = get_together_ai_client()
>>> str(client.generate_completion("The capital of France is", max_tokens=5))
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages.ai import UsageMetadata
from pydantic import SecretStr

from hana_ai.api.addresses.targets import targets_from
from hana_ai.api.catalog.preflight import check_defaults
from hana_ai.api.catalog.retiring import expect
from hana_ai.api.errors import TogetherAIError
from hana_ai.api.langchain.client_fields import default_model
from hana_ai.api.langchain.messages import chat_result, usage_from_wire
from hana_ai.api.service import catalog_of, get_transport
from hana_ai.api.settings import TogetherAISettings
from hana_ai.api.transport.call import Reply
from hana_ai.api.transport.transport import Transport
from hana_ai.api.usage.key import UsageKey, usage_key
from hana_ai.api.wire.token_counts import read_tokens

if TYPE_CHECKING:
    from hana_ai.api.cache.caches import TogetherAICache, TogetherAIEmbeddingCache
    from hana_ai.api.catalog.catalog import ModelInfo
    from hana_ai.api.chat_models import ChatTogetherAI
    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.langchain.client_fields import ClientFields
    from hana_ai.api.langchain.embedding_job import EmbeddingResult
    from hana_ai.api.llms import TogetherAI
    from hana_ai.api.rerankers import TogetherAIRerank
    from hana_ai.api.usage.ledger import Ledger

_Made = TypeVar("_Made", bound="ClientFields")


@dataclass(frozen=True)
class Completion:
    """An answer in text, and what it took. `str()` of it is the text."""

    text: str
    model: str
    """The model that answered."""
    finish_reason: str | None
    usage: UsageMetadata | None
    """Tokens; None when the server did not count them."""
    cost_usd: Decimal | None
    """USD by the catalogue's prices; None when a price or the usage is unknown, which is not zero."""
    latency_ms: float
    """Milliseconds from the first try to the last byte."""
    raw: Mapping[str, Any] = field(repr=False)
    """The reply as the server sent it."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Embedded(Sequence[list[float]]):
    """Vectors in the order of their texts, and what they took. A sequence of the vectors."""

    vectors: list[list[float]] = field(repr=False)
    """Shape `(texts, dimension)`."""
    model: str
    usage: UsageMetadata | None
    """Tokens; None when the server did not count them."""
    cost_usd: Decimal | None
    """USD; None when the price or the usage is unknown."""
    latency_ms: float
    """Milliseconds for all requests together, as they ran beside each other."""

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: Any) -> Any:
        return self.vectors[index]

    def __iter__(self) -> Iterator[list[float]]:
        return iter(self.vectors)

    @property
    def dimension(self) -> int:
        """Width of the vectors; 0 when there are none."""
        return len(self.vectors[0]) if self.vectors else 0


class TogetherAIClient:
    """Everything of Together AI for one set of settings. Thread-safe.

    Parameters
    ----------
    settings : TogetherAISettings, optional
        Default: read from the environment and `.env`.

    Raises
    ------
    TogetherAISettingsError
        There is no key, or a setting has a value that is not allowed.
    """

    def __init__(self, settings: TogetherAISettings | None = None) -> None:
        self.settings = settings if settings is not None else TogetherAISettings()
        self.settings.require_api_key()
        for kind in ("chat", "embedding", "rerank"):
            if model := default_model(self.settings, kind):
                expect(self.settings.together_base_url, kind, model)

    def __repr__(self) -> str:
        return f"TogetherAIClient({self.settings.together_base_url!r})"

    @property
    def transport(self) -> Transport:
        """The connections that all objects of this client share."""
        return get_transport(
            base_url=self.settings.together_base_url,
            api_key=SecretStr(self.settings.require_api_key()),
            max_concurrency=self.settings.together_max_concurrency,
            usage=self._usage,
        )

    @cached_property
    def _usage(self) -> UsageKey:
        return usage_key(self.settings)

    @property
    def ledger(self) -> Ledger:
        """What the calls of this client's settings took and cost."""
        from hana_ai.api.usage.ledger import ledger_for

        return ledger_for(self._usage)

    # --- LangChain objects ---

    def chat_model(self, model: str | None = None, **fields: Any) -> ChatTogetherAI:
        """Make a `ChatTogetherAI`; `fields` are its own and win over the settings."""
        from hana_ai.api.chat_models import ChatTogetherAI

        made = ChatTogetherAI(**self._fields(model, self.settings.together_default_model, fields))
        if fields.get("cache") is None:
            made.cache = self._answers
        return self._to_ledger(made)

    def llm(self, model: str | None = None, **fields: Any) -> TogetherAI:
        """Make a `TogetherAI` for text completions; `fields` are its own and win over the settings."""
        from hana_ai.api.llms import TogetherAI

        made = TogetherAI(**self._fields(model, self.settings.together_default_model, fields))
        if fields.get("cache") is None:
            made.cache = self._answers
        return self._to_ledger(made)

    def embeddings(self, model: str | None = None, **fields: Any) -> TogetherAIEmbeddings:
        """Make a `TogetherAIEmbeddings`; `fields` are its own and win over the settings."""
        from hana_ai.api.embeddings import TogetherAIEmbeddings

        if "chunk_size" not in fields:
            fields.setdefault("batch_size", self.settings.together_embedding_batch_size)
        fields.setdefault("query_prefix", self.settings.together_embedding_query_prefix)
        fields.setdefault("document_prefix", self.settings.together_embedding_document_prefix)
        made = TogetherAIEmbeddings(
            **self._same_model(model, self.settings.together_default_embedding_model, fields)
        )
        if fields.get("cache") is None:
            made.cache = self._vectors
        return self._to_ledger(made)

    def reranker(self, model: str | None = None, **fields: Any) -> TogetherAIRerank:
        """Make a `TogetherAIRerank`; `fields` are its own and win over the settings."""
        from hana_ai.api.rerankers import TogetherAIRerank

        return self._to_ledger(
            TogetherAIRerank(**self._same_model(model, self.settings.together_default_rerank_model, fields))
        )

    def _to_ledger(self, made: _Made) -> _Made:
        # The ledger is no field: an object that is saved and loaded uses that of its new environment.
        made._usage = self._usage
        return made

    # The settings of this client, also where they name no cache and the environment does.

    @property
    def _answers(self) -> TogetherAICache | None:
        if self.settings.together_cache is None:
            return None
        from hana_ai.api.cache.caches import answers_of

        return answers_of(self.settings)

    @property
    def _vectors(self) -> TogetherAIEmbeddingCache | None:
        if self.settings.together_cache is None:
            return None
        from hana_ai.api.cache.caches import vectors_of

        return vectors_of(self.settings)

    def _fields(self, model: str | None, default: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings
        model = model or default
        return {
            "model": model,
            "fallback": targets_from(settings),
            "api_key": SecretStr(settings.require_api_key()),
            "base_url": settings.together_base_url,
            "timeout": settings.together_timeout,
            "connect_timeout": settings.together_connect_timeout,
            "stream_idle_timeout": settings.together_stream_idle_timeout,
            "max_retries": settings.together_max_retries,
            "max_concurrency": settings.together_max_concurrency,
            **fields,
        }

    def _same_model(self, model: str | None, default: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        """Fields of a class whose model can only be replaced by itself, at another address."""
        made = self._fields(model, default, fields)
        if "fallback" not in fields:
            made["fallback"] = [target for target in made["fallback"] if target.model == made["model"]]
        return made

    # --- answers with their cost ---

    def generate_completion(self, prompt: str, *, model: str | None = None, **parameters: Any) -> Completion:
        """Continue a text.

        Parameters
        ----------
        prompt : str
            The beginning.
        model : str, optional
            Default: TOGETHER_DEFAULT_MODEL, else one from the catalogue.
        **parameters
            Parameters of the request, such as `max_tokens`, `temperature` and `stop`.

        Raises
        ------
        TogetherAIRequestError
            The one of its subclasses that fits.
        """
        llm = self._llm
        body = llm._body(prompt, None, {**parameters, "model": model}, stream=False)
        body["model"] = llm._resolve_model(body.get("model"))
        reply = llm.transport.request(llm._call(_completions_path(), body))
        return _completion(reply, self._info(*self._served_by(reply, body["model"])), body["model"])

    async def agenerate_completion(
        self, prompt: str, *, model: str | None = None, **parameters: Any
    ) -> Completion:
        """Continue a text, from a coroutine; see `generate_completion`."""
        llm = self._llm
        body = llm._body(prompt, None, {**parameters, "model": model}, stream=False)
        body["model"] = await llm._aresolve_model(body.get("model"))
        reply = await llm.transport.arequest(llm._call(_completions_path(), body))
        return _completion(reply, await self._ainfo(*self._served_by(reply, body["model"])), body["model"])

    def generate_chat_completion(
        self, messages: LanguageModelInput, *, model: str | None = None, **parameters: Any
    ) -> Completion:
        """Answer a chat.

        Parameters
        ----------
        messages
            What `ChatTogetherAI.invoke` takes: a string, messages, or dicts and tuples of role and content.
        model, **parameters
            As in `generate_completion`.

        Raises
        ------
        TogetherAIRequestError
            The one of its subclasses that fits.
        """
        chat = self._chat
        body = self._chat_body(messages, model, parameters)
        body["model"] = chat._resolve_model(body.get("model"))
        reply = chat.transport.request(chat._call(_chat_path(), body))
        return _chat_completion(reply, self._info(*self._served_by(reply, body["model"])), body["model"])

    async def agenerate_chat_completion(
        self, messages: LanguageModelInput, *, model: str | None = None, **parameters: Any
    ) -> Completion:
        """Answer a chat, from a coroutine; see `generate_chat_completion`."""
        chat = self._chat
        body = self._chat_body(messages, model, parameters)
        body["model"] = await chat._aresolve_model(body.get("model"))
        reply = await chat.transport.arequest(chat._call(_chat_path(), body))
        return _chat_completion(reply, await self._ainfo(*self._served_by(reply, body["model"])), body["model"])

    def generate_embeddings(self, texts: str | Sequence[str], *, model: str | None = None) -> Embedded:
        """Embed one text or many.

        Parameters
        ----------
        texts : str or sequence of str
            A single text counts as a list of one.
        model : str, optional
            Default: TOGETHER_DEFAULT_EMBEDDING_MODEL, else one from the catalogue.

        Returns
        -------
        Embedded
            A sequence of vectors, in the order of the texts.

        Raises
        ------
        TogetherAIRequestError
            The one of its subclasses that fits.
        """
        embeddings = self._embeddings
        started = time.monotonic()
        result = embeddings._embed(_texts(texts), model=model)
        seconds = time.monotonic() - started
        return _embedded(result, self._info(result.model), seconds)

    async def agenerate_embeddings(self, texts: str | Sequence[str], *, model: str | None = None) -> Embedded:
        """Embed one text or many, from a coroutine; see `generate_embeddings`."""
        embeddings = self._embeddings
        started = time.monotonic()
        result = await embeddings._aembed(_texts(texts), model=model)
        seconds = time.monotonic() - started
        return _embedded(result, await self._ainfo(result.model), seconds)

    def get_available_models(self, kind: str | None = None) -> list[ModelInfo]:
        """List the models of this address.

        Parameters
        ----------
        kind : str, optional
            chat, language, embedding, rerank, ...; default: all.

        Raises
        ------
        TogetherAIRequestError
            The catalogue can't be read.
        """
        return _of_kind(catalog_of(self.settings).models(), kind)

    async def aget_available_models(self, kind: str | None = None) -> list[ModelInfo]:
        """List the models of this address, from a coroutine; see `get_available_models`."""
        return _of_kind(await catalog_of(self.settings).amodels(), kind)

    @cached_property
    def _chat(self) -> ChatTogetherAI:
        return self.chat_model()

    @cached_property
    def _llm(self) -> TogetherAI:
        return self.llm()

    @cached_property
    def _embeddings(self) -> TogetherAIEmbeddings:
        return self.embeddings()

    def _chat_body(
        self, messages: LanguageModelInput, model: str | None, parameters: dict[str, Any]
    ) -> dict[str, Any]:
        history = self._chat._convert_input(messages).to_messages()
        return self._chat._body(history, None, {**parameters, "model": model}, stream=False)

    def _info(self, *names: str) -> ModelInfo | None:
        """What the catalogue says of a model; an answer is not lost because its price can't be found."""
        catalog = catalog_of(self.settings)
        try:
            models = catalog.models()
        except TogetherAIError:
            models = catalog.cached or {}
        return next((models[name] for name in names if name in models), None)

    def _served_by(self, reply: Reply, model: str) -> tuple[str, ...]:
        """The names of the model that answered, as this client's catalogue may know them."""
        if reply.fallback is None:
            return model, _answering(reply.data)
        if reply.fallback["base_url"] != self.settings.together_base_url:
            return ()
        return reply.fallback["model"], _answering(reply.data)

    async def _ainfo(self, *names: str) -> ModelInfo | None:
        catalog = catalog_of(self.settings)
        try:
            models = await catalog.amodels()
        except TogetherAIError:
            models = catalog.cached or {}
        return next((models[name] for name in names if name in models), None)

    # --- the end ---

    def close(self) -> None:
        """Close the connections. Objects made by this client open new ones when they are used again."""
        self.transport.close()

    async def aclose(self) -> None:
        """Close the connections, from a coroutine."""
        await self.transport.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


_clients: dict[TogetherAISettings, TogetherAIClient] = {}
_lock = threading.Lock()


def get_together_ai_client(settings: TogetherAISettings | None = None) -> TogetherAIClient:
    """Return the process's client for the settings, the same one for the same settings.

    Where the settings name default models, the first one reads the catalogue in the background, and a model that
    is deprecated or missing is warned of.

    Parameters
    ----------
    settings : TogetherAISettings, optional
        Default: read from the environment and `.env`, anew at each call.

    Raises
    ------
    TogetherAINotEnabledError
        Together is not switched on; the message lists what to set.
    TogetherAISettingsError
        There is no key, or a setting has a value that is not allowed.

    Examples
    --------
    >>> from hana_ai.api import get_together_ai_client
    >>> client = get_together_ai_client()
    >>> print(client.generate_chat_completion("What is a column store?"))
    """
    settings = settings if settings is not None else TogetherAISettings()
    settings.require_enabled()
    with _lock:
        client = _clients.get(settings)
        if client is None:
            client = _clients[settings] = TogetherAIClient(settings)
    check_defaults(settings, catalog_of(settings))
    return client


def _chat_path() -> str:
    from hana_ai.api.chat_models import PATH

    return PATH


def _completions_path() -> str:
    from hana_ai.api.llms import PATH

    return PATH


def _answering(reply: Any) -> str:
    return str(reply.get("model") or "") if isinstance(reply, Mapping) else ""


def _of_kind(models: Mapping[str, ModelInfo], kind: str | None) -> list[ModelInfo]:
    return [model for model in models.values() if kind is None or kind in model.kinds]


def _chat_completion(reply: Reply, info: ModelInfo | None, model: str) -> Completion:
    result = chat_result(reply.data, request_id=reply.request_id, model=model)
    reason = result.generations[0].message.response_metadata.get("finish_reason")
    return _made(result.generations[0].text, reason, reply, info, model)


def _completion(reply: Reply, info: ModelInfo | None, model: str) -> Completion:
    from hana_ai.api.llms import read_choices

    choice = read_choices(reply.data, model=model, request_id=reply.request_id)[0]
    return _made(str(choice.get("text") or ""), choice.get("finish_reason"), reply, info, model)


def _texts(texts: str | Sequence[str]) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts


def _embedded(result: EmbeddingResult, info: ModelInfo | None, seconds: float) -> Embedded:
    return Embedded(
        vectors=result.vectors,
        model=result.model,
        usage=usage_from_wire(result.usage),
        cost_usd=_cost(info, result.usage),
        latency_ms=seconds * 1000,
    )


def _made(text: str, reason: str | None, reply: Reply, info: ModelInfo | None, model: str) -> Completion:
    usage = reply.data.get("usage")
    return Completion(
        text=text,
        model=_answering(reply.data) or model,
        finish_reason=reason,
        usage=usage_from_wire(usage),
        cost_usd=_cost(info, usage),
        latency_ms=reply.latency * 1000,
        raw=reply.data,
    )


def _cost(info: ModelInfo | None, usage: object) -> Decimal | None:
    return None if info is None else info.cost_of(read_tokens(usage))
