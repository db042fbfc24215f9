"""Where a job is done: in this process, or by workers of a Ray cluster."""

from __future__ import annotations

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.cluster.work import Engine, Work


class LocalEngine:
    """This process."""

    def run(self, work: Work) -> None:
        """See `Engine`."""
        work.here()


def engine_from(given: object) -> Engine:
    """The engine of a name, or the one that is given.

    Raises
    ------
    TogetherAIInputError
        There is none of this name, or its package is missing.
    """
    if given == "local":
        return LocalEngine()
    if given == "ray":
        from hana_ai.api.hana.cluster.ray_engine import RayEngine

        return RayEngine()
    if isinstance(given, str) or not callable(getattr(given, "run", None)):
        raise TogetherAIInputError(f"engine is {given!r:.80}; it must be 'local', 'ray' or a RayEngine.")
    return given  # type: ignore[return-value]
