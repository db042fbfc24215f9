"""How long the ledger waits, and how much it keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How long calls wait in memory until they are written, and how many are kept there."""

    flush_rows: int = 256
    """Calls after which the buffer is written."""
    flush_seconds: float = 1.0
    """Seconds after which the buffer is written, however few calls are in it."""
    most_pending: int = 1024
    """Calls in the buffer at which a caller writes it itself, since the thread can't keep up."""
    most_kept: int = 100_000
    """Calls in the buffer while the database is away; of more, the oldest are lost."""
    away_seconds: float = 10.0
    """How long calls do without a database that failed, or are refused for it."""
    exchange_seconds: float = 5.0
    """How long a database that is locked is waited for before a call, by a thread that calls may leave earlier."""
    most_waited_in_a_call: float = 0.5
    """Seconds that a call waits after its end, where it has to write the buffer."""
    write_seconds: float = 10.0
    """How long a database that is locked is waited for by the thread that writes, and by questions."""
    most_unpriced: int = 100_000
    """Calls that wait for a price."""
    retry_prices_seconds: float = 600.0
    """Until a catalogue that couldn't be read is asked for again."""
    close_seconds: float = 10.0
    """How long a ledger that is closed waits for the prices of calls that have none."""
    newest_in_memory: int = 1_000
    """Calls that a ledger in memory keeps one by one."""
    batch_in_memory: int = 256
    """Calls that a ledger in memory collects before it looks at them."""


LIMITS = Limits()
