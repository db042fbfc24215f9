"""The account behind a connector: who the key belongs to, and calls of the SDK's own resources for it."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from hana_ai.api.errors import (
    TogetherAIError,
    TogetherAIModelNotFoundError,
    TogetherAIResponseError,
    TogetherAISettingsError,
)
from hana_ai.api.together_ai import TogetherAIClient
from hana_ai.api.transport.call import Call
from hana_ai.api.wire.shapes import shown

if TYPE_CHECKING:
    from together import AsyncTogether
    from together.types.endpoints import InferenceInstanceType

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

MODEL_PATH = re.compile(r"projects/([^/]+)/models/([^/]+)(?:/revisions/([^/]+))?\Z")
"""Resource name of a model: project, id, revision."""
PAGE = 500
"""The longest page that the lists give."""


@dataclass
class Account:
    """A connection to one project."""

    client: TogetherAIClient
    project: str | None
    """None when the key belongs to a whole organisation and no project was named."""
    slug: str
    """What the names of this project's endpoints begin with; empty when it is not known."""
    _hardware: list[InferenceInstanceType] | None = field(default=None, init=False)
    _model_names: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def base_url(self) -> str:
        """Where requests go."""
        return self.client.settings.together_base_url

    @property
    def project_id(self) -> str:
        """The project.

        Raises
        ------
        TogetherAISettingsError
            The key has none of its own, and none was named.
        """
        if self.project is None:
            raise TogetherAISettingsError(
                "The key belongs to an organisation, not to one project. Pass project_id to connect() or set "
                "TOGETHER_PROJECT_ID."
            )
        return self.project

    async def call(self, operation: Callable[[AsyncTogether], Awaitable[_T]]) -> _T:
        """Run an operation of the SDK's resources, with the settings' deadline and retries."""
        settings = self.client.settings
        call = Call(
            "SDK",
            timeout=settings.together_timeout,
            connect_timeout=settings.together_connect_timeout,
            max_retries=settings.together_max_retries,
        )
        result = await self.client.transport.use_sdk(call, operation)
        if not isinstance(result, (BaseModel, dict, type(None))):
            raise TogetherAIResponseError(
                f"the management API answered with something else than an object: {shown(result)}",
                hint="Check TOGETHER_BASE_URL, and whether a proxy answers in Together's place.",
            )
        return result

    async def pages(self, operation: Callable[[AsyncTogether, dict[str, Any]], Any]) -> list[Any]:
        """All entries of a list, page by page; the operation takes the page's arguments."""
        found: list[Any] = []
        after: str | None = None
        while True:
            arguments: dict[str, Any] = {"limit": PAGE} | ({"after": after} if after else {})

            async def one(sdk: AsyncTogether, arguments: dict[str, Any] = arguments) -> Any:
                return await operation(sdk, arguments)

            page = await self.call(one)
            found += page.data or []
            if not page.next_cursor or page.next_cursor == after:
                return found
            after = page.next_cursor

    async def hardware(self) -> list[InferenceInstanceType]:
        """The hardware with its prices, read once."""
        if self._hardware is None:
            listed = await self.call(lambda sdk: sdk.endpoints.hardware.list())
            self._hardware = listed.data or []
        return self._hardware

    async def model_name(self, path: str) -> str:
        """The name of a model by its resource name; the resource name where it can't be read."""
        found = MODEL_PATH.match(path)
        if found is None:
            return path
        project, id = found.group(1), found.group(2)
        if id not in self._model_names:
            try:
                model = await self.call(lambda sdk: sdk.models.retrieve(id, project_id=project))
            except TogetherAIError as exc:
                logger.debug("no name for %s: %s", path, exc)
                return path
            self._model_names[id] = model.name
        return self._model_names[id]


async def open_account(client: TogetherAIClient, project: str | None) -> Account:
    """Ask who the key belongs to.

    Raises
    ------
    TogetherAIRequestError
        The one of its subclasses that fits, such as TogetherAIAuthenticationError.
    """
    account = Account(client, project, "")
    identity = await account.call(lambda sdk: sdk.whoami())
    if not getattr(identity, "type", None):
        raise TogetherAIResponseError(
            f"the address does not say whom the key belongs to: {shown(identity)}",
            hint="Check TOGETHER_BASE_URL, and whether a proxy answers in Together's place.",
        )
    own = getattr(identity, "project", None)
    if own is not None and project in (None, own.id):
        account.project, account.slug = own.id, own.slug
        return account
    try:
        projects = await account.pages(lambda sdk, page: sdk.projects.list(**page))
    except TogetherAIModelNotFoundError:
        # A compatible server without this list: names of endpoints are then only known from their records.
        projects = []
    if project is None and len(projects) == 1:
        account.project = projects[0].id
    account.slug = next((one.slug for one in projects if one.id == account.project), "")
    return account
