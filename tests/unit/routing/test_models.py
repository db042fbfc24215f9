"""Which model answers: the map, the switch for embeddings, and what stays when Together has none."""

from __future__ import annotations

import gc
import logging
import pickle
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from hana_ai.api import routing
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIInputError, TogetherAIRequestError, TogetherAISettingsError
from hana_ai.api.local.together import LocalModel, Reply, ScriptedEngine
from hana_ai.api.routing import models
from hana_ai.api.routing.gen_ai_hub import init_embedding_model, init_llm
from hana_ai.api.settings import TogetherAISettings
from tests.conftest import ScriptedTogether, export
from tests.secrets_watch import MARK


@pytest.fixture(autouse=True)
def no_choices_yet() -> Iterator[None]:
    models.forget()
    yield
    models.forget()


def settings(**values: Any) -> TogetherAISettings:
    return TogetherAISettings(_env_file=None, **values)


def test_a_name_is_looked_up_in_the_map_whatever_its_case() -> None:
    found = settings(together_model_map="gpt-4o=meta/llama, GPT-5 = openai/gpt-oss-120b")
    assert models.mapped("GPT-4o", found, "the/default") == "meta/llama"
    assert models.mapped("gpt-5", found, "the/default") == "openai/gpt-oss-120b"
    assert models.mapped("gpt-4.1", found, "the/default") == "the/default"


def test_a_name_of_togethers_is_taken_as_it_is_unless_the_map_says_otherwise() -> None:
    assert models.mapped("qwen/qwen3", settings(), "the/default") == "qwen/qwen3"
    assert models.mapped("qwen/qwen3", settings(together_model_map="qwen/qwen3=an/other"), None) == "an/other"


@pytest.mark.parametrize("wrong", ["gpt-4o", "=a/b", "gpt-4o="])
def test_an_entry_of_the_map_that_is_none_is_named(wrong: str) -> None:
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_MODEL_MAP has the entry"):
        models.model_map(settings(together_model_map=f"a=b/c,{wrong}"))


def test_the_status_says_what_is_wrong_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_TIMEOUT", "soon")
    for reason in (models.why_embeddings_stay(), models.why_reranking_stays()):
        assert reason is not None
        assert "TOGETHER_TIMEOUT" in reason


def test_what_answers_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hana_ai.api")
    for _ in range(3):
        models.mapped("gpt-4o", settings(), "the/default")
    [record] = [record for record in caplog.records if "gpt-4o" in record.message]
    assert "the/default answers through Together AI. TOGETHER_MODEL_MAP=gpt-4o=..." in record.message


