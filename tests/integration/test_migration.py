"""What docs/migration.md says: its tables are what the classes give, and what it promises holds on the wire."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langchain_core.load import dumpd, load
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI, OpenAI
from openai import BadRequestError

from hana_ai import api
from hana_ai.api import ChatTogetherAI, TogetherAI, TogetherAIEmbeddings, TogetherAIError
from hana_ai.api.local.together import LocalTogether, ScriptedEngine
from tests.conftest import ScriptedTogether
from tests.peers import langchain_together as peer

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "migration.md"

pytestmark = pytest.mark.filterwarnings("ignore")


@contextlib.contextmanager
def scripts() -> Iterator[tuple[ModuleType, ModuleType]]:
    """The two modules that write the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / ".ci"))
        yield importlib.import_module("migration"), importlib.import_module("peers")
        for name in ("migration", "peers"):
            del sys.modules[name]


# --- the page ---


def test_the_tables_are_as_the_classes_are() -> None:
    with scripts() as (migration, _):
        assert migration.written(PAGE.read_text()) == PAGE.read_text(), "write them: python .ci/migration.py"


@pytest.mark.parametrize("package", ["langchain-together", "langchain-openai", "sap-ai-sdk-gen"])
def test_what_is_recorded_of_a_package_is_what_it_has(package: str) -> None:
    with scripts() as (_, peers):
        found, recorded = peers.installed(package), peers.recorded()[package]
    if found is None or found["version"] != recorded["version"]:
        pytest.skip(f"{package} {recorded['version']} is not installed")
    assert found == recorded


def test_every_sentence_is_about_an_argument_of_somebody() -> None:
    with scripts() as (migration, peers):
        arguments = {
            name
            for package in peers.recorded().values()
            for names in package["classes"].values()
            for name in names
        }
        assert set(migration.WORDS) <= arguments


def test_every_difference_of_their_tests_is_explained() -> None:
    rows = re.findall(r"^\| ([^|]+?) \|", PAGE.read_text(), re.MULTILINE)
    assert set(peer.DIFFERENCES.values()) <= set(rows)


def test_a_test_of_theirs_is_renamed_by_whole_names() -> None:
    theirs = "from langchain_together import ChatTogether, Together, TogetherEmbeddings  # NotTogether"
    assert peer.renamed(theirs) == (
        "from hana_ai.api import ChatTogetherAI, TogetherAI, TogetherAIEmbeddings  # NotTogether"
    )


# --- what is the same sends the same ---

CHAT: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.5,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "seed": 7,
    "n": 2,
    "stop": ["x"],
    "stop_sequences": ["x"],
    "max_tokens": 9,
    "max_completion_tokens": 9,
    "reasoning_effort": "low",
    "logit_bias": {"7": 1},
    "extra_body": {"top_k": 5},
    "streaming": True,
}
TEXT: dict[str, Any] = {"seed": 7, "logit_bias": {"7": 1.0}, "extra_body": {"top_k": 5}}


def the_same(theirs: str, package: str) -> list[str]:
    """The arguments that the page lists as the same for one of their classes."""
    section = PAGE.read_text().partition(f"<!-- written by .ci/migration.py: {package} -->")[2]
    block = section.partition(f"**`{theirs}` and ")[2]
    listed = re.search(r"^The same, with the same default: (.*)\.$", block, re.MULTILINE)
    assert listed is not None
    return re.findall(r"`(\w+)`", listed[1])


@pytest.mark.parametrize(
    ("theirs", "ours", "values"), [(ChatOpenAI, ChatTogetherAI, CHAT), (OpenAI, TogetherAI, TEXT)]
)
def test_what_is_called_the_same_sends_the_same(theirs: Any, ours: Any, values: dict[str, Any]) -> None:
    assert sorted(the_same(theirs.__name__, "langchain-openai")) == sorted(values)
    engine = ScriptedEngine()
    differing = {}
    with LocalTogether(engine) as server:
        for name, value in values.items():
            given = {"model": engine.CHAT, "api_key": str(server.api_key), name: value}
            bodies = []
            for made in (
                theirs(base_url=f"{server.base_url}/v1", max_retries=0, **given),
                ours(base_url=server.base_url, **given),
            ):
                prompt: Any = [HumanMessage("Hello")] if "chat" in made._llm_type else "Hello"
                # Together refuses the list of prompts that OpenAI's completions send.
                with contextlib.suppress(BadRequestError):
                    made.generate([prompt])
                bodies.append(_comparable(engine.posts[-1].body))
            if bodies[0] != bodies[1]:
                differing[name] = bodies
    assert differing == {}


