"""What a server keeps of a password."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from hana_ai.api.local.hana.interface import Credentials

PBKDF2_ROUNDS = 15_000
"""Rounds of PBKDF2; open clients refuse fewer."""

SALT_BYTES = 16
_KEY_BYTES = 32


def derive(password: str) -> Credentials:
    """Make what a server keeps of a password, under a fresh salt.

    Parameters
    ----------
    password : str
        The password in clear; it is not kept.
    """
    secret = password.encode()
    salt = secrets.token_bytes(SALT_BYTES)
    return Credentials(
        salt=salt,
        rounds=PBKDF2_ROUNDS,
        salted_sha256=hmac.new(secret, salt, hashlib.sha256).digest(),
        salted_pbkdf2=hashlib.pbkdf2_hmac("sha256", secret, salt, PBKDF2_ROUNDS, _KEY_BYTES),
    )
