"""`Batches`: submit requests as batches, wait for them, and read their results.

Nothing is kept on this machine: a file is found again at the server by a name that is made of its bytes, and a
batch by its file. So the same requests, submitted again after a process was killed, are the batches there are.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from hana_ai.api.batches import asking
from hana_ai.api.batches.accounts import Accounts
from hana_ai.api.batches.lines import Amount, BatchLimits, InputFile, check_id, write_files
from hana_ai.api.batches.records import (
    CHAT,
    Batch,
    BatchEstimate,
    read_batch,
    read_batches,
    read_created,
    read_files,
)
from hana_ai.api.batches.results import BatchResults, Sums
from hana_ai.api.batches.steps import Ask, Doer, Pause, Steps, Work
from hana_ai.api.errors import TogetherAIInputError, TogetherAIRequestError, TogetherAITimeoutError

if TYPE_CHECKING:
    from langchain_core.language_models import LanguageModelInput

    from hana_ai.api.wire.schemas import JSONObject

    BatchRequest = LanguageModelInput | Mapping[str, object]

__all__ = ["BatchLimits", "Batches"]

_T = TypeVar("_T")
BodyMaker = Callable[["BatchRequest", str | None, dict[str, object]], "JSONObject"]
"""Makes a request's body of what is asked, a model and further parameters."""
OnProgress = Callable[[Sequence[Batch]], None]

_BROKEN = ("FAILED", "EXPIRED", "CANCELLED")
_CREATIONS = 4


@dataclass(frozen=True)
class _Asked:
    """What is to be submitted, and how."""

    requests: Iterable[BatchRequest | tuple[str, BatchRequest]]
    model: str | None
    parameters: dict[str, object]
    endpoint: str = CHAT
    again: bool = False
    max_cost_usd: Decimal | None = None


