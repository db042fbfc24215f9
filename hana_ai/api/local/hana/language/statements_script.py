"""Parse the inside of SQLScript: the statements between BEGIN and END."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from sqlglot import exp

from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.language import script_syntax as script
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.language.dialect import RANGE_DOTS
from hana_ai.api.local.hana.language.nodes import ScriptVariable
from hana_ai.api.local.hana.language.sqlglot_parser import END_OF_STATEMENT, TokenType
from hana_ai.api.local.hana.language.statements_change import ChangeParser
from hana_ai.api.local.hana.language.statements_ddl import DdlParser
from hana_ai.api.local.hana.language.unsupported import REFUSED_IN_SCRIPTS

_QUERIES = (TokenType.SELECT, TokenType.WITH)
NAMES = (TokenType.VAR, TokenType.IDENTIFIER)


class ScriptParser(DdlParser, ChangeParser):
    """What stands between BEGIN and END."""

    @abstractmethod
    def parse_statement(self) -> ast.Statement:
        """Read a whole SQL statement."""

    def parse_call(self) -> tuple[ast.Name, list[tuple[str | None, exp.Expr]]]:
        """What follows CALL."""
        name = self.parse_name()
        arguments: list[tuple[str | None, exp.Expr]] = []
        if self.take(TokenType.L_PAREN) and not self.take(TokenType.R_PAREN):
            arguments = self.separated(self._argument)
            self.expect(TokenType.R_PAREN, ")")
        if self.take(TokenType.WITH):
            if self.take_words("OVERVIEW"):
                raise unsupported("CALL ... WITH OVERVIEW", self.previous.start + 1)
            self.expect_word("HINT")
            self.in_parentheses(lambda: self.separated(self.any_expression))
        return name, arguments

    def _argument(self) -> tuple[str | None, exp.Expr]:
        name = None
        if self.ahead(*NAMES) and self.following.token_type == TokenType.FARROW:
            name = self.parse_identifier()
            self.advance()
        return name, self.some_expression()

    def parse_script_type(self) -> script.ScriptType:
        """A scalar or a table type."""
        if self.take_words("TABLE"):
            self.expect(TokenType.L_PAREN, "(")
            columns = self.separated(lambda: (self.parse_identifier(), self.parse_type_name()))
            self.expect(TokenType.R_PAREN, ")")
            return script.ScriptType(None, columns)
        return script.ScriptType(self.parse_type_name())

    # --- the inside ---
    def _place(self) -> script.Place:
        token = self.token
        return script.Place(token.line, token.col - len(token.text) + 1, token.start + 1)

    def parse_body(self) -> list[script.ScriptStatement]:
        """BEGIN ... END."""
        self.in_script = True
        self.expect_word("BEGIN")
        if self.take_words("SEQUENTIAL", "EXECUTION") or self.take_words("PARALLEL", "EXECUTION"):
            pass  # How a script runs changes nothing in what it does.
        elif self.words_ahead("AUTONOMOUS"):
            raise unsupported("autonomous transactions", self.token.start + 1)
        body = self._statements()
        self.expect(TokenType.END, "END")
        self.in_script = False
        return body

    def _statements(self) -> list[script.ScriptStatement]:
        """Statements up to END, ELSE or ELSEIF."""
        found: list[script.ScriptStatement] = []
        while not self.ahead(TokenType.END, TokenType.ELSE) and not self.words_ahead("ELSEIF"):
            if self.take(END_OF_STATEMENT):
                continue
            found.append(self._statement())
            if not self.take(END_OF_STATEMENT):
                raise self.wrong_token()
        return found

    def _statement(self) -> script.ScriptStatement:
        place = self._place()
        if self.ahead(*_QUERIES, TokenType.L_PAREN):
            return self._select(place)
        if self._assigns():
            return self._assignment(place)
        word = self.word()
        if word in REFUSED_IN_SCRIPTS:
            raise unsupported(REFUSED_IN_SCRIPTS[word], place.position)
        read = READERS.get(word)
        if read is None:
            return script.Sql(place, self.parse_statement())
        self.advance()
        return read(self, place)

    def _assigns(self) -> bool:
        if not self.ahead(*NAMES):
            return False
        at = self.place
        self.advance()
        # IF :x = 1 has a colon, too.
        found = self.ahead(TokenType.EQ, TokenType.L_BRACKET)
        found = found or (self.take(TokenType.COLON) and self.ahead(TokenType.EQ))
        self.go_back(at)
        return found

    def _select(self, place: script.Place) -> script.ScriptStatement:
        query = self.select_statement()
        into = query.args.get("into")
        if into is None:
            return script.Sql(place, ast.Query(query, bool(query.args.get("locks"))))
        query.set("into", None)
        targets = into.this.expressions
        return script.SelectInto(
            place, query, [str(item.this.this) for item in targets],
            [item.expression for item in targets if item.args.get("expression") is not None],
        )  # fmt: skip

    def into_targets(self) -> list[exp.Expr]:
        """The variables behind INTO, each with its default."""
        if not self.in_script:
            raise self.wrong_token()
        names = [self.parse_identifier()]
        while self.take(TokenType.COMMA):
            names.append(self.parse_identifier())
        defaults: list[exp.Expr | None] = [None] * len(names)
        if self.take(TokenType.DEFAULT):
            given = self.separated(self.some_expression)
            if len(given) != len(names):
                raise self.wrong_token()
            defaults = [*given]
        return [
            exp.EQ(this=exp.to_identifier(name, quoted=True), expression=default)
            for name, default in zip(names, defaults, strict=True)
        ]

    def _assignment(self, place: script.Place) -> script.ScriptStatement:
        name = self.parse_identifier()
        index = None
        if self.take(TokenType.L_BRACKET):
            index = self.some_expression()
            self.expect(TokenType.R_BRACKET, "]")
        self.take(TokenType.COLON)
        self.expect(TokenType.EQ, "=")
        word = self.word()
        if index is None:
            at = self.place
            while self.take(TokenType.L_PAREN):
                pass
            is_query = self.ahead(*_QUERIES)
            self.go_back(at)
            if is_query:
                return script.AssignTable(place, name, self.select_statement())
            if word in {"UNNEST", "MAP_MERGE"} and self.following.token_type == TokenType.L_PAREN:
                self.advance(2)
                return self._unnest(place, name) if word == "UNNEST" else self._map_merge(place, name)
        if word.startswith("CE_") or word in {"MAP_REDUCE", "APPLY_FILTER"}:
            raise unsupported(word, self.token.start + 1)
        return script.Assign(place, name, self.some_expression(), index)

    def _unnest(self, place: script.Place, name: str) -> script.AssignUnnest:
        arrays = self.separated(self._variable)
        self.expect(TokenType.R_PAREN, ")")
        columns: list[str] = []
        if self.take(TokenType.ALIAS):
            columns = self.parse_name_list()
        return script.AssignUnnest(place, name, [str(item.this) for item in arrays], columns)

    def _map_merge(self, place: script.Place, name: str) -> script.MapMerge:
        table = self._variable()
        self.expect(TokenType.COMMA, ",")
        function = self.parse_name()
        self.expect(TokenType.L_PAREN, "(")
        arguments = self.separated(self.some_expression)
        self.expect(TokenType.R_PAREN, ")")
        self.expect(TokenType.R_PAREN, ")")
        return script.MapMerge(place, name, str(table.this), function, arguments)

    def _variable(self) -> ScriptVariable:
        error = self.wrong_token()
        found = self.any_expression()
        if not isinstance(found, ScriptVariable):
            raise error
        return found

    def _declare(self, place: script.Place) -> script.ScriptStatement:
        if self.word() in REFUSED_IN_SCRIPTS:
            raise unsupported(REFUSED_IN_SCRIPTS[self.word()], self.token.start + 1)
        names = [self.parse_identifier()]
        while self.take(TokenType.COMMA):
            names.append(self.parse_identifier())
        constant = self.take_words("CONSTANT")
        if self.word() in REFUSED_IN_SCRIPTS:
            raise unsupported(REFUSED_IN_SCRIPTS[self.word()], self.token.start + 1)
        kind = self._declared_type()
        value = None
        if self.take(TokenType.DEFAULT) or self.take(TokenType.EQ):
            value = self.some_expression()
        elif self.take(TokenType.COLON):
            self.expect(TokenType.EQ, "=")
            value = self.some_expression()
        return script.Declare(place, names, kind, value, constant)

    def _declared_type(self) -> script.ScriptType:
        if self.word() == "TABLE":
            return self.parse_script_type()
        scalar = self.parse_type_name(arrays=True)
        return script.ScriptType(scalar, array=self.take_words("ARRAY"))

    def _if(self, place: script.Place) -> script.ScriptStatement:
        branches = []
        while True:
            at = self._place()
            condition = self.some_expression()
            self.expect(TokenType.THEN, "THEN")
            branches.append((condition, at, self._statements()))
            if not self.take_words("ELSEIF"):
                break
        otherwise = self._statements() if self.take(TokenType.ELSE) else []
        self.expect(TokenType.END, "END")
        self.expect_word("IF")
        return script.If(place, branches, otherwise)

    def _while(self, place: script.Place) -> script.ScriptStatement:
        condition = self.some_expression()
        self.expect_word("DO")
        body = self._statements()
        self.expect(TokenType.END, "END")
        self.expect_word("WHILE")
        return script.While(place, condition, body)

    def _loop(self, place: script.Place) -> script.ScriptStatement:
        body = self._statements()
        self.expect(TokenType.END, "END")
        self.expect_word("LOOP")
        return script.While(place, None, body)

    def _for(self, place: script.Place) -> script.ScriptStatement:
        name = self.parse_identifier()
        if self.take(TokenType.ALIAS):
            raise unsupported("loops over cursors (FOR ... AS)", self.previous.start + 1)
        self.expect(TokenType.IN, "IN")
        reverse = self.take_words("REVERSE")
        low = self.operand()
        self.expect(RANGE_DOTS, "..")
        high = self.operand()
        if low is None or high is None:
            raise self.wrong_token()
        self.expect_word("DO")
        body = self._statements()
        self.expect(TokenType.END, "END")
        self.expect(TokenType.FOR, "FOR")
        return script.ForRange(place, name, low, high, reverse, body)

    def _return(self, place: script.Place) -> script.ScriptStatement:
        if self.ahead(END_OF_STATEMENT):
            return script.Return(place)
        if self.ahead(*_QUERIES):
            return script.Return(place, query=self.select_statement())
        return script.Return(place, self.some_expression())

    def _nested(self, place: script.Place) -> script.ScriptStatement:
        if self.words_ahead("AUTONOMOUS"):
            raise unsupported("autonomous transactions", self.token.start + 1)
        body = self._statements()
        self.expect(TokenType.END, "END")
        return script.Nested(place, body)

    def _call_inside(self, place: script.Place) -> script.ScriptStatement:
        return script.CallRoutine(place, *self.parse_call())

    def _execute(self, place: script.Place) -> script.ScriptStatement:
        self.take_words("IMMEDIATE")
        found = script.Execute(place, self.some_expression())
        if self.ahead(TokenType.INTO, TokenType.USING):
            raise unsupported(f"EXECUTE IMMEDIATE ... {self.word()}", self.token.start + 1)
        return found


READERS: dict[str, Callable[[ScriptParser, script.Place], script.ScriptStatement]] = {
    "BEGIN": ScriptParser._nested,
    "BREAK": lambda parser, place: script.Leave(place, False),
    "CALL": ScriptParser._call_inside,
    "CONTINUE": lambda parser, place: script.Leave(place, True),
    "DECLARE": ScriptParser._declare,
    "EXEC": ScriptParser._execute,
    "EXECUTE": ScriptParser._execute,
    "FOR": ScriptParser._for,
    "IF": ScriptParser._if,
    "LOOP": ScriptParser._loop,
    "NULL": lambda parser, place: script.Nested(place, []),
    "RETURN": ScriptParser._return,
    "WHILE": ScriptParser._while,
}
"""Which method reads a statement of a script, by its first word."""
