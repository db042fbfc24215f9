"""Where a parameter can be given in several places, the later one wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit import test_chat_models, test_llms


@pytest.mark.parametrize(
    ("make", "body_of"),
    [(test_chat_models.make, test_chat_models.body_of), (test_llms.make, test_llms.body_of)],
    ids=["chat", "completions"],
)
def test_the_later_layer_wins_from_fields_to_extra_body(
    make: Callable[..., Any], body_of: Callable[..., dict[str, Any]]
) -> None:
    model = make(temperature=0.1, model_kwargs={"temperature": 0.2, "own": 1}, extra_body={"late": 1})
    assert body_of(model)["temperature"] == 0.2
    assert body_of(model, temperature=0.3)["temperature"] == 0.3
    body = body_of(model, temperature=0.3, extra_body={"temperature": 0.4, "late": 2}, model="another")
    assert (body["temperature"], body["own"], body["late"], body["model"]) == (0.4, 1, 2, "another")
