"""Parse INSERT, UPSERT, REPLACE, UPDATE, DELETE and MERGE."""

from __future__ import annotations

from sqlglot import exp

from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.language.dialect import HanaParser
from hana_ai.api.local.hana.language.sqlglot_parser import TokenType


class ChangeParser(HanaParser):
    """Mixed into the statement parser."""

    def statement_insert(self) -> ast.Insert:
        """INSERT INTO t (columns) VALUES (...) or a query."""
        self.take(TokenType.INTO)
        return self._insert(upsert=False)

    def statement_upsert(self) -> ast.Insert:
        """UPSERT t ..."""
        self.take(TokenType.INTO)
        return self._insert(upsert=True)

    def statement_replace(self) -> ast.Insert:
        """REPLACE t ..., the same as UPSERT."""
        self.take(TokenType.INTO)
        return self._insert(upsert=True)

    def _insert(self, upsert: bool) -> ast.Insert:
        table = self.parse_name()
        if self.take_words("PARTITION"):
            raise unsupported("partitions", self.previous.start + 1)
        columns: list[str] = []
        at = self.place
        if self.take(TokenType.L_PAREN):
            if self.ahead(TokenType.SELECT, TokenType.WITH, TokenType.L_PAREN):
                self.go_back(at)
            else:
                columns = self.parse_name_list_open()
        statement = ast.Insert(table, columns, upsert=upsert)
        if self.take_words("OVERRIDING"):
            self.advance(3)
        if self.take(TokenType.VALUES):
            self.expect(TokenType.L_PAREN, "(")
            statement.values = self.separated(self._value)
            self.expect(TokenType.R_PAREN, ")")
            if self.take(TokenType.COMMA):
                raise syntax('","', self.previous.start + 1)
        else:
            statement.query = self.select_statement()
        if upsert:
            if self.take(TokenType.WHERE):
                statement.where = self.any_expression()
            elif self.take(TokenType.WITH):
                self.expect_word("PRIMARY", "KEY")
                statement.with_primary_key = True
        self._match_hint()
        return statement

    def _match_hint(self) -> None:
        if self.take(TokenType.WITH):
            self.expect_word("HINT")
            self.in_parentheses(lambda: self.separated(self.any_expression))

    def _value(self) -> exp.Expr:
        if self.take(TokenType.DEFAULT):
            return exp.Var(this="DEFAULT")
        return self.some_expression()

    def _alias(self) -> str | None:
        if self.take(TokenType.ALIAS) or self.ahead(TokenType.VAR, TokenType.IDENTIFIER):
            return self.parse_identifier()
        return None

    def _assignments(self) -> list[tuple[list[str], exp.Expr]]:
        found = []
        while True:
            wrapped = self.take(TokenType.L_PAREN)
            columns = self.parse_name_list_open() if wrapped else [self._qualified_column()]
            self.expect(TokenType.EQ, "=")
            found.append((columns, self._value()))
            if not self.take(TokenType.COMMA):
                return found

    def _qualified_column(self) -> str:
        name = self.parse_identifier()
        while self.take(TokenType.DOT):
            name = self.parse_identifier()
        return name

    def statement_update(self) -> ast.Statement:
        """UPDATE t [AS a] SET ... [FROM ...] [WHERE ...]."""
        table = self.parse_name()
        alias = self._alias()
        self.expect(TokenType.SET, "SET")
        assignments = self._assignments()
        source = None
        if self.ahead(TokenType.FROM):
            source = self.from_clause()
        where = self.any_expression() if self.take(TokenType.WHERE) else None
        self._match_hint()
        return ast.Update(table, alias, assignments, source, where)

    def statement_delete(self) -> ast.Statement:
        """DELETE FROM t [WHERE ...]."""
        if self.take_words("HISTORY"):
            raise unsupported("history tables", self.previous.start + 1)
        self.expect(TokenType.FROM, "FROM")
        table = self.parse_name()
        alias = self._alias()
        where = self.any_expression() if self.take(TokenType.WHERE) else None
        self._match_hint()
        return ast.Delete(table, alias, where)

    def statement_merge(self) -> ast.Statement:
        """MERGE INTO t USING s ON ... WHEN ..."""
        if self.take_words("DELTA"):
            self.take_words("OF")
            name = self.parse_name()
            self.rest()
            return ast.AlterNothing(name)
        self.expect(TokenType.INTO, "INTO")
        table = self.parse_name()
        alias = self._alias()
        self.expect(TokenType.USING, "USING")
        source = self.source()
        self.expect(TokenType.ON, "ON")
        condition = self.any_expression()
        whens = []
        while self.take(TokenType.WHEN):
            whens.append(self._when())
        if not whens or source is None or condition is None:
            raise syntax("end of statement: WHEN is missing", len(self.sql))
        return ast.Merge(table, alias, source, condition, whens)

    def _when(self) -> ast.MergeWhen:
        matched = not self.take(TokenType.NOT)
        self.expect_word("MATCHED")
        condition = self.any_expression() if self.take(TokenType.AND) else None
        self.expect(TokenType.THEN, "THEN")
        if self.take(TokenType.UPDATE):
            self.expect(TokenType.SET, "SET")
            return ast.MergeWhen(matched, condition, "UPDATE", self._assignments())
        if self.take(TokenType.DELETE):
            return ast.MergeWhen(matched, condition, "DELETE")
        self.expect(TokenType.INSERT, "INSERT")
        columns = self.parse_name_list_open() if self.take(TokenType.L_PAREN) else []
        self.expect(TokenType.VALUES, "VALUES")
        self.expect(TokenType.L_PAREN, "(")
        values = self.separated(self._value)
        self.expect(TokenType.R_PAREN, ")")
        return ast.MergeWhen(matched, condition, "INSERT", columns=columns, values=values)
