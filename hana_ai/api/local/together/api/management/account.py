"""Who the key belongs to, and what was billed."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response

from ...refusal import JSON, Refusal
from ..catalog import page
from ..http import reply
from .records import ORGANIZATION, PROJECT, SLUG
from .state import Handlers


class AccountHandlers(Handlers):
    """The handlers of the account and of the bill."""

    async def whoami(self, request: Request) -> Response:
        identity: dict[str, JSON] = {
            "type": "project_api_key",
            "api_key": {"id": "key_local"},
            "organization": {"id": ORGANIZATION, "name": "Local"},
            "project": {"id": PROJECT, "name": "Local", "slug": SLUG},
        }
        if self._all.dials.organization_key:
            del identity["project"]
            identity["type"] = "organization_api_key"
        return reply(identity)

    async def list_projects(self, request: Request) -> Response:
        project: dict[str, JSON] = {
            "id": PROJECT,
            "name": "Local",
            "slug": SLUG,
            "organization_id": ORGANIZATION,
            "organization_name": "Local",
        }
        return reply(page([project], request.query_params))

    async def usage(self, request: Request) -> Response:
        query = request.query_params
        if self._all.billing is None:
            raise Refusal(404, "Not found.", code="not_found")
        if query.get("organization_id", ORGANIZATION) != ORGANIZATION:
            raise Refusal(403, "The key belongs to another organization.", code="permission_denied")
        month = query.get("month") or datetime.now(UTC).strftime("%Y-%m")
        if not re.match(r"\d{4}-\d{2}\Z", month):
            raise Refusal(400, f"month must be YYYY-MM, not {month!r}.", param="month")
        if query.get("granularity", "day") != "day":
            raise Refusal(400, "Only days are kept here.", param="granularity")
        days: dict[str, list[JSON]] = {}
        for entry in self._all.billing:
            if str(entry["date"]).startswith(month):
                days.setdefault(str(entry["date"]), []).append(entry["item"])
        windows = [_window(day, items) for day, items in sorted(days.items())]
        paged = page(windows, query)
        return reply(
            {
                **paged,
                "next_cursor": paged["next_cursor"] or None,
                "billing_period": month,
                "currency": "USD",
                "organization_id": ORGANIZATION,
                "earliest_window_start": windows[0]["start_time"] if windows else None,
                "latest_window_end": windows[-1]["end_time"] if windows else None,
            }
        )


def _window(day: str, items: list[JSON]) -> dict[str, JSON]:
    after = date.fromisoformat(day) + timedelta(days=1)
    return {
        "date": day,
        "start_time": f"{day}T00:00:00Z",
        "end_time": f"{after.isoformat()}T00:00:00Z",
        "line_items": items,
    }
