"""How many tokens a text has: by the model's tokenizer where it is at hand, else by an estimate.

The estimate was fitted to the tokenizers of recent models, those with a vocabulary of 100,000 tokens and more. In
English, German, French and Spanish, in code, JSON, SQL, tables and numbers it is within 20 % of theirs. In other
scripts, where they differ by up to a factor of two from each other, it is within 50 %. Models with a small
vocabulary, such as those of the time of Llama 2, need more tokens than it says.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_core.utils.function_calling import convert_to_openai_tool

from hana_ai.api.langchain.messages import messages_to_wire

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

Count = Callable[[str], int]
"""Takes a text and gives its tokens."""

OF_A_MESSAGE = 4
"""What the frame of a message takes in a chat template, the role included."""
OF_A_MEDIUM = 1_600
"""What a picture, a sound or a film counts as; models take some hundred to some thousand tokens."""

_PIECES = re.compile(
    r"""
    (?P<word>[A-Za-z]+(?![\u00c0-\u024f]))
    |(?P<accented>[A-Za-z\u00c0-\u024f]+)
    |(?P<number>\d+)
    |(?P<space>\s+)
    |(?P<mark>[!-/:-@\[-`{-~]+)
    |(?P<cyrillic>[\u0370-\u058f]+)
    |(?P<arabic>[\u0590-\u08ff]+)
    |(?P<indic>[\u0900-\u109f]+)
    |(?P<hangul>[\u1100-\u11ff\uac00-\ud7af]+)
    |(?P<han>[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]+)
    |(?P<pictogram>[\U00010000-\U0010ffff])
    |(?P<other>.)
    """,
    re.VERBOSE,
)
_OF_A_LETTER = {
    "cyrillic": 0.33,
    "arabic": 0.5,
    "indic": 0.85,
    "hangul": 1.0,
    "han": 0.8,
    "pictogram": 2.0,
    "other": 1.0,
}
"""Tokens of a letter in scripts whose words no tokenizer has as a whole."""


def estimated(text: str) -> int:
    """Estimate how many tokens a text has; see the module for how well."""
    tokens = spread = 0.0
    plain = accented = 0
    for piece in _PIECES.finditer(text):
        kind, length = piece.lastgroup or "other", piece.end() - piece.start()
        if kind == "word":
            whole = 1 if length <= 7 else 1 + (length - 7) / 5
            tokens, plain, spread = tokens + whole, plain + 1, spread + max(0.0, length / 3 - whole)
        elif kind == "accented":
            tokens, accented = tokens + max(1.0, length / 2.4), accented + 1
        elif kind == "number":
            tokens += -(-length // 3)
        elif kind == "space":
            # A single blank belongs to the word behind it.
            tokens += piece.group() != " "
        elif kind == "mark":
            tokens += max(1.0, length / 2)
        else:
            tokens += length * _OF_A_LETTER[kind]
    if accented:
        # Words of other languages than English are cut smaller; their share of accents says which those are.
        tokens += spread * min(1.0, 2 * accented / (plain + accented))
    return round(tokens)


def of_messages(messages: Iterable[BaseMessage], tools: Sequence[object] | None, count: Count) -> int:
    """Count the tokens of messages and tools, their frames in a chat template included.

    Parameters
    ----------
    messages : iterable of BaseMessage
    tools : sequence, optional
        As `ChatTogetherAI.bind_tools` takes them.
    count : callable

    Raises
    ------
    TogetherAIInputError
        A message has no form on the wire.
    """
    total = 0
    for message in messages_to_wire(messages):
        fields: Mapping[str, object] = {name: value for name, value in message.items() if name != "role"}
        total += OF_A_MESSAGE + sum(_of_value(value, count) for value in fields.values())
    for tool in tools or ():
        total += count(json.dumps(convert_to_openai_tool(tool)))  # type: ignore[arg-type]
    return total


def _of_value(value: object, count: Count) -> int:
    if value is None:
        return 0
    if isinstance(value, str):
        return count(value)
    parts = value if isinstance(value, list) else [value]
    return sum(_of_part(part, count) for part in parts)


def _of_part(part: object, count: Count) -> int:
    if isinstance(part, Mapping) and isinstance(kind := part.get("type"), str):
        if kind == "text":
            return count(str(part.get("text") or ""))
        if kind.endswith(("_url", "_audio")):
            return OF_A_MEDIUM
    return count(json.dumps(part, default=str))


def tokenizer_of(model: str | None) -> Callable[[str], list[int]] | None:
    """The tokenizer of a model, if the cache of Hugging Face has its `tokenizer.json`; nothing is loaded for it.

    Takes the package `tokenizers`, and a model that Together and Hugging Face give the same name.
    """
    file = _file_of(model) if model else None
    if file is None:
        return None
    try:
        return _loaded(file)
    except ImportError:
        return None


def _file_of(model: str) -> Path | None:
    owner, _, name = model.partition("/")
    if not name or "/" in name:
        return None
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    folder = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{owner}--{name}"
    try:
        revision = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    file = folder / "snapshots" / revision / "tokenizer.json"
    return file if file.is_file() else None


@lru_cache(maxsize=8)
def _loaded(file: Path) -> Callable[[str], list[int]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))

    def ids_of(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    return ids_of
