"""Thousands of damaged messages: the server lives, other connections do not notice, memory stays."""

from __future__ import annotations

import random
import socket
import struct
from contextlib import suppress

import pytest

from hana_ai.api.local.hana.process import LocalHana
from hana_ai.api.local.hana.protocol.fields import encode_fields
from hana_ai.api.local.hana.protocol.wire import MessageType, Part, PartKind
from tests.integration.local.hana.conftest import memory_of
from tests.integration.local.hana.rawclient import (
    CHALLENGE,
    INIT,
    Disconnected,
    RawClient,
    encode_body,
    encode_header,
)

SEED = 20_240_229
INTERNAL_ERROR = 129
MEGABYTE = 1024 * 1024

SPECIAL = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def check_alive(connection: object) -> None:
    with connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute("SELECT COUNT(*) FROM WITNESS")
        assert cursor.fetchone()[0] == 3


def corpus(client: RawClient) -> list[tuple[int, list[Part]]]:
    """Return good messages of every kind, with ids that are valid on this connection."""
    insert = client.prepare("INSERT INTO FUZZ VALUES (?, ?, ?, ?)").data(PartKind.STATEMENT_ID)
    select = client.prepare("SELECT * FROM FUZZ WHERE ID > ? OR NAME = ?").data(PartKind.STATEMENT_ID)
    opened = client.execute_direct("SELECT ID FROM BIG").data(PartKind.RESULT_SET_ID)
    row = b"\3\1\0\0\0" + b"\x1d\4name" + b"\x1a\6\5\0\0\0\x27\0\0\0" + b"\x3f\1\0\x0a\0" + b"hello"
    info = b"\x0bAPPLICATION\6python"
    return [
        (MessageType.EXECUTE_DIRECT, [Part(PartKind.COMMAND, 1, b"SELECT ID, NAME FROM FUZZ WHERE ID < 10")]),
        (MessageType.EXECUTE_DIRECT, [Part(PartKind.COMMAND, 1, b"INSERT INTO FUZZ VALUES (1, 'a', 'b', NULL)")]),
        (
            MessageType.PREPARE,
            [Part(PartKind.CLIENT_INFO, 1, info), Part(PartKind.COMMAND, 1, b"SELECT ? FROM DUMMY")],
        ),
        (
            MessageType.EXECUTE,
            [Part(PartKind.STATEMENT_ID, 1, insert), Part(PartKind.PARAMETERS, 1, row)],
        ),
        (
            MessageType.EXECUTE,
            [Part(PartKind.STATEMENT_ID, 1, insert), Part(PartKind.PARAMETERS, 2, row + row, 4)],
        ),
        (
            MessageType.EXECUTE,
            [
                Part(PartKind.STATEMENT_ID, 1, select),
                Part(PartKind.PARAMETERS, 1, b"\3\1\0\0\0\x1d\4name"),
            ],
        ),
        (
            MessageType.FETCH_NEXT,
            [Part(PartKind.RESULT_SET_ID, 1, opened), Part(PartKind.FETCH_SIZE, 1, (10).to_bytes(4, "little"))],
        ),
        (MessageType.READ_LOB, [Part(PartKind.READ_LOB_REQUEST, 1, bytes(8) + bytes(16))]),
        (MessageType.WRITE_LOB, [Part(PartKind.WRITE_LOB_REQUEST, 1, bytes(8) + b"\6" + bytes(12) + b"data")]),
        (MessageType.COMMIT, []),
        (MessageType.ROLLBACK, [Part(PartKind.CLIENT_CONTEXT, 1, b"\1\x1d\2\0ab")]),
        (MessageType.CLOSE_RESULT_SET, [Part(PartKind.RESULT_SET_ID, 1, bytes(8))]),
        (MessageType.DROP_STATEMENT_ID, [Part(PartKind.STATEMENT_ID, 1, bytes(8))]),
        (MessageType.DB_CONNECT_INFO, []),
    ]


