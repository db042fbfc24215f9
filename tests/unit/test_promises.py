"""Each promise of the documents leads to tests that are there.

A promise is a sentence, a point of a list or a row of a table in a section that promises: all sections of
`docs/faults.md`, and *What is defended* of `SECURITY.md`. It ends in a mark such as `[2, 5]`, which leads to the
next numbered list of tests. Only what ends in a colon promises nothing: it leads on to what follows.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from tests.faults import catalogue, test_matrix
from tests.faults.catalogue import Expected

ROOT = Path(__file__).parents[2]
PROMISING = {"docs/faults.md": r".*", "SECURITY.md": r"What is defended"}
"""The titles of the sections that promise."""
LISTED = re.compile(r"(\d+)\. `(tests/[\w/]+\.py)::([\w:]+)`$")
MARK = re.compile(r"\[(\d+(?:, \d+)*)\]")
AT_THE_END = re.compile(MARK.pattern + r"[.*)|\s]*$")
SENTENCE = re.compile(r"(?<=[.!?])(?:\*\*)?\s+(?=[`*(A-Z])")


@dataclass
class Part:
    """Promises, and the list of tests that follows them."""

    section: str
    promises: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    """Ids of tests, the first of them being number 1."""


@cache
def names_in(path: Path) -> frozenset[str]:
    """The test functions of a file, and those of its classes as `Class::test`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}::{inner.name}"
                for inner in node.body
                if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef))
            }
    return frozenset(found)


def exists(test: str) -> bool:
    file, _, name = test.partition("::")
    path = ROOT / file
    return path.is_file() and name in names_in(path) and name.rpartition(":")[2].startswith("test_")


def plain(markdown: str) -> str:
    """The text without what stands in code or in the address of a link."""
    text = re.sub(r"`[^`]*`", "`code`", re.sub(r"\s+", " ", markdown))
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).strip()


def units(section: str) -> Iterator[str]:
    """The paragraphs, points of lists, rows of tables and listed tests of a section."""
    for block in re.split(r"\n\s*\n", section.strip()):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            yield from lines[2:]  # beneath the heads of the columns
        else:
            yield from re.split(r"\n(?=- |\d+\. )", block)


def parts_of(text: str, promising: str) -> Iterator[Part]:
    """The parts of a document's sections that promise."""
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        if not re.fullmatch(promising, title):
            continue
        part = Part(title)
        for unit in units(body):
            if (listed := LISTED.match(unit)) is not None:
                part.listed.append(f"{listed[2]}::{listed[3]}" if int(listed[1]) == len(part.listed) + 1 else unit)
                continue
            if part.listed:
                yield part
                part = Part(title)
            found = [plain(unit)] if unit.startswith("|") else SENTENCE.split(plain(unit.removeprefix("- ")))
            part.promises += [promise for promise in found if not promise.endswith(":")]
        yield part


def problems(text: str, promising: str) -> list[str]:
    """What is wrong with the promises of a document."""
    found = []
    for part in parts_of(text, promising):
        named: set[int] = set()
        for promise in part.promises:
            if not AT_THE_END.search(promise):
                found.append(f"no mark: {promise}")
            named |= {int(number) for mark in MARK.findall(promise) for number in mark.split(", ")}
        numbers = set(range(1, len(part.listed) + 1))
        found += [f"no test [{number}] in {part.section}: {part.promises[0]}" for number in named - numbers]
        found += [f"nothing refers to {part.listed[number - 1]}" for number in numbers - named]
        found += [f"no such test: {test}" for test in part.listed if not exists(test)]
        found += [f"listed twice: {test}" for test in set(part.listed) if part.listed.count(test) > 1]
    return found


