"""Parse CREATE, ALTER, DROP, RENAME, TRUNCATE and COMMENT ON."""

from __future__ import annotations

from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.language.sqlglot_parser import TokenType
from hana_ai.api.local.hana.language.statements_table import TableParser
from hana_ai.api.local.hana.names import PUBLIC_SCHEMA


class DdlParser(TableParser):
    """Mixed into the statement parser."""

    def statement_create(self) -> ast.Statement:
        """CREATE anything."""
        replace = self.take(TokenType.OR) and self.take_words("REPLACE")
        word = self.word()
        self._refuse(word)
        if word == "VIEW":
            self.advance()
            return self._create_view(replace)
        if word in {"PUBLIC", "SYNONYM"}:
            name = self._synonym_name()
            self.expect(TokenType.FOR, "FOR")
            return ast.CreateSynonym(name, self.parse_name(), replace)
        if word == "SCHEMA":
            self.advance()
            missing = self.take_if("NOT", "EXISTS")
            schema = self.parse_identifier()
            owner = None
            if self.take_words("OWNED"):
                self.expect_word("BY")
                owner = self.parse_identifier()
            return ast.CreateSchema(schema, owner, missing)
        if word == "SEQUENCE":
            self.advance()
            return self._create_sequence()
        if word == "USER":
            self.advance()
            return self._create_user()
        if word in {"UNIQUE", "INDEX", "HNSW", "INVERTED", "BTREE", "CPBTREE", "VECTOR"}:
            return self._create_index()
        return self._create_table()

    def _synonym_name(self) -> ast.Name:
        """[PUBLIC] SYNONYM name."""
        public = self.take_words("PUBLIC")
        self.expect_word("SYNONYM")
        name = self.parse_name()
        if public and name.schema is not None:
            raise syntax(f'"{name.schema}"', name.position)
        return ast.Name(name.name, PUBLIC_SCHEMA, name.position) if public else name

    def _create_view(self, replace: bool) -> ast.CreateView:
        name = self.parse_name()
        columns: list[str] = []
        if self.take(TokenType.L_PAREN):
            if self.ahead(TokenType.IN):
                raise unsupported("parameterized views", self.token.start + 1)
            columns = [self.parse_identifier()]
            while True:
                if self.take_words("COMMENT"):
                    self.text()
                if not self.take(TokenType.COMMA):
                    break
                columns.append(self.parse_identifier())
            self.expect(TokenType.R_PAREN, ")")
        comment = self.text() if self.take_words("COMMENT") else None
        self.expect(TokenType.ALIAS, "AS")
        start = self.token
        query = self.select_statement()
        text = self.text_between(start, self.previous)
        return ast.CreateView(name, columns, query, text, replace, comment)

    def _create_sequence(self) -> ast.CreateSequence:
        sequence = ast.CreateSequence(self.parse_name())
        while self.token:
            if self.take_words("START"):
                self.take(TokenType.WITH)
                sequence.start = self.parse_integer()
            elif self.take_words("INCREMENT"):
                self.take_words("BY")
                sequence.increment = self.parse_integer()
            elif self.take_words("MINVALUE"):
                sequence.minimum = self.parse_integer()
            elif self.take_words("MAXVALUE"):
                sequence.maximum = self.parse_integer()
            elif self.take_words("CYCLE"):
                sequence.cycle = True
            elif self.take_words("NO"):
                self.advance()
            elif self.take_words("CACHE"):
                self.parse_integer()
            elif self.take_words("RESET"):
                raise unsupported("RESET BY", self.previous.start + 1)
            else:
                break
        return sequence

    def _create_user(self) -> ast.CreateUser:
        name = self.parse_identifier()
        self.expect_word("PASSWORD")
        password = self.token.text
        self.advance()
        self.rest()  # NO FORCE_FIRST_PASSWORD_CHANGE, VALID UNTIL and the like.
        return ast.CreateUser(name, password)

    def _create_index(self) -> ast.CreateIndex:
        unique, kind = False, ""
        while not self.take_words("INDEX"):
            word = self.word()
            if word == "UNIQUE":
                unique = True
            elif word in {"INVERTED", "BTREE", "CPBTREE", "HNSW", "HASH", "VALUE", "INDIVIDUAL", "VECTOR"}:
                kind = kind or word
            else:
                raise self.wrong_token()
            self.advance()
        missing = self.take_if("NOT", "EXISTS")
        name = self.parse_name()
        self.expect(TokenType.ON, "ON")
        table = self.parse_name()
        self.expect(TokenType.L_PAREN, "(")
        columns = []
        while True:
            column = self.parse_identifier()
            descending = self.take(TokenType.DESC)
            self.take(TokenType.ASC)
            columns.append((column, descending))
            if not self.take(TokenType.COMMA):
                break
        self.expect(TokenType.R_PAREN, ")")
        index = ast.CreateIndex(name, table, columns, unique, kind, if_not_exists=missing)
        while self.token:
            if self.take_words("SIMILARITY", "FUNCTION"):
                index.similarity = self.parse_identifier()
            elif self.take_words("BUILD", "CONFIGURATION") or self.take_words("SEARCH", "CONFIGURATION"):
                self.text()
            elif self.take_words("ONLINE") or self.take(TokenType.ASC) or self.take(TokenType.DESC):
                continue
            else:
                break
        return index

    def statement_drop(self) -> ast.Statement:
        """DROP anything."""
        word = self.word()
        self._refuse(word)
        if word in {"PUBLIC", "SYNONYM"}:
            word, exists, name = "SYNONYM", False, self._synonym_name()
        elif word in {"TABLE", "VIEW", "SCHEMA", "SEQUENCE", "INDEX", "USER"}:
            self.advance()
            exists = self.take_if("EXISTS")
            name = self.parse_name()
        else:
            raise self.wrong_token()
        behavior = None
        if self.take_one_of(("CASCADE", "RESTRICT")):
            behavior = self.previous.text.upper()
        self.take_words("ONLINE")
        return ast.Drop(word, name, behavior, exists)

    def statement_alter(self) -> ast.Statement:
        """ALTER TABLE, SEQUENCE, USER, INDEX."""
        word = self.word()
        self._refuse(word)
        if self.take_words("USER"):
            name = self.parse_identifier()
            self.expect_word("PASSWORD")
            password = self.token.text
            self.advance()
            return ast.AlterUser(name, password)
        if self.take_words("SEQUENCE"):
            sequence = ast.AlterSequence(self.parse_name())
            while self.token:
                if self.take_words("RESTART"):
                    self.take(TokenType.WITH)
                    sequence.restart = self.parse_integer()
                elif self.take_words("INCREMENT", "BY"):
                    sequence.increment = self.parse_integer()
                else:
                    break
            return sequence
        if word in {"SYSTEM", "VIEW", "INDEX", "SCHEMA"}:
            raise unsupported(f"ALTER {word}", self.token.start + 1)
        self.expect_word("TABLE")
        return self._alter_table(self.parse_name())

    def _alter_table(self, table: ast.Name) -> ast.Statement:
        if self.take_words("ADD"):
            constraint = self._table_constraint()
            if constraint is not None:
                return ast.AddConstraint(table, constraint)
            return ast.AddColumns(table, self._column_defs())
        if self.take_words("ALTER"):
            return ast.AlterColumns(table, self._column_defs())
        if self.take(TokenType.DROP):
            if self.take_words("PRIMARY", "KEY"):
                return ast.DropConstraint(table, None)
            if self.take_words("CONSTRAINT"):
                return ast.DropConstraint(table, self.parse_identifier())
            self.take_words("COLUMN")
            if self.ahead(TokenType.L_PAREN):
                return ast.DropColumns(table, self.parse_name_list())
            return ast.DropColumns(table, [self.parse_identifier()])
        if self.take_words("RENAME"):
            if self.take_words("COLUMN"):
                column = self.parse_identifier()
                self.expect_word("TO")
                return ast.RenameColumn(table, column, self.parse_identifier())
            self.expect_word("TO")
            return ast.RenameTable(table, self.parse_identifier())
        self.rest()
        return ast.AlterNothing(table)

    def _column_defs(self) -> list[ast.ColumnDef]:
        self.take_words("COLUMN")
        if not self.take(TokenType.L_PAREN):
            return [self._column()]
        columns: list[ast.ColumnDef] = [self._column()]
        while self.take(TokenType.COMMA):
            columns.append(self._column())
        self.expect(TokenType.R_PAREN, ")")
        return columns

    def statement_rename(self) -> ast.Statement:
        """RENAME TABLE, COLUMN, INDEX."""
        if self.take_words("TABLE"):
            table = self.parse_name()
            self.expect_word("TO")
            new = self.parse_name()
            return ast.RenameTable(table, new.name, new.schema)
        if self.take_words("INDEX"):
            index = self.parse_name()
            self.expect_word("TO")
            new = self.parse_name()
            return ast.RenameIndex(index, new.name, new.schema)
        self.expect_word("COLUMN")
        parts = [self.parse_identifier()]
        while self.take(TokenType.DOT):
            parts.append(self.parse_identifier())
        if len(parts) < 2:
            self.fail("Expected table.column")
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
        kind = self.word()
        if kind not in {"TABLE", "VIEW", "COLUMN"}:
            raise self.wrong_token()
        self.advance()
        parts = [self.parse_identifier()]
        while self.take(TokenType.DOT):
            parts.append(self.parse_identifier())
        self.expect(TokenType.IS, "IS")
        text = None if self.take_words("NULL") else self.text()
        column = parts.pop() if kind == "COLUMN" else None
        if not parts:
            self.fail("Expected a table")
        return ast.Comment(kind, ast.Name(parts[-1], parts[-2] if len(parts) > 1 else None), column, text)
