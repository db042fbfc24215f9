"""What a reply says, read a second time and by the simplest rules, to compare answers with."""

from __future__ import annotations

from array import array
from typing import Any

LARGEST = 3.4028234663852886e38


class RefusedError(Exception):
    """The reply is not what the API promises."""


def chat(replies: list[Any], *, strict: bool) -> str:
    """The text of a chat."""
    [reply] = replies
    message = _object(_choices(reply)[0].get("message"))
    _check_calls(message, strict)
    return _text(message.get("content"))


def chat_stream(replies: list[Any], *, strict: bool) -> str:
    """The text of a chat that is streamed."""
    said, seen = "", False
    for event in replies:
        for choice in _optional(_object(event).get("choices"), list, strict=True) or []:
            seen = True
            if _place(_object(choice).get("index")):
                continue
            delta = _optional(choice.get("delta"), dict, strict=True) or {}
            _check_calls(delta, strict)
            _check_logprobs(choice)
            if strict:
                # It is where other replies have their text, so it is one.
                _text(choice.get("text"))
            said += _text(delta.get("content"))
    if not seen:
        raise RefusedError("no choices")
    return said


def completion(replies: list[Any], *, strict: bool) -> str:
    """The text of a completion."""
    [reply] = replies
    texts = [choice.get("text") for choice in _choices(reply)]
    if not all(isinstance(text, str) for text in texts):
        raise RefusedError("no text")
    return str(texts[0])


def completion_stream(replies: list[Any], *, strict: bool) -> str:
    """The text of a completion that is streamed: a choice's, its delta's or the token's."""
    said, seen = "", False
    for event in replies:
        choices = _optional(_object(event).get("choices"), list, strict=True) or []
        first = [choice for choice in choices if not _place(_object(choice).get("index"))][:1]
        choice = first[0] if first else {}
        token = _optional(event.get("token"), dict, strict=strict) or {}
        seen = seen or bool(first) or bool(token)
        _check_logprobs(choice)
        delta = _optional(choice.get("delta"), dict, strict=strict) or {}
        texts = [choice.get("text"), delta.get("content"), None if token.get("special") else token.get("text")]
        if strict:
            texts = [_text(text) for text in texts if text is not None]
        said += next((_text(text) for text in texts if text is not None), "")
    if not seen:
        raise RefusedError("no choices")
    return said


def embeddings(replies: list[Any], *, strict: bool) -> list[list[float]]:
    """The vectors, in the order of their indexes."""
    [reply] = replies
    entries = _optional(_object(reply).get("data"), list, strict=True) or []
    found = {_place(_given(_object(entry).get("index"))): entry.get("embedding") for entry in entries}
    if sorted(found) != [0, 1, 2] or len(entries) != 3:
        raise RefusedError("not three")
    vectors = [found[index] for index in range(3)]
    if not all(isinstance(vector, list) and all(map(_is_number, vector)) for vector in vectors):
        raise RefusedError("no numbers")
    if len({len(vector) for vector in vectors}) != 1 or not vectors[0]:
        raise RefusedError("no one width")
    if any(abs(number) > LARGEST for vector in vectors for number in vector):
        raise RefusedError("too large")
    # A cache keeps 32-bit floats.
    return [list(array("f", vector)) for vector in vectors]


def ranking(replies: list[Any], *, strict: bool) -> list[dict[str, Any]]:
    """The documents' places and scores, the best first."""
    [reply] = replies
    results = _optional(_object(reply).get("results"), list, strict=True) or []
    places = [_place(_given(_object(result).get("index"))) for result in results]
    scores = [result.get("relevance_score") for result in results]
    if sorted(places) != [0, 1, 2] or not all(map(_is_number, scores)):
        raise RefusedError("no ranking")
    ranked = [
        {"index": place, "relevance_score": float(score)} for place, score in zip(places, scores, strict=True)
    ]
    return sorted(ranked, key=lambda result: -result["relevance_score"])


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RefusedError(f"{value!r} is no object")
    return value


def _choices(reply: Any) -> list[dict[str, Any]]:
    choices = _optional(_object(reply).get("choices"), list, strict=True)
    if not choices:
        raise RefusedError("no choices")
    return [_object(choice) for choice in choices]


def _optional(value: Any, kind: type, *, strict: bool) -> Any:
    """A value that may be null or missing; where not strict, anything empty is as good as null."""
    if value is None or isinstance(value, kind) or (not value and not strict):
        return value
    raise RefusedError(f"{value!r} is no {kind.__name__}")


def _check_calls(message: dict[str, Any], strict: bool) -> None:
    for call in _optional(message.get("tool_calls"), list, strict=strict) or []:
        _object(call)


def _check_logprobs(choice: dict[str, Any]) -> None:
    logprobs = choice.get("logprobs")
    if not (logprobs is None or isinstance(logprobs, dict) or _is_number(logprobs)):
        raise RefusedError(f"{logprobs!r} are no log probabilities")


def _text(value: Any) -> str:
    return _optional(value, str, strict=True) or ""


def _place(value: Any) -> int:
    """Null and what is missing is the first."""
    if value is None:
        return 0
    if not _is_number(value) or value < 0 or value != int(value) or value > 2**53:
        raise RefusedError(f"{value!r} is no place in a list")
    return int(value)


def _given(value: Any) -> Any:
    if value is None:
        raise RefusedError("nothing is there")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
