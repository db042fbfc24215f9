"""Makes names that are one edit away from others."""

from __future__ import annotations

import random
import string
from collections.abc import Collection, Iterator


def misspelled(
    names: Collection[str], valid: Collection[str] | None = None, *, seed: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield pairs of a wrong and the right name: a letter missing, added, replaced, and two exchanged.

    The places are random, but always the same for a seed. What is by accident another valid name is left out, as
    are names of fewer than four letters, of which one edit leaves too little.
    """
    valid = names if valid is None else valid
    for name in sorted(names):
        choose = random.Random(name + seed)
        letters = string.ascii_uppercase if name.isupper() else string.ascii_lowercase
        place = choose.randrange(1, max(2, len(name) - 1))
        letter = choose.choice(letters)
        wrong = {
            name[:place] + name[place + 1 :],
            name[:place] + letter + name[place:],
            name[:place] + letter + name[place + 1 :],
            name[: place - 1] + name[place : place + 1] + name[place - 1 : place] + name[place + 1 :],
            name[1:],
            name[:-1],
        }
        for one in sorted(wrong - set(valid)):
            if len(name) >= 4 and one.isidentifier():
                yield one, name
