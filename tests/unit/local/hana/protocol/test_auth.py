"""Logins: only the right proof of a known user passes, and failures all look the same."""

from __future__ import annotations

import hashlib
import hmac
import statistics
import time

import pytest

from hana_ai.api.local.hana.credentials import derive
from hana_ai.api.local.hana.interface import Credentials, EngineSession, HanaError
from hana_ai.api.local.hana.protocol.auth import Authenticator, canonical_user
from hana_ai.api.local.hana.protocol.fields import decode_fields, encode_fields
from hana_ai.api.local.hana.protocol.wire import ProtocolError

CHALLENGE = bytes(range(64))
METHODS = [b"SCRAMSHA256", b"SCRAMPBKDF2SHA256"]


class Users:
    """An engine as far as a login needs one."""

    def __init__(self) -> None:
        self.users = {"ANNA": derive("Secret-1")}

    def credentials(self, user: str) -> Credentials | None:
        return self.users.get(user)

    def ensure_user(self, user: str, credentials: Credentials, admin: bool = False) -> None:
        raise NotImplementedError

    def session(self, user: str, connection_id: int) -> EngineSession:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def client_proof(method: bytes, password: str, question: bytes) -> tuple[bytes, bytes]:
    """Do a client's part: return its proof and the server's proof that it expects."""
    chosen, inner = decode_fields(question)
    assert chosen == method
    salt, challenge, *rest = decode_fields(inner)
    secret = password.encode()
    if rest:
        salted = hashlib.pbkdf2_hmac("sha256", secret, salt, int.from_bytes(rest[0], "big"))
    else:
        salted = hmac.digest(secret, salt, "sha256")
    key = hashlib.sha256(salted).digest()
    signature = hmac.digest(hashlib.sha256(key).digest(), salt + challenge + CHALLENGE, "sha256")
    server_key = hmac.digest(salted, salt, "sha256")
    answer = hmac.digest(server_key, CHALLENGE + salt + challenge, "sha256")
    return bytes(a ^ b for a, b in zip(key, signature, strict=True)), answer


def log_in(authenticator: Authenticator, method: bytes, user: str, password: str) -> bytes:
    exchange, question = authenticator.begin(encode_fields([user.encode(), method, CHALLENGE]))
    proof, _ = client_proof(method, password, question)
    return exchange.finish(encode_fields([user.encode(), method, encode_fields([proof])]))


@pytest.fixture(scope="module")
def authenticator() -> Authenticator:
    return Authenticator(Users())


@pytest.mark.parametrize("method", METHODS)
def test_the_right_password_passes(authenticator: Authenticator, method: bytes) -> None:
    assert decode_fields(log_in(authenticator, method, "ANNA", "Secret-1"))[0] == method


def test_the_server_proves_that_it_knows_the_password_too(authenticator: Authenticator) -> None:
    method = METHODS[1]
    exchange, question = authenticator.begin(encode_fields([b"ANNA", method, CHALLENGE]))
    proof, expected = client_proof(method, "Secret-1", question)
    reply = exchange.finish(encode_fields([b"ANNA", method, encode_fields([proof])]))
    assert decode_fields(decode_fields(reply)[1]) == [expected]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("user", "password"), [("ANNA", "secret-1"), ("ANNA", ""), ("NOBODY", "Secret-1"), ("", "")]
)
def test_every_failure_is_error_10_with_the_same_text(
    authenticator: Authenticator, method: bytes, user: str, password: str
) -> None:
    with pytest.raises(HanaError, match=r"^authentication failed$") as error:
        log_in(authenticator, method, user, password)
    assert error.value.code == 10


@pytest.mark.parametrize("proof", [b"", bytes(32), bytes(31), bytes(33)])
def test_a_made_up_proof_fails(authenticator: Authenticator, proof: bytes) -> None:
    exchange, _ = authenticator.begin(encode_fields([b"ANNA", METHODS[1], CHALLENGE]))
    with pytest.raises(HanaError, match="authentication failed"):
        exchange.finish(encode_fields([b"ANNA", METHODS[1], encode_fields([proof])]))


