"""The account behind a connector: who the key belongs to, and calls to Together's management API on its behalf."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self, TypedDict, TypeVar, overload

from pydantic import SecretStr

from hana_ai.api.addresses.carrying import Packed, pack, unpack
from hana_ai.api.addresses.checks import check_api_key, hide
from hana_ai.api.addresses.spelling import unknown_keys
from hana_ai.api.connector.replies import Anything, Identity, Page, Snake, read_reply, schema_of
from hana_ai.api.errors import (
    TogetherAIError,
    TogetherAIModelNotFoundError,
    TogetherAISettingsError,
)
from hana_ai.api.settings import TogetherAISettings
from hana_ai.api.together_ai import TogetherAIClient
from hana_ai.api.transport.call import Call
from hana_ai.api.wire.failures import forget_frames
from hana_ai.api.wire.pages import PageTurner
from hana_ai.api.wire.shapes import SHAPE_ERRORS, wrong_shape

if TYPE_CHECKING:
    from decimal import Decimal

    from together import AsyncTogether
    from together.pagination import AsyncCursorPagination
    from together.types.endpoints import InferenceInstanceType

    from hana_ai.api.catalog.catalog import Catalog

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_M = TypeVar("_M", bound=Snake)

MODEL_PATH = re.compile(r"projects/([^/]+)/models/([^/]+)(?:/revisions/([^/]+))?\Z")
"""Resource name of a model: project, id, revision."""


class PageArguments(TypedDict, total=False):
    """Which part of a list to read."""

    limit: int
    after: str


@dataclass(frozen=True)
class Limits:
    """How long the connector waits, and how much it asks for or sends at a time."""

    page: int = 500
    """Entries per page of a list, the most that the API gives."""
    pages: int = 1000
    """Pages of one list, so that 500,000 entries are read at most."""
    first_poll: float = 0.1
    """Seconds before something that takes time is asked for again; later pauses are longer."""
    longest_poll: float = 10.0
    stop_seconds: float = 1800.0
    """How long a deployment may take to stop."""
    undo_seconds: float = 300.0
    """How long it may take to delete what a failed call has created."""
    grace_seconds: float = 30.0
    """How long a deletion that is under way may go on once its task is cancelled."""
    load_seconds: float = 1800.0
    """How long an attached adapter may take to load."""
    import_seconds: float = 6 * 3600.0
    """How long Together may take to fetch the files of an adapter."""
    part_bytes: int = 20 * 1024 * 1024
    """Size of an upload's part (together 3.1, `lib/cli/api/models/upload.py`)."""
    parts_at_once: int = 8
    part_tries: int = 5
    part_seconds: float = 30 * 60.0
    """How long the transfer of one part may stall."""
    first_retry: float = 1.0
    """Seconds before a part is sent again; each further wait is twice as long."""


