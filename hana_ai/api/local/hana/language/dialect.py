"""HANA's SQL as a sqlglot dialect: tokens, expressions and queries; `statements` adds the statements.

sqlglot rewrites the functions it knows into nodes of its own, for translation between databases. Here every
function stays a plain call with the name that was written, because `functions` knows what HANA means by it;
only syntax that is no ordinary call gets a node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from sqlglot import exp, parser, tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import TokenError

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.language.calls import CallParser
from hana_ai.api.local.hana.language.nodes import (
    NamedArgument,
    ScriptVariable,
    TableFunction,
    TableVariable,
    TypedCast,
    Unnest,
)
from hana_ai.api.local.hana.language.reserved import RESERVED_WORDS, VALUES_BY_WORD
from hana_ai.api.local.hana.language.sqlglot_parser import END_OF_STATEMENT, Token, TokenType
from hana_ai.api.local.hana.language.unsupported import REFUSED_OBJECTS, REFUSED_STATEMENTS

RANGE_DOTS = TokenType.HIVE_TOKEN_STREAM
"""The two points of FOR i IN 1..10, under a kind that no expression has."""

_KEYWORDS = [
    "ALL", "AND", "ANY", "ASC", "BETWEEN", "CASE", "CROSS", "DEFAULT", "DELETE", "DESC", "DISTINCT", "DROP",
    "ELSE", "END", "ESCAPE", "EXCEPT", "EXISTS", "FALSE", "FOR", "FROM", "FULL", "HAVING", "IN", "INNER",
    "INSERT", "INTERSECT", "INTO", "IS", "JOIN", "LATERAL", "LEFT", "LIKE", "LIMIT", "MERGE", "NATURAL", "NOT",
    "NULL", "OFFSET", "ON", "OR", "ORDINALITY", "OUTER", "OVER", "RANGE", "RIGHT", "ROW", "ROWS", "SELECT",
    "SET", "SOME", "THEN", "TOP", "TRUE", "UNION", "UPDATE", "USING", "VALUES", "WHEN", "WHERE", "WITH",
    "RECURSIVE",
]  # fmt: skip


class HanaTokenizer(tokens.Tokenizer):
    """Words that are not listed stay ordinary names."""

    KEYWORDS: ClassVar = {
        **{word: TokenType[word] for word in _KEYWORDS},
        "AS": TokenType.ALIAS,
        "CUBE": TokenType.CUBE,
        "ROLLUP": TokenType.ROLLUP,
        "GROUP BY": TokenType.GROUP_BY,
        "GROUPING SETS": TokenType.GROUPING_SETS,
        "LIKE_REGEXPR": TokenType.RLIKE,
        "MINUS": TokenType.EXCEPT,
        "ORDER BY": TokenType.ORDER_BY,
        "PARTITION BY": TokenType.PARTITION_BY,
        "||": TokenType.DPIPE,
        ">=": TokenType.GTE,
        "<=": TokenType.LTE,
        "<>": TokenType.NEQ,
        "!=": TokenType.NEQ,
        "^=": TokenType.NEQ,
        "=>": TokenType.FARROW,
    }
    SINGLE_TOKENS: ClassVar = {
        char: token for char, token in tokens.Tokenizer.SINGLE_TOKENS.items() if char not in "#$`\\&~|!^%@"
    }
    VAR_SINGLE_TOKENS: ClassVar = {"#", "$"}
    HEX_STRINGS: ClassVar = [("x'", "'"), ("X'", "'")]
    COMMENTS: ClassVar = ["--", ("/*", "*/")]
    NESTED_COMMENTS = False


def _one_argument(name: str) -> Callable[[HanaParser], exp.Expr]:
    return lambda self: self.parse_regexpr(name)


class HanaParser(CallParser):
    """Expressions and queries."""

    FUNCTIONS: ClassVar = {}
    NO_PAREN_FUNCTIONS: ClassVar = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar = {"CASE": lambda self: self.case()}
    TYPE_TOKENS: ClassVar = set()
    LAMBDAS: ClassVar = {}
    STATEMENT_PARSERS: ClassVar = {}
    PROPERTY_PARSERS: ClassVar = {}
    FUNC_TOKENS: ClassVar = {
        TokenType.VAR, TokenType.IDENTIFIER, TokenType.LEFT, TokenType.RIGHT, TokenType.EXISTS, TokenType.ANY,
        TokenType.ALL, TokenType.SOME, TokenType.INSERT, TokenType.ROW, TokenType.SET,
    }  # fmt: skip
    FUNCTION_PARSERS: ClassVar = {
        "CAST": lambda self: self.parse_cast(),
        "EXTRACT": lambda self: self.parse_extract(),
        "TRIM": lambda self: self.parse_trim(),
        "STRING_AGG": lambda self: self.parse_string_agg(),
        "SCORE": lambda self: self.parse_score(),
        "JSON_VALUE": lambda self: self.parse_json_scalar("JSON_VALUE"),
        "JSON_QUERY": lambda self: self.parse_json_scalar("JSON_QUERY"),
        "JSON_TABLE": lambda self: self.parse_json_table(),
        "BINNING": lambda self: self.parse_named_arguments("BINNING"),
        **{
            name: _one_argument(name)
            for name in (
                "REPLACE_REGEXPR",
                "SUBSTRING_REGEXPR",
                "SUBSTR_REGEXPR",
                "OCCURRENCES_REGEXPR",
                "LOCATE_REGEXPR",
            )
        },
    }
    RANGE_PARSERS: ClassVar = {
        **{
            token: parser.Parser.RANGE_PARSERS[token]
            for token in (TokenType.BETWEEN, TokenType.IN, TokenType.IS, TokenType.LIKE)
        },
        TokenType.RLIKE: lambda self, this: self.parse_like_regexpr(this),
    }
    QUERY_MODIFIER_PARSERS: ClassVar = {
        **{
            token: parser.Parser.QUERY_MODIFIER_PARSERS[token]
            for token in (
                TokenType.WHERE, TokenType.GROUP_BY, TokenType.HAVING, TokenType.ORDER_BY, TokenType.LIMIT,
                TokenType.OFFSET,
            )
        },
        TokenType.FOR: lambda self: self.parse_for(),
        TokenType.WITH: lambda self: self.parse_with_clause(),
    }  # fmt: skip
    QUERY_MODIFIER_TOKENS: ClassVar = set(QUERY_MODIFIER_PARSERS)
    PLACEHOLDER_PARSERS: ClassVar = {
        # The place in the text tells one ? from another, however often the parser backtracks.
        TokenType.PLACEHOLDER: lambda self: exp.Placeholder(this=str(self.previous.start)),
        TokenType.COLON: lambda self: self.script_variable(),
    }
    ADJACENT_STRINGS_CANNOT_BE_CONNECTED = True
    RESERVED: ClassVar = RESERVED_WORDS
    VALUES_BY_WORD: ClassVar = VALUES_BY_WORD
    # A keyword is no name unless it is quoted; these few are ordinary words in HANA.
    ID_VAR_TOKENS: ClassVar = {
        TokenType.VAR,
        TokenType.ASC,
        TokenType.DESC,
        TokenType.ROW,
        TokenType.ROWS,
        TokenType.RANGE,
        TokenType.OFFSET,
        TokenType.ESCAPE,
        TokenType.ANY,
        TokenType.SOME,
        TokenType.DEFAULT,
        TokenType.ORDINALITY,
        TokenType.MERGE,
        TokenType.DROP,
        TokenType.UPDATE,
        TokenType.DELETE,
        TokenType.INSERT,
        TokenType.OVER,
        TokenType.RECURSIVE,
    }
    TABLE_ALIAS_TOKENS: ClassVar = {TokenType.VAR}
    ALIAS_TOKENS: ClassVar = {TokenType.VAR}
    COMMENT_TABLE_ALIAS_TOKENS: ClassVar = {TokenType.VAR}
    UPDATE_ALIAS_TOKENS: ClassVar = {TokenType.VAR}
    WINDOW_ALIAS_TOKENS: ClassVar = set()

    def typed_literal(self) -> exp.Expr | None:
        """DATE '2024-01-01' and the like."""
        if not (self.ahead(TokenType.VAR) and self.following.token_type == TokenType.STRING):
            return None
        name = self.token.text.upper()
        if name not in {"DATE", "TIME", "TIMESTAMP"}:
            return None
        self.advance(2)
        return TypedCast(this=exp.Literal.string(self.previous.text), to=types.declared(name, ()))

    in_script = False
    """Whether what is read stands inside a script, where :name is a variable."""

    def script_variable(self) -> exp.Expr | None:
        """What follows the colon: name, name[index] or name.column."""
        if not self.in_script:
            return None
        start = self.previous.start
        node = ScriptVariable(this=self.parse_identifier())
        node.meta["start"] = start
        if self.take(TokenType.L_BRACKET):
            node.set("index", self.some_expression())
            self.expect(TokenType.R_BRACKET, "]")
        elif self.take(TokenType.DOT):
            node.set("column", self.parse_identifier())
        return node

    def function_in_from(self) -> exp.Expr | None:
        """JSON_TABLE, functions that give rows, and table variables."""
        token, at = self.token, self.place
        if self.in_script and self.take(TokenType.COLON):
            return TableVariable(this=self.parse_identifier())
        if not self.ahead(TokenType.VAR, TokenType.IDENTIFIER):
            return None
        plain = token.token_type == TokenType.VAR and self.following.token_type == TokenType.L_PAREN
        word = token.text.upper() if plain else ""
        name = self.parse_name()
        if not self.take(TokenType.L_PAREN):
            self.go_back(at)
            return None
        if word == "TABLE":
            raise unsupported("table functions", token.start + 1)
        if word == "UNNEST":
            return self.unnest(token)
        if word == "JSON_TABLE":
            node = self.parse_json_table()
        else:
            arguments = [] if self.ahead(TokenType.R_PAREN) else self.separated(self.argument)
            node = TableFunction(name=name.name, schema=name.schema, expressions=arguments)
            node.meta["start"] = token.start
        self.expect(TokenType.R_PAREN, ")")
        return node

    def argument(self) -> exp.Expr | None:
        """An argument of a table function: an expression, perhaps behind the parameter's name and an arrow."""
        if not self.ahead(TokenType.VAR, TokenType.IDENTIFIER) or self.following.token_type != TokenType.FARROW:
            return self.any_expression()
        name = self.parse_identifier()
        self.advance()
        return NamedArgument(name=name, this=self.some_expression())

    def unnest(self, start: Token) -> exp.Expr:
        """What follows the parenthesis of UNNEST."""
        node = Unnest(expressions=self.separated(self._array))
        node.meta["start"] = start.start
        self.expect(TokenType.R_PAREN, ")")
        if self.ahead(TokenType.WITH) and self.following.token_type == TokenType.ORDINALITY:
            self.advance(2)
            node.set("ordinality", True)
        return node

    def _array(self) -> exp.Expr:
        if self.in_script and self.take(TokenType.COLON):
            return ScriptVariable(this=self.parse_identifier())
        if self.word() != "ARRAY" or self.following.token_type != TokenType.L_PAREN:
            raise unsupported("array types", self.token.start + 1)
        self.advance(2)
        if self.ahead(TokenType.SELECT, TokenType.WITH):
            raise unsupported("ARRAY(SELECT ...)", self.token.start + 1)
        node = exp.Array(expressions=self.separated(self.some_expression))
        self.expect(TokenType.R_PAREN, ")")
        return node

    def select_statement(self) -> exp.Expr:
        """A query as a statement or as a part of one."""
        query = self.query()
        if query is None:
            self.fail("Expected a query")
        if not isinstance(query, exp.Query | exp.Subquery):
            raise self.wrong_token()
        return query

    def parse_for(self) -> tuple[str, list[exp.Expr] | None]:
        """FOR UPDATE and the like, as sqlglot's modifier of a query."""
        self.advance()
        if self.take_words("JSON") or self.take_words("XML"):
            raise unsupported(f"FOR {self.previous.text.upper()}", self.previous.start + 1)
        if not (self.take(TokenType.UPDATE) or self.take_words("SHARE", "LOCK")):
            self.fail("Expected UPDATE")
        while self.token and not self.ahead(TokenType.R_PAREN, END_OF_STATEMENT):
            self.advance()
        return "locks", [exp.Lock(update=True)]

    def parse_with_clause(self) -> tuple[str, list[exp.Expr] | None]:
        """WITH HINT behind a query."""
        # A hint steers HANA's optimizer; the result is the same without it.
        self.advance()
        if self.take_words("HINT"):
            self.in_parentheses(lambda: self.separated(self.any_expression))
        elif self.take_words("PARAMETERS") or self.take_words("RANGE_RESTRICTION"):
            raise unsupported(f"WITH {self.previous.text.upper()}", self.previous.start + 1)
        else:
            self.fail("Expected HINT")
        return "hint_", None


