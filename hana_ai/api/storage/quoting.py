"""Names and texts inside SQL statements, for the few places that take no parameter."""

from __future__ import annotations

import re

from hana_ai.api.errors import TogetherAIInputError, TogetherAISettingsError
from hana_ai.api.storage.address import HANA

_LONGEST_NAME = 127
# Names of further tables and indexes are made from a table's name.
_LONGEST_TABLE = 119
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def quoted(name: str) -> str:
    """A name as a quoted identifier.

    Names with quotation marks are refused rather than escaped, since hana_ml and langchain_hana escape none.

    Raises
    ------
    TogetherAIInputError
        It is empty, too long, or has a quotation mark or a control character.
    """
    if not isinstance(name, str) or '"' in name or not _is_name(name, _LONGEST_NAME):
        raise TogetherAIInputError(
            f"{name!r} is no name for a table, schema or column: 1 to {_LONGEST_NAME} characters, no quotation "
            "marks and no control characters."
        )
    return _in_quotes(name)


def quoted_table(table: str, setting: str, schema: str | None = None) -> str:
    """A table as a setting names it, as a quoted identifier; one without a schema of its own is in `schema`.

    A plain name counts as upper case, as in HANA; in quotation marks it is taken as it is.

    Raises
    ------
    TogetherAISettingsError
        It is no name of a table; the message begins with the setting.
    """
    parts = re.findall(r'"(?:[^"]|"")+"|[^."]+|[."]', table)
    names = [part[1:-1].replace('""', '"') if part.startswith('"') else part.upper() for part in parts[::2]]
    plain = all(part.startswith('"') or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$#]*", part) for part in parts[::2])
    good = (
        len(parts) in (1, 3)
        and all(part == "." for part in parts[1::2])
        and plain
        and all(_is_name(name, _LONGEST_TABLE) for name in names)
    )
    if not good:
        raise TogetherAISettingsError(
            f"{setting}={HANA}{table} does not name a table. Write hana:TABLE or hana:SCHEMA.TABLE; names "
            'with characters other than letters, digits and _ go in quotation marks: hana:"My table".'
        )
    if schema and len(names) == 1:
        names.insert(0, schema)
    return ".".join(map(_in_quotes, names))


def literal(text: str) -> str:
    """A text as a literal."""
    return "'" + text.replace("'", "''") + "'"


def _is_name(name: str, longest: int) -> bool:
    return 1 <= len(name) <= longest and not _NOT_IN_NAMES.search(name)


def _in_quotes(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
