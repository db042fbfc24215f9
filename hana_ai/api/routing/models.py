"""Which of Together's models answers where the toolkit asks for another one.

Choices are made once per process: all vectors of a table must come from one model, even if the catalogue's
recommendation changes while the process runs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from hana_ai.api.process import RenewableLock
from hana_ai.api.routing.hooks import ROUTING

if TYPE_CHECKING:
    from hana_ai.api.chat_models import ChatTogetherAI
    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.rerankers import TogetherAIRerank
    from hana_ai.api.settings import TogetherAISettings

logger = logging.getLogger(__name__)

Origin = Literal["default", "user"]
"""Who made an embedding service: the toolkit itself, or the user."""

_lock = RenewableLock()
_said: set[str] = set()
_embeddings: dict[tuple[str, str], TogetherAIEmbeddings] = {}
_rerankers: dict[tuple[str, str], TogetherAIRerank] = {}
_stays: dict[str, str] = {}


def forget() -> None:
    """Forget all choices, so that the next `activate` makes them anew."""
    with _lock:
        _said.clear()
        _embeddings.clear()
        _rerankers.clear()
        _stays.clear()


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

    Together's names have an owner before a slash; those of OpenAI, Google, Anthropic and SAP have none. Falling
    back to the default is logged at `level`.
    """
    if not asked:
        return default
    chosen = model_map(settings).get(asked.lower())
    if chosen is None and "/" in asked:
        return asked
    level = level if chosen is None else logging.INFO
    chosen = chosen or default
    say_once(
        level,
        f"{asked} was requested; {chosen or 'the model that the catalogue recommends'} answers through "
        f"Together AI. TOGETHER_MODEL_MAP={asked}=... chooses another one.",
    )
    return chosen


def chat_model(asked: str | None, fields: Mapping[str, Any]) -> ChatTogetherAI:
    """The chat model that answers for a requested name."""
    from hana_ai.api.chat_models import ChatTogetherAI
    from hana_ai.api.settings import TogetherAISettings

    settings = TogetherAISettings()
    # Whoever names a model should see that another one answers, unless the map says so on purpose.
    model = mapped(asked, settings, settings.together_default_model, logging.WARNING)
    made = ChatTogetherAI(model=model, **fields)
    _check_defaults(settings)
    return made


def embeddings(asked: str | None, *, required: bool = False) -> TogetherAIEmbeddings | None:
    """The embeddings that answer for a requested name; None when Together offers none.

    The catalogue is asked where neither TOGETHER_DEFAULT_EMBEDDING_MODEL nor the map names a model. If it cannot
    be read, that raises: embedding with another model instead would spoil a table.

    Parameters
    ----------
    asked : str or None
        The name that the toolkit requests.
    required : bool
        Whether to raise instead of returning None.

    Raises
    ------
    TogetherAISettingsError
        There is no model, but one is `required`.
    TogetherAIRequestError
        The catalogue cannot be read.
    """
    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.errors import TogetherAISettingsError
    from hana_ai.api.settings import TogetherAISettings

    settings = TogetherAISettings()
    key = (settings.together_base_url, asked or "")
    with _lock:
        if key in _embeddings:
            return _embeddings[key]
        if _stays.get(key[0]) and not required and settings.together_default_embedding_model is None:
            return None
    # What the toolkit embeds in the database may be empty or long: SAP's functions take it.
    made = TogetherAIEmbeddings(
        model=mapped(asked, settings, settings.together_default_embedding_model),
        on_empty="blank",
        on_too_long="truncate",
    )
    _check_defaults(settings)
    if made.model is None:
        try:
            made.model = made._catalog.default("embedding")
        except TogetherAISettingsError as exc:
            if required:
                raise
            with _lock:
                _stays[key[0]] = str(exc)
            say_once(
                logging.WARNING,
                f"The toolkit's own embeddings stay in use, since Together AI has no model for them: {exc}",
            )
            return None
    with _lock:
        return _embeddings.setdefault(key, made)


def embeddings_for(origin: Origin, asked: str | None) -> TogetherAIEmbeddings | None:
    """Like `embeddings`, but None where TOGETHER_ROUTE_EMBEDDINGS keeps the toolkit's own."""
    return embeddings(asked) if routes_embeddings(origin) else None


def routes_embeddings(origin: Origin) -> bool:
    """Whether TOGETHER_ROUTE_EMBEDDINGS sends embeddings of this origin to Together."""
    from hana_ai.api.settings import TogetherAISettings

    route = TogetherAISettings().together_route_embeddings
    return route == "all" or (route == "defaults" and origin == "default")


def routes_table(table: str, schema: str | None) -> bool:
    """Whether a table may be Together's."""
    return True


def reranker() -> TogetherAIRerank | None:
    """The rerank model, where TOGETHER_DEFAULT_RERANK_MODEL names one."""
    from hana_ai.api.rerankers import TogetherAIRerank
    from hana_ai.api.settings import TogetherAISettings

    settings = TogetherAISettings()
    model = settings.together_default_rerank_model
    if model is None:
        return None
    key = (settings.together_base_url, model)
    with _lock:
        if key not in _rerankers:
            _rerankers[key] = TogetherAIRerank(model=model)
            _check_defaults(settings)
        return _rerankers[key]


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
    from hana_ai.api.settings import TogetherAISettings

    try:
        settings = TogetherAISettings()
    except TogetherAISettingsError as exc:
        return str(exc)
    if settings.together_route_embeddings == "off":
        return "TOGETHER_ROUTE_EMBEDDINGS=off"
    if settings.together_default_embedding_model is None:
        return _stays.get(settings.together_base_url)
    return None


def why_reranking_stays() -> str | None:
    """For `status()`: why the toolkit's own reranking stays."""
    from hana_ai.api.errors import TogetherAISettingsError
    from hana_ai.api.settings import TogetherAISettings

    try:
        named = TogetherAISettings().together_default_rerank_model
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
