"""Moves the table named by the first argument to the model of the environment, and swaps; says when it begins."""

from __future__ import annotations

import sys

from hana_ai.api.hana import migrate_table
from hana_ai.api.hana.connections import connect

connection = connect()
print("ready", flush=True)
done = migrate_table(connection, sys.argv[1], batch_size=int(sys.argv[2]), swap=True)
print(done.embedded, flush=True)
connection.close()
