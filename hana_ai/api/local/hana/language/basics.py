"""What every statement is written with: names, numbers, texts and types."""

from __future__ import annotations

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.interface import HanaError, SqlType
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.language.reserved import RESERVED_WORDS
from hana_ai.api.local.hana.language.sqlglot_parser import END_OF_STATEMENT, SqlglotParser, TokenType


class BasicParser(SqlglotParser):
    """Names, numbers, texts and types."""

    def expect(self, token_type: TokenType, text: str) -> None:
        """Read this token or raise a syntax error."""
        if not self.take(token_type):
            self.fail(f"Expected {text}")

    def expect_word(self, *words: str) -> None:
        """Read these words or raise a syntax error."""
        if not self.take_words(*words):
            self.fail(f"Expected {' '.join(words)}")

    def take_if(self, *words: str) -> bool:
        """Read IF and these words, if they are next."""
        return self.take_words("IF", *words)

    def word(self) -> str:
        """The next token in upper case; empty for a quoted name."""
        return self.token.text.upper() if self.token.token_type != TokenType.IDENTIFIER else ""

    def wrong_token(self) -> HanaError:
        """257 at the next token."""
        if not self.token:
            return syntax("end of statement", len(self.sql))
        return syntax(f'"{self.token.text}"', self.token.start + 1)

    def text(self) -> str:
        """A string literal."""
        if not self.take(TokenType.STRING):
            self.fail("Expected a text")
        return self.previous.text

    def rest(self) -> None:
        """Skip everything up to the end of the statement."""
        while self.token and not self.ahead(END_OF_STATEMENT):
            self.advance()

    def some_expression(self) -> exp.Expr:
        """An expression; a syntax error when there is none."""
        error = self.wrong_token()
        found = self.any_expression()
        if found is None:
            raise error
        return found

    def parse_integer(self) -> int:
        """A whole number, perhaps signed."""
        negative = self.take(TokenType.DASH)
        if not self.take(TokenType.NUMBER):
            self.fail("Expected a number")
        try:
            value = int(self.previous.text)
        except ValueError:
            raise syntax(f'"{self.previous.text}"', self.previous.start + 1) from None
        return -value if negative else value

    def parse_identifier(self) -> str:
        """One name, folded to upper case unless it is quoted."""
        token = self.token
        if token.token_type != TokenType.IDENTIFIER and (
            token.token_type not in self.ID_VAR_TOKENS or token.text.upper() in RESERVED_WORDS
        ):
            raise self.wrong_token()
        self.advance()
        return token.text if token.token_type == TokenType.IDENTIFIER else token.text.upper()

    def parse_name(self) -> ast.Name:
        """A name, perhaps with its schema."""
        position = self.token.start + 1 if self.token else 0
        first = self.parse_identifier()
        if self.take(TokenType.DOT):
            second = self.parse_identifier()
            if self.take(TokenType.DOT):
                return ast.Name(self.parse_identifier(), second, position)
            return ast.Name(second, first, position)
        return ast.Name(first, None, position)

    def parse_name_list_open(self) -> list[str]:
        """Names up to the closing parenthesis; the opening one is already read."""
        names = [self.parse_identifier()]
        while self.take(TokenType.COMMA):
            names.append(self.parse_identifier())
        self.expect(TokenType.R_PAREN, ")")
        return names

    def parse_name_list(self) -> list[str]:
        """Names in parentheses."""
        self.expect(TokenType.L_PAREN, "(")
        return self.parse_name_list_open()

    def parse_type_name(self, arrays: bool = False) -> SqlType:
        """A declared type; `arrays` when ARRAY may follow."""
        token = self.token
        if not self.ahead(TokenType.VAR, TokenType.ROW):
            self.fail("Expected a type")
        name = token.text.upper()
        self.advance()
        if name == "DOUBLE":
            self.take_words("PRECISION")
        params: list[int] = []
        if self.take(TokenType.L_PAREN):
            params = [self.parse_integer()]
            while self.take(TokenType.COMMA):
                params.append(self.parse_integer())
            self.expect(TokenType.R_PAREN, ")")
        if name in {"ST_GEOMETRY", "ST_POINT"}:
            raise unsupported("spatial types", token.start + 1)
        kind = types.declared(name, params)
        if kind is None:
            raise HanaError(264, f"invalid datatype: {name}", token.start + 1)
        if self.ahead(TokenType.VAR) and self.word() == "ARRAY" and not arrays:
            raise unsupported("array types", self.token.start + 1)
        return kind
