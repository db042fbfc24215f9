"""A disk that fills up: ledger, cache, kept catalogue and the journal of an upload, on a real small file system.

Where the system lets no user mount one, the disk is full for a process alone, whose files may not grow.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hana_ai.api.local.together import LocalModel, ScriptedEngine
from tests.conftest import PRICED, ScriptedTogether, export
from tests.integration.connector.conftest import write_adapter

ROOT = Path(__file__).parents[2]
TIMEOUT = 15.0

WORK = """
import asyncio, hana_ai, json, os, resource, sys, time
hana_ai.__path__ = [sys.argv[1], *hana_ai.__path__]
from dataclasses import replace
from pathlib import Path
from hana_ai.api import ChatTogetherAI, TogetherAIClient, TogetherAIConnector, TogetherAIEmbeddings, get_ledger
from hana_ai.api.connector.account import Account
Account.limits = replace(Account.limits, part_bytes=1024)
disk, way = Path(sys.argv[2]), sys.argv[3]
filler = disk / "filler"

def fill():
    if way == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        return
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True: file.write(bytes(size))
            except OSError: pass

def free():
    if way == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        filler.unlink()

def refused():
    try:
        (disk / "probe").write_bytes(bytes(8192))
    except OSError:
        return True
    return False

async def upload():
    here = {"base_url": os.environ["TOGETHER_BASE_URL"], "api_key": os.environ["TOGETHER_API_KEY"]}
    async with TogetherAIConnector(here) as connector:
        return await connector.upload_artifact(disk / "adapter", {"name": "tuned", "base_model": "priced/chat"})

took, said = [], []
def timed(ask):
    started = time.monotonic()
    said.append(ask())
    took.append(time.monotonic() - started)

chat = ChatTogetherAI(model="priced/chat")
embeddings = TogetherAIEmbeddings(model="priced/embedding")
catalog = TogetherAIClient().catalog
timed(lambda: chat.invoke("before").content)
get_ledger().flush()
fill()
was_refused = refused()
timed(lambda: chat.invoke("one").content)
timed(lambda: asyncio.run(chat.ainvoke("two")).content)
timed(lambda: "".join(str(chunk.content) for chunk in chat.stream("three")))
timed(lambda: len(embeddings.embed_query("four")))
timed(lambda: len(catalog.models(refresh=True)))
timed(lambda: asyncio.run(upload()))
free()
get_ledger().flush()
timed(lambda: chat.invoke("after").content)
catalog.models(refresh=True)
get_ledger().flush()
totals = get_ledger().totals()
print(json.dumps({"took": took, "said": said, "refused": was_refused, "requests": totals["total_requests"]}))
"""
MOUNTED = """
mount -t tmpfs -o size=512k none "$1" && cp -r "$2" "$1" && disk="$1" && out="$3" && shift 3 && "$@" &&
cp -r "$disk"/. "$out"
"""
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]


def mounts() -> bool:
    """Whether a user may mount a file system of his own."""
    tried = [*UNSHARE, "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"]
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(tried, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("way", ["limit", "tmpfs"])
def test_on_a_full_disk_calls_go_on_and_nothing_is_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "tmpfs" and not mounts():
        pytest.skip("this system lets no user mount a tmpfs")
    models = [
        LocalModel(PRICED, "chat", 8192, price_input=100.0, price_output=1000.0),
        LocalModel("priced/embedding", "embedding", 8192, dimensions=8, price_input=20.0),
    ]
    disk, out, adapter = tmp_path / "disk", tmp_path / "out", tmp_path / "adapter"
    disk.mkdir()
    out.mkdir()
    write_adapter(adapter, base_model_name_or_path=PRICED)
    for name, value in {
        "TOGETHER_USAGE_DB": disk / "usage.db",
        "TOGETHER_CACHE": disk / "cache.db",
        "TOGETHER_CATALOG_DIR": disk / "catalogue",
        "TOGETHER_BUDGET_USD": "100",
        "TOGETHER_TIMEOUT": TIMEOUT,
    }.items():
        monkeypatch.setenv(name, str(value))
    work = [sys.executable, "-c", WORK, str(ROOT / "hana_ai"), str(disk), way]
    if way == "limit":
        shutil.copytree(adapter, disk / "adapter")
    else:
        work = [*UNSHARE, "sh", "-c", MOUNTED, "sh", *map(str, (disk, adapter, out)), *work]
    with ScriptedTogether(ScriptedEngine(models=models)) as server:
        export(monkeypatch, server.environment())
        done = subprocess.run(work, capture_output=True, text=True, timeout=120, check=False)
        posts = [one for one in server.engine.requests if one.path.startswith("/v1/") and one.method == "POST"]
        [uploaded] = server.management.models.values()
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["refused"]
    assert found["said"][:4] == ["before", "one", "two", "three"]
    assert max(found["took"]) < TIMEOUT
    # What was noted while there was no room is written afterwards.
    assert found["requests"] == len(posts)
    assert len(uploaded.revisions) == 1
    place = disk if way == "limit" else out
    for name in ("usage.db", "cache.db"):
        with closing(sqlite3.connect(place / name)) as kept:
            assert kept.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    files = list((place / "catalogue").iterdir())
    assert not [file for file in files if file.suffix == ".tmp"]
    [catalogue] = [file for file in files if file.suffix == ".json"]
    assert json.loads(catalogue.read_bytes())["models"]
    assert list((place / "adapter").glob(".together*")) == []
