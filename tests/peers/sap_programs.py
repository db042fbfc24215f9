"""The programs beside SAP's notebooks: the snippets of the toolkit's documents, and its chat scripts.

The snippets speak of a connection, a model and tables that the reader has: `READER` makes them. Snippets of
earlier editions count as well, since the retriever that corrects itself is shown with its model only there.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat

DOCUMENTS = ("README.md", "INTRODUCTION.md")
FORMER_NAME = "generative_ai_toolkit_for_sap_hana_cloud"
"""The package's name in editions that are older than the toolkit's."""
SHOWN = re.compile(r"create_knowledge|\.query\(|VectorStore|Embeddings\(|CorrectiveRetriever\(|HANAMLRAGAgent\(")
"""What a snippet does that this is about."""
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CONNECTION = re.compile(r"ConnectionContext\(userkey=[^)]*\)")
CONNECTED = 'ConnectionContext(os.environ["HANA_ADDRESS"], int(os.environ["HANA_PORT"]), \
os.environ["HANA_USER"], os.environ["HANA_PASSWORD"])'
READER = f"""
import os
from types import SimpleNamespace
from gen_ai_hub.proxy.langchain import init_llm
from hana_ai.tools.code_template_tools import GetCodeTemplateFromVectorDB
from hana_ai.vectorstore.hana_vector_engine import HANAMLinVectorEngine
from hana_ml.dataframe import ConnectionContext
cc = connection_context = {CONNECTED}
llm = init_llm("gpt-4.1")
hana_vec = hana_vec1 = HANAMLinVectorEngine(cc, "hana_vec_hana_ml_knowledge")
hana_kg = hana_vec2 = HANAMLinVectorEngine(cc, "MORE_KNOWLEDGE")
hana_kg.create_knowledge()
self = SimpleNamespace(vectordb=hana_vec)
"""
"""What the documents take for granted."""
TURNS = "Show the first rows of SALES.\nAnd again?\nexit\n"


def snippets(checkout: Path) -> dict[str, str]:
    """Every snippet of a checkout's documents that is about vectors, and the edition that has it, oldest first.

    Where the checkout has no history, the documents as they are.
    """
    found: dict[str, str] = {}
    for name in DOCUMENTS:
        for edition, text in _editions(checkout, name):
            if FORMER_NAME in text:
                continue
            for snippet in SNIPPET.findall(text):
                if SHOWN.search(snippet):
                    found.setdefault(snippet, f"{name} {edition}".strip())
    return found


def _editions(checkout: Path, name: str) -> list[tuple[str, str]]:
    if (checkout / ".git").exists():
        commits = _git(checkout, "log", "--reverse", "--format=%h", "--", name).split()
        return [(commit, _git(checkout, "show", f"{commit}:{name}", strict=False)) for commit in commits]
    return [("", (checkout / name).read_text(encoding="utf-8"))] if (checkout / name).exists() else []


def _git(checkout: Path, *arguments: str, strict: bool = True) -> str:
    done = subprocess.run(["git", "-C", str(checkout), *arguments], check=strict, capture_output=True, text=True)
    return done.stdout


def write_notebook(checkout: Path, path: Path) -> bool:
    """Write all snippets as the cells of one notebook; returns whether there are any."""
    found = snippets(checkout)
    cells = [nbformat.v4.new_code_cell(cell) for cell in (READER, *found)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return bool(found)


def chat_scripts(checkout: Path) -> list[Path]:
    """The scripts that talk with the toolkit's agent with a memory, at the terminal."""
    return [
        path
        for path in sorted(checkout.rglob("*.py"))
        if path.relative_to(checkout).parts[0] != "src"
        and all(word in path.read_text(encoding="utf-8") for word in ("HANAMLRAGAgent(", "input("))
    ]


def talk(script: Path, folder: Path, variables: dict[str, str]) -> tuple[str, str]:
    """Hold two turns with a script; returns what it printed, and what it wrote to standard error."""
    program = folder / script.name
    program.write_text(
        f"import os\n{CONNECTION.sub(CONNECTED, script.read_text(encoding='utf-8'))}", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        check=False,
        capture_output=True,
        text=True,
        input=TURNS,
        timeout=300,
        cwd=folder,
        env=variables,
    )
    return done.stdout, done.stderr
