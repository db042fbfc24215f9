"""Objects that `with` and `async with` close."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self


class Closing:
    """Closed at the end of a block, by `with` or, from a coroutine, by `async with`."""

    @abstractmethod
    def close(self) -> None:
        """Leave the connections."""

    @abstractmethod
    async def aclose(self) -> None:
        """Leave the connections, from a coroutine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
