"""What SAP's functions and classes are given, as fields of the class here; nothing is ignored in silence."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hana_ai.api.routing.models import say_once

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

MODEL_NAMES = ("proxy_model_name", "model_name", "model")
"""What SAP's functions and classes call the model, beside the first argument."""
SAP_S_OWN = ("proxy_client", "init_func", "deployment_id", "config_id", "config_name")
"""Whoever gives one of these means a deployment of AI Core, and gets it."""
WITHOUT_MEANING = frozenset({"model_id", "config"})
"""Arguments of SAP's functions that say how Amazon Bedrock is reached; they are taken, and logged once."""


def is_given(value: object) -> bool:
    """Whether an argument was given a value; SAP's own defaults are None and the empty string."""
    return value is not None and value != ""


def names_a_deployment(given: Mapping[str, object]) -> bool:
    """Whether arguments name a deployment or a client of AI Core."""
    return any(is_given(given.get(name)) for name in SAP_S_OWN)


def asked_model(args: Iterable[object], given: Mapping[str, object]) -> str | None:
    """The name of the model that is asked for: the first argument, or one that is called so."""
    for value in (*args, *(given.get(name) for name in MODEL_NAMES)):
        if is_given(value):
            return str(value)
    return None


def fields_of(
    kind: type[BaseModel],
    where: str,
    given: Mapping[str, Any],
    *,
    renamed: Mapping[str, str] | None = None,
    without_meaning: frozenset[str] = WITHOUT_MEANING,
) -> dict[str, Any]:
    """Turn arguments into fields of a class.

    Parameters
    ----------
    kind
        One of the LangChain classes here.
    where
        The function or class that was called, for the error.
    given
        Its arguments, without those that name the model; None is an argument that was not given.
    renamed
        The field for an argument that is called otherwise there.
    without_meaning
        Arguments that say nothing to Together.

    Raises
    ------
    TogetherAIInputError
        An argument is neither a field nor without meaning; the message names it.
    """
    from hana_ai.api.errors import TogetherAIInputError

    fields = dict(_names_of(kind))
    found, unknown = {}, []
    for name, value in given.items():
        field = (renamed or {}).get(name) or fields.get(name)
        if value is None or name in (*MODEL_NAMES, *SAP_S_OWN):
            continue
        if field is not None:
            found[field] = value
        elif name not in without_meaning:
            unknown.append(name)
        elif is_given(value):
            say_once(
                logging.INFO, f"{where}({name}=...) has no meaning for a model of Together AI, and is left out."
            )
    if unknown:
        raise TogetherAIInputError(
            f"{where} is routed to {kind.__name__}, which has no {' and no '.join(unknown)}. Leave that out, or "
            "make SAP's own model in a block of hana_ai.api.routing.stay()."
        )
    return found


def _names_of(kind: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Every name that a field can be given by, with the field's own."""
    for name, field in kind.model_fields.items():
        if name != "model":
            yield name, name
            for alias in _aliases(field):
                yield alias, name


def _aliases(field: FieldInfo) -> Iterator[str]:
    from pydantic import AliasChoices

    alias = field.validation_alias
    for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if isinstance(choice, str):
            yield choice
