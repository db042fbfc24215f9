"""Splitting texts into chunks that the embedding model takes, by its tokens where its tokenizer is at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.langchain.token_estimates import estimated, tokenizer_of

if TYPE_CHECKING:
    from langchain_text_splitters import TextSplitter

CHUNK_TOKENS = 400
"""Tokens in a chunk, unless the model takes fewer."""
OVERLAP_TOKENS = 40
_SHARE = 0.75
"""Of a model's context, where its tokenizer is not at hand and tokens are estimated."""


@dataclass(frozen=True)
class Splitter:
    """How texts become chunks; may be pickled, and gives the same chunks everywhere."""

    chunk_tokens: int
    overlap_tokens: int
    model: str | None
    """Whose tokenizer counts; None estimates."""
    own: TextSplitter | None = None
    """A splitter of LangChain's, instead of this one."""

    @property
    def recipe(self) -> str:
        """What changes when the chunks may."""
        if self.own is not None:
            plain = {name: value for name, value in vars(self.own).items() if isinstance(value, (str, int, list))}
            return f"{type(self.own).__name__} {sorted(map(str, plain.items()))}"
        return f"{self.chunk_tokens} {self.overlap_tokens} {self.model or 'estimate'}"

    def split(self, text: str, *, markdown: bool = False) -> Iterable[str]:
        """The chunks of a text; none of a text that is blank."""
        if not text or text.isspace():
            return ()
        if self.own is None and len(text) <= self.chunk_tokens:
            # A token has at least a letter of most scripts.
            return (text,)
        splitter = self.own or _splitter(self, markdown)
        return (chunk for chunk in splitter.split_text(text) if chunk.strip())


def splitter_for(
    model: str,
    context_length: int | None,
    chunk_tokens: int | None,
    overlap_tokens: int | None,
    own: TextSplitter | None = None,
) -> Splitter:
    """The splitter for a model.

    Raises
    ------
    TogetherAIInputError
        The model takes no chunks of this size, or the overlap is as large as a chunk.
    """
    exact = tokenizer_of(model) is not None
    most = (
        None if context_length is None else max(1, context_length - 8 if exact else int(context_length * _SHARE))
    )
    if chunk_tokens is not None and context_length is not None and chunk_tokens > context_length:
        raise TogetherAIInputError(
            f"Chunks of {chunk_tokens} tokens are too long: {model} takes {context_length}."
        )
    size = chunk_tokens or min(CHUNK_TOKENS, most or CHUNK_TOKENS)
    overlap = min(OVERLAP_TOKENS, size // 8) if overlap_tokens is None else overlap_tokens
    if size < 1 or not 0 <= overlap < size:
        raise TogetherAIInputError(f"Chunks of {size} tokens cannot overlap by {overlap}.")
    return Splitter(size, overlap, model if exact else None, own)


def _counter(model: str | None) -> Callable[[str], int]:
    tokenize = tokenizer_of(model)
    return estimated if tokenize is None else lambda text: len(tokenize(text))


@lru_cache(maxsize=8)
def _made(size: int, overlap: int, model: str | None, markdown: bool) -> Any:
    try:
        from langchain_text_splitters import Language, RecursiveCharacterTextSplitter
    except ModuleNotFoundError as exc:
        raise TogetherAIInputError(
            "Splitting needs the package langchain-text-splitters: pip install 'hana-ai-together[documents]'"
        ) from exc
    counted: dict[str, Any] = {
        "chunk_size": size,
        "chunk_overlap": overlap,
        "length_function": lru_cache(maxsize=4096)(_counter(model)),
    }
    if markdown:
        return RecursiveCharacterTextSplitter.from_language(Language.MARKDOWN, **counted)
    return RecursiveCharacterTextSplitter(**counted)


def _splitter(splitter: Splitter, markdown: bool) -> Any:
    return _made(splitter.chunk_tokens, splitter.overlap_tokens, splitter.model, markdown)
