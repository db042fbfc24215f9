"""Parse HANA's statements into the dataclasses of `syntax`; queries and expressions are left to `dialect`."""

from __future__ import annotations

from typing import Any

from sqlglot import exp
from sqlglot.errors import ParseError
from sqlglot.tokenizer_core import Token, TokenType

from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.language.dialect import IMMEDIATE, Hana, HanaParser, tokenize
from hana_ai.api.local.hana.language.statements_ddl import DdlParser
from hana_ai.api.local.hana.language.unsupported import REFUSED_STATEMENTS


class StatementParser(DdlParser, HanaParser):
    """One statement."""

    def parse_statement(self) -> ast.Statement:
        """Read the whole statement or raise."""
        token = self._curr
        word = token.text.upper() if token.token_type != TokenType.IDENTIFIER else ""
        if token.token_type in {TokenType.SELECT, TokenType.WITH, TokenType.L_PAREN}:
            return self._query()
        handler = getattr(self, f"statement_{word.lower()}", None) if word.isalpha() else None
        if handler is None:
            refused = REFUSED_STATEMENTS.get(word)
            if refused is not None:
                raise unsupported(refused, token.start + 1)
            raise syntax(f'"{token.text}"', token.start + 1)
        self._advance()
        statement = handler()
        assert isinstance(statement, ast.Statement)
        return statement

    def _query(self) -> ast.Query:
        query = self._parse_select_statement()
        locks = query.args.get("locks")
        return ast.Query(query, bool(locks))

    def _parse_select_statement(self) -> exp.Expr:
        query = self._parse_select(nested=True)
        if query is None:
            self.raise_error("Expected a query")
        query = self._parse_query_modifiers(self._parse_set_operations(query))
        if not isinstance(query, exp.Query | exp.Subquery):
            raise syntax(f'"{self._curr.text}"', self._curr.start + 1)
        return query

    # WITH ... SELECT: sqlglot reads what follows as a statement of its own.
    def _parse_statement(self) -> Any:
        if self._curr.token_type in {TokenType.SELECT, TokenType.L_PAREN}:
            return self._parse_select_statement()
        return None

    def statement_insert(self) -> ast.Statement:
        """INSERT INTO t (columns) VALUES (...) or a query."""
        self._match(TokenType.INTO)
        return self._insert(upsert=False)

    def statement_upsert(self) -> ast.Statement:
        """UPSERT t ..."""
        self._match(TokenType.INTO)
        return self._insert(upsert=True)

    def statement_replace(self) -> ast.Statement:
        """REPLACE t ..., the same as UPSERT."""
        self._match(TokenType.INTO)
        return self._insert(upsert=True)

    def _insert(self, upsert: bool) -> ast.Insert:
        table = self.parse_name()
        if self._match_text_seq("PARTITION"):
            raise unsupported("partitions", self._prev.start + 1)
        columns: list[str] = []
        at = self._index
        if self._match(TokenType.L_PAREN):
            if self._curr.token_type in {TokenType.SELECT, TokenType.WITH, TokenType.L_PAREN}:
                self._retreat(at)
            else:
                columns = self.parse_name_list_open()
        statement = ast.Insert(table, columns, upsert=upsert)
        if self._match_text_seq("OVERRIDING"):
            self._advance(3)
        if self._match(TokenType.VALUES):
            self.expect(TokenType.L_PAREN, "(")
            statement.values = self._parse_csv(self._value)
            self.expect(TokenType.R_PAREN, ")")
            if self._match(TokenType.COMMA):
                raise syntax('","', self._prev.start + 1)
        else:
            statement.query = self._parse_select_statement()
        if upsert:
            if self._match(TokenType.WHERE):
                statement.where = self._parse_disjunction()
            elif self._match(TokenType.WITH):
                self.expect_word("PRIMARY", "KEY")
                statement.with_primary_key = True
        self._match_hint()
        return statement

    def _match_hint(self) -> None:
        if self._match(TokenType.WITH):
            self.expect_word("HINT")
            self._parse_wrapped(lambda: self._parse_csv(self._parse_disjunction))

    def _value(self) -> exp.Expr:
        if self._match(TokenType.DEFAULT):
            return exp.Var(this="DEFAULT")
        token = self._curr
        value = self._parse_disjunction()
        if value is None:
            raise syntax(f'"{token.text}"' if token else "end of statement", token.start + 1 if token else 0)
        return value

    def _alias(self) -> str | None:
        if self._match(TokenType.ALIAS) or self._curr.token_type in {TokenType.VAR, TokenType.IDENTIFIER}:
            return self.parse_identifier()
        return None

    def _assignments(self) -> list[tuple[list[str], exp.Expr]]:
        found = []
        while True:
            wrapped = self._match(TokenType.L_PAREN)
            columns = self.parse_name_list_open() if wrapped else [self._qualified_column()]
            self.expect(TokenType.EQ, "=")
            found.append((columns, self._value()))
            if not self._match(TokenType.COMMA):
                return found

    def _qualified_column(self) -> str:
        name = self.parse_identifier()
        while self._match(TokenType.DOT):
            name = self.parse_identifier()
        return name

    def statement_update(self) -> ast.Statement:
        """UPDATE t [AS a] SET ... [FROM ...] [WHERE ...]."""
        table = self.parse_name()
        alias = self._alias()
        self.expect(TokenType.SET, "SET")
        assignments = self._assignments()
        source = None
        if self._match(TokenType.FROM, advance=False):
            source = self._parse_from(joins=True)
        where = self._parse_disjunction() if self._match(TokenType.WHERE) else None
        self._match_hint()
        return ast.Update(table, alias, assignments, source, where)

    def statement_delete(self) -> ast.Statement:
        """DELETE FROM t [WHERE ...]."""
        if self._match_text_seq("HISTORY"):
            raise unsupported("history tables", self._prev.start + 1)
        self.expect(TokenType.FROM, "FROM")
        table = self.parse_name()
        alias = self._alias()
        where = self._parse_disjunction() if self._match(TokenType.WHERE) else None
        self._match_hint()
        return ast.Delete(table, alias, where)

    def statement_merge(self) -> ast.Statement:
        """MERGE INTO t USING s ON ... WHEN ..."""
        if self._match_text_seq("DELTA"):
            self._match_text_seq("OF")
            name = self.parse_name()
            while self._curr:
                self._advance()
            return ast.AlterNothing(name)
        self.expect(TokenType.INTO, "INTO")
        table = self.parse_name()
        alias = self._alias()
        self.expect(TokenType.USING, "USING")
        source = self._parse_table()
        self.expect(TokenType.ON, "ON")
        condition = self._parse_disjunction()
        whens = []
        while self._match(TokenType.WHEN):
            whens.append(self._when())
        if not whens or source is None or condition is None:
            raise syntax("end of statement: WHEN is missing", len(self.sql))
        return ast.Merge(table, alias, source, condition, whens)

    def _when(self) -> ast.MergeWhen:
        matched = not self._match(TokenType.NOT)
        self.expect_word("MATCHED")
        condition = self._parse_disjunction() if self._match(TokenType.AND) else None
        self.expect(TokenType.THEN, "THEN")
        if self._match(TokenType.UPDATE):
            self.expect(TokenType.SET, "SET")
            return ast.MergeWhen(matched, condition, "UPDATE", self._assignments())
        if self._match(TokenType.DELETE):
            return ast.MergeWhen(matched, condition, "DELETE")
        self.expect(TokenType.INSERT, "INSERT")
        columns = self.parse_name_list_open() if self._match(TokenType.L_PAREN) else []
        self.expect(TokenType.VALUES, "VALUES")
        self.expect(TokenType.L_PAREN, "(")
        values = self._parse_csv(self._value)
        self.expect(TokenType.R_PAREN, ")")
        return ast.MergeWhen(matched, condition, "INSERT", columns=columns, values=values)

    def statement_set(self) -> ast.Statement:
        """SET SCHEMA, SET TRANSACTION, session variables."""
        if self._match_text_seq("SCHEMA"):
            return ast.SetSchema(self.parse_identifier())
        if self._match_text_seq("TRANSACTION"):
            if self._match_text_seq("AUTOCOMMIT", "DDL"):
                if self._match_text_seq("OFF"):
                    raise unsupported("SET TRANSACTION AUTOCOMMIT DDL OFF")
                self._advance()
                return ast.SetNothing()
            while self._curr:
                self._advance()
            return ast.SetNothing()
        self._match_text_seq("SESSION")
        if self._curr.token_type == TokenType.STRING:
            name = self._curr.text
            self._advance()
            self.expect(TokenType.EQ, "=")
            value = self._curr.text
            self._advance()
            return ast.SetVariable(name, value)
        raise syntax(f'"{self._curr.text}"', self._curr.start + 1)

    def statement_unset(self) -> ast.Statement:
        """UNSET 'variable'."""
        self._match_text_seq("SESSION")
        name = self._curr.text
        self._advance()
        return ast.SetVariable(name, None)

    def statement_commit(self) -> ast.Statement:
        """COMMIT as SQL text."""
        self._match_text_seq("WORK")
        return ast.EndTransaction(True)

    def statement_rollback(self) -> ast.Statement:
        """ROLLBACK as SQL text."""
        self._match_text_seq("WORK")
        if self._match_text_seq("TO"):
            raise unsupported("savepoints", self._prev.start + 1)
        return ast.EndTransaction(False)

    def statement_lock(self) -> ast.Statement:
        """LOCK TABLE t IN EXCLUSIVE MODE."""
        self.expect_word("TABLE")
        name = self.parse_name()
        while self._curr:
            self._advance()
        return ast.LockTable(name)

    def statement_grant(self) -> ast.Statement:
        """GRANT privileges ON object TO user."""
        return self._grant(False)

    def statement_revoke(self) -> ast.Statement:
        """REVOKE privileges ON object FROM user."""
        return self._grant(True)

    def _grant(self, revoke: bool) -> ast.Grant:
        privileges = [self._privilege()]
        while self._match(TokenType.COMMA):
            privileges.append(self._privilege())
        kind, target = "", None
        if self._match(TokenType.ON):
            if self._match_text_seq("SCHEMA"):
                kind, target = "SCHEMA", ast.Name(self.parse_identifier())
            else:
                kind, target = "OBJECT", self.parse_name()
        if revoke:
            self.expect(TokenType.FROM, "FROM")
        else:
            self.expect_word("TO")
        user = self.parse_identifier()
        option = False
        if not revoke and self._match(TokenType.WITH):
            self._advance(2)
            option = True
        return ast.Grant(privileges, kind, target, user, option, revoke)

    def _privilege(self) -> str:
        words = []
        while self._curr and not self._match_set((TokenType.COMMA, TokenType.ON, TokenType.FROM), advance=False):
            if self._curr.text.upper() == "TO":
                break
            words.append(self._curr.text.upper())
            self._advance()
        if not words:
            self.raise_error("Expected a privilege")
        return " ".join(words)


