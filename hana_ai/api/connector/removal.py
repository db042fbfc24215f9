"""Taking endpoints and deployments away: on request, at the end of a block, and when their creation failed.

Deletion is zero replicas, waiting for STOPPED, out of the traffic split, deployment, endpoint (together 3.1,
`types/endpoints`). It reads no more of a reply than it needs, and where a state can't be read it tries to delete
all the same: what runs costs money.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hana_ai.api.connector.account import Account, Limits
from hana_ai.api.connector.endpoint_records import bare_state
from hana_ai.api.connector.replies import Anything, Holder, Page, Split, State, Titled
from hana_ai.api.errors import (
    TogetherAIConflictError,
    TogetherAIError,
    TogetherAIModelNotFoundError,
    TogetherAIRequestError,
    TogetherAIResponseError,
    TogetherAIStatusError,
)

if TYPE_CHECKING:
    from together import AsyncTogether
    from together.types import Endpoint
    from together.types.endpoint_traffic_split_entry_param import EndpointTrafficSplitEntryParam

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_SPLIT_TRIES = 5


@dataclass
class Created:
    """What one call has created, so that it can be undone and named."""

    price: str
    name: str
    """Of the endpoint."""
    endpoint: str | None = None
    """Id of the endpoint, if this call created it."""
    unread: bool = False
    """Whether this call created the endpoint, but could not read its id."""
    parent: str = ""
    """Id of the endpoint that the deployment belongs to."""
    requested: str | None = None
    """Name of the requested deployment: it may exist even if the answer was lost."""
    deployment: str | None = None
    restarted: str | None = None
    """Id of a deployment that was there, but cost nothing until this call started it again."""

    def left(self, undone: Sequence[str]) -> str:
        """What is not undone, in words."""
        found = []
        deployment = f"deployment {self.deployment or f'{self.requested!r} of endpoint {self.parent}'}"
        if (self.deployment or self.requested) and deployment not in undone:
            found.append(f"{deployment} ({self.price})")
        restarted = f"restart of deployment {self.restarted}"
        if self.restarted and restarted not in undone:
            found.append(f"{restarted} ({self.price})")
        endpoint = f"endpoint {self.endpoint or repr(self.name)}"
        if (self.endpoint or self.unread) and endpoint not in undone:
            found.append(endpoint)
        return ", ".join(found)


class Removal:
    """Takes the endpoints and deployments of one account away."""

    def __init__(self, account: Account) -> None:
        self._account = account

    async def delete(self, id: str, known: Sequence[str] = (), seconds: float | None = None) -> bool:
        """Delete an endpoint or a deployment in the documented order; False if there is none.

        Parameters
        ----------
        id : str
        known : sequence of str
            Ids of deployments that the endpoint has, should the server not say so.
        seconds : float, optional
            How long it may take; default: `Limits.stop_seconds` for each deployment.

        Raises
        ------
        TogetherAIError
            It is not gone; the message says what may still cost money.
        """
        deployments = [*known]
        try:
            async with asyncio.timeout(seconds):
                if id.startswith("dep_"):
                    await self.remove_deployment(await self.endpoint_of(id), id)
                    return True
                deployments += [one for one in await self._deployments_of(id, known) if one not in known]
                tried = await self._remove_all(id, deployments)
                try:
                    await self._delete(id)
                except TogetherAIModelNotFoundError:
                    return False
                except TogetherAIStatusError:
                    # It may have deployments that it named by other ids: the list of them may know better.
                    deployments += [one.id for one in await self._listed(id) if one.id not in tried]
                    if not deployments:
                        raise
                    await self._remove_all(id, deployments)
                    await self._delete(id)
        except TogetherAIModelNotFoundError:
            return False
        except TimeoutError:
            raise TogetherAIError(f"Not deleted within {seconds:g} s. {_not_deleted(id, deployments)}") from None
        except asyncio.CancelledError as exc:
            exc.add_note(_not_deleted(id, deployments))
            raise
        except TogetherAIError as exc:
            add_report(exc, _not_deleted(id, deployments))
            raise
        return True

    async def _remove_all(self, endpoint_id: str, deployments: list[str]) -> set[str]:
        """Remove deployments, and each from the list once it is gone; returns those that were there."""
        tried = set(deployments)
        for one in tuple(deployments):
            with suppress(TogetherAIModelNotFoundError):
                await self.remove_deployment(endpoint_id, one, whole=True)
            deployments.remove(one)
        return tried

    async def stop(self, id: str) -> bool:
        """Scale an endpoint's deployments, or one deployment, to zero; False if there is none."""
        try:
            if id.startswith("dep_"):
                await self.scale(await self.endpoint_of(id), id, 0, 0)
                return True
            for one in await self._titled(id):
                await self.scale(id, one.id, 0, 0)
        except TogetherAIModelNotFoundError:
            return False
        return True

    async def leave(self, id: str, known: Sequence[str], seconds: float | None) -> None:
        """Delete as `delete` does; cut short by `to_the_end`, it ends in an error that names what is left."""
        try:
            await self.delete(id, known, seconds)
        except asyncio.CancelledError as exc:
            raise TogetherAIError(" ".join(["Cancelled.", *exc.__notes__])) from None

    async def remove_deployment(self, endpoint_id: str, id: str, *, whole: bool = False) -> None:
        """Scale to zero, wait for STOPPED, take it out of the traffic split, delete it.

        With `whole`, its endpoint is to go as well, so that a split that can't be read may be emptied.
        """
        with suppress(TogetherAIResponseError):
            await self.scale(endpoint_id, id, 0, 0)
        reason = ""

        async def gone() -> bool:
            nonlocal reason
            blind = False
            try:
                state = bare_state(await self._state(endpoint_id, id))
                reason = f"it is {state}"
                if state != "STOPPED":
                    return False
            except TogetherAIModelNotFoundError:
                return True
            except TogetherAIResponseError as exc:
                reason, blind = str(exc), True
            try:
                await self._take_away(endpoint_id, id, whole=whole)
            except TogetherAIModelNotFoundError:
                return True
            except TogetherAIResponseError as exc:
                # Whether it is gone shows the next time.
                reason = str(exc)
                return False
            except TogetherAIStatusError as exc:
                if not blind:
                    raise
                reason = f"{reason}; {exc}"
                return False
            return True

        limits = self._account.limits
        if not await poll(gone, limits.stop_seconds, limits):
            raise TogetherAIError(f"Deployment {id} was not stopped after {limits.stop_seconds:g} s: {reason}.")

    async def undo(self, created: Created, seconds: float) -> str:
        """Delete what was created; says what was undone, and what was not and may still cost money."""
        undone: list[str] = []
        try:
            async with asyncio.timeout(seconds):
                await self._take_back(created, undone)
        except TimeoutError:
            reason = f"it took longer than {seconds:g} s."
        except asyncio.CancelledError:
            reason = "it was cancelled."
        except TogetherAIError as exc:
            reason = str(exc)
        else:
            return (
                f"Created and undone again: {', '.join(undone)}." if undone else "This call had created nothing."
            )
        left = created.left(undone)
        what = created.endpoint or created.deployment or created.parent or created.name
        remedy = f"stop_endpoint({created.restarted!r})" if created.restarted else f"delete_endpoint({what!r})"
        done = f"Undone: {', '.join(undone)}. " if undone else ""
        report = f"{done}NOT undone: {left}, because {reason} It may still cost money. Call {remedy}."
        logger.warning("%s", report)
        return report

    async def _take_back(self, created: Created, undone: list[str]) -> None:
        if created.requested and created.deployment is None:
            created.deployment = await self.named(created.parent, created.requested)
            if created.deployment is None:
                created.requested = None
        if created.deployment:
            with suppress(TogetherAIModelNotFoundError):
                whole = created.endpoint is not None
                await self.remove_deployment(created.parent, created.deployment, whole=whole)
            undone.append(f"deployment {created.deployment}")
        if created.restarted:
            await self._stop(created.parent, created.restarted)
            undone.append(f"restart of deployment {created.restarted}")
        if created.unread:
            created.endpoint = await self._endpoint_named(created.name)
            created.unread = created.endpoint is not None
        if created.endpoint:
            with suppress(TogetherAIModelNotFoundError):
                await self._delete(created.endpoint)
            undone.append(f"endpoint {created.endpoint}")

    # --- reading no more than is needed ---

    async def named(self, endpoint_id: str, name: str) -> str | None:
        """The id of a deployment by its bare name."""
        for one in await self._titled(endpoint_id):
            if one.name.rpartition("/")[2] == name:
                return one.id
        return None

    async def endpoint_of(self, deployment_id: str) -> str:
        """The id of the endpoint that a deployment belongs to.

        Raises
        ------
        TogetherAIModelNotFoundError
            There is no such deployment.
        """
        project = self._account.project_id
        for endpoint in await self._account.pages(
            lambda sdk, page: sdk.endpoints.list(project_id=project, **page), Holder
        ):
            if any(one.id == deployment_id for one in endpoint.deployments or []):
                return endpoint.id
        raise TogetherAIModelNotFoundError(f"Deployment {deployment_id} not found.", status=404)

    async def _deployments_of(self, endpoint_id: str, known: Sequence[str]) -> list[str]:
        try:
            return [one.id for one in await self._titled(endpoint_id)]
        except TogetherAIResponseError:
            if not known:
                raise
            return []

    async def _titled(self, endpoint_id: str) -> list[Titled]:
        """The deployments of an endpoint, from the list of them where the endpoint itself names none."""
        project, account = self._account.project_id, self._account
        with suppress(TogetherAIResponseError):
            holder = await account.read(
                lambda sdk: sdk.endpoints.retrieve(endpoint_id, project_id=project), Holder
            )
            if holder.deployments:
                return holder.deployments
        return await self._listed(endpoint_id)

    async def _listed(self, endpoint_id: str) -> list[Titled]:
        project = self._account.project_id
        listed = await self._account.read(
            lambda sdk: sdk.endpoints.deployments.list(endpoint_id, project_id=project), Page[Titled]
        )
        return listed.data or []

    async def _endpoint_named(self, name: str) -> str | None:
        project = self._account.project_id
        for one in await self._account.pages(
            lambda sdk, page: sdk.endpoints.list(project_id=project, filter=f'name="{name}"', **page), Titled
        ):
            if one.name.rpartition("/")[2] == name:
                return one.id
        return None

    async def _state(self, endpoint_id: str, id: str) -> str:
        project = self._account.project_id
        found = await self._account.read(
            lambda sdk: sdk.endpoints.deployments.retrieve(id, project_id=project, endpoint_id=endpoint_id), State
        )
        return found.status.state

    # --- single steps ---

    async def _stop(self, endpoint_id: str, id: str) -> None:
        """Ask for no replicas, and ask again where it can't be read whether that was heard."""
        with suppress(TogetherAIModelNotFoundError):
            try:
                await self.scale(endpoint_id, id, 0, 0)
            except TogetherAIResponseError:
                await self.scale(endpoint_id, id, 0, 0)

    async def scale(self, endpoint_id: str, id: str, least: int, most: int) -> None:
        """Set the bounds of a deployment's replicas."""
        project = self._account.project_id
        await self._account.call(
            lambda sdk: sdk.endpoints.deployments.update(
                id,
                project_id=project,
                endpoint_id=endpoint_id,
                autoscaling={"min_replicas": least, "max_replicas": most},
                update_mask="autoscaling",
            ),
            Anything,
        )

    async def resplit(
        self, endpoint_id: str, change: Callable[[Split], list[EndpointTrafficSplitEntryParam] | None]
    ) -> None:
        """Change the traffic split, starting over when somebody else changes the endpoint in between."""
        project = self._account.project_id
        tries = 0
        while True:
            tries += 1
            endpoint = await self._account.read(
                lambda sdk: sdk.endpoints.retrieve(endpoint_id, project_id=project), Split
            )
            split = change(endpoint)
            if split is None:
                return
            try:
                await self._set_split(endpoint_id, split, endpoint.etag)
            except TogetherAIConflictError:
                if tries == _SPLIT_TRIES:
                    raise
            else:
                return

    async def _set_split(
        self, endpoint_id: str, split: list[EndpointTrafficSplitEntryParam], etag: str | None
    ) -> None:
        from together import omit

        project = self._account.project_id

        async def update(sdk: AsyncTogether) -> Endpoint:
            return await sdk.endpoints.update(
                endpoint_id, project_id=project, traffic_split=split, update_mask="trafficSplit", etag=etag or omit
            )

        await self._account.call(update, Anything)

    async def _take_away(self, endpoint_id: str, id: str, *, whole: bool) -> None:
        """Take a deployment out of the traffic split and delete it."""

        def without(endpoint: Split) -> list[EndpointTrafficSplitEntryParam] | None:
            left = [entry for entry in endpoint.params if entry["deployment_id"] != id]
            return None if len(left) == len(endpoint.params) else left

        try:
            await self.resplit(endpoint_id, without)
        except TogetherAIResponseError:
            if whole:
                await self._set_split(endpoint_id, [], None)
        project = self._account.project_id
        await self._account.call(
            lambda sdk: sdk.endpoints.deployments.delete(id, project_id=project, endpoint_id=endpoint_id), Anything
        )

    async def _delete(self, id: str) -> None:
        project = self._account.project_id
        try:
            await self._account.call(lambda sdk: sdk.endpoints.delete(id, project_id=project), Anything)
        except TogetherAIResponseError:
            # A second try tells whether it is gone.
            with suppress(TogetherAIModelNotFoundError):
                await self._account.call(lambda sdk: sdk.endpoints.delete(id, project_id=project), Anything)


