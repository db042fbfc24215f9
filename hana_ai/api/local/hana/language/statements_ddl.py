"""Parse CREATE, ALTER, DROP, RENAME, TRUNCATE and COMMENT ON."""

from __future__ import annotations

from typing import Any

from sqlglot.tokenizer_core import TokenType

from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.language.statements_table import TableParser


class DdlParser(TableParser):
    """Mixed into the statement parser."""

    def statement_create(self) -> ast.Statement:
        """CREATE anything."""
        replace = bool(self._match(TokenType.OR)) and bool(self._match_text_seq("REPLACE"))
        word = self._word()
        self._refuse(word)
        if word == "VIEW":
            self._advance()
            return self._create_view(replace)
        if word == "SCHEMA":
            self._advance()
            missing = self._if("NOT", "EXISTS")
            name = self.parse_identifier()
            owner = None
            if self._match_text_seq("OWNED"):
                self.expect_word("BY")
                owner = self.parse_identifier()
            return ast.CreateSchema(name, owner, missing)
        if word == "SEQUENCE":
            self._advance()
            return self._create_sequence()
        if word == "USER":
            self._advance()
            return self._create_user()
        if word in {"UNIQUE", "INDEX", "HNSW", "INVERTED", "BTREE", "CPBTREE", "VECTOR"}:
            return self._create_index()
        return self._create_table()

    def _create_view(self, replace: bool) -> ast.CreateView:
        name = self.parse_name()
        columns: list[str] = []
        if self._match(TokenType.L_PAREN):
            if self._match(TokenType.IN, advance=False):
                raise unsupported("parameterized views", self._curr.start + 1)
            columns = [self.parse_identifier()]
            while True:
                if self._match_text_seq("COMMENT"):
                    self._text()
                if not self._match(TokenType.COMMA):
                    break
                columns.append(self.parse_identifier())
            self.expect(TokenType.R_PAREN, ")")
        comment = self._text() if self._match_text_seq("COMMENT") else None
        self.expect(TokenType.ALIAS, "AS")
        start = self._curr
        query = self._parse_select_statement()  # type: ignore[attr-defined]
        text = self._find_sql(start, self._prev)
        return ast.CreateView(name, columns, query, text, replace, comment)

    def _create_sequence(self) -> ast.CreateSequence:
        sequence = ast.CreateSequence(self.parse_name())
        while self._curr:
            if self._match_text_seq("START"):
                self._match(TokenType.WITH)
                sequence.start = self.parse_integer()
            elif self._match_text_seq("INCREMENT"):
                self._match_text_seq("BY")
                sequence.increment = self.parse_integer()
            elif self._match_text_seq("MINVALUE"):
                sequence.minimum = self.parse_integer()
            elif self._match_text_seq("MAXVALUE"):
                sequence.maximum = self.parse_integer()
            elif self._match_text_seq("CYCLE"):
                sequence.cycle = True
            elif self._match_text_seq("NO"):
                self._advance()
            elif self._match_text_seq("CACHE"):
                self.parse_integer()
            elif self._match_text_seq("RESET"):
                raise unsupported("RESET BY", self._prev.start + 1)
            else:
                break
        return sequence

    def _create_user(self) -> ast.CreateUser:
        name = self.parse_identifier()
        self.expect_word("PASSWORD")
        password = self._curr.text
        self._advance()
        while self._curr:
            # NO FORCE_FIRST_PASSWORD_CHANGE, VALID UNTIL and the like.
            self._advance()
        return ast.CreateUser(name, password)

    def _create_index(self) -> ast.CreateIndex:
        unique, kind = False, ""
        while not self._match_text_seq("INDEX"):
            word = self._word()
            if word == "UNIQUE":
                unique = True
            elif word in {"INVERTED", "BTREE", "CPBTREE", "HNSW", "HASH", "VALUE", "INDIVIDUAL", "VECTOR"}:
                kind = kind or word
            else:
                raise syntax(f'"{self._curr.text}"', self._curr.start + 1)
            self._advance()
        missing = self._if("NOT", "EXISTS")
        name = self.parse_name()
        self.expect(TokenType.ON, "ON")
        table = self.parse_name()
        self.expect(TokenType.L_PAREN, "(")
        columns = []
        while True:
            column = self.parse_identifier()
            descending = bool(self._match(TokenType.DESC))
            self._match(TokenType.ASC)
            columns.append((column, descending))
            if not self._match(TokenType.COMMA):
                break
        self.expect(TokenType.R_PAREN, ")")
        index = ast.CreateIndex(name, table, columns, unique, kind, if_not_exists=missing)
        while self._curr:
            if self._match_text_seq("SIMILARITY", "FUNCTION"):
                index.similarity = self.parse_identifier()
            elif self._match_text_seq("BUILD", "CONFIGURATION") or self._match_text_seq("SEARCH", "CONFIGURATION"):
                self._text()
            elif self._match_text_seq("ONLINE") or self._match(TokenType.ASC) or self._match(TokenType.DESC):
                continue
            else:
                break
        return index

    def statement_drop(self) -> ast.Statement:
        """DROP anything."""
        word = self._word()
        self._refuse(word)
        if word not in {"TABLE", "VIEW", "SCHEMA", "SEQUENCE", "INDEX", "USER"}:
            raise syntax(f'"{self._curr.text}"', self._curr.start + 1)
        self._advance()
        exists = self._if("EXISTS")
        name = self.parse_name()
        behavior = None
        if self._match_texts(("CASCADE", "RESTRICT")):
            behavior = self._prev.text.upper()
        self._match_text_seq("ONLINE")
        return ast.Drop(word, name, behavior, exists)

    def statement_alter(self) -> ast.Statement:
        """ALTER TABLE, SEQUENCE, USER, INDEX."""
        word = self._word()
        self._refuse(word)
        if self._match_text_seq("USER"):
            name = self.parse_identifier()
            self.expect_word("PASSWORD")
            password = self._curr.text
            self._advance()
            return ast.AlterUser(name, password)
        if self._match_text_seq("SEQUENCE"):
            sequence = ast.AlterSequence(self.parse_name())
            while self._curr:
                if self._match_text_seq("RESTART"):
                    self._match(TokenType.WITH)
                    sequence.restart = self.parse_integer()
                elif self._match_text_seq("INCREMENT", "BY"):
                    sequence.increment = self.parse_integer()
                else:
                    break
            return sequence
        if word in {"SYSTEM", "VIEW", "INDEX", "SCHEMA"}:
            raise unsupported(f"ALTER {word}", self._curr.start + 1)
        self.expect_word("TABLE")
        return self._alter_table(self.parse_name())

    def _alter_table(self, table: ast.Name) -> ast.Statement:
        if self._match_text_seq("ADD"):
            constraint = self._table_constraint()
            if constraint is not None:
                return ast.AddConstraint(table, constraint)
            return ast.AddColumns(table, self._column_defs())
        if self._match_text_seq("ALTER"):
            return ast.AlterColumns(table, self._column_defs())
        if self._match(TokenType.DROP):
            if self._match_text_seq("PRIMARY", "KEY"):
                return ast.DropConstraint(table, None)
            if self._match_text_seq("CONSTRAINT"):
                return ast.DropConstraint(table, self.parse_identifier())
            self._match_text_seq("COLUMN")
            if self._match(TokenType.L_PAREN, advance=False):
                return ast.DropColumns(table, self.parse_name_list())
            return ast.DropColumns(table, [self.parse_identifier()])
        if self._match_text_seq("RENAME"):
            if self._match_text_seq("COLUMN"):
                column = self.parse_identifier()
                self.expect_word("TO")
                return ast.RenameColumn(table, column, self.parse_identifier())
            self.expect_word("TO")
            return ast.RenameTable(table, self.parse_identifier())
        while self._curr:
            self._advance()
        return ast.AlterNothing(table)

    def _column_defs(self) -> list[ast.ColumnDef]:
        self._match_text_seq("COLUMN")
        if not self._match(TokenType.L_PAREN):
            return [self._column()]
        columns: list[ast.ColumnDef] = [self._column()]
        while self._match(TokenType.COMMA):
            columns.append(self._column())
        self.expect(TokenType.R_PAREN, ")")
        return columns

    def statement_rename(self) -> ast.Statement:
        """RENAME TABLE, COLUMN, INDEX."""
        if self._match_text_seq("TABLE"):
            table = self.parse_name()
            self.expect_word("TO")
            return ast.RenameTable(table, self.parse_name().name)
        if self._match_text_seq("INDEX"):
            index = self.parse_name()
            self.expect_word("TO")
            return ast.RenameIndex(index, self.parse_identifier())
        self.expect_word("COLUMN")
        parts = [self.parse_identifier()]
        while self._match(TokenType.DOT):
            parts.append(self.parse_identifier())
        if len(parts) < 2:
            self.raise_error("Expected table.column")
        self.expect_word("TO")
        table = ast.Name(parts[-2], parts[-3] if len(parts) > 2 else None)
        return ast.RenameColumn(table, parts[-1], self.parse_identifier())

    def statement_truncate(self) -> ast.Statement:
        """TRUNCATE TABLE t."""
        self.expect_word("TABLE")
        return ast.Truncate(self.parse_name())

    def statement_comment(self) -> ast.Statement:
        """COMMENT ON TABLE, VIEW or COLUMN ... IS 'text'."""
        self.expect(TokenType.ON, "ON")
        kind = self._word()
        if kind not in {"TABLE", "VIEW", "COLUMN"}:
            raise syntax(f'"{self._curr.text}"', self._curr.start + 1)
        self._advance()
        parts: list[Any] = [self.parse_identifier()]
        while self._match(TokenType.DOT):
            parts.append(self.parse_identifier())
        self.expect(TokenType.IS, "IS")
        text = None if self._match_text_seq("NULL") else self._text()
        column = parts.pop() if kind == "COLUMN" else None
        if not parts:
            self.raise_error("Expected a table")
        return ast.Comment(kind, ast.Name(parts[-1], parts[-2] if len(parts) > 1 else None), column, text)
