"""The options `--engine` and `--workers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .console import Problem

if TYPE_CHECKING:
    from hana_ai.api.hana.cluster.work import Engine


def chosen_engine(engine: Literal["local", "ray"], workers: int | None) -> Engine:
    """The engine that somebody asks for.

    Raises
    ------
    Problem
        There are workers to be, but no cluster.
    TogetherAIInputError
        Ray is not installed.
    """
    from hana_ai.api.hana.cluster.engines import engine_from

    if engine == "local":
        if workers is not None:
            raise Problem("--workers is for --engine ray.")
        return engine_from("local")
    from hana_ai.api.hana.cluster.ray_engine import RayEngine

    return RayEngine(workers)
