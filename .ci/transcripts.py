"""Make the transcripts of docs/command-line.md by running their commands.

python .ci/transcripts.py [--check]

Each block that begins with a prompt is run beside the two loopback servers: the scripted models of Together, and a
HANA with the vector table FACTS. What the page has after the prompts is replaced by what the commands print;
--check only compares.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
PAGE = ROOT / "docs" / "command-line.md"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_RANDOM = (
    (re.compile(r"\b(ep|dep|ml|cf)_[a-z0-9]{10,}\b"), r"\1_1a2b3c"),
    (re.compile(r"(127\.0\.0\.1|localhost):[0-9]+"), r"\1:8000"),
    (re.compile(r"[0-9]+ ms\b"), "3 ms"),
    (re.compile(r"\b20[0-9][0-9]-[0-9][0-9]-[0-9][0-9]\b"), "2026-11-29"),
)
"""What differs from run to run, and what stands for it."""
WIDTH = 64
FACTS = {
    "A column store keeps each column together.": "hana.md",
    "The coffee machine is on floor 3.": "office.md",
    "Invoices are due after 30 days.": "sales.md",
}


def answered(request: object) -> object:
    """What the scripted chat model says."""
    from hana_ai.api.local.together import Reply, Usage

    asked = str(getattr(request, "body", {}))
    if "coffee" in asked:
        return Reply(text="It is on floor 3 [1].", usage=Usage(64, 8))
    return Reply(text="A column store keeps the values of a column together.", usage=Usage(21, 11))


def written(text: str) -> str:
    """The page with each transcript as the commands make it now."""
    import numpy as np

    from hana_ai.api.local.hana import LocalHana
    from hana_ai.api.local.together import LocalModel, LocalTogether, ScriptedEngine
    from hana_ai.api.local.together.engine import Embedded

    models = [
        LocalModel(
            "example/chat", "chat", 131072, price_input=0.15, price_output=0.6, features=("FEATURE_TOOL_CALLING",)
        ),
        LocalModel("example/embedding", "embedding", 8192, price_input=0.02),
        LocalModel("example/rerank", "rerank", 8192, price_input=0.1),
    ]

    class Words(ScriptedEngine):
        """Embeds by the words that a text has, so that what is alike is near."""

        async def embed(self, model: str, texts: Sequence[str]) -> Embedded:
            vectors = np.zeros((len(texts), WIDTH), "float32")
            for row, one in enumerate(texts):
                for word in re.findall(r"\w{4,}", one.lower()):
                    vectors[row, zlib.crc32(word.encode()) % WIDTH] = 1
                vectors[row, 0] += 0.1
                vectors[row] /= np.linalg.norm(vectors[row])
            return Embedded(vectors, sum(text.count(" ") + 1 for text in texts))

    engine = Words(models=models)
    engine.on("/v1/chat/completions", answered)
    before = dict(os.environ), Path.cwd()
    with LocalTogether(engine) as together, LocalHana() as hana, tempfile.TemporaryDirectory() as folder:
        for name in os.environ:
            if name.startswith(("TOGETHER_", "HANA_", "ENABLE_")):
                del os.environ[name]
        kept = {"TOGETHER_USAGE_DB": "usage.db", "TOGETHER_CATALOG_DIR": folder, "COLUMNS": "90", "NO_COLOR": "1"}
        os.environ |= {**together.environment(), **hana.environment(), "ENABLE_TOGETHER_AI": "true", **kept}
        os.chdir(folder)
        try:
            fill()
            return _BLOCK.sub(lambda found: _transcript(found[1]), text)
        finally:
            os.chdir(before[1])
            os.environ.clear()
            os.environ |= before[0]


def fill() -> None:
    """Create the vector table."""
    from hana_ai.api import TogetherHanaDB
    from hana_ai.api.embeddings import TogetherAIEmbeddings

    texts, sources = list(FACTS), [{"source": source} for source in FACTS.values()]
    embedding = TogetherAIEmbeddings(model="example/embedding")
    TogetherHanaDB(table_name="FACTS", embedding=embedding).add_texts(texts, sources, ids=["1", "2", "3"])


def _transcript(block: str) -> str:
    from hana_ai.api.cli.app import run
    from hana_ai.api.usage.ledger import close_all

    lines = []
    for line in block.splitlines():
        if not line.startswith("$ "):
            continue
        words = shlex.split(line[2:])
        assert words[0] == "hana-ai-together", line
        said = io.StringIO()
        stdin, sys.stdin = sys.stdin, io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                run(words[1:])
        finally:
            sys.stdin = stdin
            # As at the end of a process: what was asked is in the ledger.
            close_all()
        text = said.getvalue()
        for pattern, shown in _RANDOM:
            text = pattern.sub(shown, text)
        lines += [line, *(one.rstrip() for one in text.rstrip("\n").splitlines())]
    return "\n".join(["```console", *lines, "```"])


def main() -> int:
    """Write the page, or compare it; returns the exit status."""
    before = PAGE.read_text("utf-8")
    after = written(before)
    if "--check" in sys.argv:
        if before != after:
            print("docs/command-line.md is not what the commands print now: python .ci/transcripts.py")
        return int(before != after)
    PAGE.write_text(after, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