def _not_deleted(id: str, deployments: Sequence[str]) -> str:
    what = (
        id
        if id.startswith("dep_")
        else ", ".join([*(f"deployment {one}" for one in deployments), f"endpoint {id}"])
    )
    return f"NOT deleted: {what}. It may still cost money. Call delete_endpoint({id!r}) again."


def add_report(exc: BaseException, report: str) -> None:
    """Let an error say what became of what was created."""
    if isinstance(exc, TogetherAIRequestError):
        exc.hint = f"{exc.hint} {report}" if exc.hint else report
    elif isinstance(exc, TogetherAIError):
        exc.args = (f"{exc} {report}",)
    else:
        exc.add_note(report)


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


async def to_the_end(work: Awaitable[_T], grace: float) -> _T:
    """Finish work that must not be cut short.

    A cancellation leaves it `grace` more seconds and takes effect afterwards; what the work then says of itself is
    a note of the CancelledError.
    """
    running = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    deadline: float | None = None
    while not running.done():
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            running.cancel()
            left = None
        try:
            await asyncio.wait({running}, timeout=left)
        except asyncio.CancelledError as exc:
            cancelled = exc
            deadline = deadline or time.monotonic() + grace
    if cancelled is None:
        return running.result()
    try:
        said = str(running.result())
    except BaseException as exc:  # noqa: BLE001 - the cancellation goes first, and says what became of the work
        said = str(exc)
        logger.warning("%s", said)
    cancelled.add_note(said)
    raise cancelled
