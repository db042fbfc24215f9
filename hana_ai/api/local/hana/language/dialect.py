"""HANA's SQL as a sqlglot dialect: tokens, expressions and queries; `statements` adds the statements.

sqlglot rewrites the functions it knows into nodes of its own, for translation between databases. Here every
function stays a plain call with the name that was written, because `functions` knows what HANA means by it;
only syntax that is no ordinary call gets a node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from sqlglot import exp, parser, tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ErrorLevel, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.interface import HanaError, SqlType
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
    TableFunction,
    TrimChars,
    TypedCast,
)
from hana_ai.api.local.hana.language.unsupported import REFUSED_OBJECTS, REFUSED_STATEMENTS

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

    KEYWORDS: ClassVar[dict[str, TokenType]] = {
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
    SINGLE_TOKENS: ClassVar[dict[str, TokenType]] = {
        char: token for char, token in tokens.Tokenizer.SINGLE_TOKENS.items() if char not in "#$`\\&~|!^%@{}"
    }
    VAR_SINGLE_TOKENS: ClassVar[set[str]] = {"#", "$"}
    HEX_STRINGS: ClassVar[list[Any]] = [("x'", "'"), ("X'", "'")]
    COMMENTS: ClassVar[list[Any]] = ["--", ("/*", "*/")]
    NESTED_COMMENTS = False


def _one_argument(name: str) -> Callable[[HanaParser], exp.Expr]:
    return lambda self: self.parse_regexpr(name)


class HanaParser(parser.Parser):
    """Expressions and queries."""

    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {"CASE": lambda self: self._parse_case()}
    TYPE_TOKENS: ClassVar[set[TokenType]] = set()
    LAMBDAS: ClassVar[dict[TokenType, Any]] = {}
    STATEMENT_PARSERS: ClassVar[dict[TokenType, Any]] = {}
    PROPERTY_PARSERS: ClassVar[dict[str, Any]] = {}
    FUNC_TOKENS: ClassVar[set[TokenType]] = {
        TokenType.VAR, TokenType.IDENTIFIER, TokenType.LEFT, TokenType.RIGHT, TokenType.EXISTS, TokenType.ANY,
        TokenType.ALL, TokenType.SOME, TokenType.INSERT, TokenType.ROW, TokenType.SET,
    }  # fmt: skip
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
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
    RANGE_PARSERS: ClassVar[dict[TokenType, Any]] = {
        **{
            token: parser.Parser.RANGE_PARSERS[token]
            for token in (TokenType.BETWEEN, TokenType.IN, TokenType.IS, TokenType.LIKE)
        },
        TokenType.RLIKE: lambda self, this: self.parse_like_regexpr(this),
    }
    QUERY_MODIFIER_PARSERS: ClassVar[dict[TokenType, Any]] = {
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
    QUERY_MODIFIER_TOKENS: ClassVar[set[TokenType]] = set(QUERY_MODIFIER_PARSERS)
    PLACEHOLDER_PARSERS: ClassVar[dict[TokenType, Any]] = {
        # The place in the text tells one ? from another, however often the parser backtracks.
        TokenType.PLACEHOLDER: lambda self: exp.Placeholder(this=str(self._prev.start)),
    }
    ADJACENT_STRINGS_CANNOT_BE_CONNECTED = True
    # A keyword is no name unless it is quoted; these few are ordinary words in HANA.
    ID_VAR_TOKENS: ClassVar[set[TokenType]] = {
        TokenType.VAR,
        TokenType.ROW,
        TokenType.ROWS,
        TokenType.RANGE,
        TokenType.OFFSET,
        TokenType.ESCAPE,
        TokenType.ALL,
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
        TokenType.END,
        TokenType.RECURSIVE,
    }
    TABLE_ALIAS_TOKENS: ClassVar[set[TokenType]] = {TokenType.VAR}
    ALIAS_TOKENS: ClassVar[set[TokenType]] = {TokenType.VAR}
    COMMENT_TABLE_ALIAS_TOKENS: ClassVar[set[TokenType]] = {TokenType.VAR}
    UPDATE_ALIAS_TOKENS: ClassVar[set[TokenType]] = {TokenType.VAR}
    WINDOW_ALIAS_TOKENS: ClassVar[set[TokenType]] = set()

    # Names of types and the like begin a typed literal only in front of a string.
    def _parse_type(self, parse_interval: bool = True, fallback_to_identifier: bool = False) -> Any:
        current, following = self._curr, self._next
        if (
            current.token_type == TokenType.VAR
            and following.token_type == TokenType.STRING
            and current.text.upper() in {"DATE", "TIME", "TIMESTAMP"}
        ):
            self._advance()
            kind = types.declared(self._prev.text.upper(), ())
            self._advance()
            return TypedCast(this=exp.Literal.string(self._prev.text), to=kind)
        return self._parse_column()

    def _parse_projections(self) -> Any:
        expressions, exclude = super()._parse_projections()
        if not expressions or self._prev.token_type == TokenType.COMMA:
            self.raise_error("Expected a select list")
        return expressions, exclude

    def _parse_id_var(self, any_token: bool = True, tokens: Any = None) -> Any:
        # sqlglot takes any word after AS or a point; HANA has reserved words there too.
        if any_token and self._curr.token_type not in {TokenType.VAR, TokenType.IDENTIFIER, *self.ID_VAR_TOKENS}:
            return None
        return super()._parse_id_var(any_token=any_token, tokens=tokens)

    def _parse_alias(self, this: Any, explicit: bool = False) -> Any:
        announced = self._match(TokenType.ALIAS, advance=False)
        found = super()._parse_alias(this, explicit)
        if announced and found is this:
            self.raise_error("Expected an alias")
        return found

    def _parse_csv(self, parse_method: Callable[[], Any], sep: TokenType = TokenType.COMMA) -> list[Any]:
        first = parse_method()
        items = [] if first is None else [first]
        while self._match(sep):
            item = parse_method() if items else None
            if item is None:
                self.raise_error("Expected something after the comma")
            items.append(item)
        return items

    def _parse_join(self, *args: Any, **kwargs: Any) -> Any:
        comma = self._match(TokenType.COMMA, advance=False)
        join = super()._parse_join(*args, **kwargs)
        if join is None and comma:
            self.raise_error("Expected a table")
        if join is not None:
            cross = str(join.args.get("kind") or "").upper() == "CROSS"
            if join.this is None or not (comma or cross or join.args.get("on")):
                self.raise_error("Expected a table and ON")
        return join

    def _parse_select_query(self, *args: Any, **kwargs: Any) -> Any:
        # sqlglot knows databases in which a query may begin with FROM.
        if self._match(TokenType.FROM, advance=False):
            return None
        return super()._parse_select_query(*args, **kwargs)

    def parse_type_name(self) -> SqlType:
        """A declared type."""
        token = self._curr
        if token.token_type not in {TokenType.VAR, TokenType.ROW}:
            self.raise_error("Expected a type")
        name = token.text.upper()
        self._advance()
        if name == "DOUBLE":
            self._match_text_seq("PRECISION")
        params: list[int] = []
        if self._match(TokenType.L_PAREN):
            params = [self.parse_integer()]
            while self._match(TokenType.COMMA):
                params.append(self.parse_integer())
            self.expect(TokenType.R_PAREN, ")")
        if name in {"ST_GEOMETRY", "ST_POINT"}:
            raise unsupported("spatial types", token.start + 1)
        kind = types.declared(name, params)
        if kind is None:
            raise HanaError(264, f"invalid datatype: {name}", token.start + 1)
        if self._curr.token_type == TokenType.VAR and self._curr.text.upper() == "ARRAY":
            raise unsupported("array types", self._curr.start + 1)
        return kind

    def parse_integer(self) -> int:
        """A whole number, perhaps signed."""
        negative = self._match(TokenType.DASH)
        if not self._match(TokenType.NUMBER):
            self.raise_error("Expected a number")
        try:
            value = int(self._prev.text)
        except ValueError:
            raise syntax(f'"{self._prev.text}"', self._prev.start + 1) from None
        return -value if negative else value

    def expect(self, token_type: TokenType, text: str) -> None:
        """Consume this token or complain."""
        if not self._match(token_type):
            self.raise_error(f"Expected {text}")

    def expect_word(self, *words: str) -> None:
        """Consume these words or complain."""
        if not self._match_text_seq(*words):
            self.raise_error(f"Expected {' '.join(words)}")

    def parse_cast(self) -> exp.Expr:
        this = self._parse_disjunction()
        self.expect(TokenType.ALIAS, "AS")
        return TypedCast(this=this, to=self.parse_type_name())

    def parse_extract(self) -> exp.Expr:
        part = self._curr.text.upper()
        self._advance()
        self.expect(TokenType.FROM, "FROM")
        return ExtractPart(part=part, this=self._parse_bitwise())

    def parse_trim(self) -> exp.Expr:
        side = self._prev.text.upper() if self._match_texts(("LEADING", "TRAILING", "BOTH")) else "BOTH"
        first = None if self._match(TokenType.FROM, advance=False) else self._parse_bitwise()
        if self._match(TokenType.FROM):
            return TrimChars(this=self._parse_bitwise(), chars=first, side=side)
        return TrimChars(this=first, side=side)

    def parse_string_agg(self) -> exp.Expr:
        if self._match(TokenType.DISTINCT):
            this: Any = exp.Distinct(expressions=[self._parse_disjunction()])
        else:
            this = self._parse_disjunction()
        separator = self._parse_disjunction() if self._match(TokenType.COMMA) else None
        return StringAgg(this=this, separator=separator, order=self._parse_order())

    def parse_score(self) -> exp.Expr:
        if self._match(TokenType.R_PAREN, advance=False):
            return exp.Anonymous(this="SCORE", expressions=[])
        this = self._parse_bitwise()
        self.expect(TokenType.IN, "IN")
        self.expect(TokenType.L_PAREN, "(")
        columns = self._parse_csv(self._parse_column)
        while not self._match(TokenType.R_PAREN):
            if not self._curr:
                self.raise_error("Expected )")
            self._advance()
        return SearchScore(this=this, columns=columns)

    def parse_named_arguments(self, name: str) -> exp.Expr:
        arguments = []
        while not self._match(TokenType.R_PAREN, advance=False):
            label = self._curr.text.upper()
            self._advance()
            self.expect(TokenType.FARROW, "=>")
            arguments.append(NamedArgument(name=label, this=self._parse_disjunction()))
            if not self._match(TokenType.COMMA):
                break
        return exp.Anonymous(this=name, expressions=arguments)

    def parse_regexpr(self, name: str) -> exp.Expr:
        start = "START" if self._match_text_seq("START") else "AFTER" if self._match_text_seq("AFTER") else None
        pattern = self._parse_bitwise()
        flag = self._parse_bitwise() if self._match_text_seq("FLAG") else None
        self.expect(TokenType.IN, "IN")
        text = self._parse_bitwise()
        replacement = self._parse_bitwise() if self._match(TokenType.WITH) else None
        at = occurrence = group = None
        while self._curr and not self._match(TokenType.R_PAREN, advance=False):
            if self._match(TokenType.FROM):
                at = self._parse_bitwise()
            elif self._match_text_seq("OCCURRENCE"):
                # ALL is the default for replacing.
                occurrence = None if self._match(TokenType.ALL) else self._parse_bitwise()
            elif self._match_text_seq("GROUP"):
                group = self._parse_bitwise()
            else:
                self.raise_error("Unexpected word")
                break
        node = Regexpr(
            name=name, pattern=pattern, flag=flag, text=text, replacement=replacement, start=at,
            occurrence=occurrence, group=group,
        )  # fmt: skip
        if start == "AFTER":
            raise unsupported("LOCATE_REGEXPR(AFTER ...)")
        return node

    def parse_like_regexpr(self, this: exp.Expr) -> exp.Expr:
        pattern = self._parse_bitwise()
        flag = self._parse_bitwise() if self._match_text_seq("FLAG") else None
        return LikeRegexpr(this=this, pattern=pattern, flag=flag)

    def _json_fallbacks(self, node: exp.Expr) -> None:
        while True:
            if self._match_text_seq("NULL"):
                value: Any = "NULL"
            elif self._match_text_seq("ERROR"):
                value = "ERROR"
            elif self._match_text_seq("EMPTY"):
                value = "EMPTY OBJECT" if self._match_text_seq("OBJECT") else "EMPTY ARRAY"
                self._match_text_seq("ARRAY")
            elif self._match(TokenType.DEFAULT):
                value = self._parse_bitwise()
            else:
                return
            self.expect(TokenType.ON, "ON")
            if self._match_text_seq("EMPTY"):
                node.set("on_empty", value)
            else:
                self.expect_word("ERROR")
                node.set("on_error", value)

    def parse_json_scalar(self, name: str) -> exp.Expr:
        this = self._parse_bitwise()
        self._match_text_seq("FORMAT", "JSON")
        self.expect(TokenType.COMMA, ",")
        node = JsonScalar(name=name, this=this, path=self._parse_bitwise())
        if self._match_text_seq("RETURNING"):
            node.set("returning", self.parse_type_name())
        if self._match(TokenType.WITH):
            conditional = self._match_text_seq("CONDITIONAL")
            self._match_text_seq("UNCONDITIONAL")
            self._match_text_seq("ARRAY")
            self.expect_word("WRAPPER")
            node.set("wrapper", "CONDITIONAL" if conditional else "ALWAYS")
        elif self._match_text_seq("WITHOUT"):
            self._match_text_seq("ARRAY")
            self.expect_word("WRAPPER")
        self._json_fallbacks(node)
        return node

    def _json_columns(self) -> list[exp.Expr]:
        self.expect_word("COLUMNS")
        self.expect(TokenType.L_PAREN, "(")
        columns = self._parse_csv(self._json_column)
        self.expect(TokenType.R_PAREN, ")")
        return columns

    def _json_column(self) -> exp.Expr:
        if self._match_text_seq("NESTED"):
            self._match_text_seq("PATH")
            path = self._parse_bitwise()
            return JsonTableColumn(path=path, nested=self._json_columns())
        name = self._parse_id_var()
        if self._match(TokenType.FOR):
            self.expect_word("ORDINALITY")
            return JsonTableColumn(name=name, ordinality=True)
        column = JsonTableColumn(name=name, to=self.parse_type_name())
        if self._match_text_seq("FORMAT", "JSON"):
            column.set("format_json", True)
        self.expect_word("PATH")
        column.set("path", self._parse_bitwise())
        self._json_fallbacks(column)
        return column

    def parse_json_table(self) -> exp.Expr:
        this = self._parse_bitwise()
        self._match_text_seq("FORMAT", "JSON")
        self.expect(TokenType.COMMA, ",")
        path = self._parse_bitwise()
        node = JsonTable(this=this, path=path, columns=self._json_columns())
        self._json_fallbacks(exp.Anonymous(this="ignored"))
        return node

    def parse_for(self) -> tuple[str, Any]:
        self._advance()
        if self._match_text_seq("JSON") or self._match_text_seq("XML"):
            raise unsupported(f"FOR {self._prev.text.upper()}", self._prev.start + 1)
        if not (self._match(TokenType.UPDATE) or self._match_text_seq("SHARE", "LOCK")):
            self.raise_error("Expected UPDATE")
        while self._curr and not self._match(TokenType.R_PAREN, advance=False):
            self._advance()
        return "locks", [exp.Lock(update=True)]

    def parse_with_clause(self) -> tuple[str, Any]:
        # A hint steers HANA's optimizer; the result is the same without it.
        self._advance()
        if self._match_text_seq("HINT"):
            self._parse_wrapped(lambda: self._parse_csv(self._parse_disjunction))
        elif self._match_text_seq("PARAMETERS") or self._match_text_seq("RANGE_RESTRICTION"):
            raise unsupported(f"WITH {self._prev.text.upper()}", self._prev.start + 1)
        else:
            self.raise_error("Expected HINT")
        return "hint_", None

    def _parse_table(self, *args: Any, **kwargs: Any) -> Any:
        current, following = self._curr, self._next
        if current.token_type == TokenType.VAR and following.token_type == TokenType.L_PAREN:
            name = current.text.upper()
            self._advance(2)
            if name == "TABLE":
                raise unsupported("table functions", current.start + 1)
            if name == "JSON_TABLE":
                node: exp.Expr = self.parse_json_table()
            else:
                node = TableFunction(name=name, expressions=self._parse_csv(self._parse_disjunction))
            self.expect(TokenType.R_PAREN, ")")
            node.set("alias", self._parse_table_alias(alias_tokens=self.TABLE_ALIAS_TOKENS))
            if kwargs.get("joins"):
                return self._with_joins(node)
            return node
        return super()._parse_table(*args, **kwargs)

    def _with_joins(self, node: exp.Expr) -> exp.Expr:
        for join in self._parse_joins():
            node.args.setdefault("joins", []).append(join)
        return node


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
    extra = next((token for token in found if token.token_type == TokenType.SEMICOLON), None)
    if extra is not None:
        _refuse_script(found)
        raise syntax('";"', extra.start + 1)
    return list(found)


def _refuse_script(found: list[Token]) -> None:
    """SQLScript holds semicolons: say that it is refused rather than that it is wrong."""
    words = [token.text.upper() for token in found[:4]]
    if words[0] in REFUSED_STATEMENTS:
        raise unsupported(REFUSED_STATEMENTS[words[0]], found[0].start + 1)
    if words[0] in {"CREATE", "ALTER"}:
        for word in words[1:]:
            if word in REFUSED_OBJECTS:
                raise unsupported(REFUSED_OBJECTS[word], found[0].start + 1)


IMMEDIATE = ErrorLevel.IMMEDIATE
