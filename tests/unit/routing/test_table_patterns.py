"""Which tables TOGETHER_ROUTE_TABLES lets go."""

from __future__ import annotations

import pytest

from hana_ai.api import routing
from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.routing import models


@pytest.mark.parametrize(
    ("patterns", "going", "staying"),
    [
        ("", ["A.T", "T"], []),
        ("*", ["A.T", "T"], []),
        ("!*", [], ["A.T", "T"]),
        ("*, !SAP_*, !LEGACY.*", ["A.MANUALS", "A.LEGACY"], ["A.SAP_NOTES", "LEGACY.MANUALS"]),
        ("!SAP_*", ["A.MANUALS", "SAP_A.MANUALS"], ["A.SAP_NOTES", "SAP_NOTES"]),
        ("-SAP_*", ["A.MANUALS"], ["A.SAP_NOTES"]),
        ("MANUALS*", ["A.MANUALS_2", "MANUALS"], ["A.T", "T"]),
        ("NEW.*", ["NEW.T"], ["A.T", "T"]),
        ("!*, SALES.NOTES_?", ["SALES.NOTES_1"], ["SALES.NOTES_10", "A.NOTES_1", "NOTES_1"]),
        ("NOTES, !NOTES", [], ["A.NOTES"]),
        ("!NOTES, NOTES", ["A.NOTES"], ["A.T"]),
        ("! Notes ,", ["A.T"], ["A.notes", "A.NOTES"]),
        # In doubt a table stays: its schema may be the one.
        ("!LEGACY.NOTES*", ["A.NOTES", "T"], ["NOTES_1", "LEGACY.NOTES"]),
        ("!A.B", ["A.T"], ["A.A.B", "A.B"]),
    ],
)
def test_the_last_pattern_that_matches_decides(
    patterns: str, going: list[str], staying: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_ROUTE_TABLES", patterns)
    for name in (*going, *staying):
        schema, _, table = name.partition(".") if "." in name else (None, "", name)
        assert models.routes_table(table, schema) is (name in going), name


def test_no_table_goes_in_a_block_that_stays_or_where_no_embeddings_go(monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.routes_table("T", None)
    with routing.stay():
        assert not models.routes_table("T", None)
    monkeypatch.setenv("TOGETHER_ROUTE_EMBEDDINGS", "off")
    assert not models.routes_table("T", None)


@pytest.mark.parametrize("wrong", ["!", "*, -", "A, ! ,B"])
def test_a_mark_without_a_pattern_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_ROUTE_TABLES", wrong)
    with pytest.raises(TogetherAISettingsError, match=r"TOGETHER_ROUTE_TABLES has the entry '[!-]'"):
        models.routes_table("T", None)
