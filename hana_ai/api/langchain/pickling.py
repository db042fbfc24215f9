"""Pickles of the LangChain classes: all but the keys, which the settings of the process that loads them give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from pydantic import SecretStr

from hana_ai.api.addresses.carrying import Packed, pack, unpack
from hana_ai.api.addresses.targets import FallbackTarget

State = dict[str, object]

_FIELDS, _PRIVATE, _KEYS = "__dict__", "__pydantic_private__", "together_ai_keys"


def without_keys(state: State) -> State:
    """The state of an object as a pickle has it."""
    from hana_ai.api.settings import TogetherAISettings

    settings = TogetherAISettings()
    known, carry = settings.known_keys, settings.together_pickle_keys

    def packed(key: object) -> Packed | None:
        return pack(key if isinstance(key, SecretStr) else None, known, carry=carry)

    fields, private = _part(state, _FIELDS), _part(state, _PRIVATE)
    keys = {
        "api_key": packed(fields["api_key"]),
        "_fallback_key": packed(private.get("_fallback_key")),
        "fallback": [packed(_key_of(target)) for target in _list(fields["fallback"])],
        "_settings_fallback": [packed(_key_of(target)) for target in _list(private.get("_settings_fallback"))],
    }
    fields["api_key"] = private["_fallback_key"] = None
    # What is computed of the others, keys included.
    private["_targets"] = (None, ())
    if fields["fallback"] is not None:
        fields["fallback"] = [_with_key(target, None) for target in _list(fields["fallback"])]
    private["_settings_fallback"] = tuple(
        _with_key(target, None) for target in _list(private.get("_settings_fallback"))
    )
    return {**state, _FIELDS: fields, _PRIVATE: private, _KEYS: keys}


def with_keys(state: State, owner: str) -> State:
    """The state of an object that is loaded, with the keys of this process's settings.

    Raises
    ------
    TogetherAISettingsError
        They have none, or not the one that the object was given.
    """
    from hana_ai.api.settings import TogetherAISettings

    known = TogetherAISettings().known_keys
    fields, private = _part(state, _FIELDS), _part(state, _PRIVATE)
    keys = cast("dict[str, object]", state[_KEYS])

    def found(key: object) -> SecretStr | None:
        return unpack(cast("Packed | None", key), known, owner)

    fields["api_key"], private["_fallback_key"] = found(keys["api_key"]), found(keys["_fallback_key"])
    if fields["fallback"] is not None:
        fields["fallback"] = [
            _with_key(target, found(key))
            for target, key in zip(_list(fields["fallback"]), _list(keys["fallback"]), strict=True)
        ]
    private["_settings_fallback"] = tuple(
        _with_key(target, found(key))
        for target, key in zip(
            _list(private["_settings_fallback"]), _list(keys["_settings_fallback"]), strict=True
        )
    )
    return {**state, _FIELDS: fields, _PRIVATE: private}


def _part(state: State, name: str) -> dict[str, object]:
    return dict(cast("Mapping[str, object] | None", state[name]) or {})


def _list(values: object) -> list[object]:
    return list(values) if isinstance(values, (list, tuple)) else []


def _key_of(target: object) -> SecretStr | None:
    return target.api_key if isinstance(target, FallbackTarget) else None


def _with_key(target: object, key: SecretStr | None) -> object:
    return replace(target, api_key=key) if isinstance(target, FallbackTarget) else target
