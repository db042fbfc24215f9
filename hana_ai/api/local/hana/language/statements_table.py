"""Parse CREATE TABLE: columns, their options, constraints, storage clauses."""

from __future__ import annotations

from sqlglot import exp

from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.language.dialect import HanaParser
from hana_ai.api.local.hana.language.sqlglot_parser import TokenType
from hana_ai.api.local.hana.language.unsupported import REFUSED_OBJECTS

_STORAGE_WORDS = [
    "UNLOAD", "PARTITION", "PARTITIONS", "COMPRESSED", "LOGGING", "NO", "WITHOUT", "AUTO", "AUTOMERGE", "GROUP",
    "NUMA", "PAGE", "COLUMN", "LOB", "PRELOAD", "FULLTEXT", "HAS", "FUZZY", "MEMORY", "LOAD", "LOADABLE",
    "UNIT", "PERSISTENT", "CS", "PERSISTENCE", "RESET", "TTL",
]  # fmt: skip


class TableParser(HanaParser):
    """Columns, constraints and clauses."""

    def _expression_text(self) -> tuple[exp.Expr, str]:
        start = self.token
        expression = self.some_expression()
        return expression, self.text_between(start, self.previous)

    def _refuse(self, word: str) -> None:
        refused = REFUSED_OBJECTS.get(word)
        if refused is not None:
            raise unsupported(refused, self.token.start + 1)

    def _create_table(self) -> ast.CreateTable:
        temporary, kind = None, "COLUMN"
        while True:
            word = self.word()
            self._refuse(word)
            self.advance()
            if word in {"GLOBAL", "LOCAL"}:
                temporary = word
                self.expect_word("TEMPORARY")
            elif word in {"COLUMN", "ROW"}:
                kind = word
            elif word == "TABLE":
                break
            else:
                raise syntax(f'"{self.previous.text}"', self.previous.start + 1)
        missing = self.take_if("NOT", "EXISTS")
        table = ast.CreateTable(self.parse_name(), kind, temporary, if_not_exists=missing)
        if self.take(TokenType.LIKE):
            table.like = self.parse_name()
            table.with_data = False
        elif self.take(TokenType.L_PAREN):
            self._table_elements(table)
        self._table_options(table)
        return table

    def _table_elements(self, table: ast.CreateTable) -> None:
        while True:
            constraint = self._table_constraint()
            if constraint is not None:
                table.constraints.append(constraint)
            else:
                column = self._column(typed=False)
                table.columns.append(column)
            if not self.take(TokenType.COMMA):
                break
        self.expect(TokenType.R_PAREN, ")")

    def _table_options(self, table: ast.CreateTable) -> None:
        while self.token:
            if self.take(TokenType.ALIAS):
                wrapped = self.take(TokenType.L_PAREN)
                table.query = self.select_statement()
                if wrapped:
                    self.expect(TokenType.R_PAREN, ")")
            elif self.take(TokenType.LIKE):
                table.like = self.parse_name()
                table.with_data = False
            elif self.take(TokenType.WITH):
                no = self.take_words("NO")
                if self.take_words("DATA"):
                    table.with_data = not no
                else:
                    self.advance()
            elif self.take(TokenType.ON):
                self.expect_word("COMMIT")
                if self.take(TokenType.DELETE):
                    table.on_commit_delete = True
                else:
                    self.expect_word("PRESERVE")
                self.expect_word("ROWS")
            elif self.take_words("COMMENT"):
                table.comment = self.text()
            elif self.word().partition(" ")[0] in _STORAGE_WORDS:  # PARTITION BY is one token
                self._skip_clause()
            else:
                return

    def _skip_clause(self) -> None:
        # Where HANA keeps a table (partitions, load unit) does not change what a query answers.
        self.advance()
        while self.token and self.word() not in {"AS", "COMMENT", "WITH"}:
            if self.take(TokenType.L_PAREN):
                depth = 1
                while self.token and depth:
                    depth += self.token.token_type == TokenType.L_PAREN
                    depth -= self.token.token_type == TokenType.R_PAREN
                    self.advance()
                continue
            if self.token.token_type == TokenType.R_PAREN:
                return
            self.advance()

    def _table_constraint(self) -> ast.Constraint | None:
        at = self.place
        name = None
        if self.take_words("CONSTRAINT"):
            name = self.parse_identifier()
        if self.take_words("PRIMARY", "KEY"):
            self.take_one_of(("INVERTED", "BTREE", "CPBTREE"))
            self.take_one_of(("HASH", "VALUE", "INDIVIDUAL"))
            return ast.KeyDef(self.parse_name_list(), True, name)
        if self.words_ahead("UNIQUE") and (
            self.following.token_type == TokenType.L_PAREN
            or self.following.text.upper() in {"INVERTED", "BTREE", "CPBTREE"}
        ):
            self.advance()
            self.take_one_of(("INVERTED", "BTREE", "CPBTREE"))
            return ast.KeyDef(self.parse_name_list(), False, name)
        if self.take_words("FOREIGN", "KEY"):
            columns = self.parse_name_list()
            return self._references(columns, name)
        if self.token.text.upper() == "CHECK" and self.following.token_type == TokenType.L_PAREN:
            self.advance(2)
            condition, text = self._expression_text()
            self.expect(TokenType.R_PAREN, ")")
            return ast.CheckDef(condition, text, name)
        self.go_back(at)
        return None

    def _references(self, columns: list[str], name: str | None = None) -> ast.ForeignKeyDef:
        self.expect_word("REFERENCES")
        table = self.parse_name()
        referenced = self.parse_name_list() if self.ahead(TokenType.L_PAREN) else []
        key = ast.ForeignKeyDef(columns, table, referenced, name)
        while self.take(TokenType.ON):
            deleting = self.take(TokenType.DELETE)
            if not deleting:
                self.expect(TokenType.UPDATE, "UPDATE")
            if self.take_words("CASCADE"):
                rule = "CASCADE"
            elif self.take_words("RESTRICT"):
                rule = "RESTRICT"
            else:
                self.expect(TokenType.SET, "SET")
                rule = "SET NULL" if self.take_words("NULL") else "SET DEFAULT"
                if rule == "SET DEFAULT":
                    self.expect(TokenType.DEFAULT, "DEFAULT")
            if deleting:
                key.on_delete = rule
            else:
                key.on_update = rule
        return key

    def _column(self, typed: bool = True) -> ast.ColumnDef:
        name = self.parse_identifier()
        if not typed and self.ahead(TokenType.COMMA, TokenType.R_PAREN):
            # CREATE TABLE t (a, b) AS (SELECT ...): only names.
            return ast.ColumnDef(name, None)
        if self.words_ahead("GENERATED") or self.ahead(TokenType.ALIAS):
            column = ast.ColumnDef(name, None)
        else:
            column = ast.ColumnDef(name, self.parse_type_name())
        while self._column_option(column):
            pass
        return column

    def _column_option(self, column: ast.ColumnDef) -> bool:
        constraint_name = self.parse_identifier() if self.take_words("CONSTRAINT") else None
        if self.take(TokenType.NOT):
            self.expect_word("NULL")
            column.not_null = column.nullable_given = True
        elif self.take_words("NULL"):
            column.nullable_given = True
        elif self.take(TokenType.DEFAULT):
            start = self.token
            column.default = self.operand()
            if column.default is None:
                raise syntax(f'"{start.text}"', start.start + 1)
            column.default_sql = self.text_between(start, self.previous)
        elif self.take_words("PRIMARY", "KEY"):
            column.primary_key = True
        elif self.take_words("UNIQUE"):
            column.unique = True
        elif self.words_ahead("REFERENCES"):
            column.references = self._references([column.name], constraint_name)
        elif self.take_words("CHECK"):
            self.expect(TokenType.L_PAREN, "(")
            column.check, column.check_sql = self._expression_text()
            self.expect(TokenType.R_PAREN, ")")
        elif self.take_words("COMMENT"):
            column.comment = self.text()
        elif self.take_words("GENERATED"):
            self._generated(column)
        elif self.take(TokenType.ALIAS):
            column.generated, column.generated_sql = self._expression_text()
            column.stored = False
        elif self.word() in {"CS_INT", "CS_STRING", "HIDDEN", "FUZZY", "PRELOAD", "PAGE", "LOB", "MEMORY"}:
            self.advance()
            self.take_words("LOADABLE")
            if self.take_words("THRESHOLD"):
                self.parse_integer()
        else:
            return False
        return True

    def _generated(self, column: ast.ColumnDef) -> None:
        if self.take_words("ALWAYS"):
            kind = "ALWAYS"
        else:
            self.expect_word("BY")
            self.expect(TokenType.DEFAULT, "DEFAULT")
            kind = "BY DEFAULT"
        self.expect(TokenType.ALIAS, "AS")
        if not self.take_words("IDENTITY"):
            # The parentheses may be left out: GENERATED ALWAYS AS VECTOR_EMBEDDING(...).
            column.generated, column.generated_sql = self._expression_text()
            return
        column.identity = kind
        if self.take(TokenType.L_PAREN):
            while not self.take(TokenType.R_PAREN):
                if self.take_words("START", "WITH"):
                    column.start = self.parse_integer()
                elif self.take_words("INCREMENT", "BY"):
                    column.increment = self.parse_integer()
                elif not self.token:
                    self.fail("Expected )")
                else:
                    self.advance()
