"""What SAP's functions and classes are given, as fields of the class here; nothing is ignored in silence."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from hana_ai.api.routing.models import current_settings, model_map, say_once

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

MODEL_NAMES = ("proxy_model_name", "model_name", "model")
"""What SAP's functions and classes call the model, beside the first argument."""
DEPLOYMENTS = ("deployment_id", "config_id", "config_name")
"""Whoever gives one of these means a deployment of AI Core, and gets it unless TOGETHER_MODEL_MAP has it."""
SAP_S_OWN = ("proxy_client", "init_func", *DEPLOYMENTS)
"""What only SAP's own classes can be given."""
WITHOUT_MEANING = frozenset({"model_id", "config"})
"""Arguments of SAP's functions that say how Amazon Bedrock is reached; they are taken, and logged once."""


def is_given(value: object) -> bool:
    """Whether an argument was given a value; SAP's own defaults are None and the empty string."""
    return value is not None and value != ""


def names_a_deployment(given: Mapping[str, object]) -> bool:
    """Whether arguments name a client of AI Core, or a deployment that TOGETHER_MODEL_MAP does not have."""
    if is_given(given.get("proxy_client")) or is_given(given.get("init_func")):
        return True
    named = _deployments(given)
    if not named or mapped_deployment(given) is not None:
        return False
    say_once(
        logging.INFO,
        f"{named[0]} is a deployment of AI Core and answers there; TOGETHER_MODEL_MAP={named[0]}=owner/model lets "
        "a model of Together AI answer.",
    )
    return True


def mapped_deployment(given: Mapping[str, object]) -> str | None:
    """The deployment of AI Core that arguments name, where TOGETHER_MODEL_MAP has a model for it."""
    named = _deployments(given)
    known = model_map(current_settings()) if named else {}
    return next((deployment for deployment in named if deployment.lower() in known), None)


def _deployments(given: Mapping[str, object]) -> list[str]:
    return [str(given[name]) for name in DEPLOYMENTS if is_given(given.get(name))]


def asked_model(args: Iterable[object], given: Mapping[str, object]) -> str | None:
    """The name of what is asked for: a deployment in TOGETHER_MODEL_MAP, the first argument, or the model's."""
    for value in (mapped_deployment(given), *args, *(given.get(name) for name in MODEL_NAMES)):
        if is_given(value):
            return str(value)
    return None


def fields_of(
    kind: type[BaseModel],
    where: str,
    given: Mapping[str, object],
    *,
    renamed: Mapping[str, str] | None = None,
    without_meaning: frozenset[str] = WITHOUT_MEANING,
) -> dict[str, object]:
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
    from hana_ai.api.addresses.spelling import question, similar
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
        near = {other for name in unknown for other in similar(name, {*fields, *(renamed or {})})}
        meant = f"; {question(sorted(near))}" if near else "."
        raise TogetherAIInputError(
            f"{where} is routed to {kind.__name__}, which has no {' and no '.join(unknown)}{meant} Leave that "
            "out, or make SAP's own model in a block of hana_ai.api.routing.stay()."
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
