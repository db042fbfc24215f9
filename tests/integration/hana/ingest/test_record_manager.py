"""HanaRecordManager keeps the contract of LangChain's record managers, and `index()` can use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hdbcli import dbapi
from langchain_core.documents import Document
from langchain_core.indexing import aindex, index

from hana_ai.api.hana import HanaRecordManager
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.local.together import ScriptedEngine
from tests.integration.hana.ingest.corpus import embedded


@pytest.fixture
def records(connection: dbapi.Connection) -> HanaRecordManager:
    made = HanaRecordManager("tests", connection)
    made.create_schema()
    return made


def test_the_schema_is_made_once(records: HanaRecordManager) -> None:
    records.update(["a"])
    records.create_schema()
    assert records.list_keys() == ["a"]


def test_keys_are_found_by_time_group_and_number(records: HanaRecordManager) -> None:
    records.update(["a", "b"], group_ids=["one", "two"])
    between = records.get_time()
    records.update(["c", "d"], group_ids=["one", None])
    assert records.exists(["a", "x", "d"]) == [True, False, True]
    assert records.list_keys() == ["a", "b", "c", "d"]
    assert records.list_keys(before=between) == ["a", "b"]
    assert records.list_keys(after=between) == ["c", "d"]
    assert records.list_keys(group_ids=["one"]) == ["a", "c"]
    assert records.list_keys(group_ids=["one"], before=between) == ["a"]
    assert records.list_keys(group_ids=[]) == []
    assert len(records.list_keys(limit=3)) == 3


def test_a_second_update_moves_a_key_in_time_and_group(records: HanaRecordManager) -> None:
    records.update(["a"], group_ids=["one"])
    between = records.get_time()
    records.update(["a", "a"], group_ids=["one", "two"])
    assert records.list_keys(before=between) == []
    assert records.list_keys(group_ids=["two"]) == ["a"]


def test_deleted_keys_are_gone(records: HanaRecordManager) -> None:
    records.update([f"key-{number:04}" for number in range(1_200)])
    records.delete_keys([f"key-{number:04}" for number in range(1, 1_200)])
    assert records.list_keys() == ["key-0000"]


def test_namespaces_know_nothing_of_each_other(records: HanaRecordManager, connection: dbapi.Connection) -> None:
    other = HanaRecordManager("others", connection)
    records.update(["a"])
    assert other.exists(["a"]) == [False]
    other.update(["a"])
    other.delete_keys(["a"])
    assert records.exists(["a"]) == [True]


def test_time_is_the_databases_and_goes_forward(records: HanaRecordManager) -> None:
    times = [records.get_time() for _ in range(5)]
    assert times == sorted(times)
    with pytest.raises(ValueError, match="time_at_least"):
        records.update(["a"], time_at_least=records.get_time() + 100)
    assert records.exists(["a"]) == [False]


def test_lists_of_two_lengths_are_refused(records: HanaRecordManager) -> None:
    with pytest.raises(ValueError, match="2 keys, but 1 group_ids"):
        records.update(["a", "b"], group_ids=["one"])


async def test_coroutines_see_the_same(records: HanaRecordManager) -> None:
    await records.acreate_schema()
    start = await records.aget_time()
    await asyncio.gather(*(records.aupdate([f"{n}"], group_ids=["g"], time_at_least=start) for n in range(5)))
    assert await records.aexists(["0", "9"]) == [True, False]
    await records.adelete_keys(["0"])
    assert await records.alist_keys(group_ids=["g"], after=start - 1, before=start + 100, limit=9) == list("1234")


def documents(*texts: str, source: str = "s") -> list[Document]:
    return [Document(text, metadata={"source": source}) for text in texts]


def test_langchains_index_adds_changes_and_removes(
    records: HanaRecordManager, make: Callable[..., TogetherHanaDB], engine: ScriptedEngine
) -> None:
    store = make()

    def run(given: list[Document], cleanup: Any) -> dict[str, int]:
        return dict(
            index(
                given, records, store, cleanup=cleanup, source_id_key="source", key_encoder="sha256", batch_size=2
            )
        )

    assert run(documents("one", "two", "three"), "scoped_full")["num_added"] == 3
    assert run(documents("one", "two", "three"), "scoped_full")["num_skipped"] == 3
    assert sum(embedded(engine).values()) == 3
    changed = run(documents("one", "two", "four"), "scoped_full")
    assert (changed["num_added"], changed["num_deleted"], changed["num_skipped"]) == (1, 1, 2)
    assert run(documents("one"), "full")["num_deleted"] == 2
    assert len(records.list_keys()) == 1


async def test_langchains_aindex_does_the_same(
    records: HanaRecordManager, make: Callable[..., TogetherHanaDB]
) -> None:
    store = make()
    given = documents("one", "two")
    for added in (2, 0):
        done = await aindex(given, records, store, cleanup="full", source_id_key="source", key_encoder="sha256")
        assert done["num_added"] == added
