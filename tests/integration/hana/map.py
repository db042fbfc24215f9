"""Maps a table in a process of its own, which may be killed: python map.py MODE BATCH_SIZE"""

from __future__ import annotations

import sys

from hana_ai.api.hana import map_table
from hana_ai.api.hana.connections import connect

mode, batch_size = sys.argv[1:]
connection = connect()
print("ready", flush=True)
map_table("S", "R", connection=connection, prompt="Say {TEXT}", mode=mode, batch_size=int(batch_size))
