"""langchain-tests' standard suite for chat models, integration part, in full."""

from __future__ import annotations

import re
from typing import Any, Literal, cast

import httpx
import orjson
import pytest
from langchain_core.messages import AIMessage, BaseMessageChunk
from langchain_tests.integration_tests import ChatModelIntegrationTests

from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.local.together import LocalModel, Received, Reply, ScriptedEngine, Usage
from tests.conftest import ScriptedTogether
from tests.openapi import check_request

OTHER = "local/another-chat"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c626001000000ffff03000006000557bfabd40000000049454e44ae426082"
)


def named_keys(request: Received) -> Reply | None:
    """Answer a request for a JSON object with the keys that the user put in quotes."""
    if (request.body.get("response_format") or {}).get("type") != "json_object":
        return None
    keys = re.findall(r"'(\w+)'", request.body["messages"][-1]["content"])
    return Reply(text=orjson.dumps({key: f"a {key}" for key in keys}).decode())


def thoughts(request: Received) -> Reply | None:
    """Think where reasoning is asked for."""
    return Reply(reasoning="Let me see.") if request.body.get("reasoning_effort") else None


class PromptCache:
    """Count a prompt as cached from the second time on."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __call__(self, request: Received) -> Reply | None:
        prompt = orjson.dumps(request.body["messages"])
        if prompt in self._seen:
            words = sum(len(str(message["content"]).split()) for message in request.body["messages"])
            return Reply(usage=Usage(words, 1, cached_tokens=words))
        self._seen.add(prompt)
        return None


@pytest.fixture(scope="session")
def vcr_config() -> dict[str, Any]:
    """Record nothing: the server is on this machine."""
    return {"ignore_localhost": True}


def test_only_what_the_api_has_no_form_for_is_left_out_of_the_suite() -> None:
    left_out = {
        name
        for name in dir(ChatModelIntegrationTests)
        if name.startswith("supports_") and getattr(TestStandardChat(), name) is False
    }
    assert left_out == {"supports_image_tool_message", "supports_pdf_inputs", "supports_pdf_tool_message"}
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    document = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}}
    check_request("/v1/chat/completions", _asking("user", [picture]))
    for role, parts in (("tool", [picture]), ("tool", [document]), ("user", [document])):
        with pytest.raises(AssertionError, match="OpenAPI document"):
            check_request("/v1/chat/completions", _asking(role, parts))


def _asking(role: str, content: list[Any]) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": role, "content": content, "tool_call_id": "1"}]}


# The timing test measures only what was recorded; without a recording it runs once and measures nothing.
@pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")
class TestStandardChat(ChatModelIntegrationTests):
    chat_model_class = ChatTogetherAI
    model_override_value = OTHER
    supports_json_mode = True
    supports_image_inputs = True
    supports_image_urls = True
    supports_audio_inputs = True
    supports_video_inputs = True
    supports_anthropic_inputs = True
    enable_vcr_tests = True

    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(httpx, "get", self._file)
        # The suite warns without it.
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "a test")
        features = ("FEATURE_TOOL_CALLING", "FEATURE_STRUCTURED_OUTPUT", "FEATURE_REASONING")
        models = [LocalModel(name, "chat", 8192, features=features) for name in (ScriptedEngine.CHAT, OTHER)]
        engine = ScriptedEngine(models=models)
        for rule in (PromptCache(), thoughts, named_keys):
            engine.on("/v1/chat/completions", rule)
        with ScriptedTogether(engine) as self.together:
            yield

    @staticmethod
    def _file(url: str, **_: Any) -> httpx.Response:
        """The suite reads a picture and a sound from the web, only to send them on."""
        return httpx.Response(200, content=PIXEL)

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": ScriptedEngine.CHAT, **self.together.client}

    @property
    def supported_usage_metadata_details(self) -> dict[Literal["invoke", "stream"], list[Any]]:
        return {
            "invoke": ["reasoning_output", "cache_read_input"],
            "stream": ["reasoning_output", "cache_read_input"],
        }

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        return self._ask("Think about it.", stream=stream, reasoning_effort="high")

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        self._ask("The same beginning.", stream=stream)
        return self._ask("The same beginning.", stream=stream)

    def _ask(self, text: str, *, stream: bool, **fields: Any) -> AIMessage:
        chat = ChatTogetherAI(**self.chat_model_params, **fields)
        if not stream:
            return chat.invoke(text)
        whole: BaseMessageChunk | None = None
        for chunk in chat.stream(text):
            whole = chunk if whole is None else cast("BaseMessageChunk", whole + chunk)
        return cast("AIMessage", whole)
