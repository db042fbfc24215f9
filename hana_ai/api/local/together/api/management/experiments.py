"""A/B tests, shadow tests and rollouts of an endpoint: shown as a test put them there, but not run."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ...refusal import JSON, Refusal
from ..catalog import page
from ..http import reply
from ..routes import Guard, Handler
from .records import ORGANIZATION, PROJECT
from .state import EXPERIMENTS, Handlers

_CHANGES = ("POST", "PATCH", "DELETE")
_PROFILE: dict[str, JSON] = {
    "id": "pp_local",
    "name": "local",
    "organizationId": ORGANIZATION,
    "projectId": PROJECT,
    "preferredRegions": ["local"],
}


class ExperimentHandlers(Handlers):
    """The handlers of experiments, and of the places where deployments may be."""

    def routes(self, endpoint: str, guarded: Guard) -> list[BaseRoute]:
        """The routes of all kinds, below an endpoint's path."""
        routes: list[BaseRoute] = []
        for kind in EXPERIMENTS:
            base = f"{endpoint}/{kind}"
            routes += [
                Route(base, guarded(self._listing(kind)), methods=["GET"]),
                Route(base + "/{id}", guarded(self._getting(kind)), methods=["GET"]),
                Route(base, guarded(self.refuse), methods=["POST"]),
                Route(base + "/{rest:path}", guarded(self.refuse), methods=list(_CHANGES)),
            ]
        targets = endpoint + "/shadowExperiments/{experiment_id}/targets"
        return [
            *routes,
            Route(targets, guarded(self.list_targets), methods=["GET"]),
            Route(targets + "/{id}", guarded(self.get_target), methods=["GET"]),
        ]

    def _listing(self, kind: str) -> Handler:
        async def listing(request: Request) -> Response:
            endpoint = self._all.endpoint(request.path_params["endpoint_id"])
            return reply(page(self._all.experiments_of(endpoint.id, kind), request.query_params))

        return listing

    def _getting(self, kind: str) -> Handler:
        async def getting(request: Request) -> Response:
            return reply(self._found(request, kind, request.path_params["id"]))

        return getting

    def _found(self, request: Request, kind: str, id: str) -> dict[str, JSON]:
        endpoint = self._all.endpoint(request.path_params["endpoint_id"])
        for one in self._all.experiments_of(endpoint.id, kind):
            if one["id"] == id:
                return one
        raise Refusal(404, f"{id} not found.", code="not_found")

    def _targets(self, request: Request) -> list[dict[str, JSON]]:
        experiment = self._found(request, "shadowExperiments", request.path_params["experiment_id"])
        targets = experiment.get("targets")
        return [one for one in targets if isinstance(one, dict)] if isinstance(targets, list) else []

    async def list_targets(self, request: Request) -> Response:
        return reply(page(self._targets(request), request.query_params))

    async def get_target(self, request: Request) -> Response:
        for one in self._targets(request):
            if one.get("id") == request.path_params["id"]:
                return reply(one)
        raise Refusal(404, f"Target {request.path_params['id']} not found.", code="not_found")

    async def refuse(self, request: Request) -> Response:
        """Experiments and rollouts are not run here."""
        self._all.endpoint(request.path_params["endpoint_id"])
        raise Refusal(400, "This server shows experiments and rollouts, but does not run them.", code="not_served")

    async def list_profiles(self, request: Request) -> Response:
        return reply(page([_PROFILE], request.query_params))

    async def get_profile(self, request: Request) -> Response:
        if request.path_params["id"] != _PROFILE["id"]:
            raise Refusal(404, f"Placement profile {request.path_params['id']} not found.", code="not_found")
        return reply(_PROFILE)
