"""`hana-ai-together endpoints` and `adapters`: the arguments; their work is in `deployments`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import App, Parameter

endpoints = App(
    name="endpoints", help="Dedicated endpoints: list, create, wait, stop, delete, and find forgotten ones."
)
adapters = App(name="adapters", help="LoRA adapters: check a folder, upload and deploy it.")

_Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON, for programs.")]
_Yes = Annotated[bool, Parameter(negative=(), help="Do not ask.")]
_Hardware = Annotated[
    str | None, Parameter(help="Instance type, such as 1xnvidia-h100-80gb; default: the model's.")
]
_Replicas = Annotated[int, Parameter(help="Replicas that always run.")]
_Most = Annotated[int | None, Parameter(help="Most replicas; default: as many as always run.")]
_Inactive = Annotated[
    int, Parameter(help="Minutes without a request after which it stops, 30 to 1440; 0 is never.")
]
_Timeout = Annotated[float, Parameter(help="Seconds to wait.")]


@dataclass(frozen=True)
class Start:
    """Whether what starts is waited for, and agreed to beforehand."""

    wait: Annotated[bool, Parameter(negative=())] = False
    """Wait until it is ready; a failure takes everything back."""
    timeout: _Timeout = 3600.0
    yes: _Yes = False

    def config(self) -> dict[str, object]:
        """Its part of the configuration of a deployment."""
        return {"wait": self.wait, "timeout": self.timeout}


_AS_USUAL = Start()


@endpoints.default
def list_endpoints(*, json: _Json = False) -> int:
    """List the project's endpoints with their state and what they cost now."""
    from .deployments import show_endpoints

    return show_endpoints(as_json=json)


@endpoints.command
def create(
    model: str,
    name: str,
    /,
    *,
    hardware: _Hardware = None,
    min_replicas: _Replicas = 1,
    max_replicas: _Most = None,
    inactive_timeout: _Inactive = 60,
    multi_lora: Annotated[bool, Parameter(negative=())] = False,
    start: Annotated[Start, Parameter(name="*")] = _AS_USUAL,
) -> int:
    """Create an endpoint. Its price per hour is shown first, and has to be agreed to.

    Parameters
    ----------
    model
        Name in the catalogue, or of a model of the project.
    name
        Name of the endpoint.
    multi_lora
        Let adapters be attached to it.
    """
    from .deployments import create_endpoint

    config: dict[str, object] = {
        "type": "dedicated",
        "hardware": hardware,
        "min_replicas": min_replicas,
        "max_replicas": max_replicas,
        "inactive_timeout": inactive_timeout,
        "adapter_mode": "dynamic" if multi_lora else None,
        **start.config(),
    }
    return create_endpoint(model, name, config, yes=start.yes)


@endpoints.command
def wait(endpoint: str, /, *, timeout: _Timeout = 3600.0) -> int:
    """Wait until an endpoint is ready.

    Parameters
    ----------
    endpoint
        Its id or name.
    """
    from .deployments import wait_for_endpoint

    return wait_for_endpoint(endpoint, timeout)


@endpoints.command
def stop(endpoint: str, /) -> int:
    """Stop an endpoint, so that it costs nothing; it stays, and a request doesn't start it again.

    Parameters
    ----------
    endpoint
        Its id or name.
    """
    from .deployments import stop_endpoint

    return stop_endpoint(endpoint)


@endpoints.command
def delete(endpoint: str, /, *, yes: _Yes = False) -> int:
    """Stop and delete an endpoint, or a deployment.

    Parameters
    ----------
    endpoint
        Its id or name.
    """
    from .deployments import delete_endpoint

    return delete_endpoint(endpoint, yes=yes)


@endpoints.command
def orphans(
    *, delete: Annotated[bool, Parameter(negative=())] = False, yes: _Yes = False, json: _Json = False
) -> int:
    """List deployments that cost money and serve nobody; the emergency stop is: orphans --delete --yes.

    Parameters
    ----------
    delete
        Delete them, after asking.
    """
    from .deployments import show_orphans

    return show_orphans(delete=delete, yes=yes, as_json=json)


@adapters.command
def check(path: str, base_model: str, /) -> int:
    """Check that an adapter's files are complete and fit a base model; nothing is sent.

    Parameters
    ----------
    path
        A folder.
    base_model
        Name in the catalogue.
    """
    from .deployments import check_adapter

    return check_adapter(path, base_model)


@adapters.command
def upload(path: str, name: str, base_model: str, /, *, description: str | None = None) -> int:
    """Upload an adapter; run it again if it was broken off, and only what is missing is sent.

    Parameters
    ----------
    path
        A folder, a Hugging Face repository (org/name), or the address of an archive.
    name
        Name of the model that it becomes.
    base_model
        Name in the catalogue.
    """
    from .deployments import upload_adapter

    return upload_adapter(path, name, base_model, description)


@adapters.command
def deploy(
    path: str,
    name: str,
    base_model: str,
    /,
    *,
    attach_to: str | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    hardware: _Hardware = None,
    inactive_timeout: _Inactive = 60,
    start: Annotated[Start, Parameter(name="*")] = _AS_USUAL,
) -> int:
    """Upload an adapter and deploy it, on hardware of its own or beside others.

    Parameters
    ----------
    path
        As in upload, or the id (ml_...) of an uploaded adapter.
    name
        Name of the model and of the endpoint.
    base_model
        Name in the catalogue.
    attach_to
        Id of a running multi-LoRA endpoint to attach to, at no extra cost.
    force
        Evict the oldest adapter if there is no room.
    """
    from .deployments import deploy_adapter

    config: dict[str, object] = {
        "attach_to": attach_to,
        "force": force or None,
        "hardware": hardware,
        "inactive_timeout": inactive_timeout,
        **start.config(),
    }
    return deploy_adapter(path, name, base_model, config, yes=start.yes)
