"""HANA's case-sensitive names in a database that ignores case.

HANA folds unquoted names to upper case and compares quoted ones letter by letter: `"a"` and `"A"` are two
columns. DuckDB compares all names without case. So a name is written with a mark before each lower-case letter;
the mark itself is doubled. Upper-case names, nearly all of them, look the same in both.
"""

from __future__ import annotations

_MARK = "^"

PUBLIC_SCHEMA = "PUBLIC"
"""Where public synonyms are."""


def encode(name: str) -> str:
    """A DuckDB name that stands for exactly this HANA name.

    Examples
    --------
    >>> encode("SALES"), encode("Sales"), encode("a^b")
    ('SALES', 'S^A^L^E^S', '^A^^^B')
    """
    if name.isupper() and _MARK not in name:
        return name
    out = []
    for char in name:
        if "a" <= char <= "z":
            out.append(_MARK + char.upper())
        elif char == _MARK:
            out.append(_MARK * 2)
        else:
            out.append(char)
    return "".join(out)


def decode(name: str) -> str:
    """The HANA name that `encode` turned into this."""
    out = []
    chars = iter(name)
    for char in chars:
        if char == _MARK:
            following = next(chars, "")
            out.append(following if following == _MARK else following.lower())
        else:
            out.append(char)
    return "".join(out)


def quote(name: str) -> str:
    """A DuckDB name in quotes."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A DuckDB expression for exactly this text."""
    if "\x00" in text:
        # DuckDB reads a statement only up to a NUL.
        parts = text.split("\x00")
        return "(" + " || chr(0) || ".join(literal(part) for part in parts) + ")"
    return "'" + text.replace("'", "''") + "'"
