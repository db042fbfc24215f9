"""The wheel installs beside SAP's hana-ai, in either order, and without it; editable, too."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tests.checkouts import copy_checkout

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

USE_EVERYTHING_OF_OURS = """
import hana_ai.api, hana_ai.api.local.together, hana_ai.api.cli
for name in hana_ai.api.__all__:
    getattr(hana_ai.api, name)
"""
USE_OURS = """
import hana_ai.api, hana_ai.api.local.together
hana_ai.api.TogetherAISettings(_env_file=None)
"""
USE_UPSTREAM = """
import hana_ai, hana_ai.vectorstore.code_templates
assert hana_ai.__file__ is not None and 'site-packages' in hana_ai.__file__, hana_ai.__file__
"""
USE_EVERYTHING_BUT_WHAT_BUILDS_ON_UPSTREAM = """
import hana_ai.api, hana_ai.api.local.together, hana_ai.api.cli
for name in hana_ai.api.__all__:
    if name != 'TogetherVectorEngine':
        getattr(hana_ai.api, name)
assert hana_ai.api.activate() is False
try:
    hana_ai.api.TogetherVectorEngine
except ModuleNotFoundError as exc:
    assert "pip install 'hana-ai-together[toolkit]'" in str(exc), exc
"""
IS_NAMESPACE = """
import hana_ai
assert hana_ai.__file__ is None, hana_ai.__file__
"""
OURS_IS_GONE = """
import importlib.util
assert importlib.util.find_spec('hana_ai.api') is None
"""
USE_PLUGINS = """
import plugins.connectors.theirs, plugins.connectors.theirs_here, plugins.sinks.theirs
from plugins.connectors.together_ai_connector import TogetherAIConnector
from hana_ai.api import TogetherAIConnector as same
assert TogetherAIConnector is same
"""
OUR_PLUGIN_IS_GONE = """
import importlib.util, plugins.connectors.theirs, plugins.connectors.theirs_here, plugins.sinks.theirs
assert importlib.util.find_spec('plugins.connectors.together_ai_connector') is None
"""
UPSTREAM_IS_GONE = """
import importlib.util
assert importlib.util.find_spec('hana_ai.vectorstore') is None
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Environment:
    """A fresh virtual environment; pip or uv is the test's own, and works on it from outside."""

    def __init__(self, folder: Path, installer: str = "pip") -> None:
        self._installer = installer
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        self.python = folder / "bin" / "python"
        self.site = next(folder.glob("lib/python*/site-packages"))

    def install(self, *what: str | Path) -> None:
        self._run("install", "--no-deps", "--no-build-isolation", *what)

    def uninstall(self, name: str) -> None:
        self._run("uninstall", *(["--yes"] if self._installer == "pip" else []), name)

    def runs(self, code: str, cwd: Path | None = None) -> None:
        run(self.python, "-W", "ignore", "-c", code, cwd=cwd or self.site)

    def _run(self, command: str, *arguments: str | Path) -> None:
        if self._installer == "pip":
            begin = [sys.executable, "-m", "pip", "-q", "--python", self.python, command]
        else:
            begin = [UV, "pip", command, "-q", "--offline", "--python", self.python]
        if command == "install" and self._installer == "pip":
            begin.append("--no-compile")
        run(*begin, *arguments)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # As pip does it without isolation, but for its own start.
    build = "import sys, setuptools.build_meta; setuptools.build_meta.build_wheel(sys.argv[1])"
    run(sys.executable, "-c", build, folder, cwd=checkout)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SAP's wheel, put together again from its installed files."""
    installed = metadata.distribution("hana-ai")
    path = tmp_path_factory.mktemp("upstream") / f"hana_ai-{installed.version}-py3-none-any.whl"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    with zipfile.ZipFile(path, "w") as archive:
        for file in installed.files or ():
            # What pip wrote when it installed the wheel is not part of it; nor are scripts outside the folder.
            if file.parts[0] == ".." or file.suffix == ".pyc" or file.name in ("RECORD", "INSTALLER", "REQUESTED"):
                continue
            data = file.read_binary()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.writerow([str(file), f"sha256={digest}", len(data)])
            archive.writestr(str(file), data)
        name = f"hana_ai-{installed.version}.dist-info/RECORD"
        rows.writerow([name, "", ""])
        archive.writestr(name, record.getvalue())
    return path


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of this environment, by links, without hana_ai and whatever makes it findable."""
    folder = tmp_path_factory.mktemp("dependencies")
    site = Path(str(metadata.distribution("langchain-core").locate_file("")))
    for entry in site.iterdir():
        if not entry.name.startswith(("hana_ai", "__editable__")) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture
def environment(request: pytest.FixtureRequest, tmp_path: Path, dependencies: Path) -> Environment:
    made = Environment(tmp_path / "venv", getattr(request, "param", "uv"))
    (made.site / "dependencies.pth").write_text(f"{dependencies}\n")
    return made


def in_either_order(ours: str, theirs: str) -> list[object]:
    """What is installed first, and by what: by default by uv, which takes a fifth of pip's time."""
    return [
        pytest.param(ours, "uv"),
        pytest.param(theirs, "uv"),
        pytest.param(ours, "pip", marks=pytest.mark.slow),
        pytest.param(theirs, "pip", marks=pytest.mark.slow),
    ]


def test_every_package_is_listed_in_setup_py(wheel: Path) -> None:
    packages = {file.parent.relative_to(ROOT) for file in (ROOT / "hana_ai" / "api").rglob("__init__.py")}
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / "hana_ai" / "api").rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        packed = {Path(name).parent for name in archive.namelist() if name.endswith("/__init__.py")}

    assert packages == folders, "a folder with modules lacks its __init__.py"
    assert {package for package in packed if package.parts[0] == "hana_ai"} == packages


