"""What is checked of a file once it is uploaded: its encoding, its lines, and the format of a data set.

The formats and the columns that each needs are those of the SDK (together 3.1, `lib/constants.py`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from ...refusal import JSON

_FORMATS: dict[str, frozenset[str]] = {
    "CONVERSATION": frozenset({"messages"}),
    "PREFERENCE_OPENAI": frozenset({"input", "preferred_output", "non_preferred_output"}),
    "INSTRUCTION": frozenset({"prompt", "completion"}),
    "GENERAL": frozenset({"text"}),
}
_ROLES = ("system", "user", "assistant", "tool")
_PARQUET = b"PAR1"


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes
    ----------
    error
        What is wrong; empty for a valid file.
    lines
        Lines that hold something, the header of a CSV file left out; None where they were not counted.
    format
        Of a data set for fine-tuning.
    """

    error: str = ""
    lines: int | None = None
    format: str | None = None

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.error

    def wire(self, file_id: str) -> dict[str, JSON]:
        """The report as the API shows it."""
        shown: dict[str, JSON] = {"valid": self.valid, "file_id": file_id}
        if self.lines is not None:
            shown["nlines"] = self.lines
        if self.format is not None:
            shown["dataset_format"] = self.format
        if self.error:
            shown |= {"error": self.error, "error_type": "INVALID_FORMAT"}
        return shown


class _WrongError(ValueError):
    """What is wrong with a file."""


def check(path: Path, type: str, purpose: str) -> Report:
    """Check a file of one of the API's types; only those for fine-tuning and evaluations need a form."""
    counted: list[str | None] = []
    try:
        if type == "parquet":
            _check_parquet(path)
            return Report()
        if purpose not in ("fine-tune", "eval"):
            return Report(lines=sum(1 for _ in filled_lines(path)))
        records = _csv_records(path) if type == "csv" else _jsonl_records(path)
        for number, record in records:
            counted.append(_format_of(record, number) if purpose == "fine-tune" else None)
            if counted[-1] != counted[0]:
                raise _WrongError(f"Line {number} is of the format {counted[-1]}, the first one {counted[0]}.")
    except _WrongError as exc:
        return Report(str(exc), len(counted))
    except UnicodeDecodeError:
        return Report("The file is not encoded in UTF-8.", len(counted))
    if not counted:
        return Report("The file has no samples.", 0)
    return Report(lines=len(counted), format=counted[0])


def filled_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, each with its number from 1."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def _jsonl_records(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in filled_lines(path):
        line.decode("utf-8")
        try:
            record: object = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise _WrongError(f"Error parsing json payload. Unexpected format on line {number}.") from None
        if not isinstance(record, dict):
            raise _WrongError(f"Invalid format on line {number}. Each line must be a JSON object.")
        yield number, record


def _csv_records(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        for record in reader:
            if None in record or None in record.values():
                raise _WrongError(f"Line {reader.line_num} has not as many columns as the header.")
            yield reader.line_num, dict(record)


def _format_of(record: dict[str, object], number: int) -> str:
    for name, columns in _FORMATS.items():
        if columns <= record.keys():
            if name == "CONVERSATION":
                _check_messages(record["messages"], number)
            return name
    found = ", ".join(sorted(record)) or "none"
    raise _WrongError(f"Line {number} fits no data set format; its columns: {found}.")


def _check_messages(messages: object, number: int) -> None:
    if not isinstance(messages, list) or not messages:
        raise _WrongError(f"messages of line {number} must be a list that is not empty.")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise _WrongError(f"A message of line {number} has no role of {', '.join(_ROLES)}.")


def _check_parquet(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(0, path.stat().st_size - 4))
        if path.stat().st_size < 12 or (head, file.read(4)) != (_PARQUET, _PARQUET):
            raise _WrongError("The file is not a Parquet file.")
