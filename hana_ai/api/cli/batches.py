"""`hana-ai-together batches`: requests that Together answers as batches."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from cyclopts import App, Parameter

from hana_ai.api.catalog.money import dollars

from .console import Problem, console, print_json
from .progress import progress

if TYPE_CHECKING:
    from hana_ai.api.batches.jobs import Batches
    from hana_ai.api.batches.records import Batch
    from hana_ai.api.batches.results import BatchResults

batches = App(name="batches", help="Requests that Together answers as batches, within a day.")

_Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")]


@batches.command(name="list")
def list_batches(*, as_json: _Json = False) -> int:
    """List the batches of the account."""
    return _show(_batches().list(), as_json=as_json)


@batches.command
def submit(
    file: Path,
    /,
    *,
    model: str | None = None,
    max_tokens: int | None = None,
    again: Annotated[bool, Parameter(negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    as_json: _Json = False,
) -> int:
    """Submit the requests of a file; those that were submitted before are not submitted twice.

    Parameters
    ----------
    file
        JSONL: each line a prompt as a string, a request's body, or an object with custom_id and body.
    model
        For lines that name none; default: TOGETHER_DEFAULT_MODEL.
    max_tokens
        For lines that say none.
    again
        Submit them as new batches, also if they were submitted before.
    dry_run
        Estimate tokens and cost, and submit nothing.
    """
    more: dict[str, Any] = {} if max_tokens is None else {"max_tokens": max_tokens}
    ours = _batches()
    if dry_run:
        estimate = ours.estimate(_requests(file), model=model, **more)
        if as_json:
            print_json(estimate)
            return 0
        tokens = f"about {estimate.prompt_tokens:,} tokens and {_at_most(estimate.completion_tokens)}"
        console().print(
            f"{estimate.requests:,} requests in {estimate.batches} batches, {tokens}, {dollars(estimate.cost_usd)}"
        )
        return 0
    return _show(ours.submit(_requests(file), model=model, again=again, **more), as_json=as_json)


@batches.command
def status(*ids: str, as_json: _Json = False) -> int:
    """Show how far batches are.

    Parameters
    ----------
    ids
        Their ids.
    """
    ours = _batches()
    return _show([ours.status(id) for id in _some(ids)], as_json=as_json)


@batches.command
def wait(*ids: str, timeout: float | None = None, as_json: _Json = False) -> int:
    """Wait until batches have ended; exits with 1 if one has not ended well.

    Parameters
    ----------
    ids
        Their ids.
    timeout
        Seconds; default: for as long as it takes.
    """
    ours = _batches()
    # What is shown meanwhile is not part of what a program reads.
    with progress(console(stderr=True), "Waiting", 100) as shown:

        def told(now: Sequence[Batch]) -> None:
            shown.update(int(sum(batch.progress for batch in now) / len(now)), more="percent")

        ended = ours.wait(_some(ids), timeout=timeout, on_progress=told)
    _show(ended, as_json=as_json)
    return 0 if all(batch.status == "COMPLETED" for batch in ended) else 1


@batches.command
def results(*ids: str, out: Path | None = None, errors: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Print the results of batches that have ended, as JSONL; what they took goes to standard error.

    Parameters
    ----------
    ids
        Their ids.
    out
        A file to write them into.
    errors
        Only the requests that failed.
    """
    with _batches().results(_some(ids)) as found:
        if out is None:
            _write(found, sys.stdout.write, errors=errors)
        else:
            with out.open("w", encoding="utf-8") as file:
                _write(found, file.write, errors=errors)
        tokens = "?" if found.tokens.total is None else f"{found.tokens.total:,}"
        print(
            f"{found.answered:,} answered, {found.failed:,} failed, {tokens} tokens, {dollars(found.cost_usd)}",
            file=sys.stderr,
        )
    return 0


@batches.command
def cancel(id: str, /, *, as_json: _Json = False) -> int:
    """Cancel a batch. What was answered until then can be read, and is paid for.

    Parameters
    ----------
    id
        Its id.
    """
    return _show([_batches().cancel(id)], as_json=as_json)


def _batches() -> Batches:
    from hana_ai.api.together_ai import TogetherAIClient

    return TogetherAIClient().batches


def _some(ids: Sequence[str]) -> Sequence[str]:
    if not ids:
        raise Problem("name a batch; hana-ai-together batches list shows them.")
    return ids


def _requests(file: Path) -> Iterator[Any]:
    """The requests of a file, as `Batches.submit` takes them."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                read: object = orjson.loads(line)
            except orjson.JSONDecodeError as exc:
                raise Problem(f"{file}, line {number} is no JSON: {exc}") from exc
            if isinstance(read, Mapping) and "custom_id" in read and isinstance(read.get("body"), Mapping):
                yield read["custom_id"], read["body"]
            elif isinstance(read, (str, Mapping)):
                yield read
            else:
                raise Problem(f"{file}, line {number} is neither a string nor an object.")


def _write(found: BatchResults, write: object, *, errors: bool) -> None:
    assert callable(write)
    for result in found.errors() if errors else found:
        line = {"custom_id": result.custom_id, "text": result.text, "error": result.error, "body": result.body}
        write(orjson.dumps(line).decode() + "\n")


def _show(found: Sequence[Batch], *, as_json: bool) -> int:
    if as_json:
        print_json(found)
        return 0
    from rich.table import Table

    if not found:
        console().print("There are no batches.")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "status"):
        table.add_column(heading, no_wrap=True)
    table.add_column("%", justify="right")
    table.add_column("created", overflow="fold")
    table.add_column("error", overflow="fold")
    for batch in found:
        created = "-" if batch.created_at is None else f"{batch.created_at:%Y-%m-%d %H:%M}"
        table.add_row(batch.id, batch.status, f"{batch.progress:g}", created, batch.error or "")
    console().print(table)
    return 0


def _at_most(tokens: int | None) -> str:
    return "an unknown number of tokens in the answers" if tokens is None else f"at most {tokens:,} in the answers"