def damage(message: bytes, random_source: random.Random) -> bytes:
    """Change a few bytes or numbers, cut a piece out or put one in."""
    data = bytearray(message)
    for _ in range(random_source.randint(1, 4)):
        position = random_source.randrange(len(data)) if data else 0
        match random_source.randrange(6):
            case 0:
                data[position : position + 1] = bytes((random_source.randrange(256),))
            case 1:
                data[position : position + 2] = (random_source.choice(SPECIAL) & 0xFFFF).to_bytes(2, "little")
            case 2:
                data[position : position + 4] = random_source.choice(SPECIAL).to_bytes(4, "little")
            case 3:
                del data[position : position + random_source.randint(1, 20)]
            case 4:
                data[position:position] = random_source.randbytes(random_source.randint(1, 20))
            case _:
                data[position:position] = data[: random_source.randint(0, 60)]
    return bytes(data)


def log_in(hana: LocalHana) -> RawClient:
    client = RawClient(hana.port)
    assert client.log_in(hana.user, hana.password).error is None
    return client


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_damaged_messages_harm_nobody(hana: LocalHana, count: int) -> None:
    source = random.Random(SEED)
    witness = hana.connect()
    with witness.cursor() as cursor:
        for table in ("WITNESS", "FUZZ", "BIG"):
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
        cursor.execute("CREATE COLUMN TABLE WITNESS (ID INTEGER)")
        cursor.executemany("INSERT INTO WITNESS VALUES (?)", [(1,), (2,), (3,)])
        cursor.execute("CREATE COLUMN TABLE FUZZ (ID INTEGER, NAME NVARCHAR(100), TEXT NCLOB, DAY DATE)")
        cursor.execute("CREATE COLUMN TABLE BIG (ID INTEGER)")
        cursor.executemany("INSERT INTO BIG VALUES (?)", [(number,) for number in range(1100)])
    client = log_in(hana)
    messages = corpus(client)
    answered = closed = 0
    start = 0
    for number in range(count):
        if number == count // 10:
            start = memory_of(hana)
        message_type, parts = source.choice(messages)
        depth = source.random()
        if depth < 0.7 and parts:
            # Within one part: the frame stays whole, so that the damage gets as far as it can.
            index = source.randrange(len(parts))
            data = damage(parts[index].data, source)
            parts = [*parts[:index], parts[index]._replace(data=data), *parts[index + 1 :]]
        body = encode_body(parts, message_type, source.randint(0, 1))
        if depth >= 0.7:
            body = damage(body, source)
        header = encode_header(len(body), number)
        in_step = depth < 0.9
        if not in_step:
            header = damage(header, source)
        try:
            client.socket.sendall(header + body)
            if not in_step:
                # The server may wait for more than is there: say that nothing more comes.
                client.socket.shutdown(socket.SHUT_WR)
            answer = client.receive()
            answered += 1
            assert answer.error != INTERNAL_ERROR, f"message {number} found a bug"
        except (Disconnected, OSError):
            closed += 1
        else:
            if in_step:
                continue
        client.socket.close()
        client = log_in(hana)
        messages = corpus(client)
        if closed % 50 == 0:
            check_alive(witness)
    client.socket.close()
    check_alive(witness)
    witness.close()
    assert answered + closed == count
    assert answered > count // 3
    assert closed > count // 10
    assert memory_of(hana) - start < 100 * MEGABYTE


