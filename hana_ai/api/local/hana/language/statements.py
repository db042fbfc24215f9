"""Parse HANA's statements into the dataclasses of `syntax`; queries and expressions are left to `dialect`."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot.errors import ErrorLevel, ParseError

from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.language.dialect import Hana, tokenize
from hana_ai.api.local.hana.language.sqlglot_parser import Token, TokenType
from hana_ai.api.local.hana.language.statements_routine import RoutineParser
from hana_ai.api.local.hana.language.unsupported import REFUSED_STATEMENTS

ISOLATION_LEVELS = ("READ COMMITTED", "READ UNCOMMITTED", "REPEATABLE READ", "SERIALIZABLE")
"""HANA reads nothing uncommitted, whatever the level."""


class StatementParser(RoutineParser):
    """One statement."""

    def parse_statement(self) -> ast.Statement:
        """Read the whole statement or raise."""
        if self.ahead(TokenType.SELECT, TokenType.WITH, TokenType.L_PAREN):
            query = self.select_statement()
            return ast.Query(query, bool(query.args.get("locks")))
        word = self.word()
        read = STATEMENTS.get(word)
        if read is None:
            if word in REFUSED_STATEMENTS:
                raise unsupported(REFUSED_STATEMENTS[word], self.token.start + 1)
            raise self.wrong_token()
        self.advance()
        return read(self)

    def statement_set(self) -> ast.Statement:
        """SET SCHEMA, SET TRANSACTION, session variables."""
        if self.take_words("SCHEMA"):
            return ast.SetSchema(self.parse_identifier())
        if self.take_words("TRANSACTION"):
            if self.take_words("AUTOCOMMIT", "DDL"):
                if self.take_words("OFF"):
                    return ast.SetAutocommitDdl(False)
                self.expect(TokenType.ON, "ON")
                return ast.SetAutocommitDdl(True)
            if self.take_words("ISOLATION", "LEVEL"):
                return ast.SetIsolation(self._isolation_level())
            if not self.take_words("READ", "ONLY") and not self.take_words("READ", "WRITE"):
                raise self.wrong_token()
            return ast.SetNothing()
        self.take_words("SESSION")
        if self.ahead(TokenType.STRING):
            name = self.token.text
            self.advance()
            self.expect(TokenType.EQ, "=")
            value = self.token.text
            self.advance()
            return ast.SetVariable(name, value)
        raise self.wrong_token()

    def _isolation_level(self) -> str:
        for level in ISOLATION_LEVELS:
            if self.take_words(*level.split()):
                return level
        raise self.wrong_token()

    def statement_savepoint(self) -> ast.Statement:
        """SAVEPOINT s."""
        return ast.Savepoint(self.parse_identifier(), "set")

    def statement_release(self) -> ast.Statement:
        """RELEASE SAVEPOINT s."""
        self.expect_word("SAVEPOINT")
        return ast.Savepoint(self.parse_identifier(), "release")

    def statement_unset(self) -> ast.Statement:
        """UNSET 'variable'."""
        self.take_words("SESSION")
        name = self.token.text
        self.advance()
        return ast.SetVariable(name, None)

    def statement_commit(self) -> ast.Statement:
        """COMMIT as SQL text."""
        self.take_words("WORK")
        return ast.EndTransaction(True)

    def statement_rollback(self) -> ast.Statement:
        """ROLLBACK as SQL text."""
        self.take_words("WORK")
        if self.take_words("TO"):
            self.expect_word("SAVEPOINT")
            return ast.Savepoint(self.parse_identifier(), "return")
        return ast.EndTransaction(False)

    def statement_lock(self) -> ast.Statement:
        """LOCK TABLE t IN EXCLUSIVE MODE [NOWAIT]."""
        self.expect_word("TABLE")
        name = self.parse_name()
        self.expect_word("IN")
        if self.take_words("INTENTIONAL"):
            raise unsupported("LOCK TABLE ... IN INTENTIONAL EXCLUSIVE MODE", self.previous.start + 1)
        for word in ("EXCLUSIVE", "MODE"):
            self.expect_word(word)
        return ast.LockTable(name, self.take_words("NOWAIT"))

    def statement_grant(self) -> ast.Statement:
        """GRANT privileges ON object TO user."""
        return self._grant(False)

    def statement_revoke(self) -> ast.Statement:
        """REVOKE privileges ON object FROM user."""
        return self._grant(True)

    def _grant(self, revoke: bool) -> ast.Grant:
        privileges = [self._privilege()]
        while self.take(TokenType.COMMA):
            privileges.append(self._privilege())
        kind, target = "", None
        if self.take(TokenType.ON):
            if self.take_words("SCHEMA"):
                kind, target = "SCHEMA", ast.Name(self.parse_identifier())
            else:
                kind, target = "OBJECT", self.parse_name()
        if revoke:
            self.expect(TokenType.FROM, "FROM")
        else:
            self.expect_word("TO")
        user = self.parse_identifier()
        option = False
        if not revoke and self.take(TokenType.WITH):
            self.advance(2)
            option = True
        return ast.Grant(privileges, kind, target, user, option, revoke)

    def _privilege(self) -> str:
        words = []
        while self.token and not self.ahead(TokenType.COMMA, TokenType.ON, TokenType.FROM):
            if self.token.text.upper() == "TO":
                break
            words.append(self.token.text.upper())
            self.advance()
        if not words:
            self.fail("Expected a privilege")
        return " ".join(words)


STATEMENTS: dict[str, Callable[[StatementParser], ast.Statement]] = {
    "ALTER": StatementParser.statement_alter,
    "CALL": StatementParser.statement_call,
    "COMMENT": StatementParser.statement_comment,
    "COMMIT": StatementParser.statement_commit,
    "CREATE": StatementParser.statement_create,
    "DELETE": StatementParser.statement_delete,
    "DO": StatementParser.statement_do,
    "DROP": StatementParser.statement_drop,
    "GRANT": StatementParser.statement_grant,
    "INSERT": StatementParser.statement_insert,
    "LOCK": StatementParser.statement_lock,
    "MERGE": StatementParser.statement_merge,
    "RELEASE": StatementParser.statement_release,
    "RENAME": StatementParser.statement_rename,
    "REPLACE": StatementParser.statement_replace,
    "REVOKE": StatementParser.statement_revoke,
    "ROLLBACK": StatementParser.statement_rollback,
    "SAVEPOINT": StatementParser.statement_savepoint,
    "SET": StatementParser.statement_set,
    "TRUNCATE": StatementParser.statement_truncate,
    "UNSET": StatementParser.statement_unset,
    "UPDATE": StatementParser.statement_update,
    "UPSERT": StatementParser.statement_upsert,
}
"""Which method reads a statement, by its first word."""


def parse(sql: str) -> tuple[ast.Statement, dict[str, int]]:
    """Parse one statement; also gives where each `?` stands and which one it is.

    Raises
    ------
    HanaError
        257 with the position for a syntax error, 7 for what the server refuses.
    """
    tokens = _without_braces(tokenize(sql))
    if not tokens:
        raise syntax("end of statement", len(sql))
    parser = StatementParser(dialect=Hana(), error_level=ErrorLevel.IMMEDIATE)
    found: list[ast.Statement] = []

    def read() -> None:
        found.append(parser.parse_statement())
        if parser.token:
            raise parser.wrong_token()

    try:
        parser.read_all(read, tokens, sql)
    except ParseError as exc:
        raise parser.wrong_token() from exc
    except RecursionError as exc:
        raise HanaError(257, "sql syntax error: the statement is nested too deeply") from exc
    marks = [str(token.start) for token in tokens if token.token_type == TokenType.PLACEHOLDER]
    return found[0], {mark: index for index, mark in enumerate(marks)}


def _without_braces(tokens: list[Token]) -> list[Token]:
    """hdbcli's callproc writes {call procedure(?)}, as ODBC has it."""
    if (
        len(tokens) > 2
        and tokens[0].token_type == TokenType.L_BRACE
        and tokens[-1].token_type == TokenType.R_BRACE
    ):
        return tokens[1:-1]
    return tokens
