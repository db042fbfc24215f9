"""What the documents promise: examples run, commands exist, settings and errors are the code's own."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from hana_ai.api.local.together import Received, Reply, ScriptedEngine
from hana_ai.api.settings import TogetherAISettings
from tests.conftest import ScriptedTogether, export
from tests.warm import Warm

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
VARIABLES = {name.upper() for name in TogetherAISettings.model_fields}

_FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in _FENCE.findall(page.read_text()) if found == language]


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


# Their examples are run by tests/integration/hana/test_docs_with_hana.py.
WITH_A_DATABASE = ("ingest.md", "map.md", "tables.md", "toolkit.md", "vector-stores.md")
# Run by test_guides.py, with a model that plays its part.
GUIDES = ("agents.md", "deployment.md")
WITH_PYTHON = [page for page in PAGES if blocks(page, "python") and page.name not in (*WITH_A_DATABASE, *GUIDES)]


@pytest.fixture
def environment(together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch) -> ScriptedTogether:
    export(monkeypatch, {**together.environment(), "ENABLE_TOGETHER_AI": "true"})
    return together


@pytest.fixture(autouse=True)
def opentelemetry_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """An example configures OpenTelemetry, which a process can do only once."""
    from opentelemetry import trace
    from opentelemetry.util._once import Once

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())


@pytest.mark.parametrize("page", WITH_PYTHON, ids=names(WITH_PYTHON))
def test_the_examples_of_a_page_run_from_top_to_bottom(page: Path, environment: ScriptedTogether) -> None:
    namespace: dict[str, object] = {"__name__": "example"}
    for number, block in enumerate(blocks(page, "python"), 1):
        exec(compile(block, f"{page.name}, example {number}", "exec"), namespace)
    if page.name not in ("settings.md", "migration.md", "local.md"):
        assert environment.engine.requests, "the page's examples asked nothing"


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=names(WITH_PYTHON))
def test_the_examples_run_with_the_real_small_models(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hana_ai.api.cli.servers import local_together

    with local_together() as server:
        export(monkeypatch, {**server.environment(), "ENABLE_TOGETHER_AI": "true"})
        namespace: dict[str, object] = {"__name__": "example"}
        for number, block in enumerate(blocks(page, "python"), 1):
            exec(compile(block, f"{page.name}, example {number}", "exec"), namespace)


def test_every_command_in_the_documents_exists() -> None:
    from hana_ai.api.cli.app import app

    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    seen = set()
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        text = page.read_text()
        for target in re.findall(r"(?:^|`)make ([\w-]+)", text, re.MULTILINE):
            assert target in targets, f"{page.name}: make {target}"
        for block in blocks(page, "bash"):
            for line in re.findall(r"^hana-ai-together (.*)$", block, re.MULTILINE):
                words = shlex.split(line.split(" > ")[0], comments=True)
                app.parse_args(words, exit_on_error=False, print_error=False)
                seen.add(line.split()[0])
    assert {"doctor", "models", "serve"} <= seen


@pytest.mark.parametrize("page", ["docs/settings.md"])
def test_the_tables_have_every_setting_and_no_other(page: str) -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \|", (ROOT / page).read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(VARIABLES)


def test_the_table_of_settings_has_the_defaults_of_the_code() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = dict(re.findall(r"^\| ([A-Z_]+) \|[^|]*\|([^|\n]*)\|$", text, re.MULTILINE))
    wrong = {
        name: (shown.strip(), default)
        for name, shown in rows.items()
        if shown.strip() != (default := _shown(TogetherAISettings.model_fields[name.lower()].default))
    }
    assert wrong == {}


def test_the_example_of_an_environment_file_has_every_setting_with_its_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = (ROOT / ".env.example").read_text()
    assert sorted(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE)) == sorted(VARIABLES)

    (tmp_path / ".env").write_text(example)
    monkeypatch.chdir(tmp_path)
    assert TogetherAISettings() == TogetherAISettings(_env_file=None)


def test_errors_are_listed_by_words_that_the_code_says() -> None:
    headings = re.findall(r"^## `(.+)`$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    code = "".join(path.read_text() for path in (ROOT / "hana_ai" / "api").rglob("*.py"))
    # A message may be written as several literals, with values in between.
    said = re.sub(r"\{[^{}\n]*\}", "#", re.sub(r'"\s*\n\s*f?"', "", code))

    assert len(headings) > 10
    unsaid = [
        heading
        for heading in headings
        if not any(
            form in said
            for form in (heading, re.sub(r"\d+", "#", heading), re.sub("rerank|embedding", "#", heading))
        )
    ]
    assert unsaid == []


def test_the_transcripts_are_what_the_commands_print(programs: Warm) -> None:
    locked = re.search(r"^cyclopts==(\S+)", (ROOT / "requirements" / "test.txt").read_text(), re.MULTILINE)
    assert locked is not None
    if metadata.version("cyclopts") != locked[1]:
        pytest.skip("cyclopts words its messages differently in each release")
    script = str(ROOT / ".ci" / "transcripts.py")
    done = programs.run(f"import runpy; runpy.run_path({script!r}, run_name='__main__')", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_examples_import_is_installed_by_an_extra_that_their_page_names() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = {
        extra: {re.split(r"[^\w-]", line)[0] for line in wanted.splitlines() if line}
        for extra, wanted in config["options.extras_require"].items()
        if extra not in ("test", "docs")
    }
    always = {re.split(r"[^\w-]", line)[0] for line in config["options"]["install_requires"].splitlines()}
    distributions = metadata.packages_distributions()
    missing = []
    for page in (page for page in PAGES if blocks(page, "python")):
        text = page.read_text()
        imported = re.findall(r"^\s*(?:from|import) (\w+)", "\n".join(blocks(page, "python")), re.MULTILINE)
        for name in sorted(set(imported) - sys.stdlib_module_names - {"hana_ai", "plugins"}):
            offered = {dist.lower().replace("_", "-") for dist in distributions.get(name, ())}
            # Comes with it.
            offered |= {"hana-ml"} if name == "pandas" else set()
            by = [extra for extra, wanted in extras.items() if offered & wanted]
            named = any(f"[{extra}]" in text or f",{extra}]" in text for extra in by)
            if not (
                offered & always or named or any(re.search(rf"pip install .*\b{dist}\b", text) for dist in offered)
            ):
                missing.append(f"{page.name}: {name} ({', '.join(by) or 'in no extra'})")
    assert missing == []


def test_links_between_the_documents_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in _LINK.findall(page.read_text()):
            if "://" not in target and not target.startswith("#"):
                assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: {target}"


class _Site(yaml.SafeLoader):
    """Reads mkdocs.yml where no variable is set: `!ENV [NAME, DEFAULT]` is its default."""


_Site.add_constructor("!ENV", lambda loader, node: loader.construct_sequence(node)[-1])


def _site() -> dict[str, Any]:
    read: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader=_Site)
    return read


def test_every_page_is_in_the_navigation() -> None:
    listed: list[str] = []

    def walk(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            for page in entry.values():
                walk(page) if isinstance(page, list) else listed.append(page)

    nav = _site()["nav"]
    walk(nav)
    assert [name for entry in nav for name in entry][1:] == [
        "Tutorials",
        "How-to guides",
        "Reference",
        "Explanation",
    ]
    notebooks = [f"notebooks/{path.name}" for path in (ROOT / "docs" / "notebooks").glob("*.ipynb")]
    assert sorted(listed) == sorted([*(page.name for page in PAGES[1:]), *notebooks])


def test_the_site_checks_its_links_and_follows_the_systems_light() -> None:
    site = _site()
    assert {level for part in site["validation"].values() for level in part.values()} == {"warn"}
    assert {"not_found", "anchors"} <= set(site["validation"]["links"])
    schemes = {part.get("scheme"): part["media"] for part in site["theme"]["palette"]}
    assert schemes["slate"] == "(prefers-color-scheme: dark)"
    assert schemes["default"] == "(prefers-color-scheme: light)"
    for sheet in site["extra_css"]:
        assert (ROOT / "docs" / sheet).is_file()


def test_the_notebooks_run_when_the_site_is_built_and_one_that_fails_fails_it() -> None:
    notebooks = next(plugin["mkdocs-jupyter"] for plugin in _site()["plugins"] if "mkdocs-jupyter" in plugin)
    assert not notebooks["allow_errors"]
    recipe = subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"DOCS_EXECUTE=true \S+ serve all -- \S+ run -- \S*mkdocs build --strict", recipe)


def test_the_first_429_of_the_troubleshooting_page_is_waited_out(
    together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    from hana_ai.api import ChatTogetherAI

    def refuse(request: Received) -> Reply | None:
        return None if len(engine.requests) > 1 else Reply(status=429, headers={"x-ratelimit-reset": "0.05"})

    engine.on("/v1/chat/completions", refuse)
    answer = ChatTogetherAI(model=engine.CHAT, **together.client).invoke("Hello")
    assert answer.content == "Hello"


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, (float, int, Decimal)):
        return f"{default:g}"
    if isinstance(default, SecretStr) or default is None:
        return ""
    assert isinstance(default, str)
    return default
