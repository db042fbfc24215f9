"""A server imports what it needs to begin, and the rest when it is first used."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_HANA = """
from hana_ai.api.local.hana.__main__ import served
with served("127.0.0.1", 0, password="Secret123"):
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
_TOGETHER = """
from hana_ai.api.local.together.__main__ import make_server
options = {"gguf": None, "max_tokens": None, "latency": 0.0, "chunk_delay": 0.0, "dimensions": 256}
with make_server(host="127.0.0.1", port=0, engine="llama", **options):
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
    sys.stdout.flush()
"""
HEAVY = {
    "aiohttp", "hana_ml", "hdbcli", "jinja2", "langchain_core", "pandas", "polars", "pyarrow", "requests",
    "together", "tokenizers", "torch", "wordllama",
}  # fmt: skip


@pytest.mark.parametrize(
    ("program", "also"),
    [(_HANA, {"starlette", "uvicorn", "pydantic", "xllamacpp"}), (_TOGETHER, {"numpy", "duckdb", "sqlglot"})],
    ids=["hana", "together"],
)
def test_nothing_heavy_is_imported_before_it_is_used(program: str, also: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys" + program], stdout=subprocess.PIPE, text=True, check=True,
        env=os.environ | {"TOGETHER_LOCAL_API_KEY": "local"}, timeout=120,
    )  # fmt: skip
    assert set(done.stdout.split()) & (HEAVY | also) == set()
