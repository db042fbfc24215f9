"""Loads rows into a table, the way a program does that may be killed and run again: with ids of its own."""

import os
import sys

from hdbcli import dbapi
from langchain_core.embeddings import DeterministicFakeEmbedding

from hana_ai.api.hana.vector_store import TogetherHanaDB

count = int(sys.argv[1])
connection = dbapi.connect(
    address=os.environ["HANA_ADDRESS"],
    port=int(os.environ["HANA_PORT"]),
    user=os.environ["HANA_USER"],
    password=os.environ["HANA_PASSWORD"],
)
store = TogetherHanaDB(connection, DeterministicFakeEmbedding(size=16), table_name="LOADED", batch_size=500)
print("ready", flush=True)
store.add_texts(
    (f"text {number}" for number in range(count)),
    ({"number": number} for number in range(count)),
    ids=(str(number) for number in range(count)),
)
print("done", flush=True)
