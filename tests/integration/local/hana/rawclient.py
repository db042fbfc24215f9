"""A client that sends what hdbcli never would."""

from __future__ import annotations

import hashlib
import hmac
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from hana_ai.api.local.hana.protocol.fields import decode_fields, encode_fields
from hana_ai.api.local.hana.protocol.wire import MessageType, Part, PartKind

INIT = b"\xff\xff\xff\xff" + bytes((4, 0, 20, 4, 0, 1, 0, 1, 1, 1))
CHALLENGE = bytes(64)


def encode_body(parts: Sequence[Part], message_type: int, commit: int = 1) -> bytes:
    body = b""
    for kind, elements, data, attributes in parts:
        short, big = (elements, 0) if elements <= 0x7FFF else (-1, elements)
        body += struct.pack("<bbhiii", kind, attributes, short, big, len(data), 0)
        body += data + bytes(-len(data) % 8)
    return struct.pack("<iihhbbbb8x", 24 + len(body), 0, len(parts), 1, 1, message_type, commit, 0) + body


def encode_header(size: int, packet_count: int = 0) -> bytes:
    return struct.pack("<qIIIhBxI4x", 1, packet_count, size, size, 1, 0, 0)


def encode_request(parts: Sequence[Part], message_type: int, commit: int = 1) -> bytes:
    body = encode_body(parts, message_type, commit)
    return encode_header(len(body)) + body


class Answer(NamedTuple):
    """A reply; `error` is the code of its error, if it is one."""

    function_code: int
    parts: list[Part]
    error: int | None

    def data(self, kind: PartKind) -> bytes:
        return next(part.data for part in self.parts if part.kind == kind)


class Disconnected(Exception):
    """The server closed the connection."""


class RawClient:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(INIT)
        self.read(8)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                chunk = self.socket.recv(size - len(data))
            except ConnectionError:
                chunk = b""
            if not chunk:
                raise Disconnected
            data += chunk
        return data

    def receive(self) -> Answer:
        length = struct.unpack_from("<I", self.read(32), 12)[0]
        body = self.read(length)
        part_count, kind, code = struct.unpack_from("<hxxbxh", body, 8)
        parts = []
        position = 24
        for _ in range(part_count):
            part_kind, attributes, short, big, size, _ = struct.unpack_from("<bbhiii", body, position)
            data = body[position + 16 : position + 16 + size]
            parts.append(Part(part_kind, short if short >= 0 else big, data, attributes))
            position += 16 + size + -size % 8
        error = None
        if kind == 5:
            error = struct.unpack_from("<i", next(part.data for part in parts if part.kind == PartKind.ERROR))[0]
        return Answer(code, parts, error)

    def ask(self, message_type: int, *parts: Part, commit: int = 1) -> Answer:
        self.socket.sendall(encode_request(parts, message_type, commit))
        return self.receive()

    def offer(self, user: str) -> bytes:
        """Start a login; return the server's question."""
        fields = encode_fields([user.encode(), b"SCRAMSHA256", CHALLENGE])
        answer = self.ask(MessageType.AUTHENTICATE, Part(PartKind.AUTHENTICATION, 1, fields))
        return answer.data(PartKind.AUTHENTICATION)

    def log_in(self, user: str, password: str) -> Answer:
        salt, challenge = decode_fields(decode_fields(self.offer(user))[1])
        key = hashlib.sha256(hmac.digest(password.encode(), salt, "sha256")).digest()
        signature = hmac.digest(hashlib.sha256(key).digest(), salt + challenge + CHALLENGE, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        fields = encode_fields([user.encode(), b"SCRAMSHA256", encode_fields([proof])])
        return self.ask(MessageType.CONNECT, Part(PartKind.AUTHENTICATION, 1, fields))

    def execute_direct(self, sql: str, commit: int = 1) -> Answer:
        return self.ask(MessageType.EXECUTE_DIRECT, Part(PartKind.COMMAND, 1, sql.encode()), commit=commit)

    def prepare(self, sql: str) -> Answer:
        return self.ask(MessageType.PREPARE, Part(PartKind.COMMAND, 1, sql.encode()))
