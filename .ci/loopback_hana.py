"""List what the loopback HANA knows in docs/loopback-hana.md, made from its code.

    python .ci/loopback_hana.py [--check]

The list stands between two comments of the page. With --check nothing is written; the status is 1 when the page is
not as it is to be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from textwrap import fill

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.engine.ddl import DROPPED
from hana_ai.api.local.hana.language.dialect import HanaParser
from hana_ai.api.local.hana.language.statements import STATEMENTS
from hana_ai.api.local.hana.language.statements_script import READERS
from hana_ai.api.local.hana.language.unsupported import REFUSED_FUNCTIONS
from hana_ai.api.local.hana.translation.functions.aggregates import INVERSE_DISTRIBUTIONS
from hana_ai.api.local.hana.translation.functions.library import FUNCTIONS, NILADIC
from hana_ai.api.local.hana.translation.sources import SERIES
from hana_ai.api.local.hana.translation.system_views import SYSTEM_VIEWS

PAGE = Path(__file__).parents[1] / "docs" / "loopback-hana.md"
BEGIN = "<!-- made by .ci/loopback_hana.py: begin -->"
END = "<!-- made by .ci/loopback_hana.py: end -->"
_WIDTH = 118


def lists() -> dict[str, list[str]]:
    """What there is, by heading."""
    functions = {*FUNCTIONS, *NILADIC, *HanaParser.FUNCTION_PARSERS, *INVERSE_DISTRIBUTIONS, *SERIES, "UNNEST"}
    functions -= REFUSED_FUNCTIONS.keys()
    return {
        "Statements, by their first word": sorted({"SELECT", "WITH", *STATEMENTS}),
        "Objects that can be made and dropped": sorted(DROPPED),
        "Statements in SQLScript, besides assignments, queries, changes and DDL": sorted(READERS),
        "Functions": sorted(functions),
        "Types": sorted(types.NAMES),
        "System views": sorted(SYSTEM_VIEWS),
    }


def _paragraph(words: Iterable[str]) -> str:
    return fill(
        ", ".join(f"`{word}`" for word in words) + ".", _WIDTH, break_long_words=False, break_on_hyphens=False
    )


def made() -> str:
    """The part of the page."""
    parts = [f"**{heading}**\n\n{_paragraph(words)}" for heading, words in lists().items()]
    return "\n\n".join([BEGIN, *parts, END])


def written(text: str) -> str:
    """The page with its part made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + made() + after


def main(arguments: list[str]) -> int:
    """Write the page anew, or say whether it is as it is to be."""
    text = PAGE.read_text(encoding="utf-8")
    new = written(text)
    if "--check" in arguments:
        return int(new != text)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
