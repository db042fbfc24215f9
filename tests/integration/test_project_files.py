"""What those who carry the project on rely on: templates, the release's check."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.checkouts import copy_checkout

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize(
    "path", [path for path in TEMPLATES if path.name != "config.yml"], ids=lambda path: path.stem
)
def test_an_issue_form_has_what_github_asks_of_it(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert form["name"]
    assert form["description"]
    ids = []
    for part in form["body"]:
        assert part["type"] in ("markdown", "textarea", "input", "dropdown", "checkboxes")
        assert part["attributes"]["label"]
        ids.append(part["id"])
        for option in part["attributes"].get("options", ()):
            assert option["label"]
    assert len(ids) == len(set(ids))


def test_contributing_says_how_to_add_and_to_release() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    wanted = [
        "Set up",
        "Layout",
        "Add an endpoint of Together's",
        "Add a seam of the toolkit",
        "Add to a stand-in",
    ]
    assert [heading for heading in headings if heading in wanted] == wanted
    assert "Release" in headings
    bases = (ROOT, ROOT / "hana_ai" / "api", ROOT / "hana_ai/api/local/hana", ROOT / "hana_ai/api/routing")
    named = {name for name in re.findall(r"`([\w./-]+(?:\.py|\.md|\.cfg|\.json|/[\w/]*))`", text) if "/" in name}
    missing = [name for name in sorted(named) if not any((base / name).exists() for base in bases)]
    assert missing == ["hana_ai/__init__.py"], "there must never be that one, and everything else must be there"


@pytest.mark.slow
def test_a_release_is_checked_as_an_index_would(tmp_path: Path) -> None:
    copy = copy_checkout(tmp_path / "checkout")
    dist = tmp_path / "dist"
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(copy)]
    subprocess.run(build, check=True, capture_output=True)
    problems = runpy.run_path(str(ROOT / ".ci" / "dist.py"))["problems"]
    assert problems(dist) == []

    (wheel,) = dist.glob("*.whl")
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    shutil.copy(next(dist.glob("*.tar.gz")), lacking)
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(lacking / wheel.name, "w") as part:
        for name in whole.namelist():
            data = whole.read(name)
            if name.endswith("METADATA"):
                data = data.replace(b"Version: 0", b"Version: zero ", 1)
            if name != "hana_ai/api/process.py":
                part.writestr(name, data)
    said = problems(lacking)
    assert "the wheel lacks hana_ai/api/process.py" in said
    assert any(problem.startswith("wheel: ") for problem in said)
    assert "run: make dist" in problems(tmp_path / "nothing")[0]
