"""One client's conversation: each request becomes calls of the engine and one reply.

Transactions: a request says whether it commits at once (the client's autocommit). A batch that comes in
several pieces is one transaction then, from its first piece to its last. Result sets and their LOBs stay
readable after a commit or rollback, until the client closes them or leaves.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeGuard

from hana_ai.api.local.hana.interface import (
    Engine,
    EngineSession,
    FunctionCode,
    HanaError,
    Prepared,
    Value,
)
from hana_ai.api.local.hana.protocol import lobs, parameters, rows
from hana_ai.api.local.hana.protocol.auth import Authenticator, Exchange, failed
from hana_ai.api.local.hana.protocol.fields import Option, decode_client_info, encode_options
from hana_ai.api.local.hana.protocol.result_sets import Reply, ResultSets
from hana_ai.api.local.hana.protocol.text import text_or_bytes
from hana_ai.api.local.hana.protocol.wire import (
    ErrorRecord,
    MessageType,
    Part,
    PartAttribute,
    PartKind,
    ProtocolError,
    Request,
    encode_error,
    encode_reply,
    rows_affected_part,
)

logger = logging.getLogger(__name__)

_GENERAL_ERROR = 2
_UNSUPPORTED = 7
_INTERNAL_ERROR = 129
_SYNTAX_ERROR = 257
_ROWS_AFFECTED_UNKNOWN = -2
_DATA_FORMAT_VERSION = 10
_MAX_STATEMENTS = 65_536

_QUERIES = frozenset({FunctionCode.SELECT, FunctionCode.SELECT_FOR_UPDATE})

_OPTION_CONNECTION_ID = 1
_OPTION_SYSTEM_ID = 11
_OPTION_DATA_FORMAT = 12
_OPTION_DISTRIBUTION_MODE = 15
_OPTION_DATA_FORMAT_2 = 23
_OPTION_VERSION = 44
_OPTION_DATABASE = 45
_INFO_IS_CONNECTED = 4

SERVER_VERSION = "4.00.000.00.0"
"""The version reported to clients that ask for one when they connect."""


@dataclass(slots=True)
class _LobInput:
    """An execution that waits for the rest of its LOB parameters."""

    prepared: Prepared
    rows: list[parameters.ParameterRow]
    attributes: int
    autocommit: bool
    cursor_id: bytes | None
    """For a query: the id of its result set, which the client reads after the last LOB."""
    open: dict[bytes, lobs.IncomingLob] = field(default_factory=dict)


class Session:
    """The state of one connection. Used by one thread.

    Parameters
    ----------
    engine : Engine
        The database.
    authenticator : Authenticator
        Checks the login.
    connection_id : int
        Positive; the client sees it and sends it as session id.
    """

    def __init__(self, engine: Engine, authenticator: Authenticator, connection_id: int) -> None:
        self._engine = engine
        self._authenticator = authenticator
        self._connection_id = connection_id
        self._exchange: Exchange | None = None
        self._engine_session: EngineSession | None = None
        self._statements: dict[bytes, Prepared] = {}
        self._next_id = 1
        self._results = ResultSets(self._new_id)
        self._lob_input: _LobInput | None = None
        self._batch: Prepared | None = None
        self._variables: dict[str, str] = {}
        self.ended = False
        self._handlers: dict[int, Callable[[Request], Reply]] = {
            MessageType.EXECUTE_DIRECT: self._execute_direct,
            MessageType.PREPARE: self._prepare,
            MessageType.EXECUTE: self._execute,
            MessageType.FETCH_NEXT: self._results.fetch_next,
            MessageType.READ_LOB: self._results.read_lob,
            MessageType.WRITE_LOB: self._write_lob,
            MessageType.COMMIT: self._commit,
            MessageType.ROLLBACK: self._rollback,
            MessageType.CLOSE_RESULT_SET: self._results.close_one,
            MessageType.DROP_STATEMENT_ID: self._drop_statement,
            MessageType.DISCONNECT: self._disconnect,
            MessageType.DB_CONNECT_INFO: self._connect_info,
        }

    @property
    def authenticated(self) -> bool:
        """Whether the client is authenticated."""
        return self._engine_session is not None

    def respond(self, request: Request) -> bytes:
        """Answer one request; errors are answers, too.

        Raises
        ------
        ProtocolError
            When the request is malformed; the connection ends then.
        """
        rows_affected = None
        try:
            if self._engine_session is None:
                session_id, (code, parts) = self._login(request)
            else:
                session_id = self._connection_id
                code, parts = self._dispatch(request)
            return encode_reply(session_id, request.packet_count, code, parts)
        except HanaError as error:
            record = ErrorRecord(error.code, error.message, error.position)
            rows_affected = error.rows_affected
        except ProtocolError:
            raise
        except Exception as error:
            logger.exception("unexpected error in message %d", request.message_type)
            self._abandon()
            text = f"transaction rolled back by an internal error: {type(error).__name__}: {error}"
            record = ErrorRecord(_INTERNAL_ERROR, text)
        return encode_error(self._connection_id, request.packet_count, [record], rows_affected)

    def close(self) -> None:
        """End the session: what is not committed is rolled back."""
        self._results.close()
        self._statements.clear()
        self._lob_input = None
        if self._engine_session is not None:
            session, self._engine_session = self._engine_session, None
            session.close()

    # Login

    def _login(self, request: Request) -> tuple[int, Reply]:
        """Handle a request before login; the session id for the reply comes first."""
        if request.message_type == MessageType.DB_CONNECT_INFO:
            return 0, self._connect_info(request)
        if request.message_type == MessageType.DISCONNECT:
            return 0, self._disconnect(request)
        try:
            if request.message_type == MessageType.AUTHENTICATE:
                self._exchange, question = self._authenticator.begin(request.require(PartKind.AUTHENTICATION).data)
                self._note_client_info(request)
                return 0, (FunctionCode.NONE, [Part(PartKind.AUTHENTICATION, 1, question)])
            if request.message_type != MessageType.CONNECT or self._exchange is None:
                raise ProtocolError(f"message {request.message_type} before login")
            exchange, self._exchange = self._exchange, None
            proof = exchange.finish(request.require(PartKind.AUTHENTICATION).data)
        except HanaError:
            # One attempt per connection, so that each guess costs a new one.
            self.ended = True
            raise
        session = self._engine.session(exchange.user, self._connection_id)
        self._engine_session = session
        self._note_client_info(request)
        if self._variables:
            session.set_variables(self._variables)
        options: dict[int, Option] = {
            _OPTION_CONNECTION_ID: self._connection_id,
            _OPTION_SYSTEM_ID: "LOOPBACK",
            _OPTION_DATA_FORMAT: 1,
            _OPTION_DISTRIBUTION_MODE: 0,
            _OPTION_DATA_FORMAT_2: _DATA_FORMAT_VERSION,
            _OPTION_VERSION: SERVER_VERSION,
            _OPTION_DATABASE: "LOOPBACK",
        }
        return self._connection_id, (
            FunctionCode.CONNECT,
            [
                Part(PartKind.AUTHENTICATION, 1, proof),
                Part(PartKind.CONNECT_OPTIONS, len(options), encode_options(options)),
            ],
        )

    def _connect_info(self, _: Request) -> Reply:
        options = encode_options({_INFO_IS_CONNECTED: True})
        return FunctionCode.NONE, [Part(PartKind.DB_CONNECT_INFO, 1, options)]

    def _disconnect(self, _: Request) -> Reply:
        self.ended = True
        return FunctionCode.DISCONNECT, ()

    # Statements

    @property
    def _session(self) -> EngineSession:
        if self._engine_session is None:
            raise failed()
        return self._engine_session

    def _dispatch(self, request: Request) -> Reply:
        handler = self._handlers.get(request.message_type)
        if handler is None:
            raise ProtocolError(f"message of type {request.message_type}")
        if request.message_type != MessageType.WRITE_LOB:
            self._lob_input = None
        if self._batch is not None and not self._continues_batch(request):
            # The client gave up in the middle of a batch (a value it could not send): its pieces are one
            # transaction, so none of them stays.
            self._batch = None
            self._session.rollback()
        if self._note_client_info(request):
            self._session.set_variables(self._variables)
        return handler(request)

    def _note_client_info(self, request: Request) -> bool:
        part = request.find(PartKind.CLIENT_INFO)
        if part is None:
            return False
        self._variables.update(decode_client_info(part.data))
        return True

    def _continues_batch(self, request: Request) -> bool:
        if request.message_type == MessageType.WRITE_LOB:
            return self._lob_input is not None
        part = request.find(PartKind.PARAMETERS)
        statement = request.find(PartKind.STATEMENT_ID)
        return (
            part is not None
            and statement is not None
            and self._statements.get(statement.data) is self._batch
            and not part.attributes & PartAttribute.FIRST
            and bool(part.attributes & (PartAttribute.NEXT | PartAttribute.LAST))
        )

    def _execute_direct(self, request: Request) -> Reply:
        prepared = self._session.prepare(_statement_text(request))
        return self._run(prepared, ((),), request.commit_immediately)

    def _prepare(self, request: Request) -> Reply:
        if len(self._statements) >= _MAX_STATEMENTS:
            raise HanaError(_GENERAL_ERROR, f"more than {_MAX_STATEMENTS} prepared statements")
        prepared = self._session.prepare(_statement_text(request))
        statement_id = self._new_id()
        self._statements[statement_id] = prepared
        parts = [Part(PartKind.STATEMENT_ID, 1, statement_id)]
        if prepared.parameters:
            parts.append(parameters.metadata_part(prepared.parameters))
        if prepared.columns:
            parts.append(rows.metadata_part(prepared.columns))
        return prepared.function_code, parts

    def _execute(self, request: Request) -> Reply:
        prepared = self._statements.get(request.require(PartKind.STATEMENT_ID).data)
        if prepared is None:
            raise HanaError(_GENERAL_ERROR, "unknown statement id")
        autocommit = request.commit_immediately
        part = request.find(PartKind.PARAMETERS)
        inputs = [parameter for parameter in prepared.parameters if parameter.mode != "OUT"]
        if part is None or not inputs:
            if inputs:
                raise ProtocolError("EXECUTE without the statement's parameters")
            return self._run(prepared, ((),), autocommit)
        decoded = parameters.decode_rows(part.data, part.elements, inputs)
        if not decoded or (len(decoded) > 1 and prepared.function_code in _QUERIES):
            raise HanaError(_GENERAL_ERROR, f"general error: {len(decoded)} rows of parameters")
        if not _complete(decoded):
            return self._start_lob_input(prepared, decoded, part.attributes, autocommit)
        return self._run(prepared, decoded, autocommit, part.attributes)

    def _run(
        self,
        prepared: Prepared,
        parameter_rows: Sequence[Sequence[Value]],
        autocommit: bool,
        attributes: int = 0,
        cursor_id: bytes | None = None,
    ) -> Reply:
        """Execute, and in autocommit end the transaction that the statement opened.

        `attributes` are those of the parameters: they say whether this is one piece of a batch, whose last
        piece commits them all. `cursor_id` is where a query's rows are expected, if its reply has left.
        """
        session = self._session
        if not autocommit:
            return self._results.reply(session.execute(prepared, parameter_rows), cursor_id, prepared.parameters)
        earlier_changes = session.in_transaction and self._batch is None
        starts = bool(attributes & PartAttribute.FIRST)
        ends = not (starts or self._batch is not None) or bool(attributes & PartAttribute.LAST)
        try:
            # The first page is read before the commit, so that a small result needs nothing to outlive it.
            reply = self._results.reply(session.execute(prepared, parameter_rows), cursor_id, prepared.parameters)
            self._batch = None if ends else prepared
            if ends:
                session.commit()
        except HanaError:
            self._batch = None
            if not earlier_changes:
                session.rollback()
            raise
        return reply

    def _drop_statement(self, request: Request) -> Reply:
        self._statements.pop(request.require(PartKind.STATEMENT_ID).data, None)
        return FunctionCode.NONE, ()

    # Large objects

    def _start_lob_input(
        self,
        prepared: Prepared,
        decoded: list[parameters.ParameterRow],
        attributes: int,
        autocommit: bool,
    ) -> Reply:
        cursor_id = self._new_id() if prepared.function_code in _QUERIES else None
        waiting = _LobInput(prepared, decoded, attributes, autocommit, cursor_id)
        for row in decoded:
            for value in row:
                if isinstance(value, lobs.IncomingLob):
                    waiting.open[self._new_id()] = value
        self._lob_input = waiting
        open_lobs = lobs.write_reply(list(waiting.open))
        if waiting.cursor_id is None:
            counts = [1 if prepared.function_code is FunctionCode.INSERT else _ROWS_AFFECTED_UNKNOWN]
            return prepared.function_code, [rows_affected_part(counts * len(decoded)), open_lobs]
        if prepared.columns is None:
            raise HanaError(
                _UNSUPPORTED,
                "feature not supported by the loopback server: a LOB parameter beyond the packet size in a"
                " query whose columns are known only when it runs",
            )
        return prepared.function_code, [
            rows.metadata_part(prepared.columns),
            Part(PartKind.RESULT_SET_ID, 1, waiting.cursor_id),
            Part(PartKind.RESULT_SET, 0, b"", PartAttribute.FIRST),
            open_lobs,
        ]

    def _write_lob(self, request: Request) -> Reply:
        waiting = self._lob_input
        if waiting is None:
            raise HanaError(_GENERAL_ERROR, "no LOB parameter is open")
        for write in lobs.write_requests(request.require(PartKind.WRITE_LOB_REQUEST)):
            lob = waiting.open.get(write.locator)
            if lob is None:
                raise HanaError(_GENERAL_ERROR, "the LOB locator is not valid")
            lob.append(write.data)
            if write.last:
                del waiting.open[write.locator]
        if not waiting.open:
            self._lob_input = None
            complete = [
                [value.value() if isinstance(value, lobs.IncomingLob) else value for value in row]
                for row in waiting.rows
            ]
            self._run(waiting.prepared, complete, waiting.autocommit, waiting.attributes, waiting.cursor_id)
        return FunctionCode.WRITE_LOB, [lobs.write_reply(list(waiting.open))]

    # Transactions

    def _commit(self, _: Request) -> Reply:
        self._session.commit()
        return FunctionCode.COMMIT, ()

    def _rollback(self, _: Request) -> Reply:
        self._session.rollback()
        return FunctionCode.ROLLBACK, ()

    def _abandon(self) -> None:
        """Bring the engine's session back to a known state after an unexpected error."""
        self._batch = None
        self._lob_input = None
        if self._engine_session is None:
            self.ended = True
            return
        try:
            self._engine_session.rollback()
        except Exception:
            logger.exception("rollback after an unexpected error failed; the connection ends")
            self.ended = True

    def _new_id(self) -> bytes:
        number = self._next_id
        self._next_id += 1
        return struct.pack("<q", number)


def _complete(decoded: list[parameters.ParameterRow]) -> TypeGuard[list[list[Value]]]:
    """Whether no value is a large object whose end has not arrived."""
    return lobs.IncomingLob not in set(map(type, chain.from_iterable(decoded)))


def _statement_text(request: Request) -> str:
    text = text_or_bytes(request.require(PartKind.COMMAND).data)
    if isinstance(text, bytes):
        raise HanaError(_SYNTAX_ERROR, "sql syntax error: the statement is not valid UTF-8")
    return text