def _comparable(body: dict[str, Any]) -> dict[str, Any]:
    """A body without what the page says of every request: what is sent by default, and one parameter's name."""
    body = {"max_tokens": body.pop("max_completion_tokens", None), **body}
    for name, value in {"temperature": 0.7, "max_tokens": 256, "top_p": 1, "n": 1}.items():
        if body.get(name) == value:
            del body[name]
    for name in ("frequency_penalty", "presence_penalty"):
        if body.get(name) == 0:
            del body[name]
    for name in ("stream_options", "prompt"):
        body.pop(name, None)
    if not body.get("stream"):
        body.pop("stream", None)
    return {name: value for name, value in body.items() if value is not None}


def test_saps_functions_have_the_same_signatures_here() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from gen_ai_hub.proxy.langchain import init_models

    for name in ("init_llm", "init_embedding_model"):
        theirs = inspect.signature(getattr(init_models, name)).parameters
        ours = inspect.signature(getattr(api, name)).parameters
        assert [(one.name, one.kind, one.default) for one in theirs.values()] == [
            (one.name, one.kind, one.default) for one in ours.values()
        ]


# --- what behaves otherwise ---


@pytest.fixture
def chat(together: ScriptedTogether) -> ChatTogetherAI:
    return ChatTogetherAI(model=together.engine.CHAT, **together.client)


def test_the_types_in_traces(together: ScriptedTogether, chat: ChatTogetherAI) -> None:
    assert chat._llm_type == "together-ai-chat"
    assert TogetherAI(model="m", **together.client)._llm_type == "together-ai"


def test_their_variable_for_the_address_is_warned_of(tmp_path: Path) -> None:
    code = "from hana_ai.api import ChatTogetherAI; print(ChatTogetherAI(model='m', api_key='k').base_url)"
    environment = {**os.environ, "TOGETHER_API_BASE": "https://gateway.example"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "https://api.together.ai"
    assert "TOGETHER_API_BASE in the environment is not read; did you mean TOGETHER_BASE_URL?" in done.stderr


def test_our_variable_for_the_address_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_BASE_URL", "https://gateway.example/v1/")
    assert ChatTogetherAI(model="m", api_key="k").base_url == "https://gateway.example"


def test_openais_key_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    with pytest.raises(TogetherAIError, match="TOGETHER_API_KEY"):
        ChatTogetherAI(model="m")


def test_model_kwargs_win_over_the_fields(together: ScriptedTogether, engine: ScriptedEngine) -> None:
    given: Any = {"model_kwargs": {"temperature": 0.5}, "temperature": 0}
    ChatTogetherAI(model=engine.CHAT, **given, **together.client).invoke("Hello")
    assert engine.posts[-1].body["temperature"] == 0.5
    TogetherAIEmbeddings(model="other", model_kwargs={"model": engine.EMBEDDING}, **together.client).embed_query(
        "Hello"
    )
    assert engine.posts[-1].body["model"] == engine.EMBEDDING


def test_several_answers_in_a_stream_are_refused_when_it_is_called(
    together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    made = ChatTogetherAI(model=engine.CHAT, n=2, streaming=True, **together.client)
    with pytest.raises(ValueError, match="one answer"):
        made.invoke("Hello")
    assert engine.posts == []


def test_no_length_is_sent_or_traced_where_none_is_given(together: ScriptedTogether) -> None:
    model = TogetherAI(model=together.engine.CHAT, **together.client)
    model.invoke("Hello")
    assert "max_tokens" not in together.engine.posts[-1].body
    assert "ls_max_tokens" not in model._get_ls_params()
    assert TogetherAI(model="m", max_tokens=7, **together.client)._get_ls_params()["ls_max_tokens"] == 7


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_a_saved_model_is_made_again_without_its_key_in_between(
    chat: ChatTogetherAI, together: ScriptedTogether
) -> None:
    saved = dumpd(chat)
    assert str(together.api_key) not in str(saved)
    secrets = {"TOGETHER_API_KEY": str(together.api_key)}
    again = load(saved, secrets_map=secrets, allowed_objects=[ChatTogetherAI], valid_namespaces=["hana_ai"])
    assert (again.model, again.base_url) == (chat.model, chat.base_url)
    assert again.invoke("Hello").content == "Hello"


def test_an_address_is_kept_without_its_version(together: ScriptedTogether) -> None:
    made = ChatTogetherAI(model="m", api_key="k", base_url=f"{together.base_url}/v1/")
    assert made.base_url == together.base_url
