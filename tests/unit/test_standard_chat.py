"""langchain-tests' standard suite for chat models, unit part, in full."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from langchain_core.load import load
from langchain_tests.unit_tests import ChatModelUnitTests
from langchain_tests.unit_tests import chat_models as suite

from hana_ai.api.chat_models import ChatTogetherAI


def load_ours(saved: Any, **kwargs: Any) -> Any:
    """The suite allows "all" classes, which to langchain-core means those of the packages that it lists itself."""
    return load(saved, **{**kwargs, "allowed_objects": [ChatTogetherAI]})


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
class TestStandardChat(ChatModelUnitTests):
    chat_model_class = ChatTogetherAI
    chat_model_params: ClassVar[dict[str, Any]] = {"model": "some/chat", "api_key": "a-key"}
    standard_chat_model_params: ClassVar[dict[str, Any]] = {
        "temperature": 0,
        "max_tokens": 100,
        "timeout": 60,
        "stop": [],
        "max_retries": 2,
    }
    init_from_env_params: ClassVar[tuple[dict[str, str], dict[str, Any], dict[str, Any]]] = (
        {
            "TOGETHER_API_KEY": "a-key",
            "TOGETHER_BASE_URL": "https://gateway.example/v1",
            "TOGETHER_DEFAULT_MODEL": "some/chat",
            "TOGETHER_MAX_RETRIES": "5",
        },
        {},
        {"api_key": "a-key", "base_url": "https://gateway.example", "model": "some/chat", "max_retries": 5},
    )

    @pytest.fixture(autouse=True)
    def ours_may_be_loaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(suite, "load", load_ours)
