"""One field of one reply changed at a time: a generator over the shapes that pass, not a list of fields.

A `Tampering` stands between client and loopback server. Without a mutation it notes what passes; with one it
changes the reply that the mutation names.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.faults.server import Exchange, Good

Place = tuple[str | int, ...]

MISSING = "missing"
VALUES: dict[str, Any] = {
    "null": None,
    '"x"': "x",
    "[]": [],
    "{}": {},
    "10**30": 10**30,
    "-1.5": -1.5,
    "true": True,
}
KINDS = (*VALUES, MISSING)

_ID = re.compile(r"\b(ep|dep|dad|ml|cr|ru|it|proj|org)_\w+")
_EVENT = b"data: "


class EveryPath(tuple[str, ...]):
    """The paths of `FaultyServer.listen`: all of them."""

    def __contains__(self, path: object) -> bool:
        return True


@dataclass(frozen=True)
class Mutation:
    """One change."""

    route: str
    """Method and path, without ids."""
    number: int
    """Which reply of this route, from 0."""
    event: int | None
    """Which event of a stream; None for a plain reply."""
    place: Place
    kind: str
    lasting: bool = False
    """Whether later replies of the route are changed, too."""

    def __str__(self) -> str:
        where = "".join(f"[{key!r}]" for key in self.place) or "the whole"
        event = "" if self.event is None else f", event {self.event}"
        return (
            f"{self.route} #{self.number}{event}: {where} = {self.kind}{' from then on' if self.lasting else ''}"
        )


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """The place of every leaf and container of a value; of a long list, those of the first two entries."""
    yield here
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, child in inner:
        yield from places(child, (*here, key))


def mutated(value: Any, place: Place, kind: str) -> Any:
    """A value with the one at a place replaced or left out; the value itself where it has no such place."""
    if not place:
        return None if kind == MISSING else VALUES[kind]
    changed = copy.deepcopy(value)
    parent = changed
    try:
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]]
    except (LookupError, TypeError):
        return value
    if kind == MISSING:
        del parent[place[-1]]
    else:
        parent[place[-1]] = VALUES[kind]
    return changed


def route_of(method: str, path: str) -> str:
    """Method and path, without ids and query."""
    bare = _ID.sub(r"\1_", path.partition("?")[0])
    return f"{method} {bare}"


@dataclass
class Tampering:
    """The play of a `FaultyServer`."""

    mutation: Mutation | None = None
    applied: int = 0
    seen: list[tuple[str, int, int | None, Any]] = field(default_factory=list)
    """Route, number, event and value of each JSON that came from the server."""
    sent: list[tuple[str, Any]] = field(default_factory=list)
    """Route and value of each JSON that went to the client."""
    _numbers: dict[str, int] = field(default_factory=dict)

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        route = route_of(exchange.request.method, exchange.request.path)
        number = self._numbers.get(route, 0)
        self._numbers[route] = number + 1
        good = await exchange.good()
        if good.status == 200:
            good.body = self._changed(route, number, good)
        await exchange.send(good.wire())

    def _changed(self, route: str, number: int, good: Good) -> bytes:
        if not good.is_stream:
            return self._value(route, number, None, good.body)
        events = good.body.split(b"\n\n")
        for index, event in enumerate(events):
            if event.startswith(_EVENT + b"{"):
                events[index] = _EVENT + self._value(route, number, index, event.removeprefix(_EVENT))
        return b"\n\n".join(events)

    def _value(self, route: str, number: int, event: int | None, body: bytes) -> bytes:
        if not body.startswith((b"{", b"[")):
            return body
        value = orjson.loads(body)
        self.seen.append((route, number, event, value))
        self.sent.append((route, value))
        wanted = self.mutation
        if wanted is None or (wanted.route, wanted.event) != (route, event) or number < wanted.number:
            return body
        if number > wanted.number and not wanted.lasting:
            return body
        changed = mutated(value, wanted.place, wanted.kind)
        if changed is value:
            return body
        self.applied += 1
        self.sent[-1] = (route, changed)
        # orjson writes no numbers beyond 64 bits.
        return json.dumps(changed).encode()

    def mutations(self, *, lasting: bool) -> Iterator[Mutation]:
        """Every change of what has passed, each of a route's first three replies and its last one at most."""
        last = dict(self._numbers)
        for route, number, event, value in self.seen:
            if 2 < number < last[route] - 1:
                continue
            for place in places(value):
                for kind in KINDS:
                    yield Mutation(route, number, event, place, kind)
                    if lasting:
                        yield Mutation(route, number, event, place, kind, lasting=True)
