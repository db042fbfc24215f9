"""Certificates made on the spot."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


def name_of(text: str) -> x509.Name:
    """A subject or an issuer."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, expired: bool = False
) -> x509.CertificateBuilder:
    """A certificate without extensions, not signed yet."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 9 * _DAY)
        .not_valid_after(now - _DAY if expired else now + _DAY)
    )


def pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key, without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def self_signed(folder: Path, name: str, *hosts: str) -> tuple[Path, Path]:
    """Write a self-signed certificate for names and addresses of hosts, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = name_of(hosts[0])
    names = [_host(host) for host in hosts]
    certificate = (
        begun(subject, subject, key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(pem_of(key))
    return certificate_file, key_file
