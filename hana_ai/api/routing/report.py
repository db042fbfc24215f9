"""What `status()` returns, which is a table when printed."""

from __future__ import annotations

from dataclasses import dataclass

from hana_ai.api.routing.seams import SeamStatus
from hana_ai.api.wire.html import escaped, table


def missing_key() -> str | None:
    """What is wrong with the key, or with another setting; None if nothing is."""
    from hana_ai.api.errors import TogetherAISettingsError
    from hana_ai.api.settings import TogetherAISettings

    try:
        TogetherAISettings().require_api_key()
    except TogetherAISettingsError as exc:
        return str(exc)
    return None


def what_happened(active: bool) -> str:
    """What an activation did, or why it did nothing, in a sentence or two."""
    if not active:
        return (
            "The toolkit is not routed to Together AI: ENABLE_TOGETHER_AI is not true, or ENABLE_GPU_ACCELERATION "
            f"is false, in the environment or in {_dot_env()}."
        )
    said = "The toolkit is routed to Together AI; print(hana_ai.api.routing.status()) lists the places."
    wrong = missing_key()
    return said if wrong is None else f"{said} {wrong}"


def _dot_env() -> str:
    from pathlib import Path

    file = Path(".env").absolute()
    return str(file) if file.is_file() else f"{file}, which does not exist"


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

    def _head(self) -> str:
        if self.active:
            return "The toolkit is routed to Together AI."
        why = "; call activate()." if self.enabled else ": ENABLE_TOGETHER_AI is not true."
        return f"The toolkit is not routed to Together AI{why}"

    def _repr_html_(self) -> str:
        rows = [
            (seam.state, seam.name, f"{seam.distribution} {seam.version or '-'}", seam.detail)
            for seam in self.seams
        ]
        seams = table(("state", "place", "package", "what"), rows)
        owned = table(("vector table", "belongs to"), self.tables) if self.tables else ""
        return f"<div>{escaped(self._head())}</div>{seams}{owned}"

    def __str__(self) -> str:
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
        return "\n".join([self._head(), *lines, *owned])
