"""What pickles carry of keys: their origin where the settings gave them, and else a mark that tells them apart.

A mark is a salted hash. Whoever loads the pickle has to have the key already; the mark only tells whether the key
of the settings is the same one, so that nobody's calls go on with somebody else's.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

from pydantic import SecretStr

from hana_ai.api.errors import TogetherAISettingsError

LOOPBACK_KEY = "loopback"
"""Stands for the key that an address on this machine does not need; no secret."""


class Packed(NamedTuple):
    """A key, packed for a pickle; one of the three."""

    setting: str | None = None
    """The setting that gave it."""
    mark: bytes | None = None
    """What tells whether another key is the same one."""
    key: SecretStr | None = None
    """The key, where that was asked for."""


Known = Mapping[str, SecretStr | None]
"""The keys that the settings give, by the names of the settings."""


def pack(key: SecretStr | None, known: Known, *, carry: bool) -> Packed | None:
    """Pack a key.

    Parameters
    ----------
    key : SecretStr, optional
    known : mapping
        What the settings of this process give.
    carry : bool
        Whether a key that they don't give is carried as it is.
    """
    if key is None:
        return None
    for name, given in known.items():
        if given == key:
            return Packed(setting=name)
    if carry or key.get_secret_value() == LOOPBACK_KEY:
        return Packed(key=key)
    salt = os.urandom(16)
    return Packed(mark=salt + _digest(salt, key))


def pack_password(password: SecretStr | None, here: SecretStr | None, *, carry: bool) -> Packed | None:
    """Pack a database's password; without a mark, since a short one could be found by trying.

    Parameters
    ----------
    password : SecretStr, optional
    here : SecretStr, optional
        What the settings of this process give.
    carry : bool
        Whether one that they don't give is carried as it is.
    """
    if password is None:
        return None
    return Packed(key=password) if carry and password != here else Packed(setting="hana_password")


def unpack(packed: Packed | None, known: Known, owner: str) -> SecretStr | None:
    """Find a packed key again.

    Parameters
    ----------
    packed : Packed, optional
    known : mapping
        What the settings of this process give.
    owner : str
        Whose key it is, for messages.

    Raises
    ------
    TogetherAISettingsError
        The settings do not have it.
    """
    if packed is None or packed.key is not None:
        return None if packed is None else packed.key
    if packed.setting is not None:
        if (found := known.get(packed.setting)) is None:
            raise TogetherAISettingsError(
                f"A {owner} was loaded from a pickle, which carries no keys. Set {packed.setting.upper()} here."
            )
        return found
    for given in known.values():
        if given is not None and packed.mark is not None and _is_of(given, packed.mark):
            return given
    raise TogetherAISettingsError(
        f"A {owner} was loaded from a pickle, which does not carry the key that it was given. Set "
        f"{next(iter(known)).upper()} to that key here, or TOGETHER_PICKLE_KEYS=true where it is pickled."
    )


def _digest(salt: bytes, key: SecretStr) -> bytes:
    return blake2b(key.get_secret_value().encode(), digest_size=32, salt=salt).digest()


def _is_of(key: SecretStr, mark: bytes) -> bool:
    return hmac.compare_digest(mark[16:], _digest(mark[:16], key))
