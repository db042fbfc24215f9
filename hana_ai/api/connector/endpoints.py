"""Dedicated endpoints: made step by step, found again after a kill, and taken away in the documented order.

Creation is endpoint, `validate_only`, deployment, traffic split, and polling where it was asked for. Each step
looks first at what is there, so that a second run goes on where a first one was killed. Deletion is 0/0 replicas,
waiting for STOPPED, out of the split, deployment, endpoint (together 3.1, `types/endpoints`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from hana_ai.api.connector.account import Account
from hana_ai.api.connector.deployment_plan import Plan
from hana_ai.api.connector.endpoint_records import (
    EndpointRecord,
    Orphan,
    bare_state,
    endpoint_record,
    endpoint_status,
    is_temporary,
    main_deployment,
    orphans_of,
    split_of,
    status_of,
)
from hana_ai.api.errors import (
    TogetherAIConflictError,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIModelNotFoundError,
    TogetherAIRequestError,
)

if TYPE_CHECKING:
    from together import AsyncTogether
    from together.types import Endpoint, EndpointDeployment

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_ROUNDS = 5
_FIRST_POLL, _LONGEST_POLL = 0.1, 10.0
_STOP_SECONDS = 1800.0


@dataclass
class Made:
    """What one call has made, so that it can be undone and named."""

    price: str
    endpoint: str | None = None
    """Id of the endpoint, where this call made it."""
    parent: str = ""
    """Id of the endpoint that the deployment belongs to."""
    sent: str | None = None
    """Name of the deployment that was asked for: the answer may have been lost on its way."""
    deployment: str | None = None


class Endpoints:
    """The dedicated endpoints of one account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    # --- making ---

    async def create(self, name: str, plan: Plan, deployment_name: str) -> tuple[str, str]:
        """Make an endpoint with a deployment, or take over what an earlier run left of it.

        Returns
        -------
        tuple of str
            The ids of endpoint and deployment.

        Raises
        ------
        TogetherAIInputError
            The name is taken by an endpoint that serves something else.
        TogetherAIRequestError
            A step failed; what this call had made is undone, and the error's hint says so.
        """
        made = Made(price=plan.price)
        try:
            return await self._create(name, plan, deployment_name, made)
        except BaseException as exc:
            # Also when the task is cancelled: what costs money must not be left running.
            report = await to_the_end(self._undo(made))
            if isinstance(exc, TogetherAIRequestError):
                exc.hint = f"{exc.hint} {report}" if exc.hint else report
            elif isinstance(exc, TogetherAIError):
                raise type(exc)(f"{exc} {report}") from exc
            raise

    async def _create(self, name: str, plan: Plan, deployment_name: str, made: Made) -> tuple[str, str]:
        endpoint = await self._endpoint(name, plan, made)
        deployment = await self._reusable(endpoint, plan, deployment_name)
        if deployment is None:
            deployment = await self._deploy(endpoint, plan, deployment_name, made)
        await self._route(endpoint.id, deployment.id)
        if plan.wanted.wait:
            await self.wait(endpoint.id, deployment.id, plan.wanted.timeout)
        return endpoint.id, deployment.id

    async def _endpoint(self, name: str, plan: Plan, made: Made) -> Endpoint:
        project = self._account.project_id
        visibility: dict[str, Any] = {"visibility": plan.wanted.visibility} if plan.wanted.visibility else {}
        try:
            endpoint = await self._account.call(
                lambda sdk: sdk.endpoints.create(project_id=project, name=name, **visibility)
            )
        except TogetherAIConflictError:
            found = await self.find(name)
            if found is None:
                raise
            logger.info("endpoint %s is there already (%s)", name, found.id)
            return found
        made.endpoint = endpoint.id
        return endpoint

    async def _reusable(self, endpoint: Endpoint, plan: Plan, name: str) -> EndpointDeployment | None:
        """A deployment that an earlier run left and that serves the same; failed ones are taken away.

        What is to stay is never taken over by a block, which would delete it at its end, nor the other way round.
        """
        for summary in endpoint.deployments or []:
            one = await self.deployment(endpoint.id, summary.id)
            state = bare_state(one.status.state)
            if one.api_model_id != plan.model.model_id or one.config_id != plan.config_id:
                if state in ("STOPPED", "FAILED"):
                    continue
                raise TogetherAIInputError(
                    f"Endpoint {endpoint.name} is there already and serves {one.model} with config "
                    f"{one.config_id}. Choose another endpoint_name, or delete_endpoint({endpoint.id!r}) first."
                )
            if state == "FAILED":
                logger.info("deployment %s has failed earlier and is replaced", one.id)
                await self.remove_deployment(endpoint.id, one.id)
                continue
            if is_temporary(one.name) != is_temporary(name):
                kind = "an `endpoint` block's" if is_temporary(one.name) else "there to stay"
                raise TogetherAIInputError(
                    f"Endpoint {endpoint.name} is there already and is {kind}. Choose another endpoint_name, or "
                    f"delete_endpoint({endpoint.id!r}) first."
                )
            if state in ("STOPPED", "STOPPING"):
                await self._scale(endpoint.id, one.id, plan.wanted.min_replicas, plan.wanted.most_replicas)
            return one
        return None

    async def _deploy(self, endpoint: Endpoint, plan: Plan, name: str, made: Made) -> EndpointDeployment:
        project, wanted = self._account.project_id, plan.wanted
        taken = {summary.name.rpartition("/")[2] for summary in endpoint.deployments or []}
        name = next(one for one in (name, *(f"{name}-{count}" for count in range(2, 1000))) if one not in taken)

        async def create(sdk: AsyncTogether, validate_only: bool) -> EndpointDeployment:
            more: dict[str, Any] = {"validate_only": True} if validate_only else {}
            if wanted.inactive_timeout is not None:
                more["inactive_timeout"] = wanted.inactive_timeout
            return await sdk.endpoints.deployments.create(
                endpoint.id,
                project_id=project,
                name=name,
                model=plan.model.path,
                config=plan.config_path,
                autoscaling={"min_replicas": wanted.min_replicas, "max_replicas": wanted.most_replicas},
                **more,
            )

        await self._account.call(lambda sdk: create(sdk, True))
        made.parent, made.sent = endpoint.id, name
        try:
            deployment = await self._account.call(lambda sdk: create(sdk, False))
        except TogetherAIConflictError:
            # The connection broke after the server had made it, and the next try found the name taken.
            id = await self._named(endpoint.id, name)
            if id is None:
                raise
            deployment = await self.deployment(endpoint.id, id)
        made.deployment = deployment.id
        return deployment

    async def _named(self, endpoint_id: str, name: str) -> str | None:
        """The id of a deployment by its bare name."""
        endpoint = await self.endpoint(endpoint_id)
        ids = [one.id for one in endpoint.deployments or [] if one.name.rpartition("/")[2] == name]
        return ids[0] if ids else None

    async def _route(self, endpoint_id: str, deployment_id: str) -> None:
        """Put a deployment into the traffic split, keeping the others."""

        async def change(endpoint: Endpoint) -> list[dict[str, Any]] | None:
            split = split_of(endpoint)
            if any(entry["deployment_id"] == deployment_id and entry["weight"] for entry in split):
                return None
            return [*split, {"deployment_id": deployment_id, "weight": 1.0}]

        await self._resplit(endpoint_id, change)

    async def _resplit(
        self, endpoint_id: str, change: Callable[[Endpoint], Awaitable[list[dict[str, Any]] | None]]
    ) -> None:
        """Change the traffic split; read anew when somebody else changed the endpoint in between."""
        project = self._account.project_id
        for round in range(_ROUNDS):
            endpoint = await self.endpoint(endpoint_id)
            split = await change(endpoint)
            if split is None:
                return
            entries: Any = split
            try:
                await self._account.call(
                    lambda sdk, entries=entries, etag=endpoint.etag: sdk.endpoints.update(  # type: ignore[misc]
                        endpoint_id,
                        project_id=project,
                        traffic_split=entries,
                        update_mask="trafficSplit",
                        etag=etag,
                    )
                )
            except TogetherAIConflictError:
                if round == _ROUNDS - 1:
                    raise
            else:
                return

    async def wait(self, endpoint_id: str, deployment_id: str, timeout: float) -> None:
        """Poll until a deployment is ready.

        Raises
        ------
        TogetherAIError
            It failed or was stopped, in the server's words, or `timeout` seconds were not enough.
        """

        async def ready() -> bool:
            status = (await self.deployment(endpoint_id, deployment_id)).status
            if status_of(status.state) in ("failed", "stopped"):
                raise TogetherAIError(
                    f"Deployment {deployment_id} is {bare_state(status.state)}: {status.message or 'no reason'}."
                )
            return bare_state(status.state) == "READY"

        if not await poll(ready, timeout):
            raise TogetherAIError(f"Deployment {deployment_id} was not ready after {timeout:g} s.")

    async def _undo(self, made: Made) -> str:
        """Take away what was made; says in words what was and what was not."""
        undone: list[str] = []
        try:
            if made.sent and made.deployment is None:
                made.deployment = await self._named(made.parent, made.sent)
            if made.deployment:
                await self.remove_deployment(made.parent, made.deployment)
                undone.append(f"deployment {made.deployment}")
            if made.endpoint:
                await self._delete(made.endpoint)
                undone.append(f"endpoint {made.endpoint}")
        except TogetherAIError as exc:
            left = (
                f"deployment {made.deployment} ({made.price})" if made.deployment else f"endpoint {made.endpoint}"
            )
            begun = f"Undone: {', '.join(undone)}. " if undone else ""
            what = made.endpoint or made.deployment
            return f"{begun}NOT undone: {left}, because {exc} Call delete_endpoint({what!r})."
        return f"Made and undone again: {', '.join(undone)}." if undone else "This call had made nothing."

    # --- reading ---

    async def endpoint(self, id: str) -> Endpoint:
        """One endpoint."""
        project = self._account.project_id
        return await self._account.call(lambda sdk: sdk.endpoints.retrieve(id, project_id=project))

    async def deployment(self, endpoint_id: str, id: str) -> EndpointDeployment:
        """One deployment."""
        project = self._account.project_id
        return await self._account.call(
            lambda sdk: sdk.endpoints.deployments.retrieve(id, project_id=project, endpoint_id=endpoint_id)
        )

    async def find(self, name: str) -> Endpoint | None:
        """An endpoint by its bare name."""
        project = self._account.project_id
        bare = name.rpartition("/")[2]
        found = await self._account.pages(
            lambda sdk, page: sdk.endpoints.list(project_id=project, filter=f'name="{bare}"', **page)
        )
        return next((one for one in found if one.name.rpartition("/")[2] == bare), None)

    async def all(self) -> list[Endpoint]:
        """All endpoints of the project."""
        project = self._account.project_id
        return await self._account.pages(lambda sdk, page: sdk.endpoints.list(project_id=project, **page))

    async def endpoint_of(self, deployment_id: str) -> str:
        """The endpoint that a deployment belongs to; TogetherAIModelNotFoundError when there is none."""
        for endpoint in await self.all():
            if any(one.id == deployment_id for one in endpoint.deployments or []):
                return str(endpoint.id)
        raise TogetherAIModelNotFoundError(f"Deployment {deployment_id} not found.", status=404)

    async def status(self, id: str) -> str:
        """The status of an endpoint or a deployment."""
        if id.startswith("dep_"):
            endpoint_id = await self.endpoint_of(id)
            return status_of((await self.deployment(endpoint_id, id)).status.state)
        return endpoint_status(await self.endpoint(id))

    async def records(self) -> list[EndpointRecord]:
        """All endpoints with what they cost."""
        prices = await self._prices()
        url = f"{self._account.base_url}/v1"
        found = []
        for endpoint in await self.all():
            main = main_deployment(endpoint)
            name = await self._account.model_name(main.model) if main else ""
            found.append(endpoint_record(endpoint, name, url, prices))
        return found

    async def orphans(self, kept: set[str]) -> list[Orphan]:
        """Deployments that cost money and get no traffic, or whose `async with` block did not end them."""
        prices = await self._prices()
        return [orphan for endpoint in await self.all() for orphan in orphans_of(endpoint, prices, kept)]

    async def _prices(self) -> dict[str, Decimal]:
        return {one.name: Decimal(one.price_cents_per_hour) / 100 for one in await self._account.hardware()}

    # --- taking away ---

    async def delete(self, id: str) -> bool:
        """Take an endpoint or a deployment away, in the documented order; False when it is not there."""
        try:
            if id.startswith("dep_"):
                await self.remove_deployment(await self.endpoint_of(id), id)
                return True
            endpoint = await self.endpoint(id)
            for one in endpoint.deployments or []:
                await self.remove_deployment(id, one.id)
            await self._delete(id)
        except TogetherAIModelNotFoundError:
            return False
        return True

    async def _delete(self, id: str) -> None:
        project = self._account.project_id
        await self._account.call(lambda sdk: sdk.endpoints.delete(id, project_id=project))

    async def remove_deployment(self, endpoint_id: str, id: str) -> None:
        """0/0 replicas, wait for STOPPED, out of the split, delete."""
        project = self._account.project_id
        await self._scale(endpoint_id, id, 0, 0)

        async def stopped() -> bool:
            return bare_state((await self.deployment(endpoint_id, id)).status.state) == "STOPPED"

        if not await poll(stopped, _STOP_SECONDS):
            raise TogetherAIError(f"Deployment {id} was not stopped after {_STOP_SECONDS:g} s.")

        async def without(endpoint: Endpoint) -> list[dict[str, Any]] | None:
            split = split_of(endpoint)
            left = [entry for entry in split if entry["deployment_id"] != id]
            return None if len(left) == len(split) else left

        await self._resplit(endpoint_id, without)
        await self._account.call(
            lambda sdk: sdk.endpoints.deployments.delete(id, project_id=project, endpoint_id=endpoint_id)
        )

    async def _scale(self, endpoint_id: str, id: str, least: int, most: int) -> None:
        project = self._account.project_id
        await self._account.call(
            lambda sdk: sdk.endpoints.deployments.update(
                id,
                project_id=project,
                endpoint_id=endpoint_id,
                autoscaling={"min_replicas": least, "max_replicas": most},
                update_mask="autoscaling",
            )
        )


async def poll(condition: Callable[[], Awaitable[bool]], timeout: float) -> bool:
    """Ask until something holds, ever less often; False when `timeout` seconds were not enough."""
    deadline = time.monotonic() + timeout
    pause = _FIRST_POLL
    while not await condition():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_POLL)
    return True


async def to_the_end(work: Awaitable[_T]) -> _T:
    """Wait for something that must not be cut short; a cancellation in between is heeded afterwards."""
    running = asyncio.ensure_future(work)
    cancelled = False
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            cancelled = True
    result = running.result()
    if cancelled:
        raise asyncio.CancelledError
    return result
