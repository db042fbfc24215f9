"""Encrypted connections, checked by the real hdbcli."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hdbcli import dbapi

from tests.certificates import self_signed
from tests.integration.local.hana.conftest import Scripted, run_scripted


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    return {name: self_signed(folder, name, "127.0.0.1", "localhost") for name in ("server", "other")}


@pytest.fixture(scope="module")
def encrypted(certificates: dict[str, tuple[Path, Path]]) -> Iterator[Scripted]:
    certificate, key = certificates["server"]
    with run_scripted("--certificate", str(certificate), str(key)) as server:
        yield server


def test_the_certificate_is_validated_against_the_trust_store(
    encrypted: Scripted, certificates: dict[str, tuple[Path, Path]]
) -> None:
    trusted = str(certificates["server"][0])
    connection = encrypted.connect(encrypt=True, sslValidateCertificate=True, sslTrustStore=trusted)
    with connection.cursor() as cursor:
        cursor.execute("query([NCLOB], [('x' * 3_000_000,)])")
        assert cursor.fetchone()[0] == "x" * 3_000_000
        cursor.execute("count(50_000, 20)")
        assert len(cursor.fetchall()) == 50_000
    connection.close()


def test_a_certificate_that_the_client_does_not_trust_is_refused(
    encrypted: Scripted, certificates: dict[str, tuple[Path, Path]]
) -> None:
    trusted = str(certificates["other"][0])
    with pytest.raises(dbapi.Error):
        encrypted.connect(encrypt=True, sslValidateCertificate=True, sslTrustStore=trusted)


def test_encryption_without_validation_works(encrypted: Scripted) -> None:
    connection = encrypted.connect(encrypt=True, sslValidateCertificate=False)
    assert connection.isconnected()
    connection.close()


def test_a_wrong_password_is_error_10_under_tls_too(encrypted: Scripted) -> None:
    with pytest.raises(dbapi.Error) as error:
        encrypted.connect(encrypt=True, sslValidateCertificate=False, password="wrong")
    assert error.value.errorcode == 10


def test_a_client_without_encryption_is_turned_away(encrypted: Scripted) -> None:
    with pytest.raises(dbapi.Error):
        encrypted.connect(encrypt=False)
    test_encryption_without_validation_works(encrypted)


def test_an_encrypting_client_is_turned_away_by_a_plain_server(scripted: Scripted) -> None:
    with pytest.raises(dbapi.Error):
        scripted.connect(encrypt=True, sslValidateCertificate=False)
    connection = scripted.connect()
    assert connection.isconnected()
    connection.close()


def test_a_handshake_that_stalls_holds_up_nobody(encrypted: Scripted) -> None:
    with socket.create_connection(("127.0.0.1", encrypted.port)):
        test_encryption_without_validation_works(encrypted)
