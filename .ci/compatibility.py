"""Write the table of docs/compatibility.md: which versions the locks hold for each Python, so which were tested.

python .ci/compatibility.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import locks

PAGE = locks.ROOT / "docs" / "compatibility.md"
PACKAGES = ("langchain-core", "langchain", "together", "hana-ai", "langchain-hana", "hdbcli", "sap-ai-sdk-gen")
TESTED = (("test", locks.PYTHONS), ("oldest", locks.PYTHONS[:1]))
"""Each lock with the versions of Python that the tests run with it."""
BEGIN, END = "<!-- written by make lock -->\n", "<!-- end -->\n"


def table() -> str:
    """The rows as Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in _rows())


def _rows() -> Iterator[tuple[str, ...]]:
    yield ("Python", "versions", *PACKAGES)
    yield tuple("---" for _ in range(len(PACKAGES) + 2))
    for lock, pythons in TESTED:
        held = locks.read(locks.FOLDER / f"{lock}.txt")
        for python in pythons:
            found = locks.versions(held, python)
            named = "locked" if lock == "test" else lock
            yield (python, named, *(str(found.get(locks.canonicalize_name(name), "none")) for name in PACKAGES))


def main() -> int:
    """Write the page anew."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n{table()}\n{END}{tail}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
