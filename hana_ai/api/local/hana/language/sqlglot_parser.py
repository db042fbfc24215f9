"""The one place that touches what is private in sqlglot: its parser, with names of our own.

sqlglot has no public way to extend its grammar; dialects, its own too, override methods and read attributes that
begin with an underscore. All of that is here, so that a new release of sqlglot is met by one module, and by the
test that compares what is used here with what sqlglot has.

Two kinds of things are here: what the grammar of HANA is written with (`take`, `ahead`, `any_expression` ...), and
methods of sqlglot that are made stricter, because sqlglot reads what any database takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import ClassVar, NoReturn, TypeVar

from sqlglot import exp, parser
from sqlglot.errors import ParseError
from sqlglot.tokenizer_core import Token, TokenType

__all__ = ["END_OF_STATEMENT", "SqlglotParser", "Token", "TokenType"]

_Item = TypeVar("_Item")

END_OF_STATEMENT = TokenType.BREAK
"""A semicolon inside a script; sqlglot would take its own kind for the end of everything."""


class TokenParser(parser.Parser):
    """Reads tokens."""

    @property
    def token(self) -> Token:
        """The token to be read next; false at the end."""
        return self._curr

    @property
    def following(self) -> Token:
        """The token after that."""
        return self._next

    @property
    def previous(self) -> Token:
        """The token that was read last."""
        return self._prev

    @property
    def place(self) -> int:
        """The number of the token to be read next, for `go_back`."""
        return self._index

    def go_back(self, place: int) -> None:
        """Read again from an earlier place."""
        self._retreat(place)

    def advance(self, times: int = 1) -> None:
        """Skip tokens."""
        self._advance(times)

    def take(self, token_type: TokenType) -> bool:
        """Read a token of this type, if it is next."""
        return bool(self._match(token_type))

    def ahead(self, *token_types: TokenType) -> bool:
        """Whether a token of one of these types is next."""
        return self._curr.token_type in token_types

    def take_words(self, *words: str) -> bool:
        """Read these words, if they are next."""
        return bool(self._match_text_seq(*words))

    def words_ahead(self, *words: str) -> bool:
        """Whether these words are next."""
        return bool(self._match_text_seq(*words, advance=False))

    def take_one_of(self, words: tuple[str, ...]) -> bool:
        """Read one of these words, if it is next."""
        return bool(self._match_texts(words))

    def text_between(self, start: Token, end: Token) -> str:
        """The SQL text from one token to another, both included."""
        return self._find_sql(start, end)

    def fail(self, expected: str) -> NoReturn:
        """Raise a syntax error at the next token."""
        self.raise_error(expected)
        raise ParseError(expected)  # With another level of errors sqlglot would only have noted it.

    def into_targets(self) -> list[exp.Expr]:
        """The variables behind INTO."""
        self.fail("Expected FROM")

    def _parse_into(self) -> exp.Into | None:
        return exp.Into(this=exp.Tuple(expressions=self.into_targets())) if self.take(TokenType.INTO) else None


class SqlglotParser(TokenParser):
    """Reads expressions and queries; its subclasses know HANA's grammar."""

    RESERVED: ClassVar[frozenset[str]] = frozenset()
    """Words that are no names."""
    VALUES_BY_WORD: ClassVar[frozenset[str]] = frozenset()
    """Those of them that may stand in an expression."""

    def any_expression(self) -> exp.Expr | None:
        """An expression of any kind."""
        return self._parse_disjunction()

    def operand(self) -> exp.Expr | None:
        """An expression without comparisons and logic."""
        return self._parse_bitwise()

    def column_or_call(self) -> exp.Expr | None:
        """A column, a literal, a call or something in parentheses."""
        return self._parse_column()

    def case(self) -> exp.Expr | None:
        """What follows CASE."""
        return self._parse_case()

    def identifier(self) -> exp.Expr | None:
        """One name."""
        return self._parse_id_var()

    def order(self) -> exp.Expr | None:
        """ORDER BY, if it is there."""
        return self._parse_order()

    def source(self) -> exp.Expr | None:
        """One entry of FROM."""
        return self._parse_table()

    def alias_and_joins(self, node: exp.Expr, joins: bool) -> exp.Expr:
        """The node with the alias, and the joins, that follow it."""
        node.set("alias", self._parse_table_alias(alias_tokens=self.TABLE_ALIAS_TOKENS))
        for join in self._parse_joins() if joins else ():
            node.args.setdefault("joins", []).append(join)
        return node

    def from_clause(self) -> exp.Expr | None:
        """FROM with its joins."""
        return self._parse_from(joins=True)

    def query(self) -> exp.Expr | None:
        """A query with set operations, ORDER BY and LIMIT."""
        found = self._parse_select(nested=True)
        if found is None:
            return None
        complete: exp.Expr | None = self._parse_query_modifiers(self._parse_set_operations(found))
        return complete

    def separated(self, method: Callable[[], _Item | None]) -> list[_Item]:
        """Items with commas between them."""
        return self._parse_csv(method)

    def in_parentheses(self, method: Callable[[], _Item]) -> _Item:
        """Something in parentheses."""
        return self._parse_wrapped(method)

    def read_all(self, method: Callable[[], None], tokens: Sequence[Token], sql: str) -> None:
        """Run a method over the tokens of one statement, which it must use up."""

        def run(_: parser.Parser) -> exp.Expr:
            method()
            return exp.Null()

        self._parse(run, list(tokens), sql)

    # --- what a grammar can add ---
    def typed_literal(self) -> exp.Expr | None:
        """A literal that begins with the name of a type, if one is next."""
        return None

    def function_in_from(self) -> exp.Expr | None:
        """A function that gives rows, if one is next in FROM."""
        return None

    # --- sqlglot, made stricter ---
    def _parse_type(self, parse_interval: bool = True, fallback_to_identifier: bool = False) -> exp.Expr | None:
        # Names of types begin a literal only in front of a string.
        return self.typed_literal() or self.column_or_call()

    def _parse_projections(self) -> tuple[list[exp.Expr], list[exp.Expr] | None]:
        expressions, exclude = super()._parse_projections()
        if not expressions or self._prev.token_type == TokenType.COMMA:
            self.fail("Expected a select list")
        return expressions, exclude

    def _parse_id_var(
        self, any_token: bool = True, tokens: Collection[TokenType] | None = None
    ) -> exp.Expr | None:
        # sqlglot takes any word after AS or a point; HANA has reserved words there too.
        if any_token and not self.ahead(TokenType.VAR, TokenType.IDENTIFIER, *self.ID_VAR_TOKENS):
            return None
        if self.ahead(TokenType.VAR) and self.token.text.upper() in self.RESERVED:
            alias = bool(self.previous) and self.previous.token_type == TokenType.ALIAS
            if alias or self.token.text.upper() not in self.VALUES_BY_WORD:
                return None
        return super()._parse_id_var(any_token=any_token, tokens=tokens)

    def _parse_alias(self, this: exp.Expr | None, explicit: bool = False) -> exp.Expr | None:
        announced = self.ahead(TokenType.ALIAS)
        found = super()._parse_alias(this, explicit)
        if announced and found is this:
            self.fail("Expected an alias")
        return found

    def _parse_csv(
        self, parse_method: Callable[[], _Item | None], sep: TokenType = TokenType.COMMA
    ) -> list[_Item]:
        first = parse_method()
        items = [] if first is None else [first]
        while self.take(sep):
            item = parse_method() if items else None
            if item is None:
                self.fail("Expected something after the comma")
            items.append(item)
        return items

    def _parse_join(
        self,
        skip_join_token: bool = False,
        parse_bracket: bool = False,
        alias_tokens: Collection[TokenType] | None = None,
    ) -> exp.Join | None:
        comma = self.ahead(TokenType.COMMA)
        join = super()._parse_join(skip_join_token, parse_bracket, alias_tokens)
        if join is None and comma:
            self.fail("Expected a table")
        if join is not None:
            cross = str(join.args.get("kind") or "").upper() == "CROSS"
            if join.this is None or not (comma or cross or join.args.get("on")):
                self.fail("Expected a table and ON")
        return join

    def _parse_select_query(
        self,
        nested: bool = False,
        table: bool = False,
        parse_subquery_alias: bool = True,
        parse_set_operation: bool = True,
    ) -> exp.Expr | None:
        # sqlglot knows databases in which a query may begin with FROM.
        if self.ahead(TokenType.FROM):
            return None
        return super()._parse_select_query(nested, table, parse_subquery_alias, parse_set_operation)

    def _parse_statement(self) -> exp.Expr | None:
        # WITH ... SELECT: sqlglot reads what follows as a statement of its own.
        return self.query() if self.ahead(TokenType.SELECT, TokenType.L_PAREN) else None

    def _parse_table(  # noqa: PLR0917 - as sqlglot has it
        self,
        schema: bool = False,
        joins: bool = False,
        alias_tokens: Collection[TokenType] | None = None,
        parse_bracket: bool = False,
        is_db_reference: bool = False,
        parse_partition: bool = False,
        consume_pipe: bool = False,
    ) -> exp.Expr | None:
        found = self.function_in_from()
        if found is not None:
            return self.alias_and_joins(found, joins)
        return super()._parse_table(
            schema, joins, alias_tokens, parse_bracket, is_db_reference, parse_partition, consume_pipe
        )