class Hana(Dialect):
    """Registered with sqlglot as ``hana``."""

    Tokenizer = HanaTokenizer
    Parser = HanaParser
    CONCAT_COALESCE = False


def tokenize(sql: str) -> list[Token]:
    """Tokens, without a closing semicolon."""
    try:
        found = HanaTokenizer(dialect=Hana()).tokenize(sql)
    except TokenError as exc:
        raise syntax(f'"{sql[-20:]}"', len(sql)) from exc
    while found and found[-1].token_type == TokenType.SEMICOLON:
        found.pop()
    for before, token, after in zip([None, *found], found, [*found[1:], None], strict=False):
        # A keyword beside a point is a name: OFFSET in t.OFFSET.
        beside = any(other is not None and other.token_type == TokenType.DOT for other in (before, after))
        if beside and token.token_type in HanaParser.ID_VAR_TOKENS:
            token.token_type = TokenType.VAR
    if _is_script(found):
        return _script_tokens(found)
    extra = next((token for token in found if token.token_type == TokenType.SEMICOLON), None)
    if extra is not None:
        _refuse_script(found)
        raise syntax('";"', extra.start + 1)
    return list(found)


def _is_script(found: list[Token]) -> bool:
    words = [token.text.upper() for token in found[:4]]
    if words[:1] == ["DO"]:
        return True
    if words[:3] == ["CREATE", "OR", "REPLACE"]:
        del words[1:3]
    return words[:1] == ["CREATE"] and words[1:2] in (["FUNCTION"], ["PROCEDURE"])