@dataclass
class Account:
    """A connection to one project."""

    limits: ClassVar[Limits] = Limits()

    client: TogetherAIClient
    project: str | None
    """None when the key belongs to a whole organisation and no project was named."""
    slug: str
    """What the names of this project's endpoints begin with; empty when unknown."""
    _hardware: list[InferenceInstanceType] | None = field(default=None, init=False)
    _model_names: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def base_url(self) -> str:
        """Where requests go."""
        return self.client.settings.together_base_url

    @property
    def catalog(self) -> Catalog:
        """The models that can be asked without an endpoint of one's own."""
        return self.client.catalog

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

    async def call(
        self, operation: Callable[[AsyncTogether], Awaitable[_T]], schema: type[Snake] | None = None
    ) -> _T:
        """Run an operation on the SDK's client, with the settings' deadline and retries.

        Parameters
        ----------
        operation : callable
        schema : type, optional
            What is read of the reply; by default what the connector reads of the SDK's type.

        Raises
        ------
        TogetherAIResponseError
            The reply does not fit; the message names the place.
        """
        result, body, request_id = await self._answered(operation)
        read_reply(schema or schema_of(result), body, request_id)
        return result

    async def read(self, operation: Callable[[AsyncTogether], Awaitable[object]], schema: type[_M]) -> _M:
        """Run an operation as `call` does, and read its reply without the SDK's types."""
        _, body, request_id = await self._answered(operation)
        return read_reply(schema, body, request_id)

    async def _answered(
        self, operation: Callable[[AsyncTogether], Awaitable[_T]], timeout: float | None = None
    ) -> tuple[_T, bytes, str | None]:
        """The result of an operation, and the body and the request id of the reply that it was made of."""
        from hana_ai.api.transport.sdk import last_reply

        async def once(sdk: AsyncTogether) -> tuple[_T, bytes, str | None]:
            try:
                return await operation(sdk), *last_reply.get()
            except TogetherAIError:
                raise
            except SHAPE_ERRORS as exc:
                # The SDK trips over a page that is no object.
                body, request_id = last_reply.get()
                forget_frames(exc)
                read_reply(Anything, body, request_id)
                raise wrong_shape(exc, request_id=request_id) from None

        settings = self.client.settings
        call = Call(
            "SDK",
            timeout=settings.together_timeout if timeout is None else min(timeout, settings.together_timeout),
            connect_timeout=settings.together_connect_timeout,
            max_retries=settings.together_max_retries,
        )
        return await self.client.transport.use_sdk(call, once)

    @overload
    async def pages(
        self, operation: Callable[[AsyncTogether, PageArguments], Awaitable[AsyncCursorPagination[_T]]]
    ) -> list[_T]: ...

    @overload
    async def pages(
        self,
        operation: Callable[[AsyncTogether, PageArguments], Awaitable[AsyncCursorPagination[_T]]],
        schema: type[_M],
    ) -> list[_M]: ...

    async def pages(
        self,
        operation: Callable[[AsyncTogether, PageArguments], Awaitable[AsyncCursorPagination[_T]]],
        schema: type[_M] | None = None,
    ) -> list[_T] | list[_M]:
        """All entries of a list, read page by page, within the deadline of one call.

        Without a schema they are the SDK's objects, else objects of the schema.

        Raises
        ------
        TogetherAIResponseError
            The server names a page that was read before, or has more than `Limits.pages`.
        TogetherAITimeoutError
            The list did not end within TOGETHER_TIMEOUT.
        """
        found: list[_T] = []
        read: list[_M] = []
        arguments = PageArguments(limit=self.limits.page)
        turner = PageTurner(self.limits.pages, self.client.settings.together_timeout)
        while True:

            async def one(sdk: AsyncTogether) -> AsyncCursorPagination[_T]:
                return await operation(sdk, arguments)

            page, body, request_id = await self._answered(one, turner.seconds_left)
            if schema is None:
                read_reply(schema_of(page), body, request_id)
                found += page.data or []
            else:
                read += read_reply(Page[schema], body, request_id).data or []  # type: ignore[valid-type]
            cursor = turner.next(page.next_cursor, request_id)
            if cursor is None:
                return found if schema is None else read
            turner.check()
            arguments["after"] = cursor

    async def hardware(self) -> list[InferenceInstanceType]:
        """The available hardware with its prices, read once."""
        if self._hardware is None:
            self._hardware = (await self.call(lambda sdk: sdk.endpoints.hardware.list())).data or []
        return self._hardware

    async def hardware_prices(self) -> dict[str, Decimal]:
        """USD per hour and replica, by the hardware's name."""
        from decimal import Decimal

        return {one.name: Decimal(one.price_cents_per_hour) / 100 for one in await self.hardware()}

    async def model_name(self, path: str) -> str:
        """The name of the model behind a resource name; the resource name itself if the model can't be read."""
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


class KeptConfig(dict[str, object]):
    """What `connect` takes, kept for later: its key hidden, and not in pickles that can do without it."""

    def __init__(self, config: Mapping[str, object]) -> None:
        super().__init__(config)
        hide(self, "api_key")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        here, key = TogetherAISettings(), self.get("api_key")
        packed = pack(
            key if isinstance(key, SecretStr) else None, here.known_keys, carry=here.together_pickle_keys
        )
        return _loaded, ({name: value for name, value in self.items() if name != "api_key"}, packed)


def _loaded(config: dict[str, object], packed: Packed | None) -> KeptConfig:
    return KeptConfig(
        {**config, "api_key": unpack(packed, TogetherAISettings().known_keys, "TogetherAIConnector")}
    )


def read_config(config: Mapping[str, object]) -> TogetherAISettings:
    """The settings of a connector; what `config` does not say comes from the environment.

    The key is to be hidden, as `hide` does.

    Raises
    ------
    TogetherAISettingsError
        There is no key, it cannot be one, or the configuration has a key of another name.
    """
    key = config.get("api_key")
    if wrong := unknown_keys(config, ("api_key", "base_url", "project_id"), "config"):
        raise TogetherAISettingsError(wrong)
    if not key:
        raise TogetherAISettingsError("api_key is required")
    if not isinstance(key, SecretStr):
        raise TogetherAISettingsError("Invalid API key")
    try:
        secret = SecretStr(check_api_key(key.get_secret_value()))
    except TogetherAISettingsError as exc:
        raise TogetherAISettingsError("Invalid API key") from exc
    given = {name: config[name] for name in ("base_url", "project_id") if config.get(name)}
    return TogetherAISettings(
        together_api_key=secret,
        # A connector is asked for one model, endpoint or deployment, never for another in its place.
        together_fallback="",
        **{f"together_{name}": str(value) for name, value in given.items()},
    )


async def open_account(client: TogetherAIClient, project: str | None) -> Account:
    """Ask Together who the key belongs to.

    Raises
    ------
    TogetherAIRequestError
        Together can't be reached or refuses, for example with TogetherAIAuthenticationError.
    """
    account = Account(client, project, "")
    own = (await account.read(lambda sdk: sdk.whoami(), Identity)).project
    if own is not None and project in (None, own.id):
        account.project, account.slug = own.id, own.slug
        return account
    try:
        projects = await account.pages(lambda sdk, page: sdk.projects.list(**page))
    except TogetherAIModelNotFoundError:
        # A compatible server without this list. Names of endpoints are then known from their records alone.
        projects = []
    if project is None and len(projects) == 1:
        account.project = projects[0].id
    account.slug = next((one.slug for one in projects if one.id == account.project), "")
    return account
