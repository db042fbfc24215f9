"""Which arguments a class takes, when an object is made and in a call, and what becomes of the others.

A name that is close to a known one is refused, since it is a slip. Any other goes to `model_kwargs` with the usual
warning of LangChain, or into the body of the call it was given to. What may hold a secret is not sent.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import AliasChoices, BaseModel

from hana_ai.api.addresses.spelling import SHORTEST, edits, question, similar
from hana_ai.api.errors import TogetherAIInputError, TogetherAISettingsError
from hana_ai.api.wire.encoding import encode
from hana_ai.api.wire.schemas import JSONObject

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_SECRET = re.compile(
    r"(^|_)((api|access|secret|private|subscription)_?key|secret|password|passwd|credentials?|prox(y|ies)"
    r"|(api|access|auth|bearer|hf|hub|refresh|session)_?token)$"
    r"|^((default|extra|http|request)_)?headers?$|^(key|token)$",
    re.IGNORECASE,
)
_AS_IT_IS = "What is meant as it stands goes into extra_body."
_ELSEWHERE = frozenset({"min_tokens", "top_a"})
"""Parameters of compatible servers that are close to one of Together's, and no slip."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The names that a class takes."""

    fields: frozenset[str]
    """Every name that a field can be given by."""
    call: frozenset[str]
    """Those of a call."""
    own: frozenset[str]
    """The fields that only the object has, and no request."""
    known: frozenset[str]
    """All of them, and the fields of a request."""
    renamed: Mapping[str, str]
    """The parameters of a call that have another name in the request."""


@lru_cache(maxsize=64)
def taken_by(kind: type[BaseModel]) -> Taken:
    """The names that one of the LangChain classes here takes, computed once.

    Its class variables `parameters`, `request_fields` and `not_sent` say what a call takes.
    """
    fields = {name: name for name in kind.model_fields}
    for name, field in kind.model_fields.items():
        fields.update(dict.fromkeys(_aliases(field), name))
    request = {name for attribute in ("parameters", "request_fields") for name in getattr(kind, attribute, ())}
    call = request | {*getattr(kind, "not_sent", ()), "extra_body"}
    renamed = {alias: name for alias, name in fields.items() if alias != name and name in request}
    of_langchain = {
        name
        for base in kind.__mro__
        if base.__module__.startswith("langchain_core.") and issubclass(base, BaseModel)
        for name in base.model_fields
    }
    own = fields.keys() - call - renamed.keys() - of_langchain
    return Taken(
        fields=frozenset(fields),
        call=frozenset(call | renamed.keys()),
        own=frozenset(own),
        known=frozenset(fields.keys() | call | _ELSEWHERE),
        renamed=renamed,
    )


def _aliases(field: FieldInfo) -> Iterable[str]:
    for alias in (field.alias, field.validation_alias):
        for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            if isinstance(choice, str):
                yield choice


def sort_out(kind: type[BaseModel], values: dict[str, object]) -> None:
    """Put the arguments of a new object that are no fields into its `model_kwargs`.

    Raises
    ------
    TogetherAISettingsError
        One is close to a name that the class takes, may hold a secret, is in `model_kwargs` as well, or is
        nothing that a request could have.
    """
    taken, given = taken_by(kind), values.get("model_kwargs")
    unknown = sorted(values.keys() - taken.fields)
    further: Mapping[str, object] = given if isinstance(given, Mapping) else {}
    if not unknown and not further:
        return
    wrong = list(_refused(kind.__name__, unknown, taken.known, _AS_IT_IS))
    wrong += [f"{name} is given by itself and in model_kwargs." for name in unknown if name in further]
    if not wrong:
        wrong = [_unsendable(kind, name, values[name]) for name in unknown if not _has_json(values[name])]
    if wrong:
        # The values may be keys, and tools print a traceback with its variables.
        for name in unknown:
            del values[name]
        raise TogetherAISettingsError(" ".join(wrong))
    for name, near in _slips(further, taken.known):
        warnings.warn(f"model_kwargs has {name}; {question(near)} {_AS_IT_IS}", stacklevel=3)
    for name in unknown:
        near = [short for short in sorted(taken.fields) if len(short) < SHORTEST and edits(name, short) == 1]
        # LangChain's own words, but for the question: names that are too short for a refusal are asked for.
        warnings.warn(
            f"WARNING! {name} is not default parameter. {name} was transferred to model_kwargs. "
            f"Please confirm that {name} is what you intended{f'; {question(near)}' if near else '.'}",
            stacklevel=3,
        )
    if unknown:
        values["model_kwargs"] = {**further, **{name: values.pop(name) for name in unknown}}


def _unsendable(kind: type[BaseModel], name: str, value: object) -> str:
    what = type(value).__name__
    return f"{kind.__name__} has no argument {name}, and a value of type {what} can't be sent in a request."


def _has_json(value: object) -> bool:
    try:
        encode({"": value})
    except TogetherAIInputError:
        return False
    return True


def of_call(kind: type[BaseModel], given: Mapping[str, object]) -> JSONObject:
    """The arguments of a call, under the names that a request has for them; unknown ones are sent as they are.

    Raises
    ------
    TogetherAIInputError
        One is close to a name that a call takes, is a field that only the object has, or may hold a secret.
    """
    taken = taken_by(kind)
    if not taken.call.issuperset(given):
        unknown = given.keys() - taken.call
        for name in sorted(unknown & taken.own):
            raise TogetherAIInputError(
                f"{name} is no part of a request: give it to the object, {kind.__name__}({name}=...)."
            )
        wrong = list(_refused(f"A request of {kind.__name__}", sorted(unknown), taken.known, _AS_IT_IS))
        if wrong:
            raise TogetherAIInputError(" ".join(wrong))
    if taken.renamed.keys().isdisjoint(given):
        return dict(given)
    return {taken.renamed.get(name, name): value for name, value in given.items()}


def check_names(owner: str, names: Iterable[str], known: Collection[str]) -> None:
    """Refuse names that are slips; others pass.

    Raises
    ------
    TogetherAIInputError
        One is close to a known name, which the message has, or may hold a secret.
    """
    wrong = list(_refused(owner, sorted(names), known))
    if wrong:
        raise TogetherAIInputError(" ".join(wrong))


def _refused(owner: str, names: Iterable[str], known: Collection[str], advice: str = "") -> Iterator[str]:
    """What is said of names that must not pass."""
    names = [name for name in names if name not in known]
    slips = dict(_slips(names, known))
    for name in names:
        if name in slips:
            yield f"{owner} has no argument {name}; {question(slips[name])} {advice}".rstrip()
        elif _SECRET.search(name):
            yield f"{owner} has no argument {name}, and what may hold a secret is not sent."


def _slips(names: Iterable[str], known: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """The names that are close to known ones, with those."""
    for name in names:
        if name not in known and (near := similar(name, set(known) - _ELSEWHERE)):
            yield name, near