def _script_tokens(found: list[Token]) -> list[Token]:
    """The tokens of a script, with semicolons and ranges under kinds of their own."""
    tokens: list[Token] = []
    for token in found:
        if token.token_type == TokenType.SEMICOLON:
            tokens.append(_renamed(token, END_OF_STATEMENT))
        elif token.token_type == TokenType.DOT and tokens and tokens[-1].end == token.start - 1:
            before = tokens[-1]
            if before.token_type == TokenType.DOT:
                tokens[-1] = _renamed(before, RANGE_DOTS)
            elif before.token_type == TokenType.NUMBER and before.text.endswith("."):
                tokens[-1] = _renamed(before, TokenType.NUMBER, before.text[:-1])
                tokens.append(_renamed(token, RANGE_DOTS))
            else:
                tokens.append(token)
        else:
            tokens.append(token)
    return tokens


def _renamed(token: Token, kind: TokenType, text: str | None = None) -> Token:
    return Token(kind, token.text if text is None else text, token.line, token.col, token.start, token.end)


def _refuse_script(found: list[Token]) -> None:
    """SQLScript contains semicolons: report it as refused rather than as wrong syntax."""
    words = [token.text.upper() for token in found[:4]]
    if words[0] in REFUSED_STATEMENTS:
        raise unsupported(REFUSED_STATEMENTS[words[0]], found[0].start + 1)
    if words[0] in {"CREATE", "ALTER"}:
        for word in words[1:]:
            if word in REFUSED_OBJECTS:
                raise unsupported(REFUSED_OBJECTS[word], found[0].start + 1)
