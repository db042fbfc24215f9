"""Certificates of all kinds of wrongness, made on the spot."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.certificates import begun, name_of, pem_of

_NO_OTHER_USE = dict.fromkeys(
    (
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


class Authority:
    """Signs certificates; its own is in `file`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name_of("the authority of the tests")
        self._certificate = (
            begun(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(_usage(signs=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, address: str = "127.0.0.1", *, expired: bool = False, own: bool = False) -> ssl.SSLContext:
        """A server's context with a certificate for an address, signed by this authority or by `own` key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = name_of("a server")
        builder = begun(subject, subject if own else self._name, key, expired=expired).add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
        )
        signer = key if own else self._key
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        ).add_extension(_usage(signs=False), critical=True)
        signed = builder.sign(signer, hashes.SHA256())
        file = self._folder / f"server-{signed.serial_number}.pem"
        file.write_bytes(pem_of(key) + signed.public_bytes(serialization.Encoding.PEM))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
        return context


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature=True, key_cert_sign=signs, crl_sign=signs, **_NO_OTHER_USE)
