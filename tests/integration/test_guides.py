"""The how-to guides: their programs run, and their files are what the platforms read."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import Call, Received, Reply
from tests.conftest import ScriptedTogether, export
from tests.integration.test_docs import ROOT, blocks

DEPLOYMENT = ROOT / "docs" / "deployment.md"
MANIFEST, OBJECTS = blocks(DEPLOYMENT, "yaml")


# --- agents and text to SQL ---


@pytest.fixture
def database(together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHana]:
    with LocalHana() as hana:
        export(monkeypatch, hana.environment())
        yield hana


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("database")
def test_a_question_becomes_sql_and_an_agent_uses_a_tool(
    together_environment: ScriptedTogether, capsys: pytest.CaptureFixture[str]
) -> None:
    def answered(request: Received) -> Reply:
        body = request.body
        if body.get("response_format"):
            assert '"SALES" has the columns REGION NVARCHAR, AMOUNT DECIMAL.' in body["messages"][-1]["content"]
            sql = "SELECT REGION, SUM(AMOUNT) FROM SALES GROUP BY REGION ORDER BY 2 DESC;"
            return Reply(text=json.dumps({"sql": sql}))
        last = body["messages"][-1]
        if last["role"] == "tool":
            return Reply(text=f"The tool says: {last['content']}")
        return Reply(tool_calls=[Call("fetch_data", {"table_name": "SALES", "top_n": 2})])

    together_environment.engine.on("/v1/chat/completions", answered)
    namespace: dict[str, Any] = {"__name__": "example"}
    for number, block in enumerate(blocks(ROOT / "docs" / "agents.md", "python"), 1):
        exec(compile(block, f"agents.md, example {number}", "exec"), namespace)
    said = capsys.readouterr().out
    assert "[('North', Decimal('30" in said
    assert "The tool says: " in said
    assert "North" in said.partition("The tool says: ")[2]

    def destroys(_: Received) -> Reply:
        return Reply(text=json.dumps({"sql": "SELECT 1 FROM DUMMY; DROP TABLE SALES"}))

    together_environment.engine.on("/v1/chat/completions", destroys)
    with pytest.raises(ValueError, match="Not a single SELECT"):
        namespace["ask"](namespace["connection"], "SALES", "Drop it.")


# --- deployment ---


def test_what_is_not_run_compiles_and_says_why_it_is_not_run() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        text = page.read_text()
        programs = re.findall(r"^```py\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        marked = re.findall(r"^<!-- not run: (.+) -->\n```py$", text, re.MULTILINE)
        assert len(programs) == len(marked), page.name
        for program, reason in zip(programs, marked, strict=True):
            tree = ast.parse(program)
            if reason.startswith("needs "):
                assert re.search(rf"^(import|from) {reason.removeprefix('needs ')}\b", program, re.MULTILINE)
            ours = [
                alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module == "hana_ai.api"
                for alias in node.names
            ]
            import hana_ai.api

            assert ours
            assert set(ours) <= set(hana_ai.api.__all__)


MANIFEST_KEYS = {
    "buildpacks",
    "command",
    "disk_quota",
    "docker",
    "env",
    "health-check-http-endpoint",
    "health-check-type",
    "instances",
    "memory",
    "metadata",
    "name",
    "no-route",
    "path",
    "processes",
    "random-route",
    "routes",
    "services",
    "sidecars",
    "stack",
    "timeout",
}
"""Of an application, by Cloud Foundry's manifest reference."""


def test_the_manifest_of_cloud_foundry_holds_no_secret_and_only_known_keys() -> None:
    (application,) = yaml.safe_load(MANIFEST)["applications"]
    assert set(application) <= MANIFEST_KEYS
    assert all(isinstance(value, str) for value in application["env"].values())
    assert not re.search("KEY|PASSWORD", MANIFEST)
    assert application["health-check-type"] == "http"
    assert settings_known(application["env"])


def settings_known(names: Any) -> bool:
    from hana_ai.api.settings import TogetherAISettings

    known = {name.upper() for name in TogetherAISettings.model_fields} | {"TOGETHER_CATALOG_DIR"}
    return set(names) <= known


