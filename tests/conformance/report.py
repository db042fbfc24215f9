"""What was seen in both worlds, and where they differ, as Markdown for an issue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

World = Literal["loopback", "real"]
_MOST_SHOWN = 160


def shape(value: object) -> object:
    """What is alike in all answers of a kind: the names of fields and the kinds of values."""
    if isinstance(value, Mapping):
        return {str(name): shape(inner) for name, inner in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        found: list[object] = []
        for inner in map(shape, value):
            if inner not in found:
                found.append(inner)
        return found
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    return "number" if isinstance(value, (int, float)) else "text"


@dataclass
class Findings:
    """What a run saw.

    Attributes
    ----------
    seen
        By world, then by name.
    failed
        What does not hold of the real services: the test, and what it said.
    notes
        Lines for the report's head.
    secrets
        What must not be in a report, with what stands there instead.
    """

    seen: dict[World, dict[str, object]] = field(default_factory=lambda: {"loopback": {}, "real": {}})
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)

    def saw(self, world: World, name: str, value: object) -> None:
        """Note something under a name that is the same in both worlds."""
        if name in self.seen[world]:
            raise ValueError(f"{name!r} was noted before.")
        self.seen[world][name] = value

    def differences(self) -> list[tuple[str, str, str]]:
        """What differs: name and place, the loopback's value, the real one's."""
        found = []
        loopback, real = self.seen["loopback"], self.seen["real"]
        for name in loopback:
            if name in real and loopback[name] != real[name]:
                ours, theirs = dict(_leaves(loopback[name])), dict(_leaves(real[name]))
                for place in dict.fromkeys([*ours, *theirs]):
                    if ours.get(place) != theirs.get(place):
                        where = f"{name}: {place}" if place else name
                        found.append((where, ours.get(place, "-"), theirs.get(place, "-")))
        return found

    def compared(self) -> int:
        """How many things were seen in both worlds."""
        return len(self.seen["loopback"].keys() & self.seen["real"].keys())

    def markdown(self) -> str:
        """The report."""
        text = "\n".join(self._lines()) + "\n"
        for secret, instead in sorted(self.secrets.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(secret, instead)
        return text

    def _lines(self) -> Iterator[str]:
        yield "## Loopback servers beside the real services"
        yield ""
        yield from (f"- {note}" for note in self.notes)
        different = self.differences()
        yield f"- {self.compared()} observations in both; {len(different)} values differ"
        yield ""
        yield "### What differs"
        yield ""
        yield from _table(("observation", "loopback", "real"), different)
        yield "### What does not hold of the real services"
        yield ""
        yield from _table(("test", "what it found"), self.failed)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    lines = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    if lines:
        yield "| " + " | ".join(head) + " |"
        yield "|---" * len(head) + "|"
        yield from lines
    else:
        yield "Nothing."
    yield ""


def _cell(text: str) -> str:
    line = " ".join(text.split()).replace("|", "\\|").replace("`", "'")
    return f"`{line[:_MOST_SHOWN]}…`" if len(line) > _MOST_SHOWN else f"`{line}`"


def _leaves(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Each value below a value, with its place."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list) and value and any(isinstance(inner, (Mapping, list)) for inner in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{place}[{number}]")
    else:
        yield place, repr(value)
