"""Parse routines, anonymous blocks and CALL."""

from __future__ import annotations

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.language import script_syntax as script
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.language.sqlglot_parser import TokenType
from hana_ai.api.local.hana.language.statements_script import NAMES, ScriptParser


class RoutineParser(ScriptParser):
    """Mixed into the statement parser."""

    def statement_create(self) -> ast.Statement:
        """CREATE anything."""
        at = self.place
        replace = self.take(TokenType.OR) and self.take_words("REPLACE")
        word = self.word()
        if word in {"FUNCTION", "PROCEDURE"}:
            self.advance()
            return self._create_routine(word, replace)
        self.go_back(at)
        return super().statement_create()

    def statement_drop(self) -> ast.Statement:
        """DROP anything."""
        word = self.word()
        if word not in {"FUNCTION", "PROCEDURE"}:
            return super().statement_drop()
        self.advance()
        exists = self.take_if("EXISTS")
        name = self.parse_name()
        behavior = self.previous.text.upper() if self.take_one_of(("CASCADE", "RESTRICT")) else None
        return ast.Drop(word, name, behavior, exists)

    def statement_do(self) -> ast.Statement:
        """DO [(parameters)] BEGIN ... END."""
        parameters = self._parameters(bound=True) if self.ahead(TokenType.L_PAREN) else []
        self._language()
        return script.Block(parameters, self.parse_body())

    def statement_call(self) -> ast.Statement:
        """CALL procedure(arguments)."""
        name, arguments = self.parse_call()
        return script.Call(name, arguments)

    def _create_routine(self, kind: str, replace: bool) -> script.CreateRoutine:
        name = self.parse_name()
        parameters = self._parameters() if self.ahead(TokenType.L_PAREN) else []
        routine = script.CreateRoutine(kind, name, parameters, [], [], self.sql, replace)
        if kind == "FUNCTION":
            if any(item.mode != "IN" for item in parameters):
                raise syntax('"OUT"', name.position)
            self.expect_word("RETURNS")
            routine.returns = self._returns()
        while not self.take(TokenType.ALIAS):
            self._option(routine)
        if self.take_words("HEADER", "ONLY"):
            raise unsupported("AS HEADER ONLY", self.previous.start + 1)
        routine.body = self.parse_body()
        return routine

    def _option(self, routine: script.CreateRoutine) -> None:
        if self._language():
            return
        if self.take_words("SQL", "SECURITY"):
            if not self.take_one_of(("DEFINER", "INVOKER")):
                raise self.wrong_token()
            routine.invoker = self.previous.text.upper() == "INVOKER"
        elif self.take_words("READS", "SQL", "DATA"):
            routine.reads_only = True
        elif self.take_words("DETERMINISTIC"):
            routine.deterministic = True
        elif self.ahead(TokenType.DEFAULT) or self.words_ahead("WITH"):
            raise unsupported(f"{self.word()} of a routine", self.token.start + 1)
        else:
            raise self.wrong_token()

    def _language(self) -> bool:
        if not self.take_words("LANGUAGE"):
            return False
        word = self.word()
        if word != "SQLSCRIPT":
            raise unsupported(f"LANGUAGE {word}", self.token.start + 1)
        self.advance()
        return True

    def _returns(self) -> list[script.ParameterDef]:
        found = []
        while True:
            name = ""
            if self.word() != "TABLE" and types.declared(self.word(), ()) is None:
                name = self.parse_identifier()
            found.append(script.ParameterDef(name, "OUT", self.parse_script_type()))
            if not self.take(TokenType.COMMA):
                return found

    def _parameters(self, bound: bool = False) -> list[script.ParameterDef]:
        self.expect(TokenType.L_PAREN, "(")
        if self.take(TokenType.R_PAREN):
            return []
        found = self.separated(lambda: self._parameter(bound))
        self.expect(TokenType.R_PAREN, ")")
        return found

    def _parameter(self, bound: bool) -> script.ParameterDef:
        mode = "IN"
        if self.take(TokenType.IN):
            pass
        elif self.ahead(TokenType.VAR) and self.word() in {"OUT", "INOUT"} and self.following.token_type in NAMES:
            mode = self.word()
            self.advance()
        parameter = script.ParameterDef(self.parse_identifier(), mode, self.parse_script_type())
        if self.take(TokenType.DEFAULT):
            parameter.default = self.some_expression()
        if bound:
            self.expect(TokenType.FARROW, "=>")
            if parameter.type.is_table and not self.ahead(TokenType.PLACEHOLDER):
                parameter.argument = self.parse_name()
            else:
                parameter.argument = self.some_expression()
        return parameter
