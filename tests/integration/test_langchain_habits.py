"""What LangChain's users are used to: shapes by class, token counts, copies, saving, configuring, closing."""

from __future__ import annotations

import asyncio
import base64
import copy
import gc
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumpd, dumps, load, loads
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, trim_messages
from langchain_core.runnables import ConfigurableField
from pydantic import BaseModel, SecretStr
from typing_extensions import TypedDict

from hana_ai.api import (
    ChatTogetherAI,
    TogetherAI,
    TogetherAIEmbeddingCache,
    TogetherAIEmbeddings,
    TogetherAIError,
    TogetherAIRerank,
    TogetherAIStructuredOutputError,
)
from hana_ai.api.local.together import Call, Reply, ScriptedEngine
from tests.conftest import ScriptedTogether, export
from tests.programs import printed

ALL: tuple[type[Any], ...] = (ChatTogetherAI, TogetherAI, TogetherAIEmbeddings, TogetherAIRerank)
every_class = pytest.mark.parametrize("kind", ALL, ids=[kind.__name__ for kind in ALL])


class City(BaseModel):
    """A city."""

    name: str
    inhabitants: int


class Place(TypedDict):
    """A place."""

    name: str


BERLIN = City(name="Berlin", inhabitants=3_900_000)
ANSWER = Reply(text=BERLIN.model_dump_json())


def model_of(engine: ScriptedEngine, kind: type[Any]) -> str:
    return {"chat": engine.CHAT, "language": engine.CHAT, "embedding": engine.EMBEDDING, "rerank": engine.RERANK}[
        kind.kind
    ]


# --- a class as a response format ---


@pytest.fixture
def chat(together: ScriptedTogether, engine: ScriptedEngine) -> ChatTogetherAI:
    engine.always(ANSWER)
    return ChatTogetherAI(model=engine.CHAT, **together.client)


def sent_format(engine: ScriptedEngine) -> dict[str, Any]:
    found: dict[str, Any] = engine.requests[-1].body["response_format"]
    return found


def test_a_class_is_sent_as_its_schema_and_its_object_comes_with_the_message(
    chat: ChatTogetherAI, engine: ScriptedEngine
) -> None:
    answer = chat.invoke("Berlin?", response_format=City)
    assert answer.additional_kwargs["parsed"] == BERLIN
    assert answer.content == ANSWER.text
    wire = sent_format(engine)
    assert wire["type"] == "json_schema"
    assert wire["json_schema"]["name"] == "City"
    assert set(wire["json_schema"]["schema"]["properties"]) == {"name", "inhabitants"}
    assert chat.bind(response_format=City, strict=True).invoke("Berlin?").additional_kwargs["parsed"] == BERLIN
    assert sent_format(engine)["json_schema"]["strict"] is True


async def test_so_it_is_from_a_coroutine_and_in_streams(chat: ChatTogetherAI) -> None:
    assert (await chat.ainvoke("Berlin?", response_format=City)).additional_kwargs["parsed"] == BERLIN
    chunks = list(chat.stream("Berlin?", response_format=City))
    assert sum(chunks[1:], chunks[0]).additional_kwargs["parsed"] == BERLIN
    whole: AIMessageChunk | None = None
    async for chunk in chat.astream("Berlin?", response_format=City):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert whole.additional_kwargs["parsed"] == BERLIN
    assert whole.content == ANSWER.text
    streaming = chat.model_copy(update={"streaming": True})
    assert streaming.invoke("Berlin?", response_format=City).additional_kwargs["parsed"] == BERLIN


def test_a_typed_dict_or_a_schema_is_sent_and_not_parsed(chat: ChatTogetherAI, engine: ScriptedEngine) -> None:
    for shape in (Place, {"title": "Place", "type": "object", "properties": {"name": {"type": "string"}}}):
        answer = chat.invoke("Berlin?", response_format=shape)
        assert "parsed" not in answer.additional_kwargs
        assert sent_format(engine)["json_schema"]["schema"]["properties"]["name"]["type"] == "string"
        assert list(chat.stream("Berlin?", response_format=shape))
    chat.invoke("Berlin?", response_format={"type": "json_object"})
    assert sent_format(engine) == {"type": "json_object"}


