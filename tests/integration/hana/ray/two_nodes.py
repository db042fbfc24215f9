"""Two Ray nodes in network namespaces of their own: the same table, with both of them and when one is lost.

    python -m tests.integration.hana.ray.two_nodes

It needs Linux, root, `ip` and the extra `ray`. The nodes see each other over a veth pair, and nothing else; the
loopback servers are on the first node, and the second one reaches them through sockets in a folder. All that it
starts is in the namespaces, and ends with them.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NODES = {"hat-first": "10.231.47.1", "hat-second": "10.231.47.2"}
FIRST, SECOND = NODES
_PORT = 6399
_FILES = 160


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def inside(node: str, *command: str) -> list[str]:
    return ["ip", "netns", "exec", node, *command]


def processes_of(node: str) -> list[int]:
    return [int(pid) for pid in ip("netns", "pids", node).split()]


def lose(node: str) -> None:
    """Kill all that runs in a namespace of ours."""
    for pid in processes_of(node):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def namespaces() -> Iterator[None]:
    """Two namespaces, joined by a pair of devices."""
    made: list[str] = []
    try:
        for node in NODES:
            ip("netns", "add", node)
            made.append(node)
        ip("link", "add", "hat-a", "netns", FIRST, "type", "veth", "peer", "name", "hat-b", "netns", SECOND)
        for node, device in zip(NODES, ("hat-a", "hat-b"), strict=True):
            ip("-n", node, "addr", "add", f"{NODES[node]}/24", "dev", device)
            ip("-n", node, "link", "set", device, "up")
            ip("-n", node, "link", "set", "lo", "up")
        yield
    finally:
        for node in made:
            lose(node)
            ip("netns", "del", node)


# --- sockets in a folder ---


def carry(listener: socket.socket, connect: object) -> None:
    """Carry what comes at a socket to another one, and back."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    while True:
        came, _ = listener.accept()
        went = connect()  # type: ignore[operator]
        for pair in ((came, went), (went, came)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


def lead_out(path: Path, port: int) -> None:
    """On the first node: from a socket in the folder to a server."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    connect = lambda: socket.create_connection(("127.0.0.1", port))  # noqa: E731
    threading.Thread(target=carry, args=(listener, connect), daemon=True).start()


def lead_in(path: Path, port: int) -> None:
    """On the second node: from the server's port to the socket in the folder; does not end."""

    def connect() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(str(path))
        return made

    listener = socket.create_server(("127.0.0.1", port))
    carry(listener, connect)


# --- the run ---


def drive(folder: Path) -> None:
    """On the first node, which has the servers: ingest on both nodes, then lose the second one."""
    import ray

    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.hana import IngestProgress, ingest_documents
    from hana_ai.api.hana.cluster.ray_engine import RayEngine
    from hana_ai.api.local.hana import LocalHana
    from tests.conftest import ScriptedTogether
    from tests.integration.hana.ingest.corpus import content, write_files

    with LocalHana() as hana, ScriptedTogether() as server:
        settings = {**hana.environment(), **server.environment()}
        os.environ.update(settings)
        ports = {"hana": hana.port, "together": int(server.base_url.rpartition(":")[2].partition("/")[0])}
        for name, port in ports.items():
            lead_out(folder / name, port)
            (folder / f"{name}.port").write_text(str(port))
        files = write_files(folder / "files", _FILES)
        embedding = TogetherAIEmbeddings(model=server.model("embedding"))
        connection = hana.connect()
        ray.init(address=f"{NODES[FIRST]}:{_PORT}", log_to_driver=False, runtime_env={"env_vars": settings})
        assert len([node for node in ray.nodes() if node["Alive"]]) == len(NODES), "both nodes are there"
        ingest_documents(files, "ALONE", connection, embedding=embedding, connect=hana.connect)
        alone = content(connection, "ALONE")
        engine = RayEngine(2, lost_after=8.0)
        ingest_documents(files, "BOTH", connection, embedding=embedding, engine=engine, part_size=8)
        assert content(connection, "BOTH") == alone, "two nodes give the table of one process"
        print(f"two nodes: the same {len(alone)} rows", flush=True)

        server.engine.latency = 0.3

        def tell(now: IngestProgress) -> None:
            if now.rows > 0 and not (folder / "lose").exists():
                (folder / "lose").touch()

        began = time.monotonic()
        done = ingest_documents(
            files, "LOST", connection, embedding=embedding, engine=engine, part_size=8, on_progress=tell
        )
        assert content(connection, "LOST") == alone, "a lost node is survived"
        assert done.progress.documents == _FILES
        print(f"a node lost: the same rows after {time.monotonic() - began:.0f} s")
        ray.shutdown()


def _start(node: str, *arguments: str) -> None:
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        f"--node-ip-address={NODES[node]}",
        "--num-cpus=1",
    ]
    memory = "--object-store-memory=100000000"
    done = subprocess.run(
        inside(node, *command, memory, *arguments), capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        sys.exit(f"{node} does not start:\n{done.stdout}\n{done.stderr}")


def main() -> None:
    """Make the namespaces, start the nodes, and watch the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--lead", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(arguments.drive)
        return
    if arguments.lead:
        lead_in(Path(arguments.lead[0]), int(arguments.lead[1]))
        return
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        # Nodes that see each other over a network want one; it is theirs alone.
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=secrets.token_hex(32),
    )
    # Names of sockets are short.
    folder = Path(tempfile.mkdtemp(prefix="hat", dir="/tmp"))
    me = [sys.executable, "-W", "ignore", "-m", "tests.integration.hana.ray.two_nodes"]
    try:
        with namespaces():
            _start(FIRST, "--head", f"--port={_PORT}", "--include-dashboard=false", f"--temp-dir={folder}/1")
            _start(SECOND, f"--address={NODES[FIRST]}:{_PORT}")
            driver = subprocess.Popen(inside(FIRST, *me, "--drive", str(folder)))
            leading: list[str] = []
            while driver.poll() is None:
                time.sleep(0.2)
                for path in folder.glob("*.port"):
                    if path.stem not in leading and path.read_text():
                        leading.append(path.stem)
                        subprocess.Popen(
                            inside(SECOND, *me, "--lead", str(path.with_suffix("")), path.read_text())
                        )
                if (folder / "lose").exists():
                    lose(SECOND)
            if driver.returncode:
                sys.exit(driver.returncode)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
