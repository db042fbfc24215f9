"""The work of `endpoints` and `adapters`: what costs money by the hour is shown with its price, and asked for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from hana_ai.api.settings import TogetherAISettings

from .console import Problem, agreed, console, print_json

if TYPE_CHECKING:
    from hana_ai.api.connector import TogetherAIConnector
    from hana_ai.api.connector.endpoint_records import Orphan
    from hana_ai.api.connector.figures import EndpointEstimate
    from hana_ai.api.connector.upload_parts import UploadProgress

_T = TypeVar("_T")
_POLL = 2.0
"""Seconds between two looks at an endpoint that is waited for."""


@asynccontextmanager
async def _connected(settings: TogetherAISettings | None) -> AsyncIterator[TogetherAIConnector]:
    from hana_ai.api.connector import TogetherAIConnector

    settings = settings or TogetherAISettings()
    config = {"api_key": settings.require_api_key(), "base_url": settings.together_base_url}
    async with TogetherAIConnector(config) as connector:
        yield connector


def _with_connector(
    work: Callable[[TogetherAIConnector], Coroutine[None, None, _T]], settings: TogetherAISettings | None = None
) -> _T:
    async def run() -> _T:
        async with _connected(settings) as connector:
            return await work(connector)

    return asyncio.run(run())


# --- endpoints ---


def show_endpoints(*, as_json: bool) -> int:
    """Print the project's endpoints; returns the exit status."""
    from rich.table import Table

    found = _with_connector(lambda connector: connector.list_endpoints())
    if as_json:
        print_json(found)
        return 0
    out = console()
    if not found:
        out.print("There are no endpoints.")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", overflow="fold", ratio=2)
    table.add_column("id", overflow="fold")
    table.add_column("model", overflow="fold", ratio=2)
    table.add_column("status")
    table.add_column("$/hour", justify="right")
    for one in found:
        price = one.get("price_per_hour_usd", math.nan)
        table.add_row(one["name"], one["id"], one["model"], one["status"], _price(price))
    out.print(table)
    return 0


def endpoint_names(settings: TogetherAISettings) -> set[str]:
    """What the project's endpoints are called, and their ids."""
    found = _with_connector(lambda connector: connector.list_endpoints(), settings)
    return {name for one in found for name in (one["name"], one["id"])}


def create_endpoint(model: str, name: str, config: Mapping[str, object], *, yes: bool) -> int:
    """Create an endpoint, after its price has been agreed to; returns the exit status."""
    wanted = _given(config)

    async def create(connector: TogetherAIConnector) -> str | None:
        estimate = await connector.estimate_endpoint(model, wanted)
        if not _agreed_to(estimate, yes=yes):
            return None
        return await connector.create_endpoint(model, name, wanted)

    with _status(f"Creating {name} ..."):
        id = _with_connector(create)
    if id is None:
        return 1
    out = console()
    out.print(f"{name} is {id}.", markup=False)
    if not wanted.get("wait"):
        out.print(f"To wait until it is ready: hana-ai-together endpoints wait {id}", markup=False)
    out.print(f"To stop it: hana-ai-together endpoints stop {id}", markup=False)
    return 0


def wait_for_endpoint(endpoint: str, timeout: float) -> int:
    """Wait until an endpoint is ready; returns 1 where it fails or is stopped.

    Raises
    ------
    Problem
        It is not ready in time.
    """

    async def wait(connector: TogetherAIConnector) -> str:
        id = await _id_of(connector, endpoint)
        async with asyncio.timeout(timeout):
            while (status := await connector.get_endpoint_status(id)) == "creating":  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(_POLL)
        return status

    try:
        with _status(f"Waiting for {endpoint} ..."):
            status = _with_connector(wait)
    except TimeoutError:
        raise Problem(f"{endpoint} is not ready after {timeout:g} s; it may still cost money.") from None
    console().print(f"{endpoint} is {status}.", markup=False)
    return 0 if status == "ready" else 1


def stop_endpoint(endpoint: str) -> int:
    """Stop an endpoint; returns the exit status."""

    async def stop(connector: TogetherAIConnector) -> None:
        if not await connector.stop_endpoint(await _id_of(connector, endpoint)):
            raise _unknown(endpoint)

    _with_connector(stop)
    console().print(f"{endpoint} is being stopped. To see when it has: hana-ai-together endpoints", markup=False)
    return 0


def delete_endpoint(endpoint: str, *, yes: bool) -> int:
    """Delete an endpoint; returns the exit status."""
    if not agreed(f"This stops and deletes {endpoint}.", yes=yes):
        return 1

    async def delete(connector: TogetherAIConnector) -> None:
        if not await connector.delete_endpoint(await _id_of(connector, endpoint)):
            raise _unknown(endpoint)

    with _status(f"Deleting {endpoint} ..."):
        _with_connector(delete)
    console().print(f"{endpoint} is deleted.", markup=False)
    return 0


