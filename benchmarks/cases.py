"""All cases, by name, in the order in which they are run."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import chat, embeddings, hana, imports, ingest, memory, streams
from benchmarks.case import Case

CASES: Mapping[str, Case] = {
    case.name: case
    for module in (chat, streams, embeddings, imports, memory, hana, ingest)
    for case in module.CASES
}
