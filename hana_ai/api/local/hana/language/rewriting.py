"""SQL text that the catalog keeps, changed where a name in it has changed."""

from __future__ import annotations

from hana_ai.api.local.hana.language.dialect import tokenize
from hana_ai.api.local.hana.language.sqlglot_parser import TokenType
from hana_ai.api.local.hana.names import quote


def rename_in(text: str, old: str, new: str) -> str:
    """The expression with a column's new name in place of the old one.

    Examples
    --------
    >>> rename_in("price > 0 AND LENGTH(\"PRICE\") < 'PRICE'", "PRICE", "COST")
    '"COST" > 0 AND LENGTH("COST") < \'PRICE\''
    """
    tokens = tokenize(text)
    parts, done = [], 0
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        called = following is not None and following.token_type in {TokenType.L_PAREN, TokenType.DOT}
        if token.token_type in {TokenType.STRING, TokenType.NUMBER} or called:
            continue
        name = token.text if token.token_type == TokenType.IDENTIFIER else token.text.upper()
        if name == old:
            parts.append(text[done : token.start] + quote(new))
            done = token.end + 1
    return "".join(parts) + text[done:]
