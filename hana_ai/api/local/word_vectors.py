"""WordLlama's static word vectors, read without its package, which has no wheel for every version of Python.

A text's vector is the mean of its tokens' vectors, scaled to length 1: what WordLlama's own `embed` gives.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .weights import WORD_TOKENIZER, WORD_VECTORS, find

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIMENSIONS = 256
_TENSOR = "embedding.weight"


class WordVectors:
    """The vectors and their tokenizer. Calls may come from several threads.

    Raises
    ------
    FileNotFoundError
        The weights are missing; the message says what to run.
    ModuleNotFoundError
        The package tokenizers is missing.
    """

    _loaded: WordVectors | None = None
    _loading = threading.Lock()

    def __init__(self) -> None:
        # Heavy, and a server needs neither before the first text comes.
        import numpy as np
        from tokenizers import Tokenizer

        self._rows = read_tensor(find(WORD_VECTORS), _TENSOR).astype(np.float32)
        self._tokenizer = Tokenizer.from_file(str(find(WORD_TOKENIZER)))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @staticmethod
    def require() -> None:
        """Raise as the first use would when something is missing, without loading it."""
        find(WORD_VECTORS)
        find(WORD_TOKENIZER)
        if find_spec("tokenizers") is None:
            raise ModuleNotFoundError("No module named 'tokenizers'", name="tokenizers")

    @classmethod
    def shared(cls) -> WordVectors:
        """The one of this process."""
        with cls._loading:
            if cls._loaded is None:
                cls._loaded = cls()
            return cls._loaded

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The numbers of each text's tokens."""
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def embed(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Vectors of length 1, shape `(len(tokens), 256)`; a text without a token is all zeros."""
        import numpy as np

        vectors = np.zeros((len(tokens), DIMENSIONS), dtype=np.float32)
        lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
        filled = np.flatnonzero(lengths)
        if len(filled):
            ids = np.concatenate([ids for ids in tokens if ids])
            starts = np.concatenate(([0], np.cumsum(lengths[filled])[:-1]))
            sums = np.add.reduceat(self._rows[np.minimum(ids, len(self._rows) - 1)], starts, axis=0)
            norms = np.linalg.norm(sums, axis=1, keepdims=True)
            vectors[filled] = sums / np.where(norms == 0, 1, norms)
        return vectors


def read_tensor(path: Path, name: str) -> NDArray[np.float16]:
    """A matrix of 16-bit floats in a safetensors file: the header's length, a header in JSON, then the numbers.

    Raises
    ------
    ValueError
        The file has no such matrix.
    """
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    entry = json.loads(data[8:start]).get(name)
    if entry is None or entry["dtype"] != "F16":
        raise ValueError(f"{path} holds no 16-bit matrix {name!r}.")
    first, last = entry["data_offsets"]
    import numpy as np

    return np.frombuffer(data[start + first : start + last], dtype="<f2").reshape(entry["shape"])
