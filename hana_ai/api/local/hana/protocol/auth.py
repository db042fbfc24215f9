"""Proof of a password over the wire: SCRAMSHA256 and SCRAMPBKDF2SHA256, checked for real.

The server keeps `Credentials`, made by `derive`. A user who does not exist gets a salt that is as stable as a
real one, and the same arithmetic, so neither the reply nor its time tells whether the name is known.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from hana_ai.api.local.hana.credentials import PBKDF2_ROUNDS, SALT_BYTES
from hana_ai.api.local.hana.interface import Credentials, Engine, HanaError
from hana_ai.api.local.hana.protocol.fields import decode_fields, encode_fields
from hana_ai.api.local.hana.protocol.wire import ProtocolError

_CHALLENGE_BYTES = 48
_CLIENT_CHALLENGE_BYTES = 64
_PROOF_BYTES = 32
_SHA256 = b"SCRAMSHA256"
_PBKDF2 = b"SCRAMPBKDF2SHA256"
_AUTHENTICATION_FAILED = 10

METHODS = (_PBKDF2, _SHA256)
"""The methods that the server accepts, preferred first."""


def canonical_user(name: str) -> str:
    """Fold a user name as HANA does: upper case unless it is quoted."""
    if len(name) >= 2 and name[0] == name[-1] == '"':
        return name[1:-1].replace('""', '"')
    return name.upper()


def failed() -> HanaError:
    """The same error for an unknown name, a wrong password and no common method."""
    return HanaError(_AUTHENTICATION_FAILED, "authentication failed")


class Authenticator:
    """Makes exchanges for one server and knows what to tell users who do not exist."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._secret = secrets.token_bytes(32)

    def begin(self, data: bytes) -> tuple[Exchange, bytes]:
        """Read the AUTHENTICATION part of an AUTHENTICATE message.

        Returns
        -------
        (Exchange, bytes)
            What to ask for the proof, and the AUTHENTICATION part of the reply.

        Raises
        ------
        HanaError
            Code 10 when the client offers no method that this server knows.
        """
        fields = decode_fields(data)
        if len(fields) < 3 or len(fields) % 2 == 0:
            raise ProtocolError("AUTHENTICATE wants a user and pairs of method and data")
        offered = dict(zip(fields[1::2], fields[2::2], strict=True))
        method = next((name for name in METHODS if name in offered), None)
        if method is None:
            raise failed()
        if len(offered[method]) != _CLIENT_CHALLENGE_BYTES:
            raise ProtocolError(f"client challenge of {len(offered[method])} bytes")
        user = canonical_user(fields[0].decode("utf-8", "replace"))
        # Compute the decoy for known users too, so that both take the same time.
        decoy = self._decoy(user)
        known = self._engine.credentials(user)
        exchange = Exchange(
            user=user,
            known=known is not None,
            credentials=known or decoy,
            method=method,
            client_challenge=offered[method],
            server_challenge=secrets.token_bytes(_CHALLENGE_BYTES),
        )
        return exchange, exchange.question()

    def _decoy(self, user: str) -> Credentials:
        name = user.encode("utf-8", "replace")
        return Credentials(
            salt=_hmac(self._secret, b"salt", name)[:SALT_BYTES],
            rounds=PBKDF2_ROUNDS,
            salted_sha256=_hmac(self._secret, b"sha256", name),
            salted_pbkdf2=_hmac(self._secret, b"pbkdf2", name),
        )


@dataclass(frozen=True)
class Exchange:
    """One login between its question and its proof."""

    user: str
    known: bool
    credentials: Credentials
    method: bytes
    client_challenge: bytes
    server_challenge: bytes

    def question(self) -> bytes:
        """Return the AUTHENTICATION part of the reply to AUTHENTICATE."""
        fields = [self.credentials.salt, self.server_challenge]
        if self.method == _PBKDF2:
            fields.append(self.credentials.rounds.to_bytes(4, "big"))
        return encode_fields([self.method, encode_fields(fields)])

    def finish(self, data: bytes) -> bytes:
        """Check the AUTHENTICATION part of a CONNECT message.

        Returns
        -------
        bytes
            The AUTHENTICATION part of the reply, with the server's own proof for PBKDF2.

        Raises
        ------
        HanaError
            Code 10 when the proof is wrong or the user unknown.
        """
        fields = decode_fields(data)
        if len(fields) != 3 or fields[1] != self.method:
            raise failed()
        proofs = decode_fields(fields[2])
        proof = proofs[0] if len(proofs) == 1 and len(proofs[0]) == _PROOF_BYTES else bytes(_PROOF_BYTES)
        same_user = canonical_user(fields[0].decode("utf-8", "replace")) == self.user
        right = hmac.compare_digest(proof, self._expected_proof())
        if not (right and same_user and self.known):
            raise failed()
        answer = encode_fields([self._server_proof()]) if self.method == _PBKDF2 else b""
        return encode_fields([self.method, answer])

    @property
    def _salted(self) -> bytes:
        if self.method == _PBKDF2:
            return self.credentials.salted_pbkdf2
        return self.credentials.salted_sha256

    def _expected_proof(self) -> bytes:
        client_key = hashlib.sha256(self._salted).digest()
        stored_key = hashlib.sha256(client_key).digest()
        signature = _hmac(stored_key, self.credentials.salt, self.server_challenge, self.client_challenge)
        return bytes(a ^ b for a, b in zip(client_key, signature, strict=True))

    def _server_proof(self) -> bytes:
        server_key = _hmac(self._salted, self.credentials.salt)
        return _hmac(server_key, self.client_challenge, self.credentials.salt, self.server_challenge)


def _hmac(key: bytes, *pieces: bytes) -> bytes:
    return hmac.new(key, b"".join(pieces), hashlib.sha256).digest()