def parse(sql: str) -> tuple[ast.Statement, dict[str, int]]:
    """Parse one statement; also gives where each `?` stands and which one it is.

    Raises
    ------
    HanaError
        257 with the position for a syntax error, 7 for what the server refuses.
    """
    tokens = tokenize(sql)
    if not tokens:
        raise syntax("end of statement", len(sql))
    statement_parser = StatementParser(dialect=Hana(), error_level=IMMEDIATE)
    found: list[ast.Statement] = []

    def method(current: StatementParser) -> Any:
        found.append(current.parse_statement())
        if current._curr:
            token = current._curr
            raise syntax(f'"{token.text}"', token.start + 1)
        return exp.Null()

    try:
        statement_parser._parse(method, tokens, sql)  # type: ignore[arg-type]
    except ParseError as exc:
        raise _syntax_error(statement_parser, tokens, sql) from exc
    except RecursionError as exc:
        raise HanaError(257, "sql syntax error: the statement is nested too deeply") from exc
    marks = [str(token.start) for token in tokens if token.token_type == TokenType.PLACEHOLDER]
    return found[0], {mark: index for index, mark in enumerate(marks)}


def _syntax_error(statement_parser: StatementParser, tokens: list[Token], sql: str) -> HanaError:
    token = statement_parser._curr
    if not token:
        return syntax("end of statement", len(sql))
    return syntax(f'"{token.text}"', token.start + 1)