def test_an_answer_of_another_shape_is_an_error_with_the_finish_reason(
    chat: ChatTogetherAI, engine: ScriptedEngine
) -> None:
    engine.always(Reply(text="I do not know."))
    with pytest.raises(TogetherAIStructuredOutputError, match="finish reason: stop"):
        chat.invoke("Berlin?", response_format=City)
    with pytest.raises(TogetherAIStructuredOutputError, match="finish reason: stop"):
        list(chat.stream("Berlin?", response_format=City))


def test_a_cache_keeps_the_text_and_each_hit_has_its_object(chat: ChatTogetherAI, engine: ScriptedEngine) -> None:
    chat.cache = InMemoryCache()
    for _ in range(2):
        assert chat.invoke("Berlin?", response_format=City).additional_kwargs["parsed"] == BERLIN
    assert len([request for request in engine.requests if "chat" in request.path]) == 1
    [(kept, *_)] = chat.cache._cache.values()
    assert "parsed" not in kept.message.additional_kwargs


def test_the_message_goes_back_into_the_history_as_it_came(chat: ChatTogetherAI, engine: ScriptedEngine) -> None:
    answer = chat.invoke("Berlin?", response_format=City)
    chat.invoke([HumanMessage("Berlin?"), answer, HumanMessage("Sure?")])
    assert engine.requests[-1].body["messages"][1] == {"role": "assistant", "content": ANSWER.text}


# --- tokens ---

TEXTS = {
    "English": "The old man walked along the harbour, carrying the bag that his daughter had given him. " * 8,
    "German": "Die Einführung der Spaltenspeicherung hat die Auswertung großer Datenmengen verändert. " * 8,
    "Python": Path(__file__).read_text()[:6000],
    "JSON": json.dumps([{"id": n, "name": f"pump {n}", "price": n * 1.25, "active": True} for n in range(60)]),
    "SQL": "SELECT ID, SUM(NET_AMOUNT) AS REVENUE FROM SALES.ORDERS WHERE COUNTRY = 'DE' GROUP BY ID;\n" * 8,
}