@pytest.mark.parametrize("document", PROMISING)
def test_every_promise_leads_to_a_test_that_is_there(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert sum(len(part.promises) for part in parts_of(text, PROMISING[document])) > 40
    assert problems(text, PROMISING[document]) == []


@pytest.mark.parametrize("document", PROMISING)
def test_what_stands_elsewhere_names_no_test(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    listed = [test for part in parts_of(text, PROMISING[document]) for test in part.listed]
    assert len(listed) == len(re.findall(r"\btests/[\w/]+\.py::", text))


HERE = "tests/unit/test_promises.py"
GOOD = f"""# A page

This sentence introduces.

## It holds

**It bends [1].** It breaks `if [3]. So` not [1, 2], and
[never](else.md) [2]. In particular:

- in rain [2]
- in snow [1].

| what | shown by |
|---|---|
| in hail | `x` [1] |

Shown by:

1. `{HERE}::test_every_promise_leads_to_a_test_that_is_there`
2. `{HERE}::test_what_is_wrong_with_a_promise_is_found`

It floats [1].

1. `{HERE}::test_what_is_wrong_with_a_promise_is_found`
"""


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("", "", None),
        ("It bends [1].", "It bends.", "no mark: **It bends."),
        ("[never](else.md) [2].", "[never](else.md).", "no mark: It breaks `code` not [1, 2], and never."),
        ("[2]. In particular:", "[2]. It lasts. In particular:", "no mark: It lasts."),
        ("In particular:", "In particular.", "no mark: In particular."),
        ("in rain [2]", "in rain", "no mark: in rain"),
        ("in snow [1].", "in snow [1], and in fog.", "no mark: in snow [1], and in fog."),
        ("`x` [1] |", "`x [1]` |", "no mark: | in hail | `code` |"),
        ("It floats [1].", "It floats [2].", "no test [2] in It holds: It floats [2]."),
        (
            "It floats [1].",
            "It floats [1].\n\n## It sinks\n\nIt is wet [1].",
            "no test [1] in It holds: It floats [1].",
        ),
        ("2. `", "3. `", f"no such test: 3. `{HERE}::test_what_is_wrong_with_a_promise_is_found`"),
        ("[1, 2], and", "[1], and", None),
        (
            "leads_to_a_test_that_is_there`",
            "leads_nowhere`",
            f"no such test: {HERE}::test_every_promise_leads_nowhere",
        ),
        (f"{HERE}::test_every", "tests/unit/gone.py::test_every", "no such test: tests/unit/gone.py::test_every"),
        ("test_every_promise_leads_to_a_test_that_is_there", "exists", f"no such test: {HERE}::exists"),
    ],
)
def test_what_is_wrong_with_a_promise_is_found(old: str, new: str, found: str | None) -> None:
    assert old in GOOD
    wrong = problems(GOOD.replace(old, new) if old else GOOD, ".*")
    assert (wrong == []) if found is None else any(found in problem for problem in wrong)


def test_a_listed_test_that_nothing_refers_to_is_found() -> None:
    text = re.sub(r"\[1, 2\]|\[2\]", "[1]", GOOD)
    assert problems(text, ".*") == [f"nothing refers to {HERE}::test_what_is_wrong_with_a_promise_is_found"]


# --- the table of faults ---


@dataclass(frozen=True)
class Row:
    """A row of the table of faults."""

    fault: str
    error: str
    tried: str
    patterns: tuple[str, ...]
    """Names of faults, with `*` for any letters and `?` for any one letter."""

    @property
    def face(self) -> str:
        """Where it holds: in streams or the management API alone, or else everywhere (empty)."""
        return next((face for face in ("stream", "management API") if self.fault.startswith(f"{face}: ")), "")

    @property
    def classes(self) -> set[str]:
        return set(re.findall(r"`(TogetherAI\w+Error)`", self.error))

    def covers(self, name: str) -> bool:
        escaped = [re.escape(one).replace(r"\*", ".*").replace(r"\?", ".") for one in self.patterns]
        return any(re.fullmatch(one, name) for one in escaped)


def rows_of(text: str) -> list[Row]:
    section = text.partition("## What each fault gives\n")[2].partition("\n## ")[0]
    rows = []
    for line in [unit for unit in units(section) if unit.startswith("|")]:
        fault, error, tried, shown = (cell.strip() for cell in line.strip("|").split("|"))
        rows.append(Row(fault, error, tried, tuple(re.findall(r"`([^`]+)`", shown))))
    return rows


