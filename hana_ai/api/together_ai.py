"""The front door: one client that makes LangChain objects and answers simple questions with their cost.

>>> client = get_together_ai_client()
>>> str(client.generate_completion("The capital of France is", max_tokens=5))
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from pydantic import SecretStr

from hana_ai.api.catalog.preflight import check_defaults
from hana_ai.api.catalog.retiring import expect
from hana_ai.api.errors import TogetherAIError
from hana_ai.api.langchain.answers import (
    Completion,
    Embedded,
    TextReader,
    completion,
    embedded,
    read_chat_completion,
    read_completion,
)
from hana_ai.api.langchain.client_fields import default_model
from hana_ai.api.langchain.closing import Closing
from hana_ai.api.service import catalog_of, get_transport, ledger_for
from hana_ai.api.settings import TogetherAISettings, current_settings
from hana_ai.api.usage.key import UsageKey, usage_key
from hana_ai.api.wire.schemas import JSONObject

if TYPE_CHECKING:
    from langchain_core.language_models import LanguageModelInput

    from hana_ai.api.batches.jobs import Batches, BatchRequest
    from hana_ai.api.cache.caches import TogetherAICache, TogetherAIEmbeddingCache
    from hana_ai.api.catalog.catalog import Catalog, ModelInfo
    from hana_ai.api.chat_models import ChatTogetherAI
    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.langchain.client_fields import ClientFields
    from hana_ai.api.langchain.generation_fields import GenerationFields
    from hana_ai.api.llms import TogetherAI
    from hana_ai.api.rerankers import TogetherAIRerank
    from hana_ai.api.transport.transport import Transport
    from hana_ai.api.usage.ledger import Ledger
    from hana_ai.api.wire.schemas import JSONObject

__all__ = ["Completion", "Embedded", "TogetherAIClient", "get_together_ai_client"]

_Made = TypeVar("_Made", bound="ClientFields")


class LangChainObjects:
    """Makes LangChain objects for one set of settings; see `TogetherAIClient`."""

    def __init__(self, settings: TogetherAISettings | None = None) -> None:
        self.settings = settings if settings is not None else current_settings()
        self.settings.require_api_key()
        for kind in ("chat", "embedding", "rerank"):
            if model := default_model(self.settings, kind):
                expect(self.settings.together_base_url, kind, model)

    @property
    def transport(self) -> Transport:
        """The connections that all objects of this client share."""
        return get_transport(
            base_url=self.settings.together_base_url,
            api_key=SecretStr(self.settings.require_api_key()),
            max_concurrency=self.settings.together_max_concurrency,
            usage=self._usage,
        )

    @property
    def catalog(self) -> Catalog:
        """The models that this client's address serves."""
        return catalog_of(self.settings)

    @cached_property
    def _usage(self) -> UsageKey:
        return usage_key(self.settings)

    @property
    def ledger(self) -> Ledger:
        """What the calls of this client's settings took and cost."""
        return ledger_for(self._usage)

    def chat_model(self, model: str | None = None, **fields: object) -> ChatTogetherAI:
        """Make a `ChatTogetherAI`; `fields` are its own and win over the settings."""
        from hana_ai.api.chat_models import ChatTogetherAI

        made = ChatTogetherAI(**self._fields(model, self.settings.together_default_model, fields))
        if fields.get("cache") is None:
            made.cache = self._answers
        return self._to_ledger(made)

    def llm(self, model: str | None = None, **fields: object) -> TogetherAI:
        """Make a `TogetherAI` for text completions; `fields` are its own and win over the settings."""
        from hana_ai.api.llms import TogetherAI

        made = TogetherAI(**self._fields(model, self.settings.together_default_model, fields))
        if fields.get("cache") is None:
            made.cache = self._answers
        return self._to_ledger(made)

    def embeddings(self, model: str | None = None, **fields: object) -> TogetherAIEmbeddings:
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

    def reranker(self, model: str | None = None, **fields: object) -> TogetherAIRerank:
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

    def _fields(self, model: str | None, default: str | None, fields: dict[str, object]) -> JSONObject:
        settings = self.settings
        model = model or default
        return {
            "model": model,
            "fallback": list(settings.fallback_targets),
            "api_key": SecretStr(settings.require_api_key()),
            "base_url": settings.together_base_url,
            "timeout": settings.together_timeout,
            "connect_timeout": settings.together_connect_timeout,
            "stream_idle_timeout": settings.together_stream_idle_timeout,
            "max_retries": settings.together_max_retries,
            "max_concurrency": settings.together_max_concurrency,
            **fields,
        }

    def _same_model(self, model: str | None, default: str | None, fields: dict[str, object]) -> JSONObject:
        """Fields of a class whose model can only be replaced by itself, at another address."""
        made = self._fields(model, default, fields)
        if "fallback" not in fields:
            made["fallback"] = [target for target in made["fallback"] if target.model == made["model"]]
        return made