@pytest.fixture
def cache_of_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Puts the tokenizer that is installed here into the cache, as that of a model; returns it."""
    wordllama = pytest.importorskip("wordllama")
    file = Path(wordllama.__file__).parent / "tokenizers" / "l2_supercat_tokenizer_config.json"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    def put(model: str) -> Any:
        from tokenizers import Tokenizer

        folder = tmp_path / f"models--{model.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("abc")
        (folder / "snapshots" / "abc").mkdir(parents=True)
        (folder / "snapshots" / "abc" / "tokenizer.json").write_bytes(file.read_bytes())
        return Tokenizer.from_file(str(file))

    return put


@pytest.mark.parametrize("name", TEXTS)
def test_tokens_are_estimated_near_a_real_tokenizers_count(
    name: str, chat: ChatTogetherAI, cache_of_hugging_face: Callable[[str], Any]
) -> None:
    real = len(cache_of_hugging_face("some/model").encode(TEXTS[name], add_special_tokens=False).ids)
    # A tokenizer of 32,000 tokens; those of today's models need a sixth less in prose, and a third less in data.
    assert 0.65 * real <= chat.get_num_tokens(TEXTS[name]) <= 1.1 * real


def test_the_scripts_of_the_world_are_told_apart(chat: ChatTogetherAI) -> None:
    assert chat.get_num_tokens("") == 0
    assert chat.get_num_tokens("数据分析很重要") == pytest.approx(6, abs=2)
    assert chat.get_num_tokens("Анализ данных") == pytest.approx(4, abs=2)
    assert chat.get_num_tokens("👍👍") == 4


def test_where_the_models_tokenizer_is_at_hand_the_count_is_exact(
    together: ScriptedTogether, cache_of_hugging_face: Callable[[str], Any]
) -> None:
    real = cache_of_hugging_face("some/model")
    chat = ChatTogetherAI(model="some/model", **together.client)
    ids = real.encode("A column store.", add_special_tokens=False).ids
    assert chat.get_token_ids("A column store.") == ids
    assert chat.get_num_tokens("A column store.") == len(ids)
    assert chat.get_num_tokens_from_messages([HumanMessage("A column store.")]) == len(ids) + 4
    assert TogetherAI(model="some/model", **together.client).get_num_tokens("A column store.") == len(ids)
    with pytest.raises(TogetherAIError, match="no tokenizer of another/model here"):
        ChatTogetherAI(model="another/model", **together.client).get_token_ids("A column store.")


def test_a_tokenizer_of_ones_own_counts(together: ScriptedTogether) -> None:
    chat = ChatTogetherAI(model="m", custom_get_token_ids=lambda text: [*range(len(text))], **together.client)
    assert chat.get_num_tokens("abc") == 3
    assert chat.get_num_tokens_from_messages([HumanMessage("abc")]) == 7


def test_messages_count_with_their_tools_calls_and_pictures(chat: ChatTogetherAI) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    plain = chat.get_num_tokens_from_messages([HumanMessage("Hello")])
    assert plain == chat.get_num_tokens("Hello") + 4
    assert chat.get_num_tokens_from_messages([HumanMessage("Hello")], tools=[add]) > plain + 20
    called = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "1"}])
    assert chat.get_num_tokens_from_messages([called]) > 15
    picture = base64.b64encode(bytes(90_000)).decode()
    shown = HumanMessage([{"type": "image", "base64": picture, "mime_type": "image/png"}])
    assert 1_000 < chat.get_num_tokens_from_messages([shown]) < 2_000


def test_a_history_is_trimmed_by_the_model(chat: ChatTogetherAI) -> None:
    history = [SystemMessage("Be brief."), *(HumanMessage(f"Question {n}: " + "why " * 50) for n in range(10))]
    kept = trim_messages(history, token_counter=chat, max_tokens=200, include_system=True, strategy="last")
    assert kept[0] == history[0]
    assert kept[1:] == history[-3:]
    assert chat.get_num_tokens_from_messages(kept) <= 200


# --- names, copies, saving ---


@every_class
def test_the_names_of_other_classes_are_attributes(kind: type[Any], together: ScriptedTogether) -> None:
    made = kind(model="m", **together.client)
    assert made.model_name == "m"
    assert made.together_api_key == SecretStr(str(together.api_key))
    assert str(together.api_key) not in repr(made.together_api_key)
    assert made.together_api_base == together.base_url
    made.model_name = "n"
    assert made.model == "n"
    assert "model_name" not in made.model_dump()


@every_class
def test_a_copy_and_what_is_unpickled_equal_the_original_also_after_it_was_used(
    kind: type[Any], together: ScriptedTogether, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(monkeypatch, together.environment())
    engine.always(Reply(text="a"))
    made = kind(model=model_of(engine, kind))
    fresh = kind(model=model_of(engine, kind))
    use(made)
    assert made == fresh
    for same in (copy.copy(made), copy.deepcopy(made), made.model_copy(), pickle.loads(pickle.dumps(made))):
        assert same == made
        use(same)
        assert same == made
    assert made != kind(model="another")
    assert made != kind(model=model_of(engine, kind), max_retries=7)
    assert made != object()


def use(made: Any) -> None:
    if isinstance(made, TogetherAIEmbeddings):
        made.embed_documents(["a", "b"])
    elif isinstance(made, TogetherAIRerank):
        made.rerank("a", ["b"])
    else:
        made.invoke("a")


def test_embeddings_with_a_cache_equal_what_is_unpickled_of_them(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    export(monkeypatch, {**together.environment(), "TOGETHER_CACHE": str(tmp_path / "cache.db")})
    made = TogetherAIEmbeddings(model="m")
    assert isinstance(made.cache, TogetherAIEmbeddingCache)
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@every_class
def test_every_class_is_saved_and_loaded_without_its_key(
    kind: type[Any], together: ScriptedTogether, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(monkeypatch, together.environment())
    made = kind(model=model_of(engine, kind), max_retries=5)
    text = dumps(made)
    assert "not_implemented" not in text
    assert str(together.api_key) not in text
    assert dumpd(made)["id"][-1] == kind.__name__
    for loaded in (
        loads(text, valid_namespaces=["hana_ai"], allowed_objects=[kind], secrets_from_env=True),
        load(json.loads(text), valid_namespaces=["hana_ai"], allowed_objects=[kind], secrets_from_env=True),
    ):
        assert loaded == made
        assert loaded.api_key == SecretStr(str(together.api_key))


def test_star_imports_work_without_the_toolkit() -> None:
    code = (
        "import sys\n"
        "sys.modules['langchain_hana'] = None\n"
        "from hana_ai.api import *\n"
        "print('TogetherHanaDB' in globals(), ChatTogetherAI.__name__, get_ledger.__name__)"
    )
    assert printed(code).splitlines()[-1] == "False ChatTogetherAI get_ledger"


# --- configuring and tracing ---


def test_fields_can_be_configured_for_a_call(chat: ChatTogetherAI, engine: ScriptedEngine) -> None:
    chat.invoke("a")
    warm = chat.configurable_fields(
        temperature=ConfigurableField(id="heat"), model=ConfigurableField(id="model", name="Model")
    )
    warm.invoke("a", {"configurable": {"heat": 0.75}})
    assert engine.requests[-1].body["temperature"] == 0.75
    assert chat.temperature is None
    warm.with_config(configurable={"heat": 0.25}).invoke("a")
    assert engine.requests[-1].body["temperature"] == 0.25
    with pytest.raises(TogetherAIError, match="temperature is 9"):
        warm.invoke("a", {"configurable": {"heat": 9}})
    with pytest.raises(ValueError, match="temprature"):
        chat.configurable_fields(temprature=ConfigurableField(id="heat"))


def test_alternatives_can_be_configured_for_a_call(
    chat: ChatTogetherAI, together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    either = chat.configurable_alternatives(
        ConfigurableField(id="which"),
        default_key="plain",
        hot=ChatTogetherAI(model=engine.CHAT, temperature=1.5, **together.client),
    )
    either.invoke("a", {"configurable": {"which": "hot"}})
    assert engine.requests[-1].body["temperature"] == 1.5
    either.invoke("a")
    assert "temperature" not in engine.requests[-1].body


@pytest.mark.parametrize(("kind", "type_"), [(ChatTogetherAI, "chat"), (TogetherAI, "llm")])
def test_langsmith_is_told_what_was_asked(kind: type[Any], type_: str, together: ScriptedTogether) -> None:
    made = kind(model="m", temperature=0.5, max_tokens=7, stop=["x"], **together.client)
    told = made._get_ls_params()
    assert told["ls_provider"] == "together"
    assert (told["ls_model_type"], told["ls_model_name"]) == (type_, "m")
    assert (told["ls_temperature"], told["ls_max_tokens"], told["ls_stop"]) == (0.5, 7, ["x"])
    told = made._get_ls_params(stop=["y"], model="n", temperature=1, max_tokens=9)
    assert (told["ls_model_name"], told["ls_temperature"], told["ls_max_tokens"]) == ("n", 1, 9)
    assert told["ls_stop"] == ["y"]
    assert "ls_stop" not in kind(model="m", **together.client)._get_ls_params()


# --- the end ---


@every_class
def test_closing_leaves_connections_that_others_use_and_ends_those_that_nobody_does(
    kind: type[Any], together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    engine.always(Reply(text="a"))
    first, second = (kind(model=model_of(engine, kind), **together.client) for _ in range(2))
    use(first)
    use(second)
    transport = second.transport
    first.close()
    assert not transport.closed
    use(second)
    second.close()
    assert transport.closed
    second.close()
    use(first)
    assert first.transport is not transport


@every_class
async def test_every_class_is_a_context_manager_of_both_kinds(
    kind: type[Any], together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    engine.always(Reply(text="a"))
    with kind(model=model_of(engine, kind), **together.client) as made:
        await asyncio.to_thread(use, made)
        transport = made.transport
    assert transport.closed
    async with kind(model=model_of(engine, kind), **together.client) as made:
        await asyncio.to_thread(use, made)
        transport = made.transport
        assert not transport.closed
    assert transport.closed


def test_an_object_that_is_gone_holds_no_connections(together: ScriptedTogether, engine: ScriptedEngine) -> None:
    engine.always(Reply(text="a"))
    first, second = (ChatTogetherAI(model=engine.CHAT, **together.client) for _ in range(2))
    use(first)
    use(second)
    transport = second.transport
    del first
    gc.collect()
    second.close()
    assert transport.closed


def test_tool_calls_are_not_parsed(chat: ChatTogetherAI, engine: ScriptedEngine) -> None:
    engine.always(Reply(tool_calls=[Call("look", {"where": "here"})]))
    answer = chat.invoke("Berlin?", response_format=City)
    assert answer.additional_kwargs["parsed"] is None
