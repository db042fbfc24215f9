"""Vectors by the words of a text, so that texts with the same words are near."""

from __future__ import annotations

import math
import re
import zlib

from hana_ai.api.local.together import Received, Reply

WIDTH = 2048


def vector(text: str) -> list[float]:
    """One place for each word of four letters or more, and length 1."""
    made = [0.0] * WIDTH
    for word in re.findall(r"\w{4,}", text.lower()):
        made[zlib.crc32(word.encode()) % WIDTH] += 1.0
    made[0] += 0.01
    length = math.sqrt(sum(number * number for number in made))
    return [number / length for number in made]


def embed_by_words(request: Received) -> Reply:
    """An answer of /v1/embeddings."""
    given = request.body["input"]
    texts = [given] if isinstance(given, str) else given
    data = [{"object": "embedding", "index": index, "embedding": vector(text)} for index, text in enumerate(texts)]
    tokens = sum(text.count(" ") + 1 for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Reply(body={"object": "list", "model": request.body["model"], "data": data, "usage": usage})
