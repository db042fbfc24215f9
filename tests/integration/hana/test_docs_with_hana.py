"""The examples of the pages that need a database."""

from __future__ import annotations

from pathlib import Path

import pytest
from hdbcli import dbapi

from hana_ai.api import routing
from hana_ai.api.local.hana import LocalHana
from tests.conftest import ScriptedTogether
from tests.integration.test_docs import ROOT, WITH_A_DATABASE, blocks


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WITH_A_DATABASE)
def test_the_examples_run_from_top_to_bottom(
    name: str,
    local_hana: LocalHana,
    connection: dbapi.Connection,
    together_environment: ScriptedTogether,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, value in {**local_hana.environment(), "ENABLE_TOGETHER_AI": "true"}.items():
        monkeypatch.setenv(variable, value)
    namespace: dict[str, object] = {"__name__": "example"}
    try:
        for number, block in enumerate(blocks(Path(ROOT / "docs" / name), "python"), 1):
            exec(compile(block, f"{name}, example {number}", "exec"), namespace)
    finally:
        routing.deactivate()
    assert together_environment.engine.requests