@pytest.mark.parametrize("count", [250, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_logins_are_refused(hana: LocalHana, count: int) -> None:
    source = random.Random(SEED)
    offer = encode_fields([hana.user.encode(), b"SCRAMSHA256", CHALLENGE, b"SCRAMPBKDF2SHA256", CHALLENGE])
    for _ in range(count):
        with RawClient(hana.port) as client:
            body = damage(encode_body([Part(PartKind.AUTHENTICATION, 1, offer)], MessageType.AUTHENTICATE), source)
            client.socket.sendall(encode_header(len(body)) + body)
            try:
                answer = client.receive()
                if answer.error is None:
                    proof = encode_fields([hana.user.encode(), b"SCRAMSHA256", encode_fields([bytes(32)])])
                    body = damage(
                        encode_body([Part(PartKind.AUTHENTICATION, 1, proof)], MessageType.CONNECT), source
                    )
                    client.socket.sendall(encode_header(len(body)) + body)
                    assert client.receive().error == 10
                else:
                    assert answer.error == 10
            except (Disconnected, ConnectionError):
                pass
    with log_in(hana) as client:
        assert client.execute_direct("SELECT 1 FROM DUMMY").error is None


def test_noise_instead_of_a_greeting_is_hung_up_on(hana: LocalHana) -> None:
    source = random.Random(SEED)
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", hana.port), timeout=30) as client:
            client.sendall(source.randbytes(source.randint(14, 200)))
            with suppress(ConnectionError):
                assert client.recv(100) == b""


def test_over_long_lengths_do_not_take_memory(hana: LocalHana) -> None:
    with log_in(hana) as client:
        client.execute_direct("SELECT 1 FROM DUMMY")
    before = memory_of(hana)
    clients = []
    try:
        for length in (0xFFFFFFFF, 0x7FFFFFFF, 60 * MEGABYTE) * 20:
            client = log_in(hana)
            clients.append(client)
            client.socket.sendall(struct.pack("<qIIIhBxI4x", 1, 0, length, length, 1, 0, 0) + bytes(1000))
        for length in (0xFFFFFFFF, 100_000) * 20:
            stranger = RawClient(hana.port)
            clients.append(stranger)
            stranger.socket.sendall(struct.pack("<qIIIhBxI4x", 0, 0, length, length, 1, 0, 0) + bytes(1000))
        with log_in(hana) as client:
            assert client.execute_direct("SELECT 1 FROM DUMMY").error is None
        assert memory_of(hana) - before < 30 * MEGABYTE
    finally:
        for client in clients:
            client.socket.close()


def test_lengths_within_a_message_do_not_take_memory(hana: LocalHana) -> None:
    before = memory_of(hana)
    with log_in(hana) as client:
        statement = client.prepare("SELECT ? FROM DUMMY").data(PartKind.STATEMENT_ID)
    huge = (2**31 - 1).to_bytes(4, "little")
    for data in (
        b"\x1d\xf7" + huge,
        b"\x1a\6" + huge + b"\x0a\0\0\0",
        b"\x1d\xf6\xff\xff",
        b"\x0d\xf7\xff\xff\xff\xff",
    ):
        with log_in(hana) as client:
            client.prepare("SELECT ? FROM DUMMY")
            parts = (Part(PartKind.STATEMENT_ID, 1, statement), Part(PartKind.PARAMETERS, 2**31 - 1, data))
            with pytest.raises(Disconnected):
                client.ask(MessageType.EXECUTE, *parts)
    with log_in(hana) as client:
        statement = client.prepare("SELECT 1 FROM DUMMY").data(PartKind.STATEMENT_ID)
        parts = (Part(PartKind.STATEMENT_ID, 1, statement), Part(PartKind.PARAMETERS, 2**31 - 1, b""))
        client.ask(MessageType.EXECUTE, *parts)
    assert memory_of(hana) - before < 20 * MEGABYTE


def test_a_client_that_says_nothing_holds_up_nobody(hana: LocalHana) -> None:
    idle = [socket.create_connection(("127.0.0.1", hana.port)) for _ in range(50)]
    try:
        for client in idle[::2]:
            client.sendall(INIT[:5])
        with log_in(hana) as client:
            assert client.execute_direct("SELECT 1 FROM DUMMY").error is None
    finally:
        for client in idle:
            client.close()
