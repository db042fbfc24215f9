"""Which of Together's models answers where the toolkit asks for another one.

The settings, the key and the address are those of the moment. Only the catalogue's recommendation is asked for
once per process and address: all vectors of a table must come from one model, even if the recommendation changes
while the process runs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

from hana_ai.api.process import RenewableLock
from hana_ai.api.routing import scopes
from hana_ai.api.routing.hooks import ROUTING
from hana_ai.api.routing.table_patterns import goes, table_patterns

if TYPE_CHECKING:
    from pydantic import SecretStr

    from hana_ai.api.chat_models import ChatTogetherAI
    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.langchain.client_fields import ClientFields
    from hana_ai.api.llms import TogetherAI
    from hana_ai.api.rerankers import TogetherAIRerank
    from hana_ai.api.settings import TogetherAISettings

logger = logging.getLogger(__name__)

Origin = Literal["default", "user"]
"""Who made an embedding service: the toolkit itself, or the user."""

_MOST_OBJECTS = 256
"""Made for different settings; a process may serve any number of tenants."""

_Made = TypeVar("_Made")
_Model = TypeVar("_Model", bound="ClientFields")

_lock = RenewableLock()
_said: set[str] = set()
_embeddings: dict[tuple[TogetherAISettings, str], TogetherAIEmbeddings] = {}
_rerankers: dict[TogetherAISettings, TogetherAIRerank] = {}
_named: dict[tuple[TogetherAISettings, str], TogetherAIEmbeddings] = {}
_FOR_THE_DATABASE: dict[str, object] = {"on_empty": "blank", "on_too_long": "truncate"}
"""What the toolkit embeds in the database may be empty or long: SAP's functions take it."""
_recommended: dict[str, str] = {}
"""The embedding model that the catalogue of an address recommended first."""
_stays: dict[tuple[str, SecretStr | None], str] = {}
"""Why there is no embedding model, by address and key."""


def forget() -> None:
    """Forget all choices, so that the next `activate` makes them anew."""
    with _lock:
        _said.clear()
        _embeddings.clear()
        _rerankers.clear()
        _named.clear()
        _recommended.clear()
        _stays.clear()


def is_staying() -> bool:
    """Whether the caller is in a block of `stay`, in which the toolkit goes its own way."""
    return scopes.is_staying()


def current_settings(api_key: object = None, base_url: object = None) -> TogetherAISettings:
    """The settings of the moment, with the key and address of the arguments, or else of the caller's `tenant`."""
    from pydantic import SecretStr

    from hana_ai.api.settings import TogetherAISettings

    tenant = scopes.current().tenant
    given: dict[str, object] = {}
    if api_key := api_key or (tenant and tenant.api_key):
        given["together_api_key"] = api_key if isinstance(api_key, SecretStr) else SecretStr(str(api_key))
    del api_key  # some tools print a traceback with its variables
    if tenant is not None:
        base_url = base_url or tenant.base_url
    if base_url:
        given["together_base_url"] = str(base_url)
    return TogetherAISettings(**given)


def model_map(settings: TogetherAISettings) -> dict[str, str]:
    """TOGETHER_MODEL_MAP as a dict by the requested name, in lower case.

    Raises
    ------
    TogetherAISettingsError
        An entry is not ``requested=model``.
    """
    from hana_ai.api.errors import TogetherAISettingsError

    found = {}
    for entry in filter(None, (part.strip() for part in settings.together_model_map.split(","))):
        asked, _, model = (part.strip() for part in entry.partition("="))
        if not asked or not model:
            raise TogetherAISettingsError(
                f"TOGETHER_MODEL_MAP has the entry {entry!r}; entries are requested=model, such as "
                "gpt-4o=meta-llama/Llama-3.3-70B-Instruct-Turbo, separated by commas."
            )
        found[asked.lower()] = model
    return found


def mapped(
    asked: str | None, settings: TogetherAISettings, default: str | None, level: int = logging.INFO
) -> str | None:
    """The model for a requested name: the map's, the name itself if it is one of Together's, or the default.

    Together's names have an owner before a slash; those of OpenAI, Google, Anthropic and SAP have none. What
    answers is logged, at `level` if it is the default. Without one the catalogue decides, and `say_what_answers`
    is to be called once it has.
    """
    if not asked:
        return default
    chosen = model_map(settings).get(asked.lower())
    if chosen is None and "/" in asked:
        return asked
    level = level if chosen is None else logging.INFO
    chosen = chosen or default
    if chosen is not None:
        say_what_answers(asked, level, chosen)
    return chosen


