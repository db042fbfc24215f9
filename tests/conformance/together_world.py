"""Together's API as the suite meets it, on the loopback interface or for real."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

from hana_ai.api.catalog.model_info import ModelInfo
from hana_ai.api.connector import TogetherAIConnector
from hana_ai.api.errors import TogetherAIError
from hana_ai.api.service import catalog_for
from hana_ai.api.usage.budget import Budget
from hana_ai.api.usage.clock import now
from hana_ai.api.usage.key import UsageKey
from hana_ai.api.usage.ledger import Ledger
from hana_ai.api.usage.record import UsageRecord
from hana_ai.api.usage.store import open_store
from tests.conftest import OURS

from . import plan
from .marks import is_abandoned, new_name
from .report import World

_SECONDS = 120.0
_MOST_TRIES = 5


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes
    ----------
    body
        The decoded JSON, or the text where it is none.
    """

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def error(self) -> dict[str, Any]:
        """The error object of a refusal."""
        assert isinstance(self.body, dict), self.body
        error = self.body.get("error")
        assert isinstance(error, dict), self.body
        return error


@dataclass(frozen=True)
class Streamed:
    """A stream of events."""

    status: int
    content_type: str
    events: list[str]
    """What stands after `data:` in each event, the last one included."""
    refusal: Any = None
    """The body, where the status is an error."""

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The decoded events without the last one."""
        return [orjson.loads(event) for event in self.events if event != "[DONE]"]


@dataclass
class TogetherWorld:
    """One address with its key and models; every call is held against the budget and noted in a ledger."""

    world: World
    base_url: str
    api_key: str = field(repr=False)
    budget: Decimal
    folder: Path
    """Where the ledger and files to upload are."""
    wanted: Mapping[str, str] = field(default_factory=dict)
    """Models to take instead of the cheapest, by kind."""
    made: list[tuple[str, str]] = field(default_factory=list)
    """Paths to delete at the end, with their names."""
    removed: list[str] = field(default_factory=list)
    """What was deleted, of this run and of earlier ones."""
    missing: list[str] = field(default_factory=list)
    """What could not be deleted."""

    def __post_init__(self) -> None:
        with pytest.MonkeyPatch.context() as clean:
            # The user's other settings must not reach the suite.
            for name in os.environ:
                if name.upper().startswith(OURS) and name != "TOGETHER_CATALOG_DIR":
                    clean.delenv(name)
            self.catalog = catalog_for(self.base_url, SecretStr(self.api_key))
            self.listed: dict[str, ModelInfo] = dict(self.catalog.models(refresh=True))
        self.secret = SecretStr(self.api_key)
        self.models = plan.choose(self.listed, self.wanted)
        self.usage_db = self.folder / f"usage-{self.world}.db"
        key = UsageKey(str(self.usage_db))
        self.ledger = Ledger(
            open_store(key), catalog_for=lambda *_: self.catalog, budget=Budget(self.budget, "month")
        )
        self.http = httpx.Client(base_url=self.base_url, timeout=_SECONDS, trust_env=self.is_real)

    @property
    def is_real(self) -> bool:
        """Whether it costs."""
        return self.world == "real"

    def model(self, kind: str) -> str:
        """The name of the model of a kind; skips the test where there is none."""
        if kind not in self.models:
            pytest.skip(f"The catalogue lists no {kind} model that needs no endpoint.")
        return self.models[kind].id

    def neutral(self, text: str) -> str:
        """A text of the server without what differs between two worlds in any case: names of models, numbers."""
        for kind, model in self.models.items():
            text = text.replace(model.id, f"<{kind} model>")
        return re.sub(r"\d+", "#", text)

    # --- calls of models, from the plan ---

    def ask(self, name: str, *, key: str | None = None) -> Answer:
        """Send a request of the plan."""
        ask = plan.PLAN[name]
        self.model(ask.kind)
        body = ask.body(self.models)
        began = self._admitted()
        answer = self._patiently("POST", plan.PATHS[ask.operation], body, key)
        usage = answer.body.get("usage") if isinstance(answer.body, dict) else None
        self._note(ask, body["model"], usage, answer.status, began)
        return answer

    def stream(self, name: str) -> Streamed:
        """Send a request of the plan that asks for a stream."""
        ask = plan.PLAN[name]
        self.model(ask.kind)
        body = ask.body(self.models)
        began = self._admitted()
        with self.http.stream(
            "POST", plan.PATHS[ask.operation], json=body, headers={"Authorization": f"Bearer {self.api_key}"}
        ) as response:
            if response.status_code != 200:
                response.read()
                streamed = Streamed(response.status_code, response.headers["content-type"], [], _decoded(response))
            else:
                lines = [line for line in response.iter_lines() if line.startswith("data:")]
                events = [line.removeprefix("data:").strip() for line in lines]
                streamed = Streamed(200, response.headers["content-type"], events)
        usages = [chunk["usage"] for chunk in streamed.chunks if chunk.get("usage")]
        self._note(ask, body["model"], usages[-1] if usages else None, streamed.status, began)
        return streamed

    def _admitted(self) -> float:
        self.ledger.admission.admit(self.base_url, self.secret, _SECONDS)
        return time.monotonic()

    def _note(self, ask: plan.Ask, model: str, usage: object, status: int, began: float) -> None:
        seconds = time.monotonic() - began
        self.ledger.record(
            UsageRecord(
                called_at=now() - seconds,
                operation=ask.operation,
                model=model,
                tags=(),
                usage=usage,
                latency=seconds,
                status="ok" if status == 200 else "refused",
                http_status=None if status == 200 else status,
                base_url=self.base_url,
                api_key=self.secret,
            )
        )

    # --- everything else ---

    def send(self, method: str, path: str, body: object = None, **params: str) -> Answer:
        """Send a request that costs no tokens."""
        return self._patiently(method, path, body, None, params)

    def _patiently(
        self, method: str, path: str, body: object, key: str | None, params: Mapping[str, str] | None = None
    ) -> Answer:
        headers = {"Authorization": f"Bearer {key or self.api_key}"}
        for tried in range(1, _MOST_TRIES + 1):
            response = self.http.request(method, path, json=body, headers=headers, params=params)
            if response.status_code not in (429, 503) or tried == _MOST_TRIES:
                break
            time.sleep(_seconds_until(response))
        return Answer(response.status_code, _decoded(response), response.headers)

    def project(self) -> str:
        """The key's project."""
        answer = self.send("GET", "/v3/whoami")
        assert answer.status == 200, answer.body
        if "project" not in answer.body:
            pytest.skip("The key belongs to an organization, not to a project.")
        return str(answer.body["project"]["id"])

    # --- what it makes, and takes away again ---

    def new_name(self) -> str:
        """A name of this run's own."""
        return new_name()

    def will_delete(self, path: str, name: str) -> None:
        """Delete this at the end, the newest first."""
        self.made.append((path, name))

    def delete(self, path: str, name: str) -> None:
        """Delete something that this run made, or an earlier one."""
        self.made = [one for one in self.made if one[0] != path]
        answer = self.send("DELETE", path)
        if answer.status in (200, 202, 204):
            self.removed.append(name)
        elif answer.status != 404:
            self.missing.append(f"{name} at {path} ({answer.status})")

    def sweep(self, after: timedelta) -> None:
        """Delete what earlier runs left that is older than this, and nothing else."""
        for file in self._listed("/v1/files"):
            name = str(file.get("filename"))
            if is_abandoned(name, after):
                self.delete(f"/v1/files/{file['id']}", name)
        who = self.send("GET", "/v3/whoami")
        project = who.body.get("project") if who.status == 200 else None
        if not project:
            return
        for endpoint in self._listed(f"/v2/projects/{project['id']}/endpoints", limit="500"):
            name = str(endpoint.get("name")).rpartition("/")[2]
            if is_abandoned(name, after):
                asyncio.run(self._delete_endpoint(str(endpoint["id"]), name))

    def _listed(self, path: str, **params: str) -> list[dict[str, Any]]:
        answer = self.send("GET", path, **params)
        return list(answer.body.get("data") or []) if answer.status == 200 else []

    async def _delete_endpoint(self, id: str, name: str) -> None:
        """Delete an endpoint that may still have a deployment, in the documented order."""
        async with TogetherAIConnector({"base_url": self.base_url, "api_key": self.api_key}) as connector:
            try:
                await connector.delete_endpoint(id)
                self.removed.append(name)
            except TogetherAIError as exc:
                self.missing.append(f"{name}: {exc}")

    def close(self) -> None:
        """Delete what this run made."""
        while self.made:
            self.delete(*self.made[-1])
        self.http.close()
        self.ledger.close()


def _decoded(response: httpx.Response) -> Any:
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return response.text


def _seconds_until(response: httpx.Response) -> float:
    """How long the server wants its client to wait."""
    for name in ("retry-after", "x-ratelimit-reset"):
        try:
            return min(30.0, max(0.5, float(response.headers.get(name, ""))))
        except ValueError:
            continue
    return 2.0