def test_hana_ai_itself_is_left_to_sap(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    assert not (ROOT / "hana_ai" / "__init__.py").exists()
    assert "hana_ai/__init__.py" not in names
    assert "hana_ai/api/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]


def test_the_plugin_is_packed_without_owning_the_namespace(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("plugins/")]

    assert names == ["plugins/connectors/together_ai_connector.py"]
    assert not list((ROOT / "plugins").rglob("__init__.py"))


@pytest.mark.parametrize(
    ("first", "environment"),
    [
        pytest.param("ours", "uv"),
        pytest.param("theirs", "uv", marks=pytest.mark.slow),
        pytest.param("ours", "pip", marks=pytest.mark.slow),
        pytest.param("theirs", "pip"),
    ],
    indirect=["environment"],
)
def test_the_plugins_of_other_projects_work_beside_ours(
    environment: Environment, wheel: Path, tmp_path: Path, first: str
) -> None:
    installed, checkout = environment.site / "plugins" / "connectors", tmp_path / "checkout"
    (checkout / "plugins" / "connectors").mkdir(parents=True)
    (checkout / "plugins" / "connectors" / "theirs_here.py").write_text("WHERE = 'here'")
    if first == "ours":
        environment.install(wheel)
    installed.mkdir(parents=True, exist_ok=True)
    (installed / "theirs.py").write_text("WHERE = 'installed'")
    (environment.site / "plugins" / "sinks").mkdir()
    (environment.site / "plugins" / "sinks" / "theirs.py").write_text("WHERE = 'another package'")
    if first == "theirs":
        environment.install(wheel)

    environment.runs(USE_PLUGINS, cwd=checkout)
    environment.uninstall("hana-ai-together")
    environment.runs(OUR_PLUGIN_IS_GONE, cwd=checkout)


def test_pyproject_holds_the_build_system_alone() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    assert [line for line in lines if line.startswith("[")] == ["[build-system]"]


def test_the_versions_of_package_and_distribution_agree(wheel: Path) -> None:
    import hana_ai.api

    assert wheel.name.split("-")[1] == hana_ai.api.__version__


def test_it_works_without_hana_ai(environment: Environment, wheel: Path) -> None:
    environment.install(wheel)

    environment.runs(USE_EVERYTHING_BUT_WHAT_BUILDS_ON_UPSTREAM + IS_NAMESPACE)
    said = run(environment.python.parent / "hana-ai-together", "version")
    assert said.startswith("hana-ai-together 0.1.0")


@pytest.mark.parametrize(("first", "environment"), in_either_order("ours", "upstream"), indirect=["environment"])
def test_it_works_beside_hana_ai_and_either_can_go(
    environment: Environment, wheel: Path, upstream: Path, first: str
) -> None:
    for one in (wheel, upstream) if first == "ours" else (upstream, wheel):
        environment.install(one)
    environment.runs(USE_OURS + USE_UPSTREAM)
    environment.runs(USE_UPSTREAM + USE_OURS)

    environment.uninstall("hana-ai")
    environment.runs(USE_OURS + IS_NAMESPACE + UPSTREAM_IS_GONE)

    environment.install(upstream)
    environment.uninstall("hana-ai-together")
    environment.runs(USE_UPSTREAM + OURS_IS_GONE)


@pytest.mark.parametrize("first", ["ours", pytest.param("upstream", marks=pytest.mark.slow)])
def test_an_editable_install_works_beside_hana_ai(
    environment: Environment, checkout: Path, upstream: Path, first: str
) -> None:
    for one in ("ours", "upstream") if first == "ours" else ("upstream", "ours"):
        environment.install(*(("--editable", checkout) if one == "ours" else (upstream,)))

    here = f"import hana_ai.api; assert hana_ai.api.__file__.startswith({str(checkout)!r})"
    environment.runs(USE_OURS + USE_UPSTREAM + here)
    environment.runs(USE_UPSTREAM + USE_OURS + here, cwd=checkout)


def interpreters() -> Iterator[tuple[str, Path]]:
    """The supported versions of Python that this machine has."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in PYTHONS:
        found = shutil.which(f"python{version}")
        candidates = [Path(found)] if found else []
        candidates += sorted(versions.glob(f"{version}.*/bin/python"))
        for candidate in candidates:
            # A shim of pyenv exists for versions that it then refuses to run.
            if subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
                yield version, candidate
                break


def _complete(python: Path, folder: Path, wheel: Path, order: Callable[[str], list[str]]) -> None:
    run(python, "-m", "venv", folder)
    inside = folder / "bin" / "python"
    for step in order(str(wheel)):
        run(inside, "-m", "pip", "-q", "install", step)
    run(inside, "-m", "pip", "check")
    run(inside, "-W", "ignore", "-c", USE_EVERYTHING_OF_OURS + USE_UPSTREAM)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("version", "python"), [pytest.param(*found, id=found[0]) for found in interpreters()])
def test_all_dependencies_resolve(version: str, python: Path, wheel: Path, tmp_path: Path) -> None:
    _complete(python, tmp_path / "venv", wheel, lambda ours: [f"{ours}[toolkit,local]"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first", ["ours", "upstream"])
def test_the_published_hana_ai_installs_before_and_after(first: str, wheel: Path, tmp_path: Path) -> None:
    def order(ours: str) -> list[str]:
        return [ours, "hana-ai"] if first == "ours" else ["hana-ai", ours]

    _complete(Path(sys.executable), tmp_path / "venv", wheel, order)