class Batches:
    """The batches of an account; `TogetherAIClient.batches` makes one. Thread-safe.

    Requests are what `ChatTogetherAI.invoke` takes, bodies as the API takes them (a mapping with `messages`), or
    pairs of a `custom_id` and one of these; without one, requests are numbered from 0.

    Parameters
    ----------
    doer : Doer
    accounts : Accounts
        For estimates, the budget and the ledger.
    body : callable
        Makes a request's body.
    """

    def __init__(self, doer: Doer, accounts: Accounts, body: BodyMaker) -> None:
        self._doer = doer
        self._accounts = accounts
        self._body = body
        self.limits = BatchLimits()
        """What a file may hold, and how often a batch is asked for."""

    # --- submit ---

    def estimate(
        self,
        requests: Iterable[BatchRequest | tuple[str, BatchRequest]],
        *,
        model: str | None = None,
        **parameters: object,
    ) -> BatchEstimate:
        """Tell what requests would be as batches; nothing is sent. Takes and raises the same as `submit`."""
        with tempfile.TemporaryDirectory(prefix="hana-ai-together-") as folder:
            asked = _Asked(requests, model, parameters)
            files, amount = self._written(asked, Path(folder))
            return self._estimated(files, amount)

    async def aestimate(
        self,
        requests: Iterable[BatchRequest | tuple[str, BatchRequest]],
        *,
        model: str | None = None,
        **parameters: object,
    ) -> BatchEstimate:
        """Tell from a coroutine what requests would be as batches; see `estimate`."""
        return await self._doer.ado(_work(partial(self.estimate, requests, model=model, **parameters)))

    def submit(
        self,
        requests: Iterable[BatchRequest | tuple[str, BatchRequest]],
        *,
        model: str | None = None,
        endpoint: str = CHAT,
        again: bool = False,
        max_cost_usd: Decimal | None = None,
        **parameters: object,
    ) -> tuple[Batch, ...]:
        """Submit requests, as one batch or several. The same requests are not submitted twice.

        Parameters
        ----------
        requests : iterable
            See the class; read one by one.
        model : str, optional
            Default: TOGETHER_DEFAULT_MODEL, else one from the catalogue.
        endpoint : str
            Path that the requests are for. Together takes batches of chats, and refuses embeddings.
        again : bool
            Submit requests that were submitted before as new batches. Without it, a batch of the same requests
            is returned, unless it failed, expired or was cancelled.
        max_cost_usd : Decimal, optional
            Refuse to submit what may cost more, as estimated.
        **parameters
            Of each request, such as `max_tokens` and `response_format`.

        Returns
        -------
        tuple of Batch
            In the order of the requests.

        Raises
        ------
        TogetherAIInputError
            A `custom_id` is wrong or comes twice, a request is too large, there is none, or `max_cost_usd` is
            too little.
        TogetherAIBudgetExceededError
            The budget is spent, or these batches may take more than what is left of it.
        TogetherAIRequestError
            Together refuses; batches that were submitted before are found when this is called again.
        """
        asked = _Asked(requests, model, parameters, endpoint, again, max_cost_usd)
        return self._doer.do(self._submit(asked))

    async def asubmit(
        self,
        requests: Iterable[BatchRequest | tuple[str, BatchRequest]],
        *,
        model: str | None = None,
        endpoint: str = CHAT,
        again: bool = False,
        max_cost_usd: Decimal | None = None,
        **parameters: object,
    ) -> tuple[Batch, ...]:
        """Submit requests from a coroutine; see `submit`. The requests are read in a thread."""
        asked = _Asked(requests, model, parameters, endpoint, again, max_cost_usd)
        return await self._doer.ado(self._submit(asked))

    # --- look ---

    def status(self, id: str) -> Batch:
        """Ask for one batch.

        Raises
        ------
        TogetherAIRequestError
            There is none of this id, or Together can't be asked.
        """
        return self._doer.do(_read(f"/v1/batches/{_named(id)}"))

    async def astatus(self, id: str) -> Batch:
        """Ask for one batch from a coroutine; see `status`."""
        return await self._doer.ado(_read(f"/v1/batches/{_named(id)}"))

    def list(self) -> tuple[Batch, ...]:
        """Ask for all batches of the account; raises as `status`."""
        return self._doer.do(_listed())

    async def alist(self) -> tuple[Batch, ...]:
        """Ask for all batches from a coroutine; see `list`."""
        return await self._doer.ado(_listed())

    def cancel(self, id: str) -> Batch:
        """Cancel a batch; what was answered until then can be read, and is paid for.

        Raises
        ------
        TogetherAIRequestError
            There is none of this id, it has ended, or Together can't be asked.
        """
        return self._doer.do(_cancelled(id))

    async def acancel(self, id: str) -> Batch:
        """Cancel a batch from a coroutine; see `cancel`."""
        return await self._doer.ado(_cancelled(id))

    def wait(
        self,
        batches: Batch | str | Sequence[Batch | str],
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Sequence[Batch]:
        """Wait until batches have ended, well or not.

        Parameters
        ----------
        batches : Batch, str or sequence of them
            The batches, or their ids.
        timeout : float, optional
            Seconds. Default: for as long as it takes.
        on_progress : callable, optional
            Called with the batches whenever they were asked for.

        Raises
        ------
        TogetherAITimeoutError
            They have not ended in time; they go on.
        TogetherAIRequestError
            Together can't be asked.
        """
        return self._doer.do(self._wait(_ids(batches), timeout, on_progress))

    async def await_(
        self,
        batches: Batch | str | Sequence[Batch | str],
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Sequence[Batch]:
        """Wait from a coroutine until batches have ended; see `wait`."""
        return await self._doer.ado(self._wait(_ids(batches), timeout, on_progress))

    def results(self, batches: Batch | str | Sequence[Batch | str]) -> BatchResults:
        """Fetch what came of batches that have ended. Their cost is counted in the ledger, once for each.

        Raises
        ------
        TogetherAIInputError
            One has not ended; see `wait`.
        TogetherAIRequestError
            One failed as a whole, such as for a model that does not exist, or Together can't be asked.
        """
        return self._doer.do(self._results(_ids(batches)))

    async def aresults(self, batches: Batch | str | Sequence[Batch | str]) -> BatchResults:
        """Fetch results from a coroutine; see `results`."""
        return await self._doer.ado(self._results(_ids(batches)))

    # --- the steps ---

    def _written(self, asked: _Asked, folder: Path) -> tuple[Sequence[InputFile], Amount]:
        amount = Amount()
        return tuple(write_files(self._lines(asked), folder, self.limits, amount)), amount

    def _lines(self, all: _Asked) -> Iterator[tuple[str, JSONObject]]:
        requests = all.requests
        if isinstance(requests, (str, Mapping)):
            raise TogetherAIInputError("requests is a single request; pass a list of them.")
        for number, request in enumerate(requests):
            id: object = str(number)
            asked: object = request
            if isinstance(request, tuple):
                if len(request) != 2:
                    raise TogetherAIInputError(f"requests[{number}] is no pair of a custom_id and a request.")
                id, asked = request
            yield check_id(id), self._body(cast("BatchRequest", asked), all.model, all.parameters)

    def _estimated(self, files: Sequence[InputFile], amount: Amount) -> BatchEstimate:
        return BatchEstimate(
            requests=amount.lines,
            batches=len(files),
            bytes=sum(file.size for file in files),
            prompt_tokens=amount.prompt_tokens,
            completion_tokens=amount.completion_tokens,
            cost_usd=self._accounts.estimated_cost(amount.models),
        )

    def _submit(self, asked: _Asked) -> Steps[tuple[Batch, ...]]:
        with tempfile.TemporaryDirectory(prefix="hana-ai-together-") as folder:
            files, amount = yield Work(partial(self._written, asked, Path(folder)))
            estimate = yield Work(partial(self._estimated, files, amount))
            most, cost = asked.max_cost_usd, estimate.cost_usd
            if most is not None and cost is not None and cost > most:
                raise TogetherAIInputError(f"These requests may cost ${cost:.4f}, and max_cost_usd is ${most}.")
            there = yield from self._submitted(files, asked.again)
            if any(batch is None for batch in there):
                yield Work(partial(self._accounts.admit, estimate.cost_usd))
            submitted: tuple[Batch, ...] = ()
            for file, batch in zip(files, there, strict=True):
                submitted += (batch or (yield from self._create(file, asked)),)
            return submitted

    def _submitted(self, files: Sequence[InputFile], again: bool) -> Steps[tuple[Batch | None, ...]]:
        """The batches that there are of some files."""
        if again:
            return (None,) * len(files)
        names = read_files((yield Ask(asking.get("/v1/files"))))
        batches = yield from _listed()
        return tuple(_of_file(batches, names.get(file.name)) for file in files)

    def _create(self, file: InputFile, asked: _Asked) -> Steps[Batch]:
        file_id = yield Ask(asking.upload(file.path), self.limits.upload_seconds)
        known = {batch.id for batch in (yield from _listed())}
        body = {"endpoint": asked.endpoint, "input_file_id": file_id, "completion_window": "24h"}
        for attempt in range(_CREATIONS):
            try:
                return read_created((yield Ask(asking.post("/v1/batches", body), once=True)))
            except TogetherAIRequestError as exc:
                if not exc.is_retryable or attempt == _CREATIONS - 1:
                    raise
                pause = exc.retry_after or self.limits.first_poll * 2**attempt
            yield Pause(pause)
            # It may have been made, though the reply was lost.
            batches = [one for one in (yield from _listed()) if not asked.again or one.id not in known]
            if (made := _of_file(batches, file_id)) is not None:
                return made
        raise AssertionError("the last attempt raises")

    def _wait(
        self, ids: Sequence[str], timeout: float | None, on_progress: OnProgress | None
    ) -> Steps[Sequence[Batch]]:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = self.limits.first_poll
        found: dict[str, Batch] = {}
        while True:
            for id in ids:
                if id not in found or not found[id].ended:
                    found[id] = yield from _read(f"/v1/batches/{_named(id)}")
            batches = tuple(found[id] for id in ids)
            if on_progress is not None:
                on_progress(batches)
            waiting = [batch for batch in batches if not batch.ended]
            if not waiting:
                return batches
            left = pause if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TogetherAITimeoutError(
                    f"the batch {waiting[0].id} is {waiting[0].status} ({waiting[0].progress:g} %) after "
                    f"{timeout:g} s; it goes on"
                )
            yield Pause(min(pause, left))
            pause = min(1.5 * pause, self.limits.longest_poll)

    def _results(self, ids: Sequence[str]) -> Steps[BatchResults]:
        batches = []
        for id in ids:
            batch = yield from _read(f"/v1/batches/{_named(id)}")
            if not batch.ended:
                raise TogetherAIInputError(
                    f"The batch {id} is {batch.status} ({batch.progress:g} %); wait for it first."
                )
            if batch.status == "FAILED" and batch.output_file_id is None:
                raise TogetherAIRequestError(
                    f"the batch {id} failed: {batch.error or 'the server does not say why'}"
                )
            batches.append(batch)
        results = BatchResults(batches)
        whole, costs = Sums(), [Decimal(0)]
        try:
            for batch in batches:
                for file_id in (batch.output_file_id, batch.error_file_id):
                    if file_id is not None:
                        yield from self._fetch(file_id, results.path(file_id))
                sums = yield Work(partial(_summed, results, batch))
                costs.append((yield Work(partial(self._accounts.count, batch, sums))))
                whole.merge(sums)
        except BaseException:
            results.close()
            raise
        results.answered, results.failed, results.tokens = whole.answered, whole.failed, whole.tokens
        results.cost_usd = None if None in costs else sum(costs, Decimal(0))
        return results

    def _fetch(self, file_id: str, path: Path) -> Steps[None]:
        with path.open("wb") as out:
            while not (
                yield Ask(
                    asking.fetch_part(_named(file_id), out, self.limits.part_bytes), self.limits.upload_seconds
                )
            ):
                pass


def _summed(results: BatchResults, batch: Batch) -> Sums:
    sums = Sums()
    for result in results.of(batch):
        sums.add(result)
    return sums


def _listed() -> Steps[tuple[Batch, ...]]:
    return tuple(read_batches((yield Ask(asking.get("/v1/batches")))))


def _read(path: str) -> Steps[Batch]:
    return read_batch((yield Ask(asking.get(path))))


def _cancelled(id: str) -> Steps[Batch]:
    return read_batch((yield Ask(asking.post(f"/v1/batches/{_named(id)}/cancel", {}))))


def _work(function: Callable[[], _T]) -> Steps[_T]:
    result: _T = yield Work(function)
    return result


def _of_file(batches: Iterable[Batch], file_id: str | None) -> Batch | None:
    """The batch of a file that is under way or has ended well."""
    ours = (batch for batch in batches if batch.input_file_id == file_id and batch.status not in _BROKEN)
    return None if file_id is None else next(ours, None)


def _named(id: str) -> str:
    if not id or any(not (one.isalnum() or one in "-_.") for one in id) or not id.strip("."):
        raise TogetherAIInputError(f"{id!r:.80} is no id of a batch.")
    return id


def _ids(batches: Batch | str | Sequence[Batch | str]) -> Sequence[str]:
    several = [batches] if isinstance(batches, (Batch, str)) else batches
    return [batch.id if isinstance(batch, Batch) else batch for batch in several]
