"""What the product believes of Together's refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .plan import WRONG_KEY
from .report import shape
from .together_world import Answer, TogetherWorld

Saw = Callable[[str, Any], None]
REFUSED = {
    "unknown model": (404,),
    "unknown embedding model": (404,),
    "no messages": (400, 422),
    "unknown role": (400, 422),
    "temperature below 0": (400, 422),
    "top_p above 1": (400, 422),
    "max_tokens as text": (400, 422),
    "max_tokens of 0": (400, 422),
    "too many choices": (400, 422),
    "unknown response format": (400, 422),
    "tool choice without tools": (400, 422),
    "prompt too long": (400, 413, 422),
    "embedding of nothing": (400, 422),
    "rerank, unknown field": (400, 422),
}
"""Requests of the plan, and the statuses that the product takes for a mistake in them."""


def _note(saw: Saw, world: TogetherWorld, name: str, answer: Answer) -> None:
    saw(f"{name}, status", answer.status)
    error = answer.body.get("error") if isinstance(answer.body, dict) else None
    if isinstance(error, dict):
        saw(f"{name}, shape of the error", shape(error))
        for field in ("type", "param", "code"):
            saw(f"{name}, {field} of the error", error.get(field))
        saw(f"{name}, message of the error", world.neutral(str(error.get("message"))))


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_refused_in_the_documented_shape(together_world: TogetherWorld, saw: Saw, name: str) -> None:
    answer = together_world.ask(name)
    _note(saw, together_world, name, answer)
    assert answer.status in REFUSED[name], answer.body
    assert answer.error["message"]


def test_a_wrong_key_is_refused(together_world: TogetherWorld, saw: Saw) -> None:
    answer = together_world.ask("wrong key", key=WRONG_KEY)
    _note(saw, together_world, "wrong key", answer)
    assert answer.status == 401
    assert WRONG_KEY not in str(answer.body)


def test_a_path_that_is_not_there_is_refused(together_world: TogetherWorld, saw: Saw) -> None:
    answer = together_world.send("GET", "/v1/nobody-has-this-path")
    saw("unknown path, status", answer.status)
    assert answer.status == 404


def test_an_error_that_names_an_unknown_model_has_its_code(together_world: TogetherWorld) -> None:
    assert together_world.ask("unknown model").error["code"] == "model_not_available"
