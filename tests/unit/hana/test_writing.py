"""Which transactions of an ingest's writers may be under way at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError
from unittest.mock import MagicMock

import pytest

from hana_ai.api.hana.ingest.work import Batch, OpenDocument
from hana_ai.api.hana.ingest.writing import Writer

_LONG_ENOUGH = 10.0
_FOR_NOBODY = 0.3


def _batch(document: OpenDocument, position: int) -> Batch:
    return Batch([document], [f"{document.place}{position}"], ["text"], ["{}"], [b"vector"], width=1)


def _meet(batches: Sequence[Batch], seconds: float) -> bool:
    """Whether two threads, which write a batch each, have their transactions under way at once."""
    met = Barrier(2)

    def insert(*_: object, **__: object) -> None:
        with suppress(BrokenBarrierError):
            met.wait(seconds)

    target = MagicMock()
    target.insert.side_effect = insert
    writer = Writer(target, MagicMock())
    for batch in batches:
        for document in batch.documents:
            writer.begin(document)
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(writer.write, [batch], []) for batch in batches]:
            future.result()
    assert target.insert.call_count == 2
    return not met.broken


def test_transactions_of_one_document_come_one_after_the_other() -> None:
    document = OpenDocument("place", "source", "fingerprint", recorded=False)
    assert not _meet([_batch(document, 0), _batch(document, 1)], _FOR_NOBODY)
    assert document.recorded
    assert document.waiting == 1, "it is still read"


@pytest.mark.parametrize("recorded", [True, False])
def test_transactions_of_other_documents_go_side_by_side(recorded: bool) -> None:
    documents = [OpenDocument(place, "source", "fingerprint", recorded=recorded) for place in ("one", "other")]
    assert _meet([_batch(document, 0) for document in documents], _LONG_ENOUGH)