def say_what_answers(asked: str, level: int, model: str) -> None:
    """Log once which model answers where another one was requested."""
    say_once(
        level,
        f"{asked} was requested; {model} answers through Together AI. TOGETHER_MODEL_MAP={asked}=... chooses "
        "another one.",
    )


def chat_model(asked: str | None, fields: Mapping[str, object]) -> ChatTogetherAI:
    """The chat model that answers for a requested name."""
    from hana_ai.api.chat_models import ChatTogetherAI

    return _language_model(ChatTogetherAI, asked, fields)


def text_model(asked: str | None, fields: Mapping[str, object]) -> TogetherAI:
    """The model that answers for a requested one that continues a text."""
    from hana_ai.api.llms import TogetherAI

    return _language_model(TogetherAI, asked, fields)


def _language_model(kind: type[_Model], asked: str | None, fields: Mapping[str, object]) -> _Model:
    settings = current_settings(fields.get("api_key"), fields.get("base_url"))
    # Whoever names a model should see that another one answers, unless the map says so on purpose.
    model = mapped(asked, settings, settings.together_default_model, logging.WARNING)
    made = kind(**{**fields, **_place(settings), "model": model})
    if model is None and asked:
        made._on_choice = partial(say_what_answers, asked, logging.WARNING)
    _check_defaults(settings)
    return made


def _place(settings: TogetherAISettings) -> dict[str, object]:
    """The fields of an object that say where its requests go, and for whom."""
    return {"api_key": settings.together_api_key, "base_url": settings.together_base_url}


def embeddings(
    asked: str | None, *, required: bool = False, fields: Mapping[str, object] | None = None
) -> TogetherAIEmbeddings | None:
    """The embeddings that answer for a requested name; None when Together offers none.

    The catalogue is asked where neither TOGETHER_DEFAULT_EMBEDDING_MODEL nor the map names a model. If it cannot
    be read, that raises: embedding with another model instead would spoil a table.

    Parameters
    ----------
    asked : str or None
        The name that the toolkit requests.
    required : bool
        Whether to raise instead of returning None.
    fields : mapping, optional
        Of `TogetherAIEmbeddings`, for an object of its own. The same one is returned for equal settings otherwise.

    Raises
    ------
    TogetherAISettingsError
        There is no model, but one is `required`.
    TogetherAIRequestError
        The catalogue cannot be read.
    """
    fields = fields or {}
    settings = current_settings(fields.get("api_key"), fields.get("base_url"))
    if not fields and (found := _remembered(_embeddings, (settings, asked or ""))) is not None:
        return found
    if _why_none(settings) is not None and not required:
        return None
    made = _make_embeddings(asked, settings, fields, required)
    if made is None or fields:
        return made
    return _remember(_embeddings, (settings, asked or ""), made)


def _make_embeddings(
    asked: str | None, settings: TogetherAISettings, fields: Mapping[str, object], required: bool
) -> TogetherAIEmbeddings | None:
    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.errors import TogetherAISettingsError

    given = {**_FOR_THE_DATABASE, **fields, **_place(settings)}
    made = TogetherAIEmbeddings(
        **{**given, "model": mapped(asked, settings, settings.together_default_embedding_model)}
    )
    _check_defaults(settings)
    if made.model is not None:
        return made
    address = settings.together_base_url
    if address not in _recommended:
        try:
            recommended = made._catalog.default("embedding")
        except TogetherAISettingsError as exc:
            if required:
                raise
            with _lock:
                _stays[_account(settings)] = str(exc)
            say_once(
                logging.WARNING,
                f"The toolkit's own embeddings stay in use, since Together AI has no model for them: {exc}",
            )
            return None
        with _lock:
            _recommended.setdefault(address, recommended)
    made.model = _recommended[address]
    if asked:
        say_what_answers(asked, logging.INFO, made.model)
    return made


def embeddings_named(model: str, dimensions: int | None = None) -> TogetherAIEmbeddings:
    """The embeddings of exactly this model, such as a table's, with the key and the address of the moment.

    The same object is returned for equal settings; TOGETHER_MODEL_MAP does not matter.

    Parameters
    ----------
    model : str
        As Together names it.
    dimensions : int, optional
        Width that was asked for.
    """
    from hana_ai.api.embeddings import TogetherAIEmbeddings

    settings = current_settings()
    key = (settings, f"{model} {dimensions}")
    if (found := _remembered(_named, key)) is not None:
        return found
    given = {**_FOR_THE_DATABASE, **_place(settings), "model": model, "dimensions": dimensions}
    return _remember(_named, key, TogetherAIEmbeddings(**given))


