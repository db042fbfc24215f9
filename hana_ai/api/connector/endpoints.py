"""Dedicated endpoints: created step by step, resumed after a kill, and deleted in the documented order.

Creation is endpoint, `validate_only`, deployment, traffic split, and polling if requested. Each step first looks
at what exists, so that a second run resumes where the first was killed. Deletion is zero replicas, waiting for
STOPPED, out of the traffic split, deployment, endpoint (together 3.1, `types/endpoints`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hana_ai.api.connector.account import Account, Limits
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
    from together.types.endpoint_traffic_split_entry_param import EndpointTrafficSplitEntryParam

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_SPLIT_TRIES = 5


@dataclass
class Created:
    """What one call has created, so that it can be undone and named."""

    price: str
    endpoint: str | None = None
    """Id of the endpoint, if this call created it."""
    parent: str = ""
    """Id of the endpoint that the deployment belongs to."""
    requested: str | None = None
    """Name of the requested deployment: it may exist even if the answer was lost."""
    deployment: str | None = None


class Endpoints:
    """The dedicated endpoints of one account."""

    def __init__(self, account: Account) -> None:
        self._account = account

    # --- creating ---

    async def create(self, name: str, plan: Plan, deployment_name: str) -> tuple[str, str]:
        """Create an endpoint with a deployment, or take over what an earlier run left.

        Returns
        -------
        tuple of str
            The ids of endpoint and deployment.

        Raises
        ------
        TogetherAIInputError
            The name is taken by an endpoint that serves something else.
        TogetherAIRequestError
            A step failed; what this call had created is undone, and the error's hint says so.
        """
        created = Created(price=plan.price)
        try:
            return await self._create(name, plan, deployment_name, created)
        except BaseException as exc:
            # Even if the task is cancelled: nothing that costs money may be left running.
            report = await to_the_end(self._undo(created))
            if isinstance(exc, TogetherAIRequestError):
                exc.hint = f"{exc.hint} {report}" if exc.hint else report
            elif isinstance(exc, TogetherAIError):
                raise type(exc)(f"{exc} {report}") from exc
            raise

    async def _create(self, name: str, plan: Plan, deployment_name: str, created: Created) -> tuple[str, str]:
        endpoint = await self._endpoint(name, plan, created)
        deployment = await self._reusable(endpoint, plan, deployment_name)
        if deployment is None:
            deployment = await self._deploy(endpoint, plan, deployment_name, created)
        await self._route(endpoint.id, deployment.id)
        if plan.wanted.wait:
            await self.wait(endpoint.id, deployment.id, plan.wanted.timeout)
        return endpoint.id, deployment.id

    async def _endpoint(self, name: str, plan: Plan, created: Created) -> Endpoint:
        from together import omit

        project = self._account.project_id
        visibility = plan.wanted.visibility or omit
        try:
            endpoint = await self._account.call(
                lambda sdk: sdk.endpoints.create(project_id=project, name=name, visibility=visibility)
            )
        except TogetherAIConflictError:
            found = await self.find(name)
            if found is None:
                raise
            logger.info("endpoint %s already exists (%s)", name, found.id)
            return found
        created.endpoint = endpoint.id
        return endpoint

    async def _reusable(self, endpoint: Endpoint, plan: Plan, name: str) -> EndpointDeployment | None:
        """A deployment that an earlier run left and that serves the same; failed ones are deleted.

        A temporary endpoint never takes over a permanent one, which it would delete on exit, nor the reverse.
        """
        for summary in endpoint.deployments or []:
            one = await self.deployment(endpoint.id, summary.id)
            state = bare_state(one.status.state)
            if one.api_model_id != plan.model.model_id or one.config_id != plan.config_id:
                if state in ("STOPPED", "FAILED"):
                    continue
                raise TogetherAIInputError(
                    f"Endpoint {endpoint.name} already exists and serves {one.model} with config "
                    f"{one.config_id}. Choose another endpoint_name, or delete_endpoint({endpoint.id!r}) first."
                )
            if state == "FAILED":
                logger.info("deployment %s has failed before and is replaced", one.id)
                await self.remove_deployment(endpoint.id, one.id)
                continue
            if is_temporary(one.name) != is_temporary(name):
                kind = "temporary" if is_temporary(one.name) else "permanent"
                raise TogetherAIInputError(
                    f"Endpoint {endpoint.name} already exists and is {kind}. Choose another endpoint_name, or "
                    f"delete_endpoint({endpoint.id!r}) first."
                )
            if state in ("STOPPED", "STOPPING"):
                await self._scale(endpoint.id, one.id, plan.wanted.min_replicas, plan.wanted.most_replicas)
            return one
        return None

    async def _deploy(self, endpoint: Endpoint, plan: Plan, name: str, created: Created) -> EndpointDeployment:
        from together import omit

        project, wanted = self._account.project_id, plan.wanted
        taken = {summary.name.rpartition("/")[2] for summary in endpoint.deployments or []}
        name = next(one for one in (name, *(f"{name}-{count}" for count in range(2, 1000))) if one not in taken)

        async def create(sdk: AsyncTogether, validate_only: bool) -> EndpointDeployment:
            return await sdk.endpoints.deployments.create(
                endpoint.id,
                project_id=project,
                name=name,
                model=plan.model.path,
                config=plan.config_path,
                autoscaling={"min_replicas": wanted.min_replicas, "max_replicas": wanted.most_replicas},
                inactive_timeout=omit if wanted.inactive_timeout is None else wanted.inactive_timeout,
                validate_only=validate_only or omit,
            )

        await self._account.call(lambda sdk: create(sdk, True))
        created.parent, created.requested = endpoint.id, name
        try:
            deployment = await self._account.call(lambda sdk: create(sdk, False))
        except TogetherAIConflictError:
            # The connection broke after the server had created it, and the retry found the name taken.
            id = await self._named(endpoint.id, name)
            if id is None:
                raise
            deployment = await self.deployment(endpoint.id, id)
        created.deployment = deployment.id
        return deployment

    async def _named(self, endpoint_id: str, name: str) -> str | None:
        """The id of a deployment by its bare name."""
        endpoint = await self.endpoint(endpoint_id)
        ids = [one.id for one in endpoint.deployments or [] if one.name.rpartition("/")[2] == name]
        return ids[0] if ids else None

    async def _route(self, endpoint_id: str, deployment_id: str) -> None:
        """Put a deployment into the traffic split, keeping the others."""

        async def change(endpoint: Endpoint) -> list[EndpointTrafficSplitEntryParam] | None:
            split = split_of(endpoint)
            if any(entry["deployment_id"] == deployment_id and entry["weight"] for entry in split):
                return None
            return [*split, {"deployment_id": deployment_id, "weight": 1.0}]

        await self._resplit(endpoint_id, change)

    async def _resplit(
        self,
        endpoint_id: str,
        change: Callable[[Endpoint], Awaitable[list[EndpointTrafficSplitEntryParam] | None]],
    ) -> None:
        """Change the traffic split, starting over when somebody else changes the endpoint in between."""
        project = self._account.project_id
        tries = 0
        while True:
            tries += 1
            endpoint = await self.endpoint(endpoint_id)
            split = await change(endpoint)
            if split is None:
                return

            async def update(
                sdk: AsyncTogether,
                split: list[EndpointTrafficSplitEntryParam] = split,
                etag: str = endpoint.etag,
            ) -> Endpoint:
                return await sdk.endpoints.update(
                    endpoint_id, project_id=project, traffic_split=split, update_mask="trafficSplit", etag=etag
                )

            try:
                await self._account.call(update)
            except TogetherAIConflictError:
                if tries == _SPLIT_TRIES:
                    raise
            else:
                return

    async def wait(self, endpoint_id: str, deployment_id: str, timeout: float) -> None:
        """Poll until a deployment is ready.

        Raises
        ------
        TogetherAIError
            It failed or was stopped, with the server's message, or was not ready after `timeout` seconds.
        """

        async def ready() -> bool:
            status = (await self.deployment(endpoint_id, deployment_id)).status
            if status_of(status.state) in ("failed", "stopped"):
                raise TogetherAIError(
                    f"Deployment {deployment_id} is {bare_state(status.state)}: {status.message or 'no reason'}."
                )
            return bare_state(status.state) == "READY"

        if not await poll(ready, timeout, self._account.limits):
            raise TogetherAIError(f"Deployment {deployment_id} was not ready after {timeout:g} s.")

    async def _undo(self, created: Created) -> str:
        """Delete what was created; says what was undone and what was not."""
        undone: list[str] = []
        try:
            if created.requested and created.deployment is None:
                created.deployment = await self._named(created.parent, created.requested)
            if created.deployment:
                await self.remove_deployment(created.parent, created.deployment)
                undone.append(f"deployment {created.deployment}")
            if created.endpoint:
                await self._delete(created.endpoint)
                undone.append(f"endpoint {created.endpoint}")
        except TogetherAIError as exc:
            what = created.endpoint or created.deployment
            left = f"endpoint {created.endpoint}"
            if created.deployment:
                left = f"deployment {created.deployment} ({created.price})"
            done = f"Undone: {', '.join(undone)}. " if undone else ""
            return f"{done}NOT undone: {left}, because {exc} Call delete_endpoint({what!r})."
        return f"Created and undone again: {', '.join(undone)}." if undone else "This call had created nothing."

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
        """The id of the endpoint that a deployment belongs to.

        Raises
        ------
        TogetherAIModelNotFoundError
            There is no such deployment.
        """
        for endpoint in await self.all():
            if any(one.id == deployment_id for one in endpoint.deployments or []):
                return endpoint.id
        raise TogetherAIModelNotFoundError(f"Deployment {deployment_id} not found.", status=404)

    async def status(self, id: str) -> str:
        """The status of an endpoint or a deployment."""
        if id.startswith("dep_"):
            endpoint_id = await self.endpoint_of(id)
            return status_of((await self.deployment(endpoint_id, id)).status.state)
        return endpoint_status(await self.endpoint(id))

    async def records(self) -> list[EndpointRecord]:
        """All endpoints with their cost."""
        prices = await self._account.hardware_prices()
        url = f"{self._account.base_url}/v1"
        found = []
        for endpoint in await self.all():
            main = main_deployment(endpoint)
            name = await self._account.model_name(main.model) if main else ""
            found.append(endpoint_record(endpoint, name, url, prices))
        return found

    async def orphans(self, in_use: set[str]) -> list[Orphan]:
        """Deployments that cost money but get no traffic, and temporary ones that are not in use."""
        prices = await self._account.hardware_prices()
        return [orphan for endpoint in await self.all() for orphan in orphans_of(endpoint, prices, in_use)]

    # --- deleting ---

    async def delete(self, id: str) -> bool:
        """Delete an endpoint or a deployment in the documented order; False if there is none."""
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
        """Scale to zero, wait for STOPPED, take it out of the traffic split, delete it."""
        project = self._account.project_id
        await self._scale(endpoint_id, id, 0, 0)

        async def stopped() -> bool:
            return bare_state((await self.deployment(endpoint_id, id)).status.state) == "STOPPED"

        limits = self._account.limits
        if not await poll(stopped, limits.stop_seconds, limits):
            raise TogetherAIError(f"Deployment {id} was not stopped after {limits.stop_seconds:g} s.")

        async def without(endpoint: Endpoint) -> list[EndpointTrafficSplitEntryParam] | None:
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


async def poll(condition: Callable[[], Awaitable[bool]], timeout: float, limits: Limits) -> bool:
    """Check a condition until it holds, less and less often; False if it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = limits.first_poll
    while not await condition():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, limits.longest_poll)
    return True


async def to_the_end(work: Awaitable[_T]) -> _T:
    """Finish work that must not be cut short; a cancellation takes effect afterwards."""
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
