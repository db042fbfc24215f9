"""Unmodified hana_ai and unmodified programs use Together's models, by each of the four activations.

No script contains a word of Together. The loopback server's log says where each request went, and the tools'
results come from the loopback HANA.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.integration.routing.conftest import ACTIVATIONS, SCRIPTS, Ran, Stack, directly

CHAT, EMBED, RERANK = "/v1/chat/completions", "/v1/embeddings", "/v1/rerank"
MODELS = {"local/scripted-chat", "local/scripted-embedding", "local/scripted-rerank"}
ROWS = r"The database says: \|\s+ID \|\s+AMOUNT \|"
COUNT = r"The database says: \[\(3,\)\]"
EXPECTED = {
    "agent_as_a_tool": (COUNT[:-4], {CHAT}),
    "agent_with_memory": (ROWS, {CHAT}),
    "context_agent": (ROWS, {CHAT}),
    "corrective_retriever": (r"(cc.table\('SALES'\).count\(\)\n){3}", {CHAT, EMBED}),
    "dataframe_agent": ("The database says: 3", {CHAT}),
    "mem0_agent": (ROWS, {CHAT, EMBED}),
    "models": (r"An echo\.\n(256 \[256, 256\]\n){4}", {CHAT, EMBED}),
    "rag_agent": (ROWS, {CHAT, EMBED}),
    "reranker": ("2 True", {RERANK}),
    "smart_dataframe": (ROWS + r"[\s\S]*LARGEST\n0 +42.5", {CHAT}),
    "sql_agent": (COUNT, {CHAT}),
    "sql_agent_react": (COUNT, {CHAT}),
    "vector_stores": ("(SALES has three rows.\n){2}", {EMBED}),
}
# Each activation takes half a minute with all scripts; by default one has them all.
EVERY_ACTIVATION = [name if name == "run" else pytest.param(name, marks=pytest.mark.slow) for name in ACTIVATIONS]


def test_no_script_knows_of_together() -> None:
    assert set(SCRIPTS) == set(EXPECTED)
    for path in SCRIPTS.values():
        assert not re.search("together|hana_ai.api", path.read_text(), re.IGNORECASE), path.name


def check(name: str, ran: Ran) -> None:
    if name == "agent_as_a_tool" and sys.version_info >= (3, 14):
        # The annotations of langchain-classic's Chain, which its method `dict` hides there.
        assert "is not subscriptable" in ran.error
        return
    printed, paths = EXPECTED[name]
    assert not ran.error, f"{name}: {ran.error}"
    assert re.search(printed, ran.printed), ran.printed
    assert paths <= set(ran.paths)
    assert ran.models <= MODELS


@pytest.mark.parametrize("activation", EVERY_ACTIVATION)
def test_every_agent_and_store_uses_together(stack: Stack, activation: str, tmp_path: Path) -> None:
    drop_memories(stack)
    found = stack.run(list(SCRIPTS), tmp_path, lambda arguments: ACTIVATIONS[activation](arguments, tmp_path))
    assert set(found) == set(SCRIPTS)
    for name, ran in found.items():
        check(name, ran)


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "run"])
def test_a_model_is_routed_by_each_activation(stack: Stack, activation: str, tmp_path: Path) -> None:
    found = stack.run(["reranker"], tmp_path, lambda arguments: ACTIVATIONS[activation](arguments, tmp_path))
    check("reranker", found["reranker"])


@pytest.mark.parametrize(
    ("activation", "scripts"),
    [
        ("run", ["reranker"]),
        *(pytest.param(activation, list(SCRIPTS), marks=pytest.mark.slow) for activation in ACTIVATIONS),
    ],
)
def test_without_the_switch_everything_is_as_it_would_be_without_us(
    stack: Stack, activation: str, scripts: list[str], tmp_path: Path
) -> None:
    plain = stack.run(scripts, tmp_path, lambda arguments: directly(arguments, tmp_path), enabled="false")
    ours = stack.run(
        scripts, tmp_path, lambda arguments: ACTIVATIONS[activation](arguments, tmp_path), enabled="false"
    )
    for name in scripts:
        # SAP's SDK asks for credentials, an agent cannot even be imported, and the reranker has no database.
        assert plain[name].error != ""
        assert last_line(ours[name].error) == last_line(plain[name].error)
        assert ours[name].printed == plain[name].printed
        assert ours[name].paths == []


def last_line(error: str) -> str:
    return error.strip().splitlines()[-1]


def drop_memories(stack: Stack) -> None:
    connection = stack.hana.connect()
    with connection.cursor() as cursor:
        for table in ("RAG_MEMORY", "MEM0_MEMORY", "STORE_0", "STORE_1", "MEM0_ADAPTER", "KNOWLEDGE"):
            cursor.execute(f'DROP TABLE IF EXISTS "{table}"')
    connection.close()
