"""The audit of the dependencies finds what is too old, and finds nothing here."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

_CI = Path(__file__).parents[2] / ".ci"
ADVISORIES = [{"package": "orjson", "id": "CVE-1", "fixed": "3.11.6"}]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", _CI / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("requirement", "wrong"),
    [
        ("orjson", True),
        ("orjson>=3.11.5", True),
        ("orjson<4", True),
        ("Orjson>=3.11.6", False),
        ("orjson~=3.12", False),
        ("other>=1", False),
    ],
)
def test_a_requirement_that_allows_a_vulnerable_version_is_found(
    audit: ModuleType, tmp_path: Path, requirement: str, wrong: bool
) -> None:
    file = tmp_path / "setup.cfg"
    file.write_text(
        f"[metadata]\nname = it\n[options]\ninstall_requires =\n    {requirement}\n"
        f"[options.extras_require]\nextra =\n    it[other]\n    {requirement}\n"
    )
    found = audit.allowed(file, ADVISORIES)
    assert [line.split(":")[0] for line in found] == (
        ["setup.cfg, install_requires", "setup.cfg, extra"] if wrong else []
    )


def test_an_installed_version_that_is_vulnerable_is_found(audit: ModuleType) -> None:
    too_new = [
        {"package": "orjson", "id": "CVE-1", "fixed": "1000"},
        {"package": "no-such", "id": "", "fixed": "1"},
    ]
    [line] = audit.installed(too_new)
    assert "fixed in 1000 (CVE-1)" in line


def test_this_distribution_passes_without_a_network(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--offline"]) == 0, capsys.readouterr().out


def test_what_pip_audit_finds_fails_the_audit_unless_it_is_accepted(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [{"name": "some", "version": "1", "vulns": [{"id": "CVE-2", "fix_versions": []}]}]
    monkeypatch.setattr(audit, "reachable", lambda: True)
    monkeypatch.setattr(audit, "pip_audit", lambda *arguments, seconds: found)
    assert audit.main([]) == 1
    assert "some 1 has CVE-2, fixed in no version" in capsys.readouterr().out


def test_every_direct_requirement_of_an_advisory_is_named_as_it_is_in_setup_cfg(audit: ModuleType) -> None:
    noted = {entry["package"] for entry in json.loads((_CI / "advisories.json").read_text())["advisories"]}
    direct = {requirement.name for _, requirement in audit.requirements(_CI.parent / "setup.cfg")}
    assert {"aiohttp", "langchain-core", "orjson", "starlette", "cryptography"} <= noted & direct


def test_make_lint_runs_the_audit() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "lint"], cwd=_CI.parent, capture_output=True, text=True, timeout=60, check=True
    )
    assert ".ci/audit.py" in done.stdout
