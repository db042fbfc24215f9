"""The seams of this process and what `status()` says of them; imported when there is something to route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hana_ai.api.routing.hooks import ModuleMaker, Routing, Seam, SeamStatus


def _seams() -> Sequence[Seam]:
    from hana_ai.api.routing import cures, gen_ai_hub, toolkit

    return (*toolkit.SEAMS, *gen_ai_hub.SEAMS, *cures.SEAMS)


def _makers() -> Sequence[ModuleMaker]:
    from hana_ai.api.routing import cures

    return cures.makers()


ROUTING = Routing(_seams, _makers)
"""The routing of this process."""


@dataclass(frozen=True)
class RoutingStatus:
    """What `status()` returns; printed, it is a table."""

    active: bool
    """Whether the toolkit is routed in this process."""
    enabled: bool
    """Whether the settings want it."""
    seams: tuple[SeamStatus, ...]
    """Every place, cures included."""

    def __getitem__(self, name: str) -> SeamStatus:
        """Return the seam of a name."""
        for seam in self.seams:
            if seam.name == name:
                return seam
        raise KeyError(name)

    def __str__(self) -> str:
        head = (
            "The toolkit is routed to Together AI." if self.active else "The toolkit is not routed to Together AI"
        )
        if not self.active:
            head += "; call activate()." if self.enabled else ": ENABLE_TOGETHER_AI is not true."
        rows = [
            (seam.state, seam.name, f"{seam.distribution} {seam.version or '-'}", seam.detail)
            for seam in self.seams
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
            for row in rows
        ]
        return "\n".join([head, *lines])
