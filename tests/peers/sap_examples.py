"""Run SAP's own example notebooks and programs of the toolkit between the two loopback servers.

    python -m tests.peers.sap_examples [FOLDER]

FOLDER is a checkout of github.com/SAP/generative-ai-toolkit-for-sap-hana-cloud; without it, git fetches one. Only
the connection is changed: the notebooks read it from an ini file, which names the loopback HANA here, and their
kernels are started as `hana-ai-together run -- jupyter lab` starts them. hana-ml's data sets, which it fetches
from the network and lets PAL split, are tables that are there already. Every cell runs but for those of `NEEDS`,
and every notebook that keeps vectors has asked Together for embeddings. Then run the snippets of its documents and
its chat scripts (`sap_programs.py`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import LocalTogether, ScriptedEngine
from hana_ai.api.routing.startup_files import startup_environment
from tests.integration.routing.answers import agent_answers
from tests.peers import sap_programs

ADDRESS = "https://github.com/SAP/generative-ai-toolkit-for-sap-hana-cloud"
ROOT = Path("nutest", "testscripts")
VECTORS = re.compile(r"create_knowledge|upsert_knowledge|HanaDB\(|VectorStore|HANARagTool|CorrectiveRetriever")
NEEDS = {
    r"my_model|predict": "a model that PAL has trained",
    r"PALModelEmbeddings|PALEmbeddings": "PAL's embeddings",
    r"\.(ask|transform)\(.*verbose=|agent\.run\(|^new_df": "what the toolkit had in an earlier version",
    r"CorrectiveRetriever\(uvs\)": "a model, without which the toolkit's retriever can't be made",
    r"toolkit\.set_vectordb": "what the toolkit had in an earlier version",
    r"^print\(pe\.": "what its document does not show",
}
"""What a cell may fail for, by what its code names."""
HOUSING = "CRIM ZN INDUS CHAS NOX RM AGE DIS RAD TAX PTRATIO BLACK LSTAT MEDV"
DATA_SETS = {
    "SALES": ["ID", "AMOUNT"],
    "BOSTON_HOUSING_PRICES": [*HOUSING.split(), "ID"],
    "IRIS_DATA_FULL_TBL": ["ID", "SEPALLENGTHCM", "SEPALWIDTHCM", "PETALLENGTHCM", "PETALWIDTHCM", "SPECIES"],
    "SHAMPOO_SALES_DATA_TBL": ["ID", "SALES"],
}
"""The tables of hana-ml's data sets, and their columns."""
SPLIT = re.compile(r"^(\w+), _, _, _ = DataSets\.load_(boston|iris)\w+\((\w+)\)", re.MULTILINE)
"""How a notebook loads a data set that PAL splits into parts."""


@dataclass
class Outcome:
    """How the cells of a notebook went, and how many texts Together embedded for them."""

    ran: int = 0
    excused: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    embedded: int = 0


def write_connection(folder: Path, hana: LocalHana) -> None:
    """Write the ini file from which the notebooks read their connection."""
    variables = hana.environment()
    config = ConfigParser(interpolation=None)
    config["hana"] = {
        "url": variables["HANA_ADDRESS"],
        "port": variables["HANA_PORT"],
        "user": variables["HANA_USER"],
        "passwd": variables["HANA_PASSWORD"],
    }
    with (folder / "config" / "e2edata.ini").open("w", encoding="utf-8") as file:
        config.write(file)


def create_data_sets(hana: LocalHana) -> None:
    """Create what the notebooks would fetch: ten rows each."""
    connection = hana.connect()
    with connection.cursor() as cursor:
        for table, columns in DATA_SETS.items():
            types = {"ID": "INTEGER", "SPECIES": "NVARCHAR(20)"}
            described = ", ".join(f'"{column}" {types.get(column, "DOUBLE")}' for column in columns)
            cursor.execute(f'CREATE COLUMN TABLE "{table}" ({described})')
            rows = [
                tuple({"ID": row, "SPECIES": f"species {row % 3}"}.get(column, row / 7) for column in columns)
                for row in range(10)
            ]
            cursor.executemany(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(columns))})', rows)
    connection.close()


