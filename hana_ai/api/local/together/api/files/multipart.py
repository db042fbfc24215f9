"""Reads multipart/form-data, as the SDK and curl send it."""

from __future__ import annotations

from email.message import Message
from email.parser import BytesHeaderParser

from ...refusal import Refusal


def form_of(content_type: str, body: bytes) -> dict[str, bytes]:
    """The fields of a form by their names, files among them.

    Raises
    ------
    Refusal
        400 when the body is no such form.
    """
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_boundary()
    if header.get_content_type() != "multipart/form-data" or not boundary:
        raise Refusal(400, "The request must be multipart/form-data.")
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1"))
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise Refusal(400, "The form is not complete.")
    form: dict[str, bytes] = {}
    for part in parts[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = BytesHeaderParser().parsebytes(head).get_param("name", header="content-disposition")
        if not isinstance(name, str):
            raise Refusal(400, "A field of the form has no name.")
        form[name] = content
    return form
