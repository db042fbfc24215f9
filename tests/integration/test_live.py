"""The conformance suite's own promises: it is run as `make live` runs it, beside a server that counts as real."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import LocalModel, LocalTogether, Received, Reply, ScriptedEngine, Usage
from tests.conformance.conftest import PRETEND
from tests.conformance.marks import made_at, new_name, schema_name
from tests.programs import warmed
from tests.secrets_watch import MARK
from tests.warm import CALLS, Started, Warm

ROOT = Path(__file__).parents[2]
SUITE = "tests/conformance"
PATIENCE = 120
OLD = "hana-ai-conformance-20200101t000000z-0123abcd"
LIKE_OLD = ("hana-ai-conformance", "hana-ai-conformance-20200101t000000z-0123abcd-mine", "my-conformance-20200101")
"""Names that only look as if the suite had made what bears them."""
FEATURES = ("FEATURE_TOOL_CALLING", "FEATURE_STRUCTURED_OUTPUT")


@pytest.fixture
def real() -> Iterator[LocalTogether]:
    """A server whose models have prices, and whose errors are others than those of the loopback server."""
    models = [
        LocalModel("acme/dear-chat", "chat", 4096, price_input=5.0, price_output=5.0, features=FEATURES),
        LocalModel("acme/cheap-chat", "chat", 4096, price_input=0.5, price_output=1.0, features=FEATURES),
        LocalModel("acme/embedding", "embedding", 512, dimensions=32, price_input=0.1),
    ]
    with LocalTogether(ScriptedEngine(models=models), api_key=f"{MARK}-of-the-real-one") as server:
        yield server


def engine_of(server: LocalTogether) -> ScriptedEngine:
    [engine] = server.engines
    assert isinstance(engine, ScriptedEngine)
    return engine


TESTED_WITH = (
    "pytest",
    "xdist.plugin",
    "pytest_asyncio.plugin",
    "hypothesis.stateful",
    "openapi_schema_validator",
    "uvicorn",
    "httpx",
    "anyio._backends._asyncio",
    "numpy",
    "hdbcli.dbapi",
    "together.resources",
    "together.types",
    "hana_ai.api.connector.connector",
    "hana_ai.api.local.hana.process",
    "hana_ai.api.local.together.api.app",
    "hana_ai.api.local.together.scripted.engine",
    "hana_ai.api.local.together.server",
)
PYTEST = "import pytest; raise SystemExit(pytest.console_main())"


processes = warmed(*CALLS, *TESTED_WITH)
"""They have imported what the suite is tested with, and nothing of the suite."""


def arguments_of(*arguments: str) -> list[str]:
    return ["-n", "0", "-m", "", "-p", "no:cacheprovider", *arguments]


def environment(server: LocalTogether | None = None, **more: str) -> dict[str, str]:
    ours = {} if server is None else {**server.environment(), PRETEND: "1"}
    return {**os.environ, **ours, **more}


def run(processes: Warm, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return processes.run(PYTEST, *arguments_of(*arguments), environment=env, folder=ROOT)


def endpoint_names(server: LocalTogether) -> set[str]:
    return {endpoint.name for endpoint in server.management.endpoints.values()}


def create_endpoint(server: LocalTogether, name: str) -> None:
    import httpx

    key = {"Authorization": f"Bearer {server.api_key}"}
    with httpx.Client(base_url=server.base_url, headers=key, trust_env=False) as http:
        project = http.get("/v3/whoami").json()["project"]["id"]
        http.post(f"/v2/projects/{project}/endpoints", json={"name": name}).raise_for_status()


def test_a_run_tells_its_cost_removes_what_is_its_own_and_reports_what_differs(
    processes: Warm, real: LocalTogether, tmp_path: Path
) -> None:
    def differs(request: Received) -> Reply | None:
        if request.body.get("tools") and request.body.get("response_format"):
            return Reply(status=422, error={"message": "Not both.", "type": "other_error"})
        if request.body.get("temperature") == -1:
            return Reply(body={"choices": []})
        return None

    engine_of(real).on("/v1/chat/completions", differs)
    young = new_name()
    kept = {young, *LIKE_OLD}
    for name in (OLD, *kept):
        create_endpoint(real, name)
    report = tmp_path / "report.md"
    ended = run(
        processes,
        f"--report={report}",
        f"{SUITE}/test_together_errors.py",
        f"{SUITE}/test_together_endpoints.py",
        f"{SUITE}/test_together_replies.py::test_tools_with_a_response_format_are_seen",
        env=environment(real),
    )
    out = ended.stdout
    found = re.search(r"Together AI: (\d+) calls of acme/cheap-chat, acme/embedding cost at most \$(\d\.\d+)", out)
    assert found, out + ended.stderr
    assert int(found[1]) > 30
    assert 0 < float(found[2]) < 0.1
    assert out.index(found[0]) < out.index("%]")
    assert "SAP HANA: left out" in out

    text = report.read_text(encoding="utf-8")
    assert "| `tools with response_format, status` | `400` | `422` |" in text
    assert "| `tools with response_format, error` | `'invalid_request_error'` | `'other_error'` |" in text
    assert "| `temperature below 0, status` | `400` | `200` |" in text
    assert "| `test_a_mistake_is_refused_in_the_documented_shape[real-temperature below 0]` |" in text
    assert re.search(r"- \d+ calls, \$0\.\d{6} of \$0\.10", text)
    assert f"- taken away: {OLD}" in text
    assert "left behind" not in text
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED

    assert endpoint_names(real) == kept
    assert not real.management.running()
    assert str(real.api_key) not in out + text
    assert "127.0.0.1" not in text


@pytest.mark.slow
def test_what_may_cost_more_than_the_budget_is_not_begun(processes: Warm, real: LocalTogether) -> None:
    ended = run(processes, "--budget-usd=0.0001", f"{SUITE}/test_together_errors.py", env=environment(real))
    assert "more than the budget" in ended.stdout + ended.stderr
    assert ended.returncode == 2
    assert not engine_of(real).posts


def test_the_budget_stops_a_run_that_costs_more_than_was_said(processes: Warm, real: LocalTogether) -> None:
    engine_of(real).always(Reply(usage=Usage(1_000_000, 1)))
    ended = run(processes, f"{SUITE}/test_together_replies.py", env=environment(real))
    assert "TogetherAIBudgetExceededError" in ended.stdout
    assert len(engine_of(real).posts) == 1


@contextmanager
def begun(processes: Warm, server: LocalTogether) -> Iterator[Started]:
    """A run that has made an endpoint, and waits for an answer about its deployment."""
    engine_of(server).on(None, lambda request: Reply(stall=True) if "/deployments" in request.path else None)
    arguments = arguments_of(f"{SUITE}/test_together_endpoints.py", "-k", "validated and real")
    with processes.begun(PYTEST, *arguments, environment=environment(server), folder=ROOT) as process:
        until = time.monotonic() + PATIENCE
        while not any("/deployments" in request.path for request in engine_of(server).posts):
            assert time.monotonic() < until
            time.sleep(0.02)
        assert len(endpoint_names(server)) == 1
        yield process


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it.")
def test_a_run_that_is_ended_takes_away_what_it_made(processes: Warm, real: LocalTogether) -> None:
    with begun(processes, real) as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        out = process.stdout.read()
        assert process.wait() == pytest.ExitCode.INTERRUPTED
    assert endpoint_names(real) == set()
    assert "- taken away: hana-ai-conformance-" in out


def test_what_a_killed_run_left_the_next_one_takes_away(processes: Warm, real: LocalTogether) -> None:
    with begun(processes, real) as process:
        process.send_signal(signal.SIGKILL)
    [left] = endpoint_names(real)
    assert made_at(left) is not None
    engine_of(real).reset()
    only = f"{SUITE}/test_together_errors.py::test_a_path_that_is_not_there_is_refused"
    ended = run(processes, "--abandoned-after=0", only, env=environment(real))
    assert endpoint_names(real) == set()
    assert f"- taken away: {left}" in ended.stdout


def test_hana_is_left_as_it_was(processes: Warm, tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    young = schema_name(new_name())
    with LocalHana() as hana:
        connection = hana.connect()
        with connection.cursor() as cursor:
            for name in (schema_name(OLD), young, "MINE", OLD):
                cursor.execute(f'CREATE SCHEMA "{name}"')
                cursor.execute(f'CREATE TABLE "{name}".T (A INTEGER)')
        ended = run(
            processes,
            f"--report={report}",
            f"{SUITE}/test_hana.py",
            "-k",
            "savepoints or test_an_error or wrong_password or system_view",
            env=environment(**hana.environment()),
        )
        with connection.cursor() as cursor:
            cursor.execute("SELECT SCHEMA_NAME FROM SYS.TABLES WHERE TABLE_NAME = 'T' ORDER BY 1")
            kept = [row[0] for row in cursor.fetchall()]
            cursor.execute("SELECT SCHEMA_NAME FROM SYS.SCHEMAS WHERE SCHEMA_NAME LIKE 'HANA_AI_CONF%'")
            ours = [row[0] for row in cursor.fetchall()]
        connection.close()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Together AI: left out" in ended.stdout
    assert sorted(kept) == sorted([young, "MINE", OLD])
    assert ours == [young]
    text = report.read_text(encoding="utf-8")
    assert f"- taken away: {schema_name(OLD)}" in text
    assert re.search(r"- \d\d observations in both; 0 values differ", text)
    assert hana.password not in ended.stdout + text


@pytest.mark.slow
def test_without_variables_nothing_real_is_met(processes: Warm) -> None:
    ended = run(
        processes,
        f"{SUITE}/test_together_errors.py",
        f"{SUITE}/test_hana.py",
        "-k",
        "key_is_refused",
        env=environment(),
    )
    assert "Together AI: left out" in ended.stdout
    assert "SAP HANA: left out" in ended.stdout
    assert re.search(r"^\.s +\[100%\]", ended.stdout, re.MULTILINE)
    assert ended.returncode == 0
