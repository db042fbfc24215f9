"""Parse CREATE TABLE: columns, their options, constraints, storage clauses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.language.unsupported import REFUSED_OBJECTS

if TYPE_CHECKING:
    from hana_ai.api.local.hana.language.dialect import HanaParser as _Base
else:
    _Base = object

_STORAGE_WORDS = [
    "UNLOAD", "PARTITION", "PARTITIONS", "COMPRESSED", "LOGGING", "NO", "WITHOUT", "AUTO", "AUTOMERGE", "GROUP",
    "NUMA", "PAGE", "COLUMN", "LOB", "PRELOAD", "FULLTEXT", "HAS", "FUZZY", "MEMORY", "LOAD", "LOADABLE",
    "UNIT", "PERSISTENT", "CS", "PERSISTENCE", "RESET", "TTL",
]  # fmt: skip


class TableParser(_Base):
    """Names, types, columns and constraints."""

    def parse_identifier(self) -> str:
        """One name, folded to upper case unless it is quoted."""
        token = self._curr
        if token.token_type == TokenType.IDENTIFIER:
            self._advance()
            return token.text
        if token.token_type not in self.ID_VAR_TOKENS:
            raise syntax(
                f'"{token.text}"' if token else "end of statement", (token.start + 1) if token else len(self.sql)
            )
        self._advance()
        return token.text.upper()

    def parse_name(self) -> ast.Name:
        """A name, perhaps with its schema."""
        position = self._curr.start + 1 if self._curr else 0
        first = self.parse_identifier()
        if self._match(TokenType.DOT):
            second = self.parse_identifier()
            if self._match(TokenType.DOT):
                return ast.Name(self.parse_identifier(), second, position)
            return ast.Name(second, first, position)
        return ast.Name(first, None, position)

    def parse_name_list_open(self) -> list[str]:
        """Names up to the closing parenthesis; the opening one is already read."""
        names = [self.parse_identifier()]
        while self._match(TokenType.COMMA):
            names.append(self.parse_identifier())
        self.expect(TokenType.R_PAREN, ")")
        return names

    def parse_name_list(self) -> list[str]:
        """Names in parentheses."""
        self.expect(TokenType.L_PAREN, "(")
        return self.parse_name_list_open()

    def _expression_text(self) -> tuple[exp.Expr, str]:
        start = self._curr
        expression = self._parse_disjunction()
        if expression is None:
            raise syntax(f'"{self._curr.text}"', start.start + 1)
        return expression, self._find_sql(start, self._prev)

    def _if(self, *words: str) -> bool:
        return bool(self._match_text_seq("IF", *words))

    def _word(self) -> str:
        return self._curr.text.upper() if self._curr.token_type != TokenType.IDENTIFIER else ""

    def _text(self) -> str:
        if not self._match(TokenType.STRING):
            self.raise_error("Expected a text")
        return self._prev.text

    def _refuse(self, word: str) -> None:
        refused = REFUSED_OBJECTS.get(word)
        if refused is not None:
            raise unsupported(refused, self._curr.start + 1)

    def _create_table(self) -> ast.CreateTable:
        temporary, kind = None, "COLUMN"
        while True:
            word = self._word()
            self._refuse(word)
            self._advance()
            if word in {"GLOBAL", "LOCAL"}:
                temporary = word
                self.expect_word("TEMPORARY")
            elif word in {"COLUMN", "ROW"}:
                kind = word
            elif word == "TABLE":
                break
            else:
                raise syntax(f'"{self._prev.text}"', self._prev.start + 1)
        missing = self._if("NOT", "EXISTS")
        table = ast.CreateTable(self.parse_name(), kind, temporary, if_not_exists=missing)
        if self._match(TokenType.LIKE):
            table.like = self.parse_name()
            table.with_data = False
        elif self._match(TokenType.L_PAREN):
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
            if not self._match(TokenType.COMMA):
                break
        self.expect(TokenType.R_PAREN, ")")

    def _table_options(self, table: ast.CreateTable) -> None:
        while self._curr:
            if self._match(TokenType.ALIAS):
                wrapped = self._match(TokenType.L_PAREN)
                table.query = self._parse_select_statement()  # type: ignore[attr-defined]
                if wrapped:
                    self.expect(TokenType.R_PAREN, ")")
            elif self._match(TokenType.LIKE):
                table.like = self.parse_name()
                table.with_data = False
            elif self._match(TokenType.WITH):
                no = self._match_text_seq("NO")
                if self._match_text_seq("DATA"):
                    table.with_data = not no
                else:
                    self._advance()
            elif self._match(TokenType.ON):
                self.expect_word("COMMIT")
                if self._match(TokenType.DELETE):
                    table.on_commit_delete = True
                else:
                    self.expect_word("PRESERVE")
                self.expect_word("ROWS")
            elif self._match_text_seq("COMMENT"):
                table.comment = self._text()
            elif self._word().partition(" ")[0] in _STORAGE_WORDS:  # PARTITION BY is one token
                self._skip_clause()
            else:
                return

    def _skip_clause(self) -> None:
        # Where HANA keeps a table (partitions, load unit) does not change what a query answers.
        self._advance()
        while self._curr and self._word() not in {"AS", "COMMENT", "WITH"}:
            if self._match(TokenType.L_PAREN):
                depth = 1
                while self._curr and depth:
                    depth += self._curr.token_type == TokenType.L_PAREN
                    depth -= self._curr.token_type == TokenType.R_PAREN
                    self._advance()
                continue
            if self._curr.token_type == TokenType.R_PAREN:
                return
            self._advance()

    def _table_constraint(self) -> ast.Constraint | None:
        at = self._index
        name = None
        if self._match_text_seq("CONSTRAINT"):
            name = self.parse_identifier()
        if self._match_text_seq("PRIMARY", "KEY"):
            self._match_texts(("INVERTED", "BTREE", "CPBTREE"))
            self._match_texts(("HASH", "VALUE", "INDIVIDUAL"))
            return ast.KeyDef(self.parse_name_list(), True, name)
        if self._match_text_seq("UNIQUE"):
            self._match_texts(("INVERTED", "BTREE", "CPBTREE"))
            return ast.KeyDef(self.parse_name_list(), False, name)
        if self._match_text_seq("FOREIGN", "KEY"):
            columns = self.parse_name_list()
            return self._references(columns, name)
        if self._curr.text.upper() == "CHECK" and self._next.token_type == TokenType.L_PAREN:
            self._advance(2)
            condition, text = self._expression_text()
            self.expect(TokenType.R_PAREN, ")")
            return ast.CheckDef(condition, text, name)
        self._retreat(at)
        return None

    def _references(self, columns: list[str], name: str | None = None) -> ast.ForeignKeyDef:
        self.expect_word("REFERENCES")
        table = self.parse_name()
        referenced = self.parse_name_list() if self._match(TokenType.L_PAREN, advance=False) else []
        key = ast.ForeignKeyDef(columns, table, referenced, name)
        while self._match(TokenType.ON):
            deleting = bool(self._match(TokenType.DELETE))
            if not deleting:
                self.expect(TokenType.UPDATE, "UPDATE")
            if self._match_text_seq("CASCADE"):
                rule = "CASCADE"
            elif self._match_text_seq("RESTRICT"):
                rule = "RESTRICT"
            else:
                self.expect(TokenType.SET, "SET")
                rule = "SET NULL" if self._match_text_seq("NULL") else "SET DEFAULT"
                if rule == "SET DEFAULT":
                    self.expect(TokenType.DEFAULT, "DEFAULT")
            if deleting:
                key.on_delete = rule
            else:
                key.on_update = rule
        return key

    def _column(self, typed: bool = True) -> ast.ColumnDef:
        name = self.parse_identifier()
        if not typed and self._curr.token_type in {TokenType.COMMA, TokenType.R_PAREN}:
            # CREATE TABLE t (a, b) AS (SELECT ...): only names.
            return ast.ColumnDef(name, None)
        if self._match_text_seq("GENERATED", advance=False) or self._curr.token_type == TokenType.ALIAS:
            column = ast.ColumnDef(name, None)
        else:
            column = ast.ColumnDef(name, self.parse_type_name())
        while self._column_option(column):
            pass
        return column

    def _column_option(self, column: ast.ColumnDef) -> bool:
        constraint_name = self.parse_identifier() if self._match_text_seq("CONSTRAINT") else None
        if self._match(TokenType.NOT):
            self.expect_word("NULL")
            column.not_null = column.nullable_given = True
        elif self._match_text_seq("NULL"):
            column.nullable_given = True
        elif self._match(TokenType.DEFAULT):
            start = self._curr
            column.default = self._parse_bitwise()
            if column.default is None:
                raise syntax(f'"{start.text}"', start.start + 1)
            column.default_sql = self._find_sql(start, self._prev)
        elif self._match_text_seq("PRIMARY", "KEY"):
            column.primary_key = True
        elif self._match_text_seq("UNIQUE"):
            column.unique = True
        elif self._match_text_seq("REFERENCES", advance=False):
            column.references = self._references([column.name], constraint_name)
        elif self._match_text_seq("CHECK"):
            self.expect(TokenType.L_PAREN, "(")
            column.check, column.check_sql = self._expression_text()
            self.expect(TokenType.R_PAREN, ")")
        elif self._match_text_seq("COMMENT"):
            column.comment = self._text()
        elif self._match_text_seq("GENERATED"):
            self._generated(column)
        elif self._match(TokenType.ALIAS):
            column.generated, column.generated_sql = self._wrapped_expression()
            column.stored = False
        elif self._word() in {"CS_INT", "CS_STRING", "HIDDEN", "FUZZY", "PRELOAD", "PAGE", "LOB", "MEMORY"}:
            self._advance()
            self._match_text_seq("LOADABLE")
            if self._match_text_seq("THRESHOLD"):
                self.parse_integer()
        else:
            return False
        return True

    def _wrapped_expression(self) -> tuple[exp.Expr, str]:
        # The parentheses may be left out: GENERATED ALWAYS AS VECTOR_EMBEDDING(...).
        return self._expression_text()

    def _generated(self, column: ast.ColumnDef) -> None:
        if self._match_text_seq("ALWAYS"):
            kind = "ALWAYS"
        else:
            self.expect_word("BY")
            self.expect(TokenType.DEFAULT, "DEFAULT")
            kind = "BY DEFAULT"
        self.expect(TokenType.ALIAS, "AS")
        if not self._match_text_seq("IDENTITY"):
            column.generated, column.generated_sql = self._wrapped_expression()
            return
        column.identity = kind
        if self._match(TokenType.L_PAREN):
            while not self._match(TokenType.R_PAREN):
                if self._match_text_seq("START", "WITH"):
                    column.start = self.parse_integer()
                elif self._match_text_seq("INCREMENT", "BY"):
                    column.increment = self.parse_integer()
                elif not self._curr:
                    self.raise_error("Expected )")
                else:
                    self._advance()
