"""What a real HANA can do and this server refuses, in one place; docs and messages read it.

Everything here is answered with error 7, "feature not supported by the loopback server": an honest refusal is
better than a wrong answer.
"""

from __future__ import annotations

REFUSED_STATEMENTS: dict[str, str] = {
    "DECLARE": "DECLARE outside a script",
    "BEGIN": "BEGIN outside a script",
    "EXPLAIN": "EXPLAIN PLAN",
    "EXPORT": "EXPORT and IMPORT",
    "IMPORT": "EXPORT and IMPORT",
    "LOAD": "LOAD and UNLOAD",
    "UNLOAD": "LOAD and UNLOAD",
    "BACKUP": "backups",
    "RECOVER": "backups",
    "CONNECT": "CONNECT as a statement",
    "REFRESH": "statistics and replicas (REFRESH)",
    "VALIDATE": "VALIDATE",
    "ANNOTATE": "annotations",
    "CANCEL": "CANCEL",
}

REFUSED_OBJECTS: dict[str, str] = {
    "TRIGGER": "triggers",
    "TYPE": "table types",
    "LIBRARY": "SQLScript libraries",
    "ROLE": "roles",
    "VIRTUAL": "virtual tables (smart data access)",
    "REMOTE": "remote sources",
    "GRAPH": "graph workspaces",
    "FULLTEXT": "full-text indexes",
    "PSE": "certificate stores",
    "CERTIFICATE": "certificates",
    "CREDENTIAL": "credentials",
    "PROJECTION": "projection views",
    "HISTORY": "history tables",
    "FLEXIBLE": "flexible tables",
    "STATISTICS": "data statistics",
    "WORKSPACE": "graph workspaces",
    "JWT": "identity providers",
    "SAML": "identity providers",
    "X509": "identity providers",
    "USERGROUP": "user groups",
    "AUDIT": "auditing",
    "STRUCTURED": "structured privileges",
    "CLIENTSIDE": "client-side encryption",
    "COLLECTION": "the JSON document store",
}

REFUSED_IN_SCRIPTS: dict[str, str] = {
    "CLOSE": "cursors in scripts",
    "COMMIT": "COMMIT in scripts",
    "CONDITION": "conditions (DECLARE ... CONDITION)",
    "CURSOR": "cursors in scripts",
    "EXIT": "handlers (DECLARE EXIT HANDLER)",
    "FETCH": "cursors in scripts",
    "OPEN": "cursors in scripts",
    "RESIGNAL": "SIGNAL and RESIGNAL",
    "ROLLBACK": "ROLLBACK in scripts",
    "SIGNAL": "SIGNAL and RESIGNAL",
    "SAVEPOINT": "savepoints in scripts",
}

REFUSED_FUNCTIONS: dict[str, str] = {
    "SPARQL_EXECUTE": "SPARQL",
    "SPARQL_TABLE": "SPARQL",
    "XMLTABLE": "XML functions",
    "XMLEXTRACT": "XML functions",
    "XMLEXTRACTVALUE": "XML functions",
    "SNIPPETS": "full-text search",
    "HIGHLIGHTED": "full-text search",
    "LANGUAGE": "full-text search",
    "CUBIC_SPLINE_APPROX": "series functions",
    "LINEAR_APPROX": "series functions",
    "SERIES_FILTER": "series functions",
    "SERIES_ROUND": "series functions",
    "HIERARCHY": "hierarchies",
    "HIERARCHY_DESCENDANTS": "hierarchies",
    "HIERARCHY_ANCESTORS": "hierarchies",
    "HIERARCHY_SIBLINGS": "hierarchies",
    "CONVERT_CURRENCY": "currency conversion",
    "CONVERT_UNIT": "unit conversion",
    "ENCRYPT": "encryption functions",
    "DECRYPT": "encryption functions",
    "BINNING": "BINNING",
    "RANDOM_PARTITION": "RANDOM_PARTITION",
    "WEIGHTED_AVG": "WEIGHTED_AVG",
    "SERIES_PERIOD_TO_ELEMENT": "series functions",
}

OTHER_LIMITS: tuple[str, ...] = (
    "PAL, APL and every other AFL: SYS.AFL_FUNCTIONS is empty",
    "SQLScript without cursors, handlers, signals, libraries and autonomous transactions",
    "an error in a script undoes the statement that called it, except what came before a DDL statement in it",
    "functions called for each row see what is committed, not the changes of their own transaction",
    "SPARQL, graph workspaces and hierarchies",
    "real full-text search: CONTAINS and SCORE compare words, without stemming or fuzziness",
    "approximate vector search: an HNSW index is recorded, every search is exact",
    "spatial types and array types",
    "calculation views, virtual tables, remote sources",
    "synonyms stand for tables, views, sequences, functions and procedures, not for each other, and not in DDL",
    "roles and analytic privileges: privileges are granted to users, on schemas, tables and views",
    "VECTOR_EMBEDDING and CROSS_ENCODE answer with a small local model, not with SAP's",
    "DECIMAL without digits keeps 26 digits before and 12 after the point",
    "TIMESTAMP keeps microseconds, not units of 100 ns",
    "dates before 1582-10-15 are kept as written, but counted in the Gregorian calendar (DAYS_BETWEEN, ADD_DAYS)",
    "FOR UPDATE holds the rows of one table, without NOWAIT and IGNORE LOCKED; LOCK TABLE holds back no DDL",
    "after its first change a transaction reads the snapshot of that moment (HANA: of each statement)",
    "with AUTOCOMMIT DDL OFF a statement that fails after DDL rolls back its transaction (error 129)",
    "at REPEATABLE READ and SERIALIZABLE a failed statement or a return to a savepoint begins another snapshot",
)