def test_bound_services_become_settings() -> None:
    namespace: dict[str, Any] = {"__name__": "start"}
    exec(compile(blocks(DEPLOYMENT, "python")[0], "start.py", "exec"), namespace)
    hana = {"host": "example.hanacloud.ondemand.com", "port": "443", "user": "ME", "password": "secret"}
    services = {
        "user-provided": [{"name": "together", "credentials": {"TOGETHER_API_KEY": "abc"}}],
        "hana": [{"name": "hana", "credentials": hana}, {"name": "other", "credentials": {}}],
    }
    found = namespace["settings_from"](json.dumps(services))
    assert found["TOGETHER_API_KEY"] == "abc"
    assert (found["HANA_ADDRESS"], found["HANA_PORT"]) == (hana["host"], "443")
    assert settings_known(found)


def test_the_objects_of_kubernetes_agree_with_each_other() -> None:
    deployment, service = yaml.safe_load_all(OBJECTS)
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment")
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    (container,) = template["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    assert service["spec"]["ports"][0]["targetPort"] in ports
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] in ports
        assert f'@app.get("{asked["path"]}")' in DEPLOYMENT.read_text()
    secret = container["envFrom"][0]["secretRef"]["name"]
    assert f"kubectl create secret generic {secret} " in DEPLOYMENT.read_text()
    assert settings_known(entry["name"] for entry in container["env"])
    assert not re.search("API_KEY|PASSWORD", OBJECTS)
    volumes = {volume["name"] for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_the_image_is_the_one_that_the_objects_of_kubernetes_start() -> None:
    (image,) = blocks(DEPLOYMENT, "dockerfile")
    steps = [line.split(maxsplit=1) for line in image.splitlines()]
    said = {name: value for name, value in steps if name in {"FROM", "USER", "EXPOSE", "CMD"}}
    template = next(yaml.safe_load_all(OBJECTS))["spec"]["template"]["spec"]
    (container,) = template["containers"]
    assert said["USER"] == str(template["securityContext"]["runAsUser"])
    assert said["EXPOSE"] == str(container["ports"][0]["containerPort"])
    program, application, *options = json.loads(said["CMD"])
    assert (program, application) == ("uvicorn", "app:app")
    assert dict(zip(options[::2], options[1::2], strict=True)) == {"--host": "0.0.0.0", "--port": said["EXPOSE"]}
    assert f"docker build -t {container['image']} ." in DEPLOYMENT.read_text()
    # The rights are dropped last, so that nothing is installed without them.
    order = [name for name, _ in steps]
    assert order.index("USER") > max(index for index, name in enumerate(order) if name in {"RUN", "COPY"})
    assert not re.search("API_KEY|PASSWORD|ENABLE_TOGETHER", image)
    python = said["FROM"].removeprefix("python:").removesuffix("-slim")
    assert f"Programming Language :: Python :: {python}" in (ROOT / "setup.cfg").read_text()


def test_the_file_of_vercel_bounds_its_function() -> None:
    (text,) = blocks(DEPLOYMENT, "json")
    config = json.loads(text)
    assert set(config) <= {"$schema", "functions", "rewrites"}
    assert config["functions"]["app.py"]["maxDuration"] <= 60
    assert config["rewrites"][0]["destination"] == "/app.py"


# --- wishes ---


def test_each_of_twenty_wishes_has_its_answer_by_name() -> None:
    text = (ROOT / "docs" / "answers.md").read_text()
    parts = re.split(r"^## (\d+)\. .+$", text, flags=re.MULTILINE)[1:]
    assert [int(number) for number in parts[::2]] == list(range(1, 21))
    for answer in parts[1::2]:
        assert re.search(r"\]\([\w-]+\.md", answer), answer


def test_every_public_name_is_in_the_reference() -> None:
    import hana_ai.api

    listed = re.findall(r"^::: api\.[\w.]+\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    modules = {
        line.split("api.", 1)[1].rsplit(".", 1)[0].replace(".", "/")
        for line in (ROOT / "docs" / "api.md").read_text().splitlines()
        if line.startswith(":::")
    }
    assert sorted(listed) == sorted(hana_ai.api.__all__)
    paths = [(Path(ROOT, "hana_ai", "api", module), module) for module in modules]
    assert [module for path, module in paths if not (path.is_dir() or path.with_suffix(".py").is_file())] == []
