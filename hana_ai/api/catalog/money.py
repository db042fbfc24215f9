"""Money is added up exactly, whatever precision the program's own decimal context has."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal, Inexact

EXACT = Context(prec=100, traps=[Inexact])
"""Room for every price times every count of tokens; a result that would have to be rounded is an error."""


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Sum of amounts."""
    result = Decimal(0)
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def plain(amount: Decimal) -> str:
    """An amount without an exponent and without zeros at its end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def dollars(cost: Decimal | None, *, local: bool = False) -> str:
    """A cost in human-readable form. An unknown cost is never shown as zero."""
    if cost is None:
        return "cost unknown"
    if cost == 0:
        return "free (local)" if local else "$0"
    return f"${cost:.6f}" if cost < Decimal("0.01") else f"${cost:.4f}"
