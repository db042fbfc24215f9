"""How close two names are: the one rule by which a misspelled argument, setting or variable is recognised.

This module loads nothing but the standard library: it also runs in processes that never use Together.
"""

from __future__ import annotations

# As in typing, whose import would take longer than everything else.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SHORTEST = 4
"""Letters of a name below which one edit makes too many other words."""
_LONG = 8
"""Letters from which two edits are still a slip."""


def similar(name: str, known: Iterable[str]) -> list[str]:
    """The known names that a name may be a misspelling of, the likeliest ones only.

    Those are names that differ in case, underscores and hyphens alone, or in one edit: a letter that is missing,
    added, another one, or exchanged with its neighbour. Only where there are none, and a known name is long, two
    edits count as well. A name that is itself known has none.

    Parameters
    ----------
    name : str
    known : iterable of str

    Returns
    -------
    list of str
        In alphabetical order.
    """
    names = set(known)
    if name in names:
        return []
    folded, lowered = _fold(name), name.lower()
    near: dict[int, list[str]] = {1: [], 2: []}
    for other in sorted(names):
        if _fold(other) == folded:
            near[1].append(other)
        elif len(other) >= SHORTEST and abs(len(other) - len(name)) <= 2:
            distance = edits(lowered, other.lower())
            if distance == 1 or (distance == 2 and len(other) >= _LONG):
                near[distance].append(other)
    return near[1] or near[2]


def question(names: Iterable[str]) -> str:
    """``did you mean a or b?`` for an error's or a warning's message."""
    return f"did you mean {' or '.join(names)}?"


def unknown_keys(given: Iterable[str], known: Sequence[str], owner: str) -> str | None:
    """What an error says of keys of a mapping that nobody reads; None if there are none."""
    said = []
    for key in sorted({str(key) for key in given} - set(known)):
        near = similar(key, known)
        said.append(f"{owner} has no key {key}; {question(near)}" if near else f"{owner} has no key {key}.")
    return f"{' '.join(said)} It takes {', '.join(known)}." if said else None


def edits(one: str, other: str, most: int = 2) -> int:
    """How many letters must be added, removed, replaced or exchanged with their neighbour, none of them twice.

    What is more than `most` is `most` + 1.
    """
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        current = [row]
        for column, wanted in enumerate(other, 1):
            cost = min(last[column] + 1, current[-1] + 1, last[column - 1] + (letter != wanted))
            if row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == wanted:
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        if min(current) > most and min(last) >= most:
            # No later row has less, nor has an exchange, which is one more than the row before the last.
            return most + 1
        before, last = last, current
    return min(last[-1], most + 1)


def without_a_letter(name: str) -> Iterator[str]:
    """The name, and what is left of it without each of its letters.

    Two names that are one edit apart have one of these in common, which is found without comparing each with each.
    """
    yield name
    for place in range(len(name)):
        yield name[:place] + name[place + 1 :]


def _fold(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