def _account(settings: TogetherAISettings) -> tuple[str, SecretStr | None]:
    return settings.together_base_url, settings.together_api_key


def _why_none(settings: TogetherAISettings) -> str | None:
    """Why Together has no embedding model for these settings, as far as known."""
    return None if settings.together_default_embedding_model else _stays.get(_account(settings))


_Key = TypeVar("_Key")


def _remembered(objects: dict[_Key, _Made], key: _Key) -> _Made | None:
    with _lock:
        return objects.get(key)


def _remember(objects: dict[_Key, _Made], key: _Key, made: _Made) -> _Made:
    """Keep an object, unless another thread has been faster, and forget the oldest of too many."""
    with _lock:
        found = objects.setdefault(key, made)
        while len(objects) > _MOST_OBJECTS:
            del objects[next(iter(objects))]
        return found


def embeddings_for(origin: Origin, asked: str | None) -> TogetherAIEmbeddings | None:
    """Like `embeddings`, but None where TOGETHER_ROUTE_EMBEDDINGS keeps the toolkit's own."""
    return embeddings(asked) if routes_embeddings(origin) else None


def routes_embeddings(origin: Origin) -> bool:
    """Whether TOGETHER_ROUTE_EMBEDDINGS sends embeddings of this origin to Together."""
    route = current_settings().together_route_embeddings
    return route == "all" or (route == "defaults" and origin == "default")


def routes_table(table: str, schema: str | None) -> bool:
    """Whether a vector table that is opened now may hold Together's vectors.

    False in a block of `stay`, with TOGETHER_ROUTE_EMBEDDINGS=off, and where TOGETHER_ROUTE_TABLES lets it stay.

    Parameters
    ----------
    table : str
    schema : str or None
        None where it is not known; a pattern with a schema that stays then counts for every schema.

    Raises
    ------
    TogetherAISettingsError
        A setting has a value that is not allowed.
    """
    if is_staying():
        return False
    settings = current_settings()
    if settings.together_route_embeddings == "off":
        return False
    return goes(table_patterns(settings.together_route_tables), table, schema)


def reranker() -> TogetherAIRerank | None:
    """The rerank model, where TOGETHER_DEFAULT_RERANK_MODEL names one."""
    from hana_ai.api.rerankers import TogetherAIRerank

    settings = current_settings()
    if settings.together_default_rerank_model is None:
        return None
    if (found := _remembered(_rerankers, settings)) is not None:
        return found
    made = TogetherAIRerank(**{**_place(settings), "model": settings.together_default_rerank_model})
    _check_defaults(settings)
    return _remember(_rerankers, settings, made)


def _check_defaults(settings: TogetherAISettings) -> None:
    """Warn about default models that retire soon, once the toolkit gets its first model from here.

    Not at activation: a process that never uses a model should ask no server.
    """
    from hana_ai.api.catalog.preflight import check_defaults
    from hana_ai.api.service import catalog_of
    from hana_ai.api.together_ai import TogetherAIClient

    if ROUTING.active:
        # Making it tells the catalogue what is expected.
        TogetherAIClient(settings)
        check_defaults(settings, catalog_of(settings))


def why_embeddings_stay() -> str | None:
    """For `status()`: why the toolkit's own embeddings stay, as far as known."""
    from hana_ai.api.errors import TogetherAISettingsError

    try:
        settings = current_settings()
    except TogetherAISettingsError as exc:
        return str(exc)
    return "TOGETHER_ROUTE_EMBEDDINGS=off" if settings.together_route_embeddings == "off" else _why_none(settings)


def why_reranking_stays() -> str | None:
    """For `status()`: why the toolkit's own reranking stays."""
    from hana_ai.api.errors import TogetherAISettingsError

    try:
        named = current_settings().together_default_rerank_model
    except TogetherAISettingsError as exc:
        return str(exc)
    return None if named else "TOGETHER_DEFAULT_RERANK_MODEL is not set"


def say_once(level: int, message: str) -> None:
    """Log a message unless it has been logged before."""
    with _lock:
        if message in _said:
            return
        _said.add(message)
    logger.log(level, message)


def as_lists(texts: str | Sequence[str]) -> list[str]:
    """One text or several as a list."""
    return [texts] if isinstance(texts, str) else list(texts)
