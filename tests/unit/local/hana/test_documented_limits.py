"""The page on the loopback HANA lists what the code refuses, and the limits it has."""

from __future__ import annotations

from pathlib import Path

from hana_ai.api.local.hana.language import unsupported

_PAGE = " ".join((Path(__file__).parents[4] / "docs" / "loopback-hana.md").read_text(encoding="utf-8").split())


def test_every_refusal_and_every_limit_is_on_the_page() -> None:
    refused = {
        *unsupported.REFUSED_STATEMENTS.values(),
        *unsupported.REFUSED_OBJECTS.values(),
        *unsupported.REFUSED_FUNCTIONS.values(),
    }
    assert [text for text in sorted(refused | {*unsupported.OTHER_LIMITS}) if text not in _PAGE] == []
