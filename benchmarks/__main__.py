"""Measure the provider beside its peers and the floor of each case, in one run: ``python -m benchmarks``.

Every contestant has a process of its own; they take turns, against one server on 127.0.0.1. Ratios are medians of
the ratios of neighbouring rounds. The exit status is 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from os import cpu_count, getloadavg
from pathlib import Path
from typing import Any, get_args

from benchmarks import limits, report
from benchmarks.case import Case
from benchmarks.cases import CASES
from benchmarks.figures import Clock, Result
from benchmarks.process import interpreter, server
from benchmarks.runner import run_case

_LIMITS = "limits"
_PACKAGES = ("aiohttp", "langchain-core", "langchain-together", "litellm", "orjson", "pydantic", "together")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [*CASES, _LIMITS]
    parser.add_argument("--only", action="append", choices=names, help="run this one; may be repeated")
    parser.add_argument(
        "--with",
        action="append",
        dest="contestants",
        metavar="CONTESTANT",
        default=[],
        help="measure only ours, floor, langchain-together, litellm or sdk; may be repeated",
    )
    parser.add_argument("--all", action="store_true", help="run the cases, too, that take gigabytes or minutes")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each contestant; short cases have more")
    parser.add_argument(
        "--baseline", type=Path, metavar="PATH", help="measure the provider of this checkout as well"
    )
    parser.add_argument(
        "--clock",
        choices=get_args(Clock),
        default="wall",
        help="judge by wall time, or on a busy machine by CPU time (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of all rounds to this file")
    arguments = parser.parse_args()
    if arguments.baseline is not None:
        arguments.baseline = arguments.baseline.resolve()
        if not interpreter(arguments.baseline).exists():
            parser.error(f"{arguments.baseline} has no environment; run `make .venv/.installed` there.")
    return arguments


def about() -> dict[str, Any]:
    """What the figures were measured with."""
    processors = cpu_count() or 1
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": processors,
        "load": getloadavg()[0] / processors,
        "packages": dict(_versions()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def _chosen(only: Sequence[str] | None, everything: bool) -> list[Case]:
    if only:
        return [CASES[name] for name in CASES if name in only]
    return [case for case in CASES.values() if everything or not case.heavy]


def main() -> int:
    """Run, print the tables, and say whether every bar is met."""
    arguments = _arguments()
    told = about()
    packages = ", ".join(f"{name} {number}" for name, number in told["packages"].items())
    print(f"Python {told['python']}, {told['system']}, {told['processors']} processors.\n{packages}\n")
    if told["load"] > 1:
        print(f"Busy: {told['load']:.1f} programs a processor wait to run. Judge by --clock cpu.\n")
    print(report.header())
    results: list[Result] = []
    wrong: list[str] = []
    with server() as url:
        for case in _chosen(arguments.only, arguments.all):
            result = run_case(case, url, arguments.rounds, arguments.baseline, arguments.contestants)
            print("\n".join(report.table(result, arguments.clock)), end="\n\n", flush=True)
            results.append(result)
            wrong += [case.name for verdict in result.verdicts(arguments.clock) if not verdict.met]
            wrong += [f"{name} of {case.name}" for name in result.failures]
    if arguments.all or (arguments.only and _LIMITS in arguments.only):
        wrong += _limits()
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.as_json(results, told, arguments.clock), indent=1) + "\n")
    print(f"Missed: {', '.join(wrong)}." if wrong else "All bars are met.")
    return 1 if wrong else 0


def _limits() -> list[str]:
    print(limits.header())
    uses = []
    for use in limits.uses():
        print(use.row(), flush=True)
        uses.append(use)
    return [_LIMITS for use in uses if not use.met]


if __name__ == "__main__":
    sys.exit(main())
