"""LangChain's `init_chat_model` and `init_embeddings` make Together's models while the toolkit is routed."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hana_ai.api import ChatTogetherAI, TogetherAIEmbeddings, routing
from hana_ai.api.local.together import Reply
from hana_ai.api.routing.langchain_init import SEAMS
from hana_ai.api.routing.seams import Patcher, UpstreamChanged
from tests.conftest import ScriptedTogether

pytestmark = pytest.mark.filterwarnings("ignore")

with warnings.catch_warnings():
    # Imported before anything is activated, as a program may have done.
    warnings.simplefilter("ignore")
    import langchain_classic.embeddings
    from langchain.agents import create_agent
    from langchain.chat_models import init_chat_model
    from langchain.embeddings import init_embeddings
    from langchain_classic.chat_models import init_chat_model as classic_chat_model

CHAT_MODELS = {"langchain": init_chat_model, "langchain-classic": classic_chat_model}


def make_embeddings(which: str, *args: Any, **fields: Any) -> Any:
    if which == "langchain":
        return init_embeddings(*args, **fields)
    # The copy that a program has made before is the one place that stays.
    return langchain_classic.embeddings.init_embeddings(*args, **fields)


@pytest.fixture
def together(routed_together: ScriptedTogether) -> ScriptedTogether:
    return routed_together


@pytest.mark.parametrize("which", CHAT_MODELS)
@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("owner/model", {"model_provider": "together_ai"}),
        ("owner/model", {"model_provider": "together-ai"}),
        ("together_ai:owner/model", {}),
        ("together:owner/model", {}),
        ("owner/model", {"model_provider": "together"}),
    ],
)
def test_a_chat_model_is_made_by_the_providers_name(
    together: ScriptedTogether, which: str, model: str, fields: dict[str, Any]
) -> None:
    made = CHAT_MODELS[which](model, temperature=0.5, **fields)
    assert isinstance(made, ChatTogetherAI)
    assert (made.model, made.temperature, made.base_url) == ("owner/model", 0.5, together.base_url)


@pytest.mark.parametrize("which", CHAT_MODELS)
@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("owner/model", {"provider": "together_ai"}),
        ("together_ai:owner/model", {}),
        ("together:owner/model", {}),
    ],
)
def test_embeddings_are_made_by_the_providers_name(
    together: ScriptedTogether, which: str, model: str, fields: dict[str, Any]
) -> None:
    made = make_embeddings(which, model, dimensions=64, **fields)
    assert isinstance(made, TogetherAIEmbeddings)
    assert (made.model, made.dimensions) == ("owner/model", 64)


def test_a_model_that_is_configured_later_and_an_agent_answer(together: ScriptedTogether) -> None:
    engine = together.engine
    engine.always(Reply(text="Hello!"))
    later = init_chat_model(configurable_fields=("model", "model_provider"))
    config: Any = {"configurable": {"model": engine.CHAT, "model_provider": "together_ai"}}
    assert later.invoke("Hi", config).content == "Hello!"
    agent = create_agent(f"together_ai:{engine.CHAT}", [])
    assert agent.invoke({"messages": [("human", "Hi")]})["messages"][-1].content == "Hello!"
    assert {request.body["model"] for request in engine.requests} == {engine.CHAT}


def test_other_providers_are_left_to_langchain(together: ScriptedTogether) -> None:
    made = init_chat_model("gpt-4.1", api_key="sk-none")
    assert type(made).__name__ == "ChatOpenAI"
    assert type(init_embeddings("openai:text-embedding-3-small", api_key="sk-none")).__name__ == "OpenAIEmbeddings"
    for which, make in CHAT_MODELS.items():
        with pytest.raises(ValueError, match="model_provider"):
            make("owner/model")
        with pytest.raises(ValueError, match="no-such"):
            make_embeddings(which, "no-such:model")


def test_a_misspelled_argument_is_an_error(together: ScriptedTogether) -> None:
    with pytest.raises(ValueError, match="did you mean temperature"):
        init_chat_model("together_ai:m", temprature=0)


def test_without_the_routing_the_provider_does_not_exist_also_after_it_has_made_a_model(
    together: ScriptedTogether,
) -> None:
    for which, make in CHAT_MODELS.items():
        make("together_ai:m")
        make_embeddings(which, "together_ai:m")
    routing.deactivate()
    for which, make in CHAT_MODELS.items():
        with pytest.raises(ValueError, match="nsupported"):
            make("m", model_provider="together_ai")
        with pytest.raises(ValueError, match="not supported"):
            make_embeddings(which, "m", provider="together_ai")
        with pytest.raises(ImportError, match=r"langchain.together"):
            make("together:m")


def test_what_stays_is_langchains_own(together: ScriptedTogether) -> None:
    with routing.stay(), pytest.raises(ImportError, match=r"langchain.together"):
        init_chat_model("together:m")


def test_where_langchain_together_is_installed_its_name_is_its_own(
    together: ScriptedTogether, tmp_path: Path
) -> None:
    package = tmp_path / "langchain_together"
    package.mkdir()
    (package / "__init__.py").write_text(
        "class ChatTogether:\n    def __init__(self, **fields): self.fields = fields\n"
    )
    code = (
        "import hana_ai.api.auto\n"
        "from langchain.chat_models import init_chat_model\n"
        "print(*[type(init_chat_model(f'{name}:m')).__name__ for name in ('together', 'together_ai')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["ChatTogether", "ChatTogetherAI"]


def test_each_place_has_its_line_in_the_status(together: ScriptedTogether) -> None:
    found = routing.status()
    assert {found[seam.name].state for seam in SEAMS} == {"routed"}, str(found)


def test_another_langchain_is_reported_as_changed() -> None:
    for seam in SEAMS:
        with pytest.raises(UpstreamChanged):
            seam.patch(ModuleType("another"), Patcher(lambda: True))
