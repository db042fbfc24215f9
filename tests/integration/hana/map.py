"""Maps a table in a process of its own, which may be killed: python map.py MODE BATCH_SIZE"""

from __future__ import annotations

import sys
from typing import Any

from hana_ai.api.batches import Batches
from hana_ai.api.batches.lines import BatchLimits
from hana_ai.api.hana import map_table
from hana_ai.api.hana.connections import connect

made = Batches.__init__


def with_small_files(self: Batches, *arguments: Any) -> None:
    made(self, *arguments)
    self.limits = BatchLimits(lines=100, longest_poll=0.5)


Batches.__init__ = with_small_files  # type: ignore[method-assign]
connection = connect()
print("ready", flush=True)
done = map_table(
    "S", "R", connection=connection, prompt="Say {TEXT}", mode=sys.argv[1], batch_size=int(sys.argv[2])
)
print(done.asked)
