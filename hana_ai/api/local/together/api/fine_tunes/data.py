"""Training data as a job counts and shows it: rows of tokens, of which some are trained on.

A token is a word here, with the spaces before it; Together's are those of the model.
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from ...refusal import JSON

_WORD = re.compile(r"\s*\S+")
_MASKED = -100
_VOCABULARY = 32_000


@dataclass(frozen=True)
class Row:
    """One sample: texts, each with whether it is trained on."""

    parts: tuple[tuple[str, bool], ...]

    def wire(self, longest: int) -> dict[str, JSON]:
        """The row as a preview shows it, cut to so many tokens."""
        pairs = [(word, trained) for text, trained in self.parts for word in _WORD.findall(text)]
        cut = pairs[:longest]
        ids = [zlib.crc32(word.encode()) % _VOCABULARY for word, _ in cut]
        labels = [id if trained else _MASKED for id, (_, trained) in zip(ids, cut, strict=True)]
        spans: list[JSON] = []
        start: int | None = None
        for index, label in enumerate([*labels, _MASKED]):
            if label != _MASKED and start is None:
                start = index
            elif label == _MASKED and start is not None:
                spans.append([start, index])
                start = None
        return {
            "input_ids": list(ids),
            "labels": list(labels),
            "tokens": [word for word, _ in cut],
            "num_tokens": len(cut),
            "num_trained_tokens": sum(label != _MASKED for label in labels),
            "trained_spans": spans,
            "truncated": len(cut) < len(pairs),
        }


def read_rows(path: Path, type: str, *, train_on_inputs: bool) -> Iterator[Row]:
    """The samples of a data set that has been checked."""
    if type == "csv":
        with path.open(encoding="utf-8", newline="") as file:
            for record in csv.DictReader(file):
                yield _row(dict(record), train_on_inputs)
    elif type == "jsonl":
        with path.open("rb") as lines:
            for line in lines:
                if line.strip():
                    yield _row(orjson.loads(line), train_on_inputs)


def _row(record: dict[str, object], train_on_inputs: bool) -> Row:
    messages = record.get("messages")
    if isinstance(messages, list):
        answered = ((one.get("content"), one.get("role") == "assistant") for one in messages)
        return Row(tuple((_text(content), trained or train_on_inputs) for content, trained in answered))
    if "text" in record:
        return Row(((_text(record["text"]), True),))
    wanted = record.get("completion", record.get("preferred_output"))
    return Row(((_text(record.get("prompt", record.get("input"))), train_on_inputs), (_text(wanted), True)))


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode() if value is not None else ""


def count_tokens(path: Path, type: str) -> int:
    """The tokens of a data set; those of a Parquet file are taken to be four bytes each."""
    if type == "parquet":
        return path.stat().st_size // 4
    rows = read_rows(path, type, train_on_inputs=True)
    return sum(len(_WORD.findall(text)) for row in rows for text, _ in row.parts)


def adapter_files(base: str, training_type: object) -> dict[str, bytes]:
    """What an adapter consists of: its configuration, and a file of weights that holds no tensor."""
    given = training_type if isinstance(training_type, dict) else {}
    config = {
        "base_model_name_or_path": base,
        "peft_type": "LORA",
        "r": given.get("lora_r", 8),
        "lora_alpha": given.get("lora_alpha", 8),
        "lora_dropout": given.get("lora_dropout", 0.0),
        "target_modules": str(given.get("lora_trainable_modules", "all-linear")).split(","),
    }
    header = b'{"__metadata__":{}}'
    header += b" " * (-len(header) % 8)
    weights = len(header).to_bytes(8, "little") + header
    return {"adapter_config.json": orjson.dumps(config), "adapter_model.safetensors": weights}


def archive(path: Path, files: dict[str, bytes]) -> None:
    """Write a compressed archive of some files."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
