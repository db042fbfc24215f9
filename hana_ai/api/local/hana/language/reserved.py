"""Words that are no names unless they stand in double quotes, as HANA's SQL reference lists them."""

from __future__ import annotations

RESERVED_WORDS = frozenset({
    "ALL", "ALTER", "AS", "BEFORE", "BEGIN", "BOTH", "CASE", "CHAR", "CONDITION", "CONNECT", "CROSS", "CUBE",
    "CURRENT_CONNECTION", "CURRENT_DATE", "CURRENT_SCHEMA", "CURRENT_TIME", "CURRENT_TIMESTAMP",
    "CURRENT_TRANSACTION_ISOLATION_LEVEL", "CURRENT_USER", "CURRENT_UTCDATE", "CURRENT_UTCTIME",
    "CURRENT_UTCTIMESTAMP", "CURRVAL", "CURSOR", "DECLARE", "DEFERRED", "DISTINCT", "ELSE", "ELSEIF", "END",
    "EXCEPT", "EXCEPTION", "EXEC", "FALSE", "FOR", "FROM", "FULL", "GROUP", "HAVING", "IF", "IN", "INNER",
    "INOUT", "INTERSECT", "INTO", "IS", "JOIN", "LATERAL", "LEADING", "LEFT", "LIMIT", "LOOP", "MINUS",
    "NATURAL", "NCHAR", "NEXTVAL", "NULL", "ON", "ORDER", "OUT", "PRIOR", "RETURN", "RETURNS", "REVERSE",
    "RIGHT", "ROLLUP", "ROWID", "SELECT", "SESSION_USER", "SET", "SQL", "START", "SYSUUID", "TABLE",
    "TABLESAMPLE", "TOP", "TRAILING", "TRUE", "UNION", "UNKNOWN", "USING", "UTCTIMESTAMP", "VALUES", "WHEN",
    "WHERE", "WHILE", "WITH",
})  # fmt: skip
"""Every other word, DESC and DATE among them, may be the name of a table or a column."""

GRAMMAR_WORDS = frozenset({"AND", "BETWEEN", "EXISTS", "LIKE", "NOT", "OR", "THEN", "OUTER"})
"""Not on HANA's list, but operators and joins could not be read if they were names."""

VALUES_BY_WORD = frozenset({
    "CURRENT_CONNECTION", "CURRENT_DATE", "CURRENT_SCHEMA", "CURRENT_TIME", "CURRENT_TIMESTAMP",
    "CURRENT_TRANSACTION_ISOLATION_LEVEL", "CURRENT_USER", "CURRENT_UTCDATE", "CURRENT_UTCTIME",
    "CURRENT_UTCTIMESTAMP", "CURRVAL", "NEXTVAL", "SESSION_USER", "SYSUUID", "UTCTIMESTAMP",
})  # fmt: skip
"""Reserved words that stand for a value, so that an expression may consist of one."""
