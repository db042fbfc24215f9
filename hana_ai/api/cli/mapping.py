"""`hana-ai-together map`: ask a model about every row of a table."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from hana_ai.api.catalog.money import dollars
from hana_ai.api.errors import TogetherAIError

from .console import Problem, agreed, console, print_json
from .engine import chosen_engine
from .progress import progress

if TYPE_CHECKING:
    from rich.console import Console

    from hana_ai.api.hana.mapping.job import MapEstimate, MapProgress, MapResult


def map_rows(
    source: str,
    result: str,
    /,
    *,
    prompt: str,
    system: str | None = None,
    label: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    shape: Path | None = None,
    key: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    schema: str | None = None,
    model: str | None = None,
    mode: Literal["online", "batch"] = "online",
    max_tokens: int | None = None,
    temperature: float | None = None,
    batch_size: int = 256,
    retry_errors: Annotated[bool, Parameter(negative=())] = False,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    yes: Annotated[bool, Parameter(negative=(), help="Do not ask.")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON.")] = False,
) -> int:
    """Ask a model about every row, and write its answers into a table; run it again if it was broken off.

    Parameters
    ----------
    source
        A table, or a query in quotation marks.
    result
        The table for the answers; it is made if there is none.
    prompt
        What is asked; {NAME} stands for a column.
    system
        A system message; {NAME} stands for a column.
    label
        One of the answers to choose from; to be repeated. It goes into the column LABEL.
    shape
        A file with a JSON schema, whose properties become columns. Without it: a text in the column ANSWER.
    key
        A column that tells rows apart; may be repeated. Default: the table's primary key.
    schema
        Default: HANA_SCHEMA, else the user's own.
    model
        Default: TOGETHER_DEFAULT_MODEL, else one from the catalogue.
    mode
        online asks at once; batch takes up to a day, and may cost less.
    max_tokens, temperature
        Of each answer.
    batch_size
        Rows that are committed together.
    retry_errors
        Ask rows again that failed before.
    engine
        Where rows are asked about: in this process, or by workers of a Ray cluster.
    workers
        Workers of the Ray cluster. Default: one for each CPU.
    dry_run
        Estimate tokens and cost, and ask nothing.
    """
    options: dict[str, Any] = {
        "prompt": prompt, "system": system, "shape": _shape(label, shape), "key": key or None, "schema": schema,
        "model": model, "mode": mode, "batch_size": batch_size, "retry_errors": retry_errors,
    }  # fmt: skip
    given = {"max_tokens": max_tokens, "temperature": temperature}
    if engine != "local" or workers is not None:
        options["engine"] = chosen_engine(engine, workers)
    options |= {name: value for name, value in given.items() if value is not None}
    return _run(source, result, options, dry_run=dry_run, yes=yes, as_json=as_json)


def _run(source: str, result: str, options: dict[str, Any], *, dry_run: bool, yes: bool, as_json: bool) -> int:
    from hana_ai.api.hana.mapping.job import estimate_map, map_table

    from .tables import database

    # What is said meanwhile is not part of what a program reads.
    out = console(stderr=as_json)
    with database() as connection:
        options["connection"] = connection
        estimate = estimate_map(source, result, **options)
        if dry_run and as_json:
            print_json(estimate)
            return 0
        _tell_estimate(out, estimate)
        if dry_run:
            return 0
        if estimate.to_ask and not agreed("This sends the rows to Together.", yes=yes):
            return 1
        with progress(out, "Asking", estimate.rows) as shown:

            def told(now: MapProgress) -> None:
                shown.update(now.done, now.total, _more(now))

            try:
                done = map_table(source, result, **options, on_progress=told)
            except (KeyboardInterrupt, TogetherAIError):
                _tell_how_to_go_on(estimate.result, options["mode"])
                raise
    if as_json:
        print_json(done)
    else:
        _tell_result(out, done)
    return 0


def _shape(labels: Sequence[str], file: Path | None) -> object:
    if labels and file is not None:
        raise Problem("Pass --label or --shape, not both.")
    if file is None:
        return list(labels) or None
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise Problem(f"{file} is no JSON: {exc}") from exc
    if not isinstance(read, dict):
        raise Problem(f"{file} is no JSON schema: it must be an object with properties.")
    return read


def _more(now: MapProgress) -> str:
    said = [] if now.tokens is None else [f"{now.tokens:,} tokens"]
    if now.cost_usd is not None and now.cost_usd > 0:
        said.append(dollars(now.cost_usd))
    if now.batches:
        percent = sum(batch.progress for batch in now.batches) / len(now.batches)
        said = [f"batch {now.batches[0].status.lower()}, {percent:.0f} %"]
    return f"({', '.join(said)})" if said else ""


def _tell_estimate(out: Console, estimate: MapEstimate) -> None:
    again = " that an earlier run has left" if estimate.resumed else ""
    answers = estimate.completion_tokens
    most = "" if answers is None else f" and at most {answers:,} in the answers"
    only = "" if answers is not None else ", without the answers (set --max-tokens to bound them)"
    out.print(f"{estimate.to_ask:,} of {estimate.rows:,} rows to ask{again}, with {estimate.model}:")
    out.print(f"  about {estimate.prompt_tokens:,} tokens{most}, {dollars(estimate.cost_usd)}{only}")


def _tell_result(out: Console, done: MapResult) -> None:
    spent = "" if done.tokens is None else f", {done.tokens:,} tokens, {dollars(done.cost_usd)}"
    out.print(f"Asked: {done.asked:,} rows{spent}.")
    out.print(f"{done.result} has {done.rows:,} rows, {done.failed:,} of them with an error.")
    if done.failed:
        out.print("To see them: the column ERROR. To ask them again, add --retry-errors to the command.")


def _tell_how_to_go_on(result: str, mode: str) -> None:
    command = shlex.join(["hana-ai-together", *sys.argv[1:]])
    under_way = " Batches that were submitted go on, and are not submitted again." if mode == "batch" else ""
    print(f"\nStopped. What was answered is in {result}.{under_way} To go on: {command}", file=sys.stderr)
