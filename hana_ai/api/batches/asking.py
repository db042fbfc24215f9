"""What is asked of the API about files and batches, each as an operation of the SDK's client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from hana_ai.api.errors import TogetherAIResponseError
from hana_ai.api.wire.failures import forget_frames
from hana_ai.api.wire.shapes import SHAPE_ERRORS, wrong_shape

if TYPE_CHECKING:
    from together import AsyncTogether

Operation = Callable[["AsyncTogether"], Awaitable[bytes]]


def get(path: str) -> Operation:
    """Read something."""

    async def operation(sdk: AsyncTogether) -> bytes:
        import httpx

        return (await sdk.get(path, cast_to=httpx.Response)).content

    return operation


def post(path: str, body: dict[str, object]) -> Operation:
    """Let something be done."""

    async def operation(sdk: AsyncTogether) -> bytes:
        import httpx

        return (await sdk.post(path, cast_to=httpx.Response, body=body)).content

    return operation


def upload(path: Path) -> Callable[[AsyncTogether], Awaitable[str]]:
    """Send a file; gives its id, also where the server has it already."""

    async def operation(sdk: AsyncTogether) -> str:
        try:
            return str((await sdk.files.upload(path, purpose="batch-api", check=False)).id)
        except SHAPE_ERRORS as exc:
            forget_frames(exc)
            raise wrong_shape(exc) from None

    return operation


def fetch_part(file_id: str, out: BinaryIO, size: int) -> Callable[[AsyncTogether], Awaitable[bool]]:
    """Append the next bytes of a file to `out`, at most `size` of them; gives whether that was the end.

    A server that knows no ranges sends all of it.
    """

    async def operation(sdk: AsyncTogether) -> bool:
        import httpx

        start = out.tell()
        response = await sdk.get(
            f"/v1/files/{file_id}/content",
            cast_to=httpx.Response,
            options={
                "headers": {"Accept": "application/binary", "Range": f"bytes={start}-{start + size - 1}"},
                # Files may be kept elsewhere; httpx leaves the key out there.
                "follow_redirects": True,
            },
        )
        content = response.content
        if response.status_code != 206:
            out.seek(0)
            out.truncate()
            out.write(content)
            return True
        total = response.headers.get("content-range", "").rpartition("/")[2]
        out.write(content)
        if not content and not total.isdecimal():
            raise TogetherAIResponseError(f"the server sent nothing of the file {file_id}")
        return len(content) < size if not total.isdecimal() else out.tell() >= int(total)

    return operation