class TogetherAIClient(LangChainObjects, Closing):
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

    def __repr__(self) -> str:
        return f"TogetherAIClient({self.settings.together_base_url!r})"

    # --- answers with their cost ---

    def generate_completion(self, prompt: str, *, model: str | None = None, **parameters: object) -> Completion:
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
        body = self._llm._body(prompt, None, {**parameters, "model": model})
        return self._ask(self._llm, body, read_completion)

    async def agenerate_completion(
        self, prompt: str, *, model: str | None = None, **parameters: object
    ) -> Completion:
        """Continue a text from a coroutine; see `generate_completion`, whose errors it raises."""
        body = self._llm._body(prompt, None, {**parameters, "model": model})
        return await self._aask(self._llm, body, read_completion)

    def generate_chat_completion(
        self, messages: LanguageModelInput, *, model: str | None = None, **parameters: object
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
        return self._ask(self._chat, self._chat_body(messages, model, parameters), read_chat_completion)

    async def agenerate_chat_completion(
        self, messages: LanguageModelInput, *, model: str | None = None, **parameters: object
    ) -> Completion:
        """Answer a chat from a coroutine; see `generate_chat_completion`, whose errors it raises."""
        return await self._aask(self._chat, self._chat_body(messages, model, parameters), read_chat_completion)

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
        started = time.monotonic()
        result = self._embeddings._embed(_listed(texts), model=model)
        seconds = time.monotonic() - started
        return embedded(result, self._models(), seconds)

    async def agenerate_embeddings(self, texts: str | Sequence[str], *, model: str | None = None) -> Embedded:
        """Embed one text or many from a coroutine; see `generate_embeddings`, whose errors it raises."""
        started = time.monotonic()
        result = await self._embeddings._aembed(_listed(texts), model=model)
        seconds = time.monotonic() - started
        return embedded(result, await self._amodels(), seconds)

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
        return _of_kind(self.catalog.models(), kind)

    async def aget_available_models(self, kind: str | None = None) -> list[ModelInfo]:
        """List the models of this address from a coroutine; see `get_available_models`, whose errors it raises."""
        return _of_kind(await self.catalog.amodels(), kind)

    @cached_property
    def batches(self) -> Batches:
        """Requests that Together answers as batches, within a day: submit, wait, results."""
        from hana_ai.api.batches.accounts import Accounts
        from hana_ai.api.batches.jobs import Batches
        from hana_ai.api.batches.steps import Doer

        accounts = Accounts(self.settings, lambda: self.ledger, self._models)
        return Batches(Doer(lambda: self.transport, self.settings), accounts, self._batch_body)

    def _batch_body(self, asked: BatchRequest, model: str | None, parameters: dict[str, object]) -> JSONObject:
        if isinstance(asked, Mapping):
            return self._chat._with_model({"model": model, **parameters, **asked})
        return self._chat._with_model(self._chat_body(asked, model, parameters))

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
        self, messages: LanguageModelInput, model: str | None, parameters: dict[str, object]
    ) -> JSONObject:
        history = self._chat._convert_input(messages).to_messages()
        return self._chat._body(history, None, {**parameters, "model": model})

    def _ask(self, asker: GenerationFields, body: JSONObject, read: TextReader) -> Completion:
        body = asker._with_model(body)
        reply = asker.transport.request(asker._call(body))
        return completion(reply, body["model"], read, self._models(), self.settings.together_base_url)

    async def _aask(self, asker: GenerationFields, body: JSONObject, read: TextReader) -> Completion:
        body = await asker._awith_model(body)
        reply = await asker.transport.arequest(asker._call(body))
        return completion(reply, body["model"], read, await self._amodels(), self.settings.together_base_url)

    def _models(self) -> Mapping[str, ModelInfo]:
        """The catalogue, for prices; an answer is not lost because they can't be read."""
        try:
            return self.catalog.models()
        except TogetherAIError:
            return self.catalog.cached or {}

    async def _amodels(self) -> Mapping[str, ModelInfo]:
        try:
            return await self.catalog.amodels()
        except TogetherAIError:
            return self.catalog.cached or {}

    # --- the end ---

    def close(self) -> None:
        """Close the connections. Objects made by this client open new ones when they are used again."""
        self.transport.close()

    async def aclose(self) -> None:
        """Close the connections, from a coroutine."""
        await self.transport.aclose()


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
    settings = settings if settings is not None else current_settings()
    settings.require_enabled()
    with _lock:
        client = _clients.get(settings)
        if client is None:
            client = _clients[settings] = TogetherAIClient(settings)
    check_defaults(settings, catalog_of(settings))
    return client


def _of_kind(models: Mapping[str, ModelInfo], kind: str | None) -> list[ModelInfo]:
    from hana_ai.api.catalog.model_info import ModelList

    return ModelList(model for model in models.values() if kind is None or kind in model.kinds)


def _listed(texts: str | Sequence[str]) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts
