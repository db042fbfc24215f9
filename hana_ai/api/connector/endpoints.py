"""Dedicated endpoints: created step by step, resumed after a kill, and listed with their cost.

Creation is endpoint, `validate_only`, deployment, traffic split, and polling if requested. Each step first looks
at what exists, so that a second run resumes where the first was killed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

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
    status_of,
)
from hana_ai.api.connector.removal import Created, Removal, add_report, poll, to_the_end
from hana_ai.api.connector.replies import Anything, Named, Split
from hana_ai.api.errors import (
    TogetherAIConflictError,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIResponseError,
)

if TYPE_CHECKING:
    from together import AsyncTogether
    from together.types import Endpoint, EndpointDeployment
    from together.types.endpoint_traffic_split_entry_param import EndpointTrafficSplitEntryParam

logger = logging.getLogger(__name__)


class Endpoints(Removal):
    """The dedicated endpoints of one account."""

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
        created = Created(price=plan.price, name=name)
        try:
            return await self._create(name, plan, deployment_name, created)
        except BaseException as exc:
            # Even if the task is cancelled: nothing that costs money may be left running.
            limits = self._account.limits
            seconds = limits.undo_seconds if isinstance(exc, Exception) else limits.grace_seconds
            add_report(exc, await to_the_end(self.undo(created, seconds), limits.grace_seconds))
            raise

    async def _create(self, name: str, plan: Plan, deployment_name: str, created: Created) -> tuple[str, str]:
        endpoint = await self._endpoint(name, plan, created)
        deployment = await self._reusable(endpoint, plan, deployment_name, created)
        if deployment is None:
            deployment = await self._deploy(endpoint, plan, deployment_name, created)
        await self._route(endpoint.id, deployment)
        if plan.wanted.wait:
            await self.wait(endpoint.id, deployment, plan.wanted.timeout)
        return endpoint.id, deployment

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
        except TogetherAIResponseError:
            created.unread = True
            raise
        created.endpoint = endpoint.id
        return endpoint

    async def _reusable(self, endpoint: Endpoint, plan: Plan, name: str, created: Created) -> str | None:
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
                # Before it is asked for: the answer may get lost.
                created.parent, created.restarted = endpoint.id, one.id
                await self.scale(endpoint.id, one.id, plan.wanted.min_replicas, plan.wanted.most_replicas)
            return one.id
        return None

    async def _deploy(self, endpoint: Endpoint, plan: Plan, name: str, created: Created) -> str:
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

        await self._account.call(lambda sdk: create(sdk, True), Anything)
        created.parent, created.requested = endpoint.id, name
        try:
            id = (await self._account.read(lambda sdk: create(sdk, False), Named)).id
        except TogetherAIConflictError:
            # The connection broke after the server had created it, and the retry found the name taken.
            found = await self.named(endpoint.id, name)
            if found is None:
                raise
            id = found
        created.deployment = id
        return id

    async def _route(self, endpoint_id: str, deployment_id: str) -> None:
        """Put a deployment into the traffic split, keeping the others."""

        def change(endpoint: Split) -> list[EndpointTrafficSplitEntryParam] | None:
            split = endpoint.params
            if any(entry["deployment_id"] == deployment_id and entry["weight"] for entry in split):
                return None
            return [*split, {"deployment_id": deployment_id, "weight": 1.0}]

        await self.resplit(endpoint_id, change)

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
