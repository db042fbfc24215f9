"""What comes over the network is data: no code of it is run, and no tool that a model calls."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from langchain_core.tools import tool

from hana_ai.api import ChatTogetherAI
from hana_ai.api.local.together import Call, Reply, ScriptedEngine
from tests.conftest import ScriptedTogether

PACKAGE = Path(__file__).parents[2] / "hana_ai" / "api"
CLUSTER = "hana/cluster/"
RUNS = {"eval", "exec", "compile", "__import__"}
LOADS = {"pickle": {"load", "loads", "Unpickler"}, "marshal": {"load", "loads"}, "shelve": {"open"}}
TEMPLATES = {"jinja2", "mako", "dill", "cloudpickle", "yaml"}


def executing(source: str) -> list[str]:
    """The calls and imports of a module that make code of data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names if one.name.partition(".")[0] in TEMPLATES]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = {one.name for one in node.names}
            if node.module.partition(".")[0] in TEMPLATES or names & LOADS.get(node.module, set()):
                found.append(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RUNS:
            found.append(node.func.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.attr in LOADS.get(node.value.id, set())
        ):
            found.append(f"{node.value.id}.{node.attr}")
    return found


@pytest.mark.parametrize(
    "source", ["eval(reply)", "import pickle\npickle.loads(b'')", "from marshal import loads", "import jinja2"]
)
def test_what_makes_code_of_data_is_found(source: str) -> None:
    assert executing(source)


def executing_modules() -> dict[str, set[str]]:
    modules = sorted(PACKAGE.rglob("*.py"))
    assert len(modules) > 100
    found = {path.relative_to(PACKAGE).as_posix(): executing(path.read_text(encoding="utf-8")) for path in modules}
    return {name: set(calls) for name, calls in found.items() if calls}


def test_no_module_makes_code_of_data() -> None:
    assert {name for name in executing_modules() if not name.startswith(CLUSTER)} == set()


def test_only_processes_of_a_cluster_load_pickles() -> None:
    found = {name: calls for name, calls in executing_modules().items() if name.startswith(CLUSTER)}
    assert found
    assert set().union(*found.values()) == {"pickle.loads"}


def test_a_tool_that_is_called_is_not_run(together: ScriptedTogether) -> None:
    ran: list[str] = []

    @tool
    def delete(name: str) -> None:
        """Delete something."""
        ran.append(name)

    together.engine.reply(Reply(tool_calls=[Call("delete", {"name": "everything"})]))
    message = ChatTogetherAI(model=ScriptedEngine.CHAT, **together.client).bind_tools([delete]).invoke("Hello")
    [call] = message.tool_calls
    assert (call["name"], call["args"]) == ("delete", {"name": "everything"})
    assert ran == []