@cache
def faults() -> tuple[tuple[str, str, Expected], ...]:
    """Name, face and expectation of every fault: the catalogue's, and those that let no connection come about."""
    found = []
    for fault in catalogue.faults():
        expected = {"": fault.plain, "stream": fault.stream, "management API": fault.account}
        found += [(fault.name, face, one) for face, one in expected.items() if one is not None]
    return (*found, *((name, "", expected) for name, (_, expected) in test_matrix.BARRIERS.items()))


def rows_for(rows: list[Row], name: str, face: str) -> list[Row]:
    """The rows that speak of a fault: those of the face, or else those of every face."""
    matching = [row for row in rows if row.covers(name)]
    return [row for row in matching if row.face == face] or [row for row in matching if not row.face]


def resolved(rows: list[Row], row: Row, name: str, face: str) -> Row:
    """The row, with what the status says where it refers to that."""
    if "as its status says" not in (row.error, row.tried):
        return row
    [status] = rows_for([one for one in rows if "as its status says" not in one.error], name[:3], face)
    error = status.error if row.error == "as its status says" else row.error
    return Row(row.fault, error, status.tried if row.tried == "as its status says" else row.tried, row.patterns)


def names_of(expected: Expected) -> set[str]:
    error = expected.error or ()
    return {one.__name__ for one in (error if isinstance(error, tuple) else (error,))}


def wrong_rows(rows: list[Row]) -> list[str]:
    """Where the rows differ from what the catalogue expects."""
    found, seen = [], {row: set[str]() for row in rows}
    for name, face, expected in faults():
        classes, told = names_of(expected), set[str]()
        matching = rows_for(rows, name, face)
        if not matching:
            found.append(f"no row for {name!r} ({face or 'plain'})")
        for row in matching:
            says = resolved(rows, row, name, face)
            told |= says.classes
            seen[row] |= classes
            answered = says.error.startswith("none") and (expected.any_answer or not classes)
            if not answered and not says.classes & classes:
                found.append(f"{name!r} ({face or 'plain'}) ends in {classes or 'an answer'}: {row.fault}")
            again = says.tried.startswith("yes")
            if expected.tries is not None and face != "management API" and again is (expected.tries <= 1):
                found.append(f"{name!r} ({face or 'plain'}) is tried {expected.tries} times: {row.fault}")
        if matching and not expected.any_answer and not classes <= told:
            found.append(f"no row of {name!r} ({face or 'plain'}) names {classes - told}")
    for row in rows:
        names = {name for name, _, _ in faults()}
        lost = [one for one in row.patterns if not any(Row("", "", "", (one,)).covers(name) for name in names)]
        found += [f"no fault is called {one!r}: {row.fault}" for one in lost]
        if row.patterns and not row.classes <= seen[row]:
            found.append(f"no fault gives {row.classes - seen[row]}: {row.fault}")
    return found


PAID = "`TogetherAIPaymentRequiredError`"


def test_the_rows_of_faults_say_what_the_catalogue_expects() -> None:
    rows = rows_of((ROOT / "docs" / "faults.md").read_text(encoding="utf-8"))
    assert len(rows) > 40
    assert wrong_rows(rows) == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("`402` [", "[", "no row for '402' (plain)"),
        ("`402` [", "`402`, `4022` [", "no fault is called '4022'"),
        (f"{PAID} | no", "`TogetherAIServerError` | no", "'402' (plain) ends in {'TogetherAIPay"),
        (f"{PAID} | no", f"{PAID} | yes", "'402' (plain) is tried 1"),
        (f"{PAID} |", f"{PAID}, `TogetherAIServerError` |", "no fault gives"),
        ("none: the count is unknown", "`TogetherAIResponseError`", "'usage: a list' (plain) ends in an answer"),
        (
            ", or `TogetherAIResponseError` where what is left is no JSON",
            "",
            "no row of 'shorter content-length than body'",
        ),
    ],
)
def test_a_row_that_is_wrong_is_found(old: str, new: str, found: str) -> None:
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert old in text
    assert any(found in problem for problem in wrong_rows(rows_of(text.replace(old, new))))
