"""The notebooks under docs/notebooks run from top to bottom between the loopback servers."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from hana_ai.api.routing.startup_files import startup_environment
from tests.integration.routing.conftest import Stack

FOLDER = Path(__file__).parents[3] / "docs" / "notebooks"
UNCHANGED = "genai_hub_notebook_unchanged"
SAYS = {
    "getting_started": [r"The toolkit is routed to Together AI", "ChatTogetherAI"],
    "rag_over_a_hana_table": [r"REAL_VECTOR', 256, '\[embedding model: ", "every week"],
    "agent_with_hanaml_toolkit": [r"The database says: \|\s+ID \|\s+AMOUNT"],
    UNCHANGED: ["SAP HANA Cloud keeps vectors", "Summarize: ", "256"],
}


def code_of(notebook: Any) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def printed(notebook: Any) -> str:
    return "".join(
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.get("name") == "stdout"
    )


def test_every_notebook_is_tested_and_saved_without_output() -> None:
    found = {path.stem: nbformat.read(path, as_version=4) for path in FOLDER.glob("*.ipynb")}
    assert set(found) == set(SAYS)
    for notebook in found.values():
        assert not any(cell.get("outputs") for cell in notebook.cells)
    assert not re.search("together|hana_ai.api", code_of(found[UNCHANGED]), re.IGNORECASE)


# What these two do is tested by default elsewhere: by the scripts, and by the examples of the documents.
SLOW = ("agent_with_hanaml_toolkit", "rag_over_a_hana_table")
BOOKS = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in SAYS]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BOOKS)
def test_a_notebook_runs_from_top_to_bottom(name: str, stack: Stack, tmp_path: Path) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    environment = stack.environment(ENABLE_TOGETHER_AI="true", IPYTHONDIR=str(tmp_path))
    if name == UNCHANGED:
        # As under `hana-ai-together run -- jupyter lab`, whose kernels are its processes.
        environment = {**startup_environment(environment), "PATH": os.environ["PATH"]}
    stack.together.engine.requests.clear()
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=environment)
    for said in SAYS[name]:
        assert re.search(said, printed(notebook)), printed(notebook)
    assert stack.together.engine.requests