def test_a_proof_of_one_method_is_none_of_the_other(authenticator: Authenticator) -> None:
    exchange, question = authenticator.begin(encode_fields([b"ANNA", METHODS[0], CHALLENGE]))
    proof, _ = client_proof(METHODS[0], "Secret-1", question)
    with pytest.raises(HanaError, match="authentication failed"):
        exchange.finish(encode_fields([b"ANNA", METHODS[1], encode_fields([proof])]))


def test_a_proof_for_one_user_does_not_log_in_another(authenticator: Authenticator) -> None:
    exchange, question = authenticator.begin(encode_fields([b"ANNA", METHODS[1], CHALLENGE]))
    proof, _ = client_proof(METHODS[1], "Secret-1", question)
    with pytest.raises(HanaError, match="authentication failed"):
        exchange.finish(encode_fields([b"BERT", METHODS[1], encode_fields([proof])]))


def test_pbkdf2_is_preferred_when_both_are_offered(authenticator: Authenticator) -> None:
    offer = [b"ANNA", b"LDAP", CHALLENGE, METHODS[0], CHALLENGE, METHODS[1], CHALLENGE]
    _, question = authenticator.begin(encode_fields(offer))
    assert decode_fields(question)[0] == METHODS[1]


def test_no_common_method_is_a_failed_login(authenticator: Authenticator) -> None:
    with pytest.raises(HanaError, match="authentication failed"):
        authenticator.begin(encode_fields([b"ANNA", b"LDAP", CHALLENGE]))


@pytest.mark.parametrize("fields", [[], [b"ANNA"], [b"ANNA", METHODS[0]], [b"ANNA", METHODS[0], b"short"]])
def test_a_malformed_offer_is_a_protocol_error(authenticator: Authenticator, fields: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        authenticator.begin(encode_fields(fields))


def test_an_unknown_user_has_the_same_salt_each_time_as_a_known_one_has(authenticator: Authenticator) -> None:
    def salt(user: bytes) -> bytes:
        _, question = authenticator.begin(encode_fields([user, METHODS[1], CHALLENGE]))
        return decode_fields(decode_fields(question)[1])[0]

    assert salt(b"NOBODY") == salt(b"NOBODY") != salt(b"SOMEBODY")
    assert salt(b"ANNA") == salt(b"ANNA")
    assert len(salt(b"NOBODY")) == len(salt(b"ANNA"))


def test_an_unknown_user_takes_as_long_as_a_known_one(authenticator: Authenticator) -> None:
    def seconds(user: bytes) -> float:
        # Processor time: others may be busy on this machine.
        start = time.thread_time()
        exchange, _ = authenticator.begin(encode_fields([user, METHODS[1], CHALLENGE]))
        with pytest.raises(HanaError):
            exchange.finish(encode_fields([user, METHODS[1], encode_fields([bytes(32)])]))
        return time.thread_time() - start

    # In turns, so that a processor that changes its speed changes it for both.
    known, unknown = zip(*((seconds(b"ANNA"), seconds(b"NOBODY")) for _ in range(200)), strict=True)
    assert 0.5 < statistics.median(known) / statistics.median(unknown) < 2


def test_credentials_do_not_show_what_they_hold() -> None:
    credentials = derive("Secret-1")
    assert repr(credentials.salted_pbkdf2) not in repr(credentials)
    assert derive("Secret-1").salt != credentials.salt


@pytest.mark.parametrize(
    ("typed", "meant"), [("anna", "ANNA"), ('"anna"', "anna"), ('"a""b"', 'a"b'), ('"', '"'), ("", "")]
)
def test_user_names_fold_to_upper_case_unless_quoted(typed: str, meant: str) -> None:
    assert canonical_user(typed) == meant
