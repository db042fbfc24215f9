"""Calls whose arguments have a syntax of their own."""

from __future__ import annotations

from sqlglot import exp

from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.interface import TypeCode
from hana_ai.api.local.hana.language.basics import BasicParser
from hana_ai.api.local.hana.language.nodes import (
    ExtractPart,
    JsonScalar,
    JsonTable,
    JsonTableColumn,
    LikeRegexpr,
    NamedArgument,
    Regexpr,
    SearchScore,
    StringAgg,
    TrimChars,
    TypedCast,
)
from hana_ai.api.local.hana.language.sqlglot_parser import TokenType
from hana_ai.api.local.hana.types import nvarchar


class CallParser(BasicParser):
    """CAST, EXTRACT, TRIM, STRING_AGG, SCORE, regular expressions and JSON."""

    def parse_cast(self) -> exp.Expr:
        """CAST(this AS type)."""
        this = self.any_expression()
        self.expect(TokenType.ALIAS, "AS")
        # A column of one character is VARCHAR; a value becomes as long as it may be.
        sized = self.following.token_type == TokenType.L_PAREN
        kind = self.parse_type_name()
        if kind.code == TypeCode.NVARCHAR and not sized:
            kind = nvarchar()
        return TypedCast(this=this, to=kind)

    def parse_extract(self) -> exp.Expr:
        """EXTRACT(part FROM this)."""
        part = self.token.text.upper()
        self.advance()
        self.expect(TokenType.FROM, "FROM")
        return ExtractPart(part=part, this=self.operand())

    def parse_trim(self) -> exp.Expr:
        """TRIM([side] [chars FROM] this)."""
        side = self.previous.text.upper() if self.take_one_of(("LEADING", "TRAILING", "BOTH")) else "BOTH"
        first = None if self.ahead(TokenType.FROM) else self.operand()
        if self.take(TokenType.FROM):
            return TrimChars(this=self.operand(), chars=first, side=side)
        return TrimChars(this=first, side=side)

    def parse_string_agg(self) -> exp.Expr:
        """STRING_AGG(this, separator ORDER BY ...)."""
        if self.take(TokenType.DISTINCT):
            this: exp.Expr | None = exp.Distinct(expressions=[self.any_expression()])
        else:
            this = self.any_expression()
        separator = self.any_expression() if self.take(TokenType.COMMA) else None
        return StringAgg(this=this, separator=separator, order=self.order())

    def parse_score(self) -> exp.Expr:
        """SCORE(text IN (columns)), or the SCORE() of a search."""
        if self.ahead(TokenType.R_PAREN):
            return exp.Anonymous(this="SCORE", expressions=[])
        this = self.operand()
        self.expect(TokenType.IN, "IN")
        self.expect(TokenType.L_PAREN, "(")
        columns = self.separated(self.column_or_call)
        while not self.take(TokenType.R_PAREN):
            if not self.token:
                self.fail("Expected )")
            self.advance()
        return SearchScore(this=this, columns=columns)

    def parse_named_arguments(self, name: str) -> exp.Expr:
        """A call with name => value."""
        arguments = []
        while not self.ahead(TokenType.R_PAREN):
            label = self.token.text.upper()
            self.advance()
            self.expect(TokenType.FARROW, "=>")
            arguments.append(NamedArgument(name=label, this=self.any_expression()))
            if not self.take(TokenType.COMMA):
                break
        return exp.Anonymous(this=name, expressions=arguments)

    def parse_regexpr(self, name: str) -> exp.Expr:
        """REPLACE_REGEXPR and its kin."""
        start = "START" if self.take_words("START") else "AFTER" if self.take_words("AFTER") else None
        pattern = self.operand()
        flag = self.operand() if self.take_words("FLAG") else None
        self.expect(TokenType.IN, "IN")
        text = self.operand()
        replacement = self.operand() if self.take(TokenType.WITH) else None
        at = occurrence = group = None
        while self.token and not self.ahead(TokenType.R_PAREN):
            if self.take(TokenType.FROM):
                at = self.operand()
            elif self.take_words("OCCURRENCE"):
                # ALL is the default for replacing.
                occurrence = None if self.take(TokenType.ALL) else self.operand()
            elif self.take_words("GROUP"):
                group = self.operand()
            else:
                self.fail("Unexpected word")
        node = Regexpr(
            name=name, pattern=pattern, flag=flag, text=text, replacement=replacement, start=at,
            occurrence=occurrence, group=group,
        )  # fmt: skip
        if start == "AFTER":
            raise unsupported("LOCATE_REGEXPR(AFTER ...)")
        return node

    def parse_like_regexpr(self, this: exp.Expr) -> exp.Expr:
        """this LIKE_REGEXPR pattern FLAG flag."""
        pattern = self.operand()
        flag = self.operand() if self.take_words("FLAG") else None
        return LikeRegexpr(this=this, pattern=pattern, flag=flag)

    def _json_fallbacks(self, node: exp.Expr) -> None:
        while True:
            if self.take_words("NULL"):
                value: exp.Expr | str | None = "NULL"
            elif self.take_words("ERROR"):
                value = "ERROR"
            elif self.take_words("EMPTY"):
                value = "EMPTY OBJECT" if self.take_words("OBJECT") else "EMPTY ARRAY"
                self.take_words("ARRAY")
            elif self.take(TokenType.DEFAULT):
                value = self.operand()
            else:
                return
            self.expect(TokenType.ON, "ON")
            if self.take_words("EMPTY"):
                node.set("on_empty", value)
            else:
                self.expect_word("ERROR")
                node.set("on_error", value)

    def parse_json_scalar(self, name: str) -> exp.Expr:
        """JSON_VALUE and JSON_QUERY."""
        this = self.operand()
        self.take_words("FORMAT", "JSON")
        self.expect(TokenType.COMMA, ",")
        node = JsonScalar(name=name, this=this, path=self.operand())
        if self.take_words("RETURNING"):
            node.set("returning", self.parse_type_name())
        if self.take(TokenType.WITH):
            conditional = self.take_words("CONDITIONAL")
            self.take_words("UNCONDITIONAL")
            self.take_words("ARRAY")
            self.expect_word("WRAPPER")
            node.set("wrapper", "CONDITIONAL" if conditional else "ALWAYS")
        elif self.take_words("WITHOUT"):
            self.take_words("ARRAY")
            self.expect_word("WRAPPER")
        self._json_fallbacks(node)
        return node

    def _json_columns(self) -> list[exp.Expr]:
        self.expect_word("COLUMNS")
        self.expect(TokenType.L_PAREN, "(")
        columns = self.separated(self._json_column)
        self.expect(TokenType.R_PAREN, ")")
        return columns

    def _json_column(self) -> exp.Expr:
        if self.take_words("NESTED"):
            self.take_words("PATH")
            path = self.operand()
            return JsonTableColumn(path=path, nested=self._json_columns())
        name = self.identifier()
        if self.take(TokenType.FOR):
            self.expect_word("ORDINALITY")
            return JsonTableColumn(name=name, ordinality=True)
        column = JsonTableColumn(name=name, to=self.parse_type_name())
        if self.take_words("FORMAT", "JSON"):
            column.set("format_json", True)
        self.expect_word("PATH")
        column.set("path", self.operand())
        self._json_fallbacks(column)
        return column

    def parse_json_table(self) -> exp.Expr:
        """JSON_TABLE(this, path COLUMNS (...))."""
        this = self.operand()
        self.take_words("FORMAT", "JSON")
        self.expect(TokenType.COMMA, ",")
        path = self.operand()
        node = JsonTable(this=this, path=path, columns=self._json_columns())
        self._json_fallbacks(exp.Anonymous(this="ignored"))
        return node
