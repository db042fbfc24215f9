"""Copies of validated models, for what every call or chunk makes: to validate it would cost most of its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from hana_ai.api.wire.schemas import JSONObject

_Model = TypeVar("_Model", bound=BaseModel)


def copier(model: _Model) -> Callable[[JSONObject], _Model]:
    """A function that copies a validated model, with some other fields: pydantic's `model_copy` in half the time.

    Empty lists and dicts are made anew for each copy.
    """
    kind, fields, fields_set = type(model), dict(vars(model)), model.__pydantic_fields_set__
    lists = [name for name, value in fields.items() if isinstance(value, list)]
    dicts = [name for name, value in fields.items() if isinstance(value, dict)]
    extra, private = model.__pydantic_extra__, model.__pydantic_private__
    new, set_ = object.__new__, object.__setattr__

    def copied(changed: JSONObject) -> _Model:
        values = fields.copy()
        for name in lists:
            values[name] = []
        for name in dicts:
            values[name] = {}
        values.update(changed)
        copy = new(kind)
        set_(copy, "__dict__", values)
        set_(copy, "__pydantic_fields_set__", fields_set.copy())
        set_(copy, "__pydantic_extra__", None if extra is None else extra.copy())
        set_(copy, "__pydantic_private__", None if private is None else private.copy())
        return copy

    return copied