def show_orphans(*, delete: bool, yes: bool, as_json: bool) -> int:
    """Print what costs money unnoticed, and delete it if wanted; returns 1 while there is some."""
    found = _with_connector(lambda connector: connector.orphans())
    if as_json and not delete:
        print_json(found)
        return 1 if found else 0
    out = console()
    if not found:
        out.print("There are none.")
        return 0
    for one in found:
        out.print(
            f"{one['id']} ({one['name']}) is {one['state']} at {_price(one['price_per_hour_usd'])} $/hour: "
            f"{one['reason']}",
            markup=False,
        )
    if not delete:
        out.print("To delete them: hana-ai-together endpoints orphans --delete")
        return 1
    if not agreed(f"This deletes {len(found)} deployment{'s' if len(found) != 1 else ''}.", yes=yes):
        return 1
    with _status("Deleting ..."):
        left = _with_connector(lambda connector: _delete_all(connector, found))
    for said in left:
        out.print(said, markup=False)
    if not left:
        out.print("Deleted.")
    return 1 if left else 0


async def _delete_all(connector: TogetherAIConnector, found: list[Orphan]) -> list[str]:
    """Delete each; what can't be deleted keeps no other from it."""
    from hana_ai.api.errors import TogetherAIError

    left = []
    for one in found:
        try:
            await connector.delete_endpoint(one["id"])
        except TogetherAIError as exc:
            left.append(f"{one['id']}: {' '.join(str(exc).split())}")
    return left


async def _id_of(connector: TogetherAIConnector, endpoint: str) -> str:
    """The id of an endpoint that may be named by its name."""
    if endpoint.startswith(("ep_", "dep_", "dad_", "endpoint-")):
        return endpoint
    for one in await connector.list_endpoints():
        if endpoint in (one["id"], one["name"], one["name"].rpartition("/")[2]):
            return one["id"]
    raise _unknown(endpoint)


def _unknown(endpoint: str) -> Problem:
    return Problem(f"there is no endpoint {endpoint!r}. List them: hana-ai-together endpoints")


# --- adapters ---


def check_adapter(path: str, base_model: str) -> int:
    """Check an adapter's folder; returns the exit status."""
    from hana_ai.api.connector.uploads import check_folder

    try:
        check_folder(path, base_model)
    except ValueError as exc:
        raise Problem(str(exc)) from exc
    console().print(f"{path} is an adapter for {base_model}.", markup=False)
    return 0


def upload_adapter(path: str, name: str, base_model: str, description: str | None) -> int:
    """Upload an adapter; returns the exit status."""
    metadata = _given({"name": name, "base_model": base_model, "description": description})
    with _progress() as tell:
        id = _adapter(lambda connector: connector.upload_artifact(path, metadata, on_progress=tell))
    console().print(f"{name} is {id}.", markup=False)
    console().print(
        f"To deploy it: hana-ai-together adapters deploy {id} {name} {base_model}", markup=False, soft_wrap=True
    )
    return 0


def deploy_adapter(path: str, name: str, base_model: str, config: Mapping[str, object], *, yes: bool) -> int:
    """Deploy an adapter, after the price of its hardware has been agreed to; returns the exit status."""
    wanted = _given(config)

    async def deploy(connector: TogetherAIConnector) -> str | None:
        if "attach_to" not in wanted:
            wanted["type"] = "dedicated"
            if not _agreed_to(await connector.estimate_endpoint(base_model, wanted), yes=yes):
                return None
        return await connector.deploy_adapter(path, base_model, name, wanted, on_progress=tell)

    with _progress() as tell:
        id = _adapter(deploy)
    if id is None:
        return 1
    console().print(f"{name} is {id}.", markup=False)
    console().print(f"To delete it: hana-ai-together endpoints delete {id}", markup=False)
    return 0


def _adapter(work: Callable[[TogetherAIConnector], Coroutine[None, None, _T]]) -> _T:
    try:
        return _with_connector(work)
    except ValueError as exc:
        # An adapter's folder that is not as it should be.
        raise Problem(str(exc)) from exc


# --- for people ---


def _given(config: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in config.items() if value is not None}


def _agreed_to(estimate: EndpointEstimate, *, yes: bool) -> bool:
    low, high = estimate["price_per_hour_usd"], estimate["most_per_hour_usd"]
    if math.isnan(low):
        price = "at a price per hour that is not listed"
    else:
        price = f"for ${low:.2f}{'' if low == high else f' to ${high:.2f}'} per hour as long as it runs"
    hint = " The model can be asked without one." if estimate["serverless"] else ""
    return agreed(f"{estimate['model']} on {estimate['hardware'] or 'its hardware'}, {price}.{hint}", yes=yes)


def _price(price: float) -> str:
    return "?" if math.isnan(price) else f"{price:.2f}"


@contextmanager
def _status(what: str) -> Iterator[None]:
    """Show that something takes its time, where a person looks on."""
    out = console()
    if out.is_terminal:
        out.print(what, style="dim", markup=False)
    yield


@contextmanager
def _progress() -> Iterator[Callable[[UploadProgress], None]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    out = console()
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("Uploading", total=None)
        yield lambda now: bar.update(task, description=now.path, completed=now.sent_bytes, total=now.total_bytes)