def test_another_language_model_than_the_named_one_is_a_warning_unless_the_map_names_it(
    together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TOGETHER_MODEL_MAP", "gpt-4o=an/own")
    for asked in ("gpt-4o", "gpt-4.1", "gpt-4.1", "another/own"):
        llm = init_llm(asked)
        if asked == "gpt-4.1":
            llm.invoke("a")
    init_embedding_model("text-embedding-3-small")
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.message.startswith(f"gpt-4.1 was requested; {ScriptedEngine.CHAT} answers")


async def test_the_log_names_the_model_that_the_catalogue_recommends_once_it_is_known(
    together_environment: ScriptedTogether, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="hana_ai.api")
    made = pickle.loads(pickle.dumps(init_llm("gpt-4.1")))
    assert "gpt-4.1" not in caplog.text
    await made.ainvoke("a")
    assert f"gpt-4.1 was requested; {ScriptedEngine.CHAT} answers through Together AI" in caplog.text
    init_embedding_model("text-embedding-3-small")
    assert f"text-embedding-3-small was requested; {ScriptedEngine.EMBEDDING} answers" in caplog.text


def test_init_llm_takes_what_saps_function_takes_and_has_its_defaults(
    together_environment: ScriptedTogether,
) -> None:
    llm = init_llm("gpt-4o", seed=1, streaming=True, model_id="of Bedrock", config=object())
    found = llm.model_dump(include={"temperature", "max_tokens", "top_p", "top_k", "seed", "streaming"})
    assert found == {
        "temperature": 0.0,
        "max_tokens": 256,
        "top_p": 1.0,
        "top_k": None,
        "seed": 1,
        "streaming": True,
    }
    assert llm.invoke("An echo.").content == "An echo."
    assert init_llm(model_name="an/own").model == "an/own"  # type: ignore[attr-defined]


def test_an_argument_that_has_no_meaning_here_is_logged_once(
    together_environment: ScriptedTogether, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="hana_ai.api")
    for _ in range(2):
        init_llm("gpt-4o", model_id="of Bedrock")
    assert len([record for record in caplog.records if "init_llm(model_id=...)" in record.message]) == 1


@pytest.mark.parametrize(
    ("make", "arguments", "kind"),
    [
        (
            init_llm,
            {"api_version": "2024-10-21", "tempature": 0},
            "ChatTogetherAI, which has no api_version and no",
        ),
        (init_embedding_model, {"encoding": "base64"}, "TogetherAIEmbeddings, which has no encoding"),
    ],
)
def test_an_argument_that_is_none_is_refused_by_its_name(
    together_environment: ScriptedTogether, make: Any, arguments: dict[str, Any], kind: str
) -> None:
    with pytest.raises(TogetherAIInputError, match=kind):
        make("gpt-4o", **arguments)
    with pytest.raises(TogetherAIInputError, match="one argument without a name"):
        make("gpt-4o", "another")


def test_arguments_of_embeddings_arrive_in_an_object_of_its_own(together_environment: ScriptedTogether) -> None:
    shared = init_embedding_model("text-embedding-3-small")
    own = init_embedding_model("text-embedding-3-small", dimensions=256, chunk_size=2)
    assert isinstance(own, TogetherAIEmbeddings)
    assert (own.dimensions, own.batch_size) == (256, 2)
    assert init_embedding_model("text-embedding-3-small") is shared
    own.embed_documents(["a", "b", "c"])
    assert {body["dimensions"] for body in bodies(together_environment)} == {256}


def bodies(server: ScriptedTogether) -> list[Any]:
    return [request.body for request in server.engine.requests if request.path == "/v1/embeddings"]


@pytest.mark.parametrize("make", [init_llm, init_embedding_model])
@pytest.mark.parametrize("names", [("api_key", "base_url"), ("together_api_key", "together_api_base")])
def test_the_key_and_the_address_of_the_call_come_before_those_of_the_settings(
    together_environment: ScriptedTogether, make: Any, names: tuple[str, str]
) -> None:
    with ScriptedTogether() as another:
        values = (another.api_key, another.base_url)
        made = make("gpt-4o", **dict(zip(names, values, strict=True)))
        made.invoke("a") if make is init_llm else made.embed_query("a")
        assert [request.headers["authorization"] for request in another.engine.requests] == [
            f"Bearer {another.api_key}"
        ] * len(another.engine.requests)
        assert another.engine.requests
    assert not together_environment.engine.requests


def test_another_key_in_the_environment_is_taken_at_once(
    together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = models.embeddings("SAP_NEB.20240715")
    monkeypatch.setenv("TOGETHER_API_KEY", f"{MARK}-second")
    second = models.embeddings("SAP_NEB.20240715")
    assert first is not None
    assert second is not None
    assert second.api_key != first.api_key
    assert second.model == first.model


def test_the_embeddings_of_a_tables_model_are_exactly_those_with_the_key_of_the_moment(
    together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_MODEL_MAP", "an/own=another/model")
    found = models.embeddings_named("an/own", 8)
    assert (found.model, found.dimensions) == ("an/own", 8)
    assert models.embeddings_named("an/own", 8) is found
    assert models.embeddings_named("an/own").dimensions is None
    with routing.tenant(f"{MARK}-tenant"):
        theirs = models.embeddings_named("an/own", 8)
    assert theirs.model == found.model
    assert theirs.api_key != found.api_key


def test_a_process_with_many_tenants_keeps_few_objects_and_one_model(
    together_environment: ScriptedTogether,
) -> None:
    first = models.embeddings("a")
    assert first is not None
    found, kept = set(), list[weakref.ref[Any]]()
    for number in range(320):
        with routing.tenant(f"{MARK}-{number}"):
            made = models.embeddings("a")
        assert isinstance(made, TogetherAIEmbeddings)
        found.add(made.model)
        kept.append(weakref.ref(made))

    gc.collect()
    assert found == {first.model}
    assert len([made for made in kept if made() is not None]) < 300


def test_init_embedding_model_makes_the_embeddings_of_together(together_environment: ScriptedTogether) -> None:
    assert len(init_embedding_model("text-embedding-3-small").embed_query("a")) == 256


@pytest.fixture
def without_embeddings(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedEngine]:
    engine = ScriptedEngine(models=[LocalModel("local/chat", "chat", 8192)])
    with ScriptedTogether(engine) as server:
        export(monkeypatch, server.environment())
        yield engine


def test_without_an_embedding_model_embeddings_stay_and_it_is_said_once(
    without_embeddings: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    for asked in ("SAP_NEB.20240715", "text-embedding-3-small", "SAP_NEB.20240715"):
        assert models.embeddings_for("default", asked) is None
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1
    assert "The toolkit's own embeddings stay in use" in said[0].message
    assert 'embedding="hana"' in said[0].message
    assert len([request for request in without_embeddings.requests if request.method == "GET"]) == 1
    assert "lists no embedding model" in (models.why_embeddings_stay() or "")


def test_who_asks_for_embeddings_outright_is_told_that_there_are_none(without_embeddings: ScriptedEngine) -> None:
    assert models.embeddings("a") is None
    with pytest.raises(TogetherAISettingsError, match="lists no embedding model"):
        init_embedding_model("text-embedding-3-small")


def test_a_catalogue_that_cannot_be_read_is_an_error_and_no_reason_to_embed_with_another_model(
    together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_MAX_RETRIES", "0")
    for path in ("/v2/supported-models", "/v1/models"):
        together_environment.engine.on(path, Reply(status=400))
    with pytest.raises(TogetherAIRequestError):
        models.embeddings_for("default", "SAP_NEB.20240715")


def test_the_model_is_chosen_once(together_environment: ScriptedTogether) -> None:
    first = models.embeddings("SAP_NEB.20240715")
    assert models.embeddings("SAP_NEB.20240715") is first
    gets = [request for request in together_environment.engine.requests if request.method == "GET"]
    assert len(gets) == 1


@pytest.mark.parametrize(
    ("route", "default", "user"), [("all", True, True), ("defaults", True, False), ("off", False, False)]
)
def test_the_switch_says_whose_embeddings_go_to_together(
    route: str, default: bool, user: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_ROUTE_EMBEDDINGS", route)
    assert (models.routes_embeddings("default"), models.routes_embeddings("user")) == (default, user)
    assert (models.why_embeddings_stay() is not None) == (route == "off")


def test_what_the_database_takes_is_taken_empty_and_long_texts_too(together_environment: ScriptedTogether) -> None:
    found = models.embeddings("SAP_NEB.20240715")
    assert found is not None
    assert len(found.embed_documents(["", "word " * 20_000])) == 2


def test_reranking_needs_a_model_by_name(
    together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert models.reranker() is None
    monkeypatch.setenv("TOGETHER_DEFAULT_RERANK_MODEL", "local/scripted-rerank")
    reranker = models.reranker()
    assert reranker is not None
    assert reranker is models.reranker()
    assert models.why_reranking_stays() is None
