"""An engine that makes what a request names, and puts its id in the place of the name.

The SDK's tests ask for the endpoint "endpointId" of the project "projectId": each request gets one of its own.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hana_ai.api.local.together import EngineBase, LocalModel, LocalTogether, Piece, ScriptedEngine
from hana_ai.api.local.together.api.batches.asking import Answer
from hana_ai.api.local.together.api.catalog import model_id
from hana_ai.api.local.together.api.files import DataFile
from hana_ai.api.local.together.api.hardware import PUBLIC_PROJECT, config_id
from hana_ai.api.local.together.api.management.records import (
    Attachment,
    Deployment,
    Endpoint,
    Record,
    RemoteUpload,
    new_id,
)
from hana_ai.api.local.together.engine import Embedded, Ranked
from hana_ai.api.local.together.requests import ChatBody, CompletionBody

JSONObject = dict[str, Any]

_HARDWARE = "1xnvidia-h100-80gb"
_MOMENT = "2026-01-01T00:00:00Z"
_ROLLOUT: JSONObject = {
    "sourceDeploymentId": "dep_a",
    "targetDeploymentId": "dep_b",
    "state": "ROLLOUT_STATE_RUNNING",
    "strategy": "ROLLOUT_STRATEGY_TYPE_ROLLING",
    "status": {"steps": [], "totalSteps": 0},
}


class Placeholders(EngineBase):
    """Answers as another engine does, after it has made what the request names."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine
        self.server: LocalTogether

    @property
    def models(self) -> Sequence[LocalModel]:
        return self._engine.models

    def chat(self, body: ChatBody) -> AsyncGenerator[Piece, None]:
        return self._engine.chat(body)

    def complete(self, body: CompletionBody) -> AsyncGenerator[Piece, None]:
        return self._engine.complete(body)

    async def embed(self, model: str, texts: Sequence[str]) -> Embedded:
        return await self._engine.embed(model, texts)

    async def rank(self, model: str, query: str, documents: Sequence[str]) -> Ranked:
        return await self._engine.rank(model, query, documents)

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application behind the replacing."""
        inner = self._engine.wrap(app)

        async def replacing(scope: Scope, receive: Receive, send: Send) -> None:
            body = bytearray()
            more = True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            world = _World(self.server, scope["method"])
            path = "/".join(world.path(scope["path"].split("/")))
            query = world.query(dict(parse_qsl(scope["query_string"].decode())))
            changed = world.body(path, bytes(body))
            headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
            headers.append((b"content-length", str(len(changed)).encode()))
            sent = False

            async def once() -> Message:
                nonlocal sent
                if sent:
                    return await receive()
                sent = True
                return {"type": "http.request", "body": changed, "more_body": False}

            new = {"path": path, "raw_path": path.encode(), "query_string": urlencode(query).encode()}
            await inner({**scope, **new, "headers": headers}, once, send)

        return replacing


class _World:
    """What one request finds."""

    def __init__(self, server: LocalTogether, method: str) -> None:
        self._server = server
        self._method = method
        self._management = server.management
        self._base = model_id(next(one for one in server.models if one.type == "chat"))
        self._endpoint: Endpoint | None = None
        self._deployment: Deployment | None = None
        self._record: Record | None = None
        """What the path names."""
        self._shadow: JSONObject = {}

    # --- what there is in a path ---

    def path(self, steps: list[str]) -> list[str]:
        """A path with ids of what is there."""
        known: dict[str, Callable[[], str]] = {
            "projects": lambda: "proj_local",
            "organizations": lambda: "org_local",
            "endpoints": lambda: self.endpoint().id,
            "deployments": lambda: self.deployment().id,
            "adapters": self._adapter,
            "abExperiments": lambda: self._shown("abExperiments", name="a", members=[]),
            "shadowExperiments": self._shadow_experiment,
            "targets": lambda: str(self._shadow["targets"][0]["id"]),
            "rollouts": lambda: self._shown("rollouts", **_ROLLOUT),
            "models": self.model,
            "configs": lambda: config_id(self._base, _HARDWARE, "dynamic"),
            "uploads": self._upload,
            "supported-models": lambda: self._base,
            "inference-instance-types": lambda: _HARDWARE,
            "placement-profiles": lambda: "pp_local",
            "files": lambda: self.file("fine-tune").id,
            "batches": self._batch,
            "fine-tunes": self._job,
            "evaluation": self._evaluation,
        }
        kept = {"uploads", "preprocess", "upload", "models", "estimate-price", "preview", "limits"}
        found = steps[:1]
        for before, step in pairwise(steps):
            replaced = known[before]() if before in known and step not in kept else step
            found.append(replaced)
        adapters = list(self._deployment.adapters.values()) if self._deployment is not None else []
        self._record = adapters[0] if adapters else self._deployment or self._endpoint
        if "configs" in found and "projects" in found:
            found[found.index("projects") + 1] = PUBLIC_PROJECT
        return found

    def endpoint(self) -> Endpoint:
        """An endpoint."""
        if self._endpoint is None:
            self._endpoint = Endpoint(new_id("ep"), f"e{random.getrandbits(64)}", "VISIBILITY_PRIVATE")
            self._management.endpoints[self._endpoint.id] = self._endpoint
        return self._endpoint

    def deployment(self) -> Deployment:
        """A deployment that is stopped, and takes adapters."""
        if self._deployment is None:
            id, base = self._management.base_of(self._base)
            model = f"projects/{PUBLIC_PROJECT}/models/{id}/revisions/rv_public"
            config = config_id(id, _HARDWARE, "dynamic")
            name = f"d{random.getrandbits(64)}"
            made = Deployment(
                new_id("dep"), name, self.endpoint().id, model, id, base.id, config, _HARDWARE, 0, 0, 0, None
            )
            made.stopped = float("-inf")
            self.endpoint().deployments[made.id] = made
            self._deployment = made
        return self._deployment

    def model(self) -> str:
        """An adapter with a revision."""
        return self._management.register(f"m{random.getrandbits(64)}", "adapter", self._base, {"a": b""}).id

    def _adapter(self) -> str:
        id = self.model()
        made = Attachment(new_id("dad"), id, self._management.models[id].revisions[0].id, None)
        self.deployment().adapters[made.id] = made
        return made.id

    def _shown(self, kind: str, **fields: Any) -> str:
        return str(self._management.show(self.endpoint().id, kind, **fields)["id"])

    def _shadow_experiment(self) -> str:
        experiment = {"experimentId": "exp", "endpointId": self.endpoint().id, "projectId": "proj_local"}
        target = {"id": "tgt_a", "name": "a", "targetDeploymentId": "dep_a", "etag": "e"}
        target |= {"createdAt": _MOMENT, "updatedAt": _MOMENT}
        self._shadow = {"targets": [target | experiment]}
        return self._shown(
            "shadowExperiments",
            name="s",
            source={"endpoint": {"sampling": {"uniform": {"rate": 1}}}},
            state="SHADOW_EXPERIMENT_STATE_ACTIVE",
            **self._shadow,
        )

    def _upload(self) -> str:
        made = RemoteUpload(new_id("ru"), self.model(), "org/adapter", ("RUNNING",), "")
        self._management.remote_uploads[made.id] = made
        return made.id

    def file(self, purpose: str) -> DataFile:
        """A file of one line."""
        files = self._server.files
        files.dials.processing = 0
        chat = {"model": self._server.model("chat"), "messages": [{"role": "user", "content": "Hi"}]}
        lines = {"batch-api": {"custom_id": "a", "body": chat}, "fine-tune": {"text": "a"}, "eval": {"a": "b"}}
        made = files.reserve("a.jsonl", purpose, "jsonl")
        made.path.write_text(json.dumps(lines[purpose]) + "\n")
        made.size = made.path.stat().st_size
        files.take(made)
        return made

    def _batch(self) -> str:
        async def ask(path: str, body: bytes) -> Answer:
            return Answer(200, b"{}")

        batches = self._server.batches
        made = batches.start(self.file("batch-api"), "/v1/chat/completions", "", ask, lambda name, path: None)
        return made.id

    def _job(self) -> str:
        jobs = self._server.fine_tunes
        jobs.dials.step = 0.2
        fields = {"training_file": self.file("fine-tune").id, "model": self._server.model("chat")}
        job = jobs.start(fields)
        if self._method == "DELETE":
            job.enter("error", "job_error", "ended")
        job.started_at = _MOMENT
        return job.id

    def _evaluation(self) -> str:
        async def ask(path: str, body: bytes) -> Answer:
            return Answer(200, b'{"choices": [{"message": {"content": "1"}}]}')

        judge = {"model": self._server.model("chat"), "system_template": "a", "model_source": "serverless"}
        bounds = {"min_score": 0, "max_score": 1, "pass_threshold": 1}
        more = {"judge": judge, "input_data_file_path": self.file("eval").id}
        return self._server.evaluations.start("score", bounds | more, ask).id

    # --- what there is in queries and bodies ---

    def query(self, given: dict[str, str]) -> dict[str, str]:
        """A query with names of what is there; what the tests leave as a placeholder is left out."""
        names: dict[str, Callable[[], str]] = {
            "model_name": lambda: self._server.model("chat"),
            "deploymentId": lambda: self.deployment().id,
            "etag": self._etag,
            "organization_id": lambda: "org_local",
        }
        if given.get("limit") == "0":
            given["limit"] = "1"
        left_out = {
            "startTime",
            "endTime",
            "after",
            "filter",
            "orderBy",
            "updateMask",
            "referenceModel",
            "referenceModelId",
            "granularity",
        }
        return {
            name: names[name]() if name in names else value
            for name, value in given.items()
            if name not in left_out
        }

    def _etag(self) -> str:
        return self._record.etag if self._record is not None else ""

    def body(self, path: str, raw: bytes) -> bytes:
        """A body in JSON with names of what is there."""
        try:
            fields = json.loads(raw)
        except ValueError:
            return raw
        if not isinstance(fields, dict):
            return raw
        names: dict[str, Callable[[], object]] = {
            "adapterModelId": self.model,
            "baseModelId": lambda: self._base,
            "etag": self._etag,
            "endpoint": lambda: "/v1/chat/completions",
            "from_checkpoint": self._job,
            "input_file_id": lambda: self.file("batch-api").id,
            "modelId": self.model,
            "name": lambda: f"n{random.getrandbits(64)}",
            "remoteUrl": lambda: "org/adapter",
            "training_file": lambda: self.file("fine-tune").id,
            "trafficSplit": lambda: [{"deploymentId": self.deployment().id, "weight": 1}],
            "type": lambda: "adapter",
            "validation_file": lambda: self.file("fine-tune").id,
        }
        kinds = {"embeddings": "embedding", "rerank": "rerank"}
        # Numbers are placeholders, too; these may not be 0.
        for name in ("max_tokens", "repetition_penalty"):
            if fields.get(name) == 0:
                fields[name] = 1
        for tool in fields.get("tools", ()):
            tool["type"] = "function"
        if fields.get("tool_choice") == "tool_name":
            fields["tool_choice"] = "auto"
        if path.endswith("/deployments"):
            fields |= {"model": "", "config": ""}
            names["model"] = lambda: f"projects/{PUBLIC_PROJECT}/models/{self._base}"
            names["config"] = lambda: (
                f"projects/{PUBLIC_PROJECT}/configs/{config_id(self._base, _HARDWARE, 'disabled')}"
            )
        else:
            names["model"] = lambda: self._server.model(kinds.get(path.rpartition("/")[2], "chat"))
        for name in fields.keys() & names.keys():
            fields[name] = names[name]()
        if "adapterRevisionId" in fields:
            adapters = list(self.deployment().adapters.values())
            id = fields.get("adapterModelId") or adapters[0].model_id
            fields["adapterRevisionId"] = self._management.models[str(id)].revisions[0].id
        return json.dumps(fields).encode()
