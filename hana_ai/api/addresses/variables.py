"""Environment variables, and lines of `.env`, whose names are close to one of ours.

Other programs have variables that begin with TOGETHER_, too, such as TOGETHER_LOG of the official SDK. So only
what is close to a setting is warned of; the rest is for the debug level of the log.

This module loads nothing but the standard library: it also runs in processes that never use Together.
"""

from __future__ import annotations

from hana_ai.api.addresses.spelling import question, similar, without_a_letter

# As in typing, whose import would take longer than everything else.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


_OTHERS = {"TOGETHER_API_BASE": "TOGETHER_BASE_URL"}
"""What another package calls one of ours: without a word, requests would go to another address."""
_PREFIXES = ("TOGETHER_", "ENABLE_TOGETHER")
_seen: set[tuple[str, str, frozenset[str]]] = set()
_said: set[tuple[str, str]] = set()
_stumps: dict[Collection[str], frozenset[str]] = {}
"""What is left of the settings' names without a letter, as an index."""


def warn_of_slips(names: Collection[str], place: str, known: frozenset[str]) -> None:
    """Log a warning for each name that is close to a known one, once in the process.

    Parameters
    ----------
    names : collection of str
    place : str
        Where they stand, for the message.
    known : frozenset of str
        The names that are read, in upper case; case does not matter.
    """
    for name in names:
        if (place, name, known) not in _seen:
            _seen.add((place, name, known))
            # Whoever has set ours as well uses both packages.
            if name not in _OTHERS or _OTHERS[name] not in names:
                _look_at(name, place, known)


def _look_at(name: str, place: str, known: frozenset[str]) -> None:
    upper = name.upper()
    if upper in known:
        return
    ours = upper.startswith(_PREFIXES)
    near = similar(upper, known) if ours or _is_one_edit_away(upper, known) else []
    if (other := _OTHERS.get(upper)) in known:
        near = [str(other)]
    if not (near or ours) or (place, name) in _said:
        return
    _said.add((place, name))
    import logging

    logger = logging.getLogger(__name__)
    if near:
        logger.warning("%s in %s is not read; %s", name, place, question(near))
    else:
        logger.debug("%s in %s is none of this package's variables", name, place)


def _is_one_edit_away(name: str, known: frozenset[str]) -> bool:
    """Whether a name may be one edit away from a known one; quick, since every variable there is comes through."""
    stumps = _stumps.get(known)
    if stumps is None:
        stumps = _stumps[known] = frozenset(stump for other in known for stump in without_a_letter(other))
    return not stumps.isdisjoint(without_a_letter(name))
