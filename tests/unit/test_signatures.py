"""Methods whose signatures LangChain's core asks for in each call carry them."""

from __future__ import annotations

import inspect

import pytest

from hana_ai.api import ChatTogetherAI, TogetherAI


@pytest.mark.parametrize("name", ["_generate", "_agenerate"])
@pytest.mark.parametrize("model", [ChatTogetherAI, TogetherAI])
def test_a_method_carries_the_signature_that_it_has(model: type, name: str) -> None:
    method = getattr(model, name)
    carried = vars(method).pop("__signature__")
    try:
        assert carried == inspect.signature(method)
        assert "run_manager" in carried.parameters
    finally:
        method.__signature__ = carried
