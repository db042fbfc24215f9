"""Endpoints, their traffic splits and events, and the hardware that there is."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from ...refusal import JSON, Refusal
from ...requests import JSONObject
from ..catalog import page
from ..hardware import instance_types
from ..http import reply
from .fields import (
    body_of,
    check_etag,
    conflict,
    mask_of,
    matches_name,
    name_of,
    precondition,
    text,
    weight,
)
from .records import Endpoint, new_id
from .shown import endpoint_record, note_event
from .state import Handlers

_VISIBILITIES = ("VISIBILITY_PRIVATE", "VISIBILITY_INTERNAL")


class EndpointHandlers(Handlers):
    """The handlers of endpoints."""

    async def create_endpoint(self, request: Request) -> Response:
        fields = await body_of(request)
        name, visibility = name_of(fields), _visibility(fields)
        if any(endpoint.name == name for endpoint in self._all.endpoints.values()):
            raise conflict(f"Endpoint {name}")
        endpoint = Endpoint(new_id("ep"), name, visibility)
        self._all.endpoints[endpoint.id] = endpoint
        note_event(self._all, endpoint, "endpoint.created")
        return reply(endpoint_record(self._all, endpoint))

    async def list_endpoints(self, request: Request) -> Response:
        query = request.query_params
        found = [one for one in self._all.endpoints.values() if matches_name(query, one.name)]
        if query.get("orderBy", "").endswith("desc"):
            found.reverse()
        return reply(page([endpoint_record(self._all, one) for one in found], query))

    async def get_endpoint(self, request: Request) -> Response:
        return reply(endpoint_record(self._all, self._all.endpoint(request.path_params["id"])))

    async def update_endpoint(self, request: Request) -> Response:
        endpoint = self._all.endpoint(request.path_params["id"])
        fields = await body_of(request)
        check_etag(endpoint, fields.get("etag"))
        mask = mask_of(request, fields)
        if unknown := mask - {"trafficSplit", "visibility", "name"}:
            raise Refusal(400, f"These fields can't be updated: {', '.join(sorted(unknown))}.", param="updateMask")
        if "trafficSplit" in mask:
            endpoint.split = self._split(endpoint, fields.get("trafficSplit") or [])
        if "visibility" in mask:
            endpoint.visibility = _visibility(fields)
        if "name" in mask:
            endpoint.name = name_of(fields)
        endpoint.touch()
        note_event(self._all, endpoint, "endpoint.updated")
        return reply(endpoint_record(self._all, endpoint))

    @staticmethod
    def _split(endpoint: Endpoint, entries: Sequence[JSONObject]) -> dict[str, float]:
        split: dict[str, float] = {}
        for entry in entries:
            id = text(entry, "deploymentId")
            if id not in endpoint.deployments:
                raise Refusal(400, f"Deployment {id} is not one of endpoint {endpoint.id}.", param="trafficSplit")
            if weight(entry.get("weight")):
                split[id] = weight(entry["weight"])
        return split

    async def delete_endpoint(self, request: Request) -> Response:
        endpoint = self._all.endpoint(request.path_params["id"])
        check_etag(endpoint, request.query_params.get("etag"))
        if endpoint.deployments:
            raise precondition(f"Endpoint {endpoint.id} still has deployments; delete them first.")
        del self._all.endpoints[endpoint.id]
        note_event(self._all, endpoint, "endpoint.deleted")
        return reply({})

    async def list_events(self, request: Request) -> Response:
        id = request.path_params["id"]
        return reply(page([event for of, event in self._all.events if of == id], request.query_params))

    async def list_hardware(self, request: Request) -> Response:
        data: list[JSON] = [one.wire() for one in instance_types()]
        return reply({"object": "list", "data": data, "next_cursor": None})

    async def get_hardware(self, request: Request) -> Response:
        for one in instance_types():
            if request.path_params["id"] in (one.name, f"it_{one.name}"):
                return reply(one.wire())
        raise Refusal(404, f"Instance type {request.path_params['id']} not found.", code="not_found")


def _visibility(fields: JSONObject) -> str:
    given = text(fields, "visibility", "VISIBILITY_PRIVATE")
    if given not in _VISIBILITIES:
        raise Refusal(400, f"visibility must be one of {', '.join(_VISIBILITIES)}.", param="visibility")
    return given