def environment(together: LocalTogether, home: Path) -> dict[str, str]:
    """The variables of a kernel under `hana-ai-together run`."""
    ours = ("TOGETHER_", "HANA_", "ENABLE_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    more = {"ENABLE_TOGETHER_AI": "true", "IPYTHONDIR": str(home)}
    return startup_environment({**clean, **together.environment(), **more})


def _whole(found: re.Match[str]) -> str:
    """A data set as the table that it is."""
    table = next(name for name in DATA_SETS if name.startswith(found[2].upper()))
    return f"{found[1]} = {found[3]}.table({table!r})"


def run(path: Path, variables: dict[str, str], engine: ScriptedEngine) -> Outcome:
    """Run a notebook from top to bottom."""
    notebook: Any = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = SPLIT.sub(_whole, cell.source)
    engine.requests.clear()
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute(env=variables)
    outcome = Outcome()
    for cell in notebook.cells:
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        error = next((output for output in cell.outputs if output.output_type == "error"), None)
        if error is None:
            outcome.ran += 1
            continue
        needed = next((reason for pattern, reason in NEEDS.items() if re.search(pattern, cell.source)), None)
        said = f"{cell.source.strip().splitlines()[-1][:70]}: {error.ename}: {error.evalue[:300]}"
        (outcome.failed if needed is None else outcome.excused).append(f"{said} ({needed})" if needed else said)
    outcome.embedded = embedded(engine)
    return outcome


def embedded(engine: ScriptedEngine) -> int:
    """How many texts the Together server was asked to embed."""
    inputs = [request.body["input"] for request in engine.requests if request.path.endswith("/embeddings")]
    return sum(1 if isinstance(texts, str) else len(texts) for texts in inputs)


def report(name: str, outcome: Outcome) -> bool:
    """Print how it went; returns whether it went well."""
    print(f"{name}: {outcome.ran} cells ran, {outcome.embedded} texts embedded")
    for said in outcome.excused:
        print(f"  needs what is not here: {said}")
    for said in outcome.failed:
        print(f"  failed: {said}")
    return not outcome.failed and outcome.embedded > 0


def talk(script: Path, home: Path, variables: dict[str, str], engine: ScriptedEngine) -> bool:
    """Talk with a chat script, and print how it went; returns whether it went well."""
    engine.requests.clear()
    printed, errors = sap_programs.talk(script, home, variables)
    answers = printed.count("Assistant: The database says")
    print(f"{script.name}: {answers} answers, {embedded(engine)} texts embedded")
    if answers != 2:
        print(f"  failed: {printed[-1000:]}{errors[-1000:]}")
    return answers == 2 and embedded(engine) > 0


def main(arguments: list[str]) -> int:
    """Run all notebooks and programs that keep vectors; returns the exit status."""
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        checkout = Path(arguments[0]) if arguments else home / "fetched"
        if not arguments:
            subprocess.run(["git", "clone", "--quiet", ADDRESS, str(checkout)], check=True)
        folder = home / "testscripts"
        shutil.copytree(checkout / ROOT, folder)
        engine = ScriptedEngine()
        engine.always(agent_answers)
        went: list[bool] = []
        with LocalTogether(engine) as together, LocalHana() as hana:
            write_connection(folder, hana)
            create_data_sets(hana)
            variables = environment(together, home)
            for path in sorted(folder.rglob("*.ipynb")):
                if VECTORS.search(path.read_text(encoding="utf-8")):
                    went.append(report(str(path.relative_to(folder)), run(path, variables, engine)))
            variables.update(hana.environment())
            document = folder / "documents.ipynb"
            if sap_programs.write_notebook(checkout, document):
                went.append(report("the documents' snippets", run(document, variables, engine)))
            went.extend(talk(script, folder, variables, engine) for script in sap_programs.chat_scripts(checkout))
    return 0 if went and all(went) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
