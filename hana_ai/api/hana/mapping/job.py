"""`map_table`: ask a model about every row, with the answers in a result table that has the rows' key.

The result table itself is what is remembered: a row that is in it is not asked again. So whatever ends a run, the
next call with the same arguments goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from threading import Event
from typing import Any, Literal

from hana_ai.api.batches.records import Batch
from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.errors import TogetherAIError, TogetherAIInputError
from hana_ai.api.hana.cluster.engines import engine_from
from hana_ai.api.hana.cluster.work import Engine
from hana_ai.api.hana.connections import Connection, connection_of
from hana_ai.api.hana.costs import estimated_tokens
from hana_ai.api.hana.mapping.batched import BatchedRun, StoppedError
from hana_ai.api.hana.mapping.online import OnlineRun
from hana_ai.api.hana.mapping.result_table import PartTable, ResultTable, Spent
from hana_ai.api.hana.mapping.shapes import Shape, ShapeLike
from hana_ai.api.hana.mapping.source import Source
from hana_ai.api.hana.mapping.spread import MapWork
from hana_ai.api.hana.mapping.stages import Prompt, RowTask, check_columns
from hana_ai.api.hana.tables import current_schema
from hana_ai.api.langchain.token_estimates import OF_A_MESSAGE, estimated
from hana_ai.api.settings import TogetherAISettings
from hana_ai.api.together_ai import TogetherAIClient
from hana_ai.api.wire.token_counts import Tokens

BATCH_SIZE = 256
"""Rows that are committed together."""

Mode = Literal["online", "batch"]


@dataclass(frozen=True)
class MapEstimate:
    """What a map has to do."""

    result: str
    model: str
    rows: int
    to_ask: int
    """Rows that are not in the result yet."""
    prompt_tokens: int
    """About."""
    completion_tokens: int | None
    """At most, by `max_tokens`; None without it."""
    cost_usd: Decimal | None
    """For these tokens; without the completion where that is not bounded. None if the price is unknown."""
    resumed: bool
    """Whether an earlier run has begun."""


@dataclass(frozen=True)
class MapProgress:
    """How far a map is, after a commit."""

    done: int
    """Rows in the result, those of earlier runs among them."""
    total: int
    tokens: int | None
    """Of this run, as the server counted them; None where it did not."""
    cost_usd: Decimal | None
    batches: tuple[Batch, ...] = ()
    """Those that are waited for."""


@dataclass(frozen=True)
class MapResult:
    """What a map did."""

    result: str
    """The table with the answers."""
    model: str
    rows: int
    """In the result."""
    failed: int
    """Of them, those with an error."""
    asked: int
    """Rows that were asked in this run."""
    tokens: int | None
    """Of this run; None where the server did not count them."""
    cost_usd: Decimal | None


OnProgress = Callable[[MapProgress], None]


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """How a map is done; the arguments of `map_table`."""

    prompt: str
    system: str | None = None
    shape: ShapeLike = None
    key: str | Sequence[str] | None = None
    connection: object = None
    schema: str | None = None
    model: str | None = None
    mode: Mode = "online"
    batch_size: int = BATCH_SIZE
    retry_errors: bool = False
    max_cost_usd: Decimal | None = None
    settings: TogetherAISettings | None = None
    engine: Engine | Literal["local", "ray"] = "local"
    connect: Callable[[], Connection] | None = None
    on_progress: OnProgress | None = None
    parameters: dict[str, object] = field(default_factory=dict)


def estimate_map(source: object, result: str, **options: object) -> MapEstimate:
    """Tell what `map_table` with the same arguments would do; nothing is written, and no row is sent.

    Raises
    ------
    TogetherAIInputError
        As for `map_table`.
    """
    return _Job.of(source, result, _options(options)).estimate()


def map_table(source: object, result: str, **options: object) -> MapResult:
    """Ask a model about every row of a table or query, and write its answers into a result table.

    Run it again with the same arguments if it was broken off: rows that are in the result are not asked again.

    Parameters
    ----------
    source : str or hana_ml.DataFrame
        A table's name, a query, or a DataFrame.
    result : str
        The table for the answers, in the user's schema or `schema`: the key, a column for each field of the
        shape, ERROR, PROMPT_TOKENS and COMPLETION_TOKENS. It is made if there is none.
    prompt : str
        A template such as ``"What is this about? {TEXT}"``; `{NAME}` stands for a column, ``{{`` for a brace.
    system : str, optional
        A system message, also a template.
    shape : type, mapping or sequence, optional
        A Pydantic class or a JSON schema, whose fields become columns; a list of labels, of which one is chosen
        into the column LABEL; None for a plain text in the column ANSWER.
    key : str or sequence of str, optional
        The columns that tell rows apart. Default: the table's primary key; a query needs one.
    connection : hdbcli.dbapi.Connection or hana_ml.ConnectionContext, optional
        Default: that of the DataFrame.
    schema : str, optional
        Of the source, if it is a table, and of the result. Default: the connection's.
    model : str, optional
        Default: TOGETHER_DEFAULT_MODEL, else one from the catalogue.
    mode : {"online", "batch"}
        Ask at once, through the limiter; or through the Batch API, which takes up to a day.
    batch_size : int
        Rows that are committed together: a process that is killed loses the answers of no more than so many.
    retry_errors : bool
        Ask rows again that failed in an earlier run.
    max_cost_usd : Decimal, optional
        Refuse to begin what may cost more, as estimated.
    settings : TogetherAISettings, optional
        Default: read from the environment and `.env`.
    engine : {"local", "ray"} or Engine
        Where rows are asked about: in this process, or by workers of a Ray cluster; see
        `hana_ai.api.hana.cluster.ray_engine.RayEngine`. Not for batches, which Together works on.
    connect : callable, optional
        Opens the workers' connections, and is pickled. Default: from their own settings.
    on_progress : callable, optional
        Called with a `MapProgress` after each commit.
    **parameters
        Of each request, such as `temperature` and `max_tokens`.

    Returns
    -------
    MapResult

    Raises
    ------
    TogetherAIInputError
        The prompt names a column that is not there, the key is missing, NULL or not unique, or the result is a
        table of another shape or task.
    TogetherAIBudgetExceededError
        The budget is spent; the rows until then are in the result.
    TogetherAIRequestError
        Together can't be asked, or refuses all; the rows until then are in the result. What fails for one row
        alone is in that row's ERROR.
    hdbcli.dbapi.Error
        The database refuses.

    Examples
    --------
    >>> from hana_ai.api.hana import map_table
    >>> done = map_table("REVIEWS", "MOODS", connection=connection, prompt="Which mood? {TEXT}",
    ...                  shape=["good", "bad"], max_tokens=20)
    >>> done.failed
    0
    """
    return _Job.of(source, result, _options(options)).run()


async def amap_table(source: object, result: str, **options: object) -> MapResult:
    """Map from a coroutine; see `map_table`. The work is done in a thread, as hdbcli blocks.

    When it is cancelled, no further row is asked, and what is under way is committed before this returns.
    """
    stop = Event()
    work = asyncio.ensure_future(asyncio.to_thread(lambda: _Job.of(source, result, _options(options), stop).run()))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([work])
        work.cancelled() or work.exception()
        raise


def _options(given: dict[str, Any]) -> MapOptions:
    own = {name: given.pop(name) for name in list(given) if name in _NAMES}
    if "prompt" not in own:
        raise TogetherAIInputError("map_table needs a prompt.")
    options = MapOptions(**own, parameters=given)
    if options.mode not in ("online", "batch"):
        raise TogetherAIInputError(f"mode is {options.mode!r}; it must be 'online' or 'batch'.")
    if options.mode == "batch" and options.engine != "local":
        raise TogetherAIInputError("mode='batch' is Together's work, so it needs no engine but 'local'.")
    if options.batch_size < 1:
        raise TogetherAIInputError(f"batch_size is {options.batch_size}; it must be 1 or more.")
    return options


_NAMES = frozenset(MapOptions.__dataclass_fields__) - {"parameters"}


@dataclass
class _Job:
    """One map: a source, a task, a result, and how it is done."""

    client: TogetherAIClient
    chat: ChatTogetherAI
    result: ResultTable
    options: MapOptions
    stop: Event
    there: bool
    """Whether the result table is."""

    @classmethod
    def of(cls, source: object, result: str, options: MapOptions, stop: Event | None = None) -> _Job:
        """Check all that can be checked before anything is done."""
        given: Any = options.connection
        if given is None:
            given = getattr(source, "connection_context", None)
        if given is None:
            raise TogetherAIInputError("There is no connection: pass connection=..., or a DataFrame of hana-ml.")
        connection = connection_of(given)
        prompt, shape = Prompt(options.prompt, options.system), Shape.of(options.shape)
        columns = prompt.columns()
        rows = Source.of(connection, source, options.key, options.schema)
        check_columns(columns, rows.columns, "The prompt")
        client = TogetherAIClient(options.settings)
        chat = client.chat_model(options.model, cache=False)
        own = dict(options.parameters)
        if shape.response_format is not None:
            own["response_format"] = dict(shape.response_format)
        body = chat._with_model(chat._body([], None, own))
        del body["messages"]
        schema = options.schema or current_schema(connection)
        table = ResultTable(connection, schema, result, rows, RowTask(prompt, shape, body))
        job = cls(client, chat, table, options, stop or Event(), table.check())
        rows.check_key()
        job._check_parts()
        return job

    def _check_parts(self) -> None:
        parts = PartTable(self.result)
        if self.options.mode == "online" and parts.is_there():
            raise TogetherAIInputError(
                f"Batches of {self.result.name} are under way. Go on with mode='batch' or --mode batch, or drop "
                f"{parts.name} to give them up."
            )

    # --- before it begins ---

    def estimate(self) -> MapEstimate:
        """See `estimate_map`."""
        source, task = self.result.source, self.result.task
        to_ask, characters = source.pending(self.result.name if self.there else None, task.prompt.columns())
        fixed = estimated(task.prompt.template) + OF_A_MESSAGE
        if task.prompt.system is not None:
            fixed += estimated(task.prompt.system) + OF_A_MESSAGE
        if task.shape.response_format is not None:
            fixed += estimated(str(task.shape.response_format))
        prompt = to_ask * fixed + estimated_tokens(characters)
        most = task.body.get("max_tokens")
        completion = to_ask * most if isinstance(most, int) else None
        return MapEstimate(
            result=self.result.table,
            model=task.model,
            rows=source.count(),
            to_ask=to_ask,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost_usd=self._cost(Tokens(prompt, completion or 0)),
            resumed=self.there,
        )

    def _cost(self, tokens: Tokens) -> Decimal | None:
        try:
            info = self.client.catalog.models().get(self.result.task.model)
        except TogetherAIError:
            # A price is no reason to fail.
            return None
        cost = None if info is None else info.cost_of(tokens)
        share = 1 - self.client.settings.together_batch_discount if self.options.mode == "batch" else Decimal(1)
        return None if cost is None else cost * share

    # --- the work ---

    def run(self) -> MapResult:
        """See `map_table`."""
        self._check_cost()
        if not self.there:
            self.result.create()
        elif self.options.retry_errors:
            self.result.forget_errors()
        before, total = self.result.counts()[0], self.result.source.count()

        def told(spent: Spent, batches: Sequence[Batch] = ()) -> None:
            if self.options.on_progress is not None:
                cost = self._cost(spent.tokens)
                done = before + spent.asked
                self.options.on_progress(MapProgress(done, max(total, done), spent.total, cost, tuple(batches)))

        told(Spent())
        spent = self._spend(told)
        rows, failed = self.result.counts()
        return MapResult(
            result=self.result.table,
            model=self.result.task.model,
            rows=rows,
            failed=failed,
            asked=spent.asked,
            tokens=spent.total,
            cost_usd=self._cost(spent.tokens),
        )

    def _spend(self, told: Callable[..., None]) -> Spent:
        size = self.options.batch_size
        if self.options.mode == "online":
            work = MapWork(OnlineRun(self.result, self.chat, size, told, self.stop), self.options.connect)
            engine_from(self.options.engine).run(work)
            return work.spent
        run = BatchedRun(self.result, self.client.batches, size, told, self.stop)
        # Once it is stopped, nobody waits for the result any more.
        with suppress(StoppedError):
            run.run()
        return run.spent

    def _check_cost(self) -> None:
        most = self.options.max_cost_usd
        if most is not None:
            cost = self.estimate().cost_usd
            if cost is not None and cost > most:
                raise TogetherAIInputError(f"This map may cost ${cost:.4f}, and max_cost_usd is ${most}.")
