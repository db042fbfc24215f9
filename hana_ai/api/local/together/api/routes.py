"""Routes of one path, and handlers behind what a test wants refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
Guard: TypeAlias = Callable[[Handler], Handler]


def refusing(check_fault: Callable[[str, str], None]) -> Guard:
    """Puts a handler behind a check of the method and the path."""

    def guarded(handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            check_fault(request.method, request.url.path)
            return await handler(request)

        return checked

    return guarded


def routes_of(guard: Guard, path: str, **by_method: Handler) -> list[BaseRoute]:
    """The routes of a path, one for each method, behind a guard."""
    return [Route(path, guard(handler), methods=[method]) for method, handler in by_method.items()]
