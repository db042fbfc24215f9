"""What `status()` returns, which is a table when printed."""

from __future__ import annotations

from dataclasses import dataclass

from hana_ai.api.routing.seams import SeamStatus


@dataclass(frozen=True)
class RoutingStatus:
    """Whether the toolkit is routed, and how each seam is doing; printed, it is a table."""

    active: bool
    """Whether the toolkit is routed in this process."""
    enabled: bool
    """Whether the settings ask for it."""
    seams: tuple[SeamStatus, ...]
    """Every place, fixes included."""
    tables: tuple[tuple[str, str], ...] = ()
    """The vector tables that were opened in this process, and the models that they belong to."""

    def __getitem__(self, name: str) -> SeamStatus:
        """Return a seam by its name."""
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
        owned = [f"{table} belongs to {model}" for table, model in self.tables]
        return "\n".join([head, *lines, *owned])
