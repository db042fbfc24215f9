"""What the product believes of Together's jobs: fine-tuning and evaluations, as far as looking costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.openapi import check_response

from .together_world import TogetherWorld

Saw = Callable[[str, Any], None]


@pytest.mark.parametrize("path", ["/v1/fine-tunes", "/v1/evaluation", "/v1/voices"])
def test_a_list_is_as_documented(together_world: TogetherWorld, saw: Saw, path: str) -> None:
    answer = together_world.send("GET", path)
    saw(f"GET {path}, status", answer.status)
    assert answer.status == 200, answer.body
    check_response(path, answer.body)


@pytest.mark.parametrize(
    "path", ["/v1/fine-tunes/ft-nobody", "/v1/fine-tunes/ft-nobody/events", "/v1/evaluation/eval-nobody"]
)
def test_a_job_that_is_not_there_is_not_found(together_world: TogetherWorld, saw: Saw, path: str) -> None:
    answer = together_world.send("GET", path)
    saw(f"GET {path}, status", answer.status)
    assert answer.status == 404


def test_limits_are_those_of_a_model_that_can_be_trained(together_world: TogetherWorld, saw: Saw) -> None:
    listed = together_world.send("GET", "/v1/fine-tunes/models/supported")
    saw("GET /v1/fine-tunes/models/supported, status", listed.status)
    assert listed.status == 200, listed.body
    name = listed.body["models"][0]
    limits = together_world.send("GET", "/v1/fine-tunes/models/limits", model_name=name)
    assert limits.status == 200, limits.body
    check_response("/v1/fine-tunes/models/limits", limits.body)
    missing = together_world.send("GET", "/v1/fine-tunes/models/limits", model_name="nobody/nothing")
    saw("GET /v1/fine-tunes/models/limits, status of an unknown model", missing.status)
    assert missing.status == 404
