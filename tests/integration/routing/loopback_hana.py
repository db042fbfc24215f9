"""How the scripts connect to the database that the environment names."""

from __future__ import annotations

import os

from hana_ml.dataframe import ConnectionContext


def connect() -> ConnectionContext:
    return ConnectionContext(
        address=os.environ["HANA_ADDRESS"],
        port=int(os.environ["HANA_PORT"]),
        user=os.environ["HANA_USER"],
        password=os.environ["HANA_PASSWORD"],
    )
