"""Write the tables of docs/migration.md: every argument of other packages' classes beside those of this package.

python .ci/migration.py [--check]

Theirs are those that peers.json has recorded, ours are those of the classes. What an argument leads to is tried:
each is given to the class. Only the sentences are written by hand, in `WORDS`. With --check nothing is written.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import peers

PAGE = peers.PAGE.parents[1] / "docs" / "migration.md"
_BLOCK = re.compile(r"(<!-- written by \.ci/migration\.py: ([\w-]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

OURS = {
    "ChatTogether": "ChatTogetherAI",
    "ChatOpenAI": "ChatTogetherAI",
    "Together": "TogetherAI",
    "OpenAI": "TogetherAI",
    "TogetherEmbeddings": "TogetherAIEmbeddings",
    "OpenAIEmbeddings": "TogetherAIEmbeddings",
}
"""The class here for each of theirs."""

_NONE_HERE = "nothing: there is no such thing here"
_OPENAI = "nothing: OpenAI's own"
_CONNECTIONS = "nothing: all objects share one pool of connections; proxies come from the environment"
_HEADERS = "nothing: requests have no headers or query of your own"
_SHORTENING = '`on_too_long="truncate"` or `"split"`; texts are never tokenized by OpenAI\'s tokenizer'
WORDS: dict[str, str] = {
    "allowed_special": _SHORTENING,
    "api_key": "without it TOGETHER_API_KEY, never OPENAI_API_KEY; not needed for an address on this machine",
    "api_version": _OPENAI,
    "async_client": _CONNECTIONS,
    "base_url": "with or without `/v1`; without it TOGETHER_BASE_URL",
    "batch_size": "nothing: each prompt is a request, `max_concurrency` at a time",
    "best_of": _OPENAI,
    "check_embedding_ctx_length": _SHORTENING,
    "chunk_size": "`batch_size`; without it TOGETHER_EMBEDDING_BATCH_SIZE, and less where the server asks",
    "client": _CONNECTIONS,
    "config_id": "a deployment of AI Core",
    "config_name": "a deployment of AI Core",
    "context_management": _OPENAI,
    "default_headers": _HEADERS,
    "default_query": _HEADERS,
    "deployment": _OPENAI,
    "deployment_id": "a deployment of AI Core",
    "disabled_params": "nothing: None leaves a parameter out",
    "disallowed_special": _SHORTENING,
    "embedding_ctx_length": "`context_length`; without it the server decides",
    "frequency_penalty": "None leaves it to the server",
    "headers": _HEADERS,
    "http_async_client": _CONNECTIONS,
    "http_client": _CONNECTIONS,
    "http_socket_options": _CONNECTIONS,
    "include": _OPENAI,
    "include_response_headers": "nothing: the request's id is in the message's `response_metadata`",
    "input_type": "`query_prefix` and `document_prefix`",
    "logprobs": "a number from 0 to 20, where OpenAI takes a switch and `top_logprobs`",
    "max_retries": "without it TOGETHER_MAX_RETRIES; waits as long as the server says, within `timeout`",
    "max_tokens": "None leaves it to the server",
    "model": "may be left out: the default of its kind, such as TOGETHER_DEFAULT_MODEL, else one of the catalogue",
    "model_name": "the same as `model`",
    "model_kwargs": "wins over the fields; there a field's name in it becomes the field",
    "n": "None leaves it to the server, which gives one",
    "openai_api_base": "`base_url`",
    "openai_api_key": "`api_key`",
    "openai_api_type": _OPENAI,
    "openai_api_version": _OPENAI,
    "openai_organization": "nothing: a key belongs to one organisation",
    "openai_proxy": "HTTPS_PROXY, ALL_PROXY and NO_PROXY",
    "organization": "nothing: a key belongs to one organisation",
    "presence_penalty": "None leaves it to the server",
    "prompt_cache_options": "nothing: Together caches prompts by itself",
    "proxy_client": "a client of AI Core",
    "proxy_model_name": "looked up in TOGETHER_MODEL_MAP",
    "reasoning": '`{"enabled": False}` and the like, as Together takes it; not OpenAI\'s summary and effort',
    "request_timeout": "the same as `timeout`",
    "retry_max_seconds": "nothing: waits are as long as the server says, within `timeout`",
    "retry_min_seconds": "nothing: waits are as long as the server says, within `timeout`",
    "root_async_client": _CONNECTIONS,
    "root_client": _CONNECTIONS,
    "service_tier": _OPENAI,
    "show_progress_bar": "`show_progress`",
    "skip_empty": "`on_empty`",
    "store": _OPENAI,
    "stream_chunk_timeout": "`stream_idle_timeout`",
    "stream_usage": "token counts come with each stream, unless it is False",
    "streaming": "nothing: `stream()` streams",
    "temperature": "None leaves it to the server",
    "tiktoken_enabled": _SHORTENING,
    "tiktoken_model_name": "`custom_get_token_ids`",
    "timeout": "seconds for the whole call, retries included; without it TOGETHER_TIMEOUT",
    "together_api_base": "the same as `base_url`",
    "together_api_key": "the same as `api_key`",
    "top_logprobs": "`logprobs`, which is a number",
    "top_p": "None leaves it to the server",
    "truncation": "`context_length_exceeded_behavior`",
    "use_previous_response_id": _OPENAI,
    "use_responses_api": "nothing: Together has no such API",
    "verbosity": _OPENAI,
}
"""What to use instead, or what is to be known, for each argument that is not the same.

An argument of theirs that is new and has no sentence is a KeyError here.
"""

_KEYS = {"api_key", "together_api_key"}
OTHERWISE = _KEYS | {"base_url", "logprobs", "model_kwargs", "reasoning", "request_timeout", "timeout"}
"""What means something else here, whatever the defaults are."""

LEAVE_OUT = "left out, and logged once"
REFUSED = "refused, by its name"
SENT = "sent, with a warning"
TAKEN = "taken"
THEIRS = "SAP's own model is made"

_VALUES: dict[str, Any] = {
    "stop": ["x"],
    "stop_sequences": ["x"],
    "logit_bias": {"1": 1.0},
    "model_kwargs": {},
    "extra_body": {"x": 1},
    "reasoning": {"enabled": True},
    "reasoning_effort": "low",
    "logprobs": 1,
    "base_url": "http://127.0.0.1:1",
    "together_api_base": "http://127.0.0.1:1",
    "disabled_params": {"x": None},
    "default_headers": {"x": "x"},
    "default_query": {"x": "x"},
}
_NUMBERS = ("temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "n", "seed", "max_retries")
_NUMBERS += ("presence_penalty", "frequency_penalty", "timeout", "request_timeout", "chunk_size", "dimensions")
_NUMBERS += ("repetition_penalty", "best_of", "batch_size", "embedding_ctx_length", "top_logprobs")
_SWITCHES = ("stream_usage", "streaming", "show_progress_bar", "skip_empty", "tiktoken_enabled")


def value_of(name: str) -> Any:
    """A value that an argument may have."""
    if name in _NUMBERS:
        return 1
    if name.endswith("client"):
        return object()
    return True if name in _SWITCHES else _VALUES.get(name, "x")


def ours(theirs: str) -> Any:
    """The class here for one of theirs."""
    import hana_ai.api

    return getattr(hana_ai.api, OURS[theirs])


def accepted(kind: Any) -> dict[str, str]:
    """Each argument of one of our classes with the name of its field."""
    found = {}
    for name, field in kind.model_fields.items():
        alias = field.validation_alias
        for choice in (name, *getattr(alias, "choices", [alias] if alias else [])):
            found[str(choice)] = name
    return found


def outcome(kind: Any, name: str) -> str:
    """What one of our classes does with an argument."""
    given = {"model": "some/model", "api_key": "a-key", name: value_of(name)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            made = kind(**given)
        except (TypeError, ValueError) as exc:
            return REFUSED if name in str(exc) else f"refused: {exc}"
    if name in accepted(kind):
        return TAKEN
    if name in made.model_kwargs:
        return SENT if any(name in str(one.message) for one in caught) else "sent"
    return "ignored"


def tables(package: str, found: Mapping[str, Any]) -> str:
    """The tables of a package, for each of its classes."""
    text = f"Compared with version {found['version']}.\n"
    tried = _hub_outcome if package == "sap-ai-sdk-gen" else lambda theirs, name: outcome(ours(theirs), name)
    for theirs, arguments in found["classes"].items():
        text += f"\n**`{theirs}` and `{OURS[theirs]}`**\n"
        text += _tables(theirs, arguments, {name: tried(theirs, name) for name in arguments})
    return text


def _tables(theirs: str, arguments: Mapping[str, str], outcomes: Mapping[str, str]) -> str:
    fields = accepted(ours(theirs))
    defaults = _defaults(ours(theirs), {fields[name] for name in arguments if name in fields})
    taken = [name for name in arguments if outcomes[name] == TAKEN]
    same = [name for name in taken if _is_same(name, arguments[name], fields, defaults)]
    text = ""
    if same:
        text += f"\nThe same, with the same default: {_names(same)}.\n"
    if others := [name for name in taken if name not in same]:
        text += "\n| taken | default there | default here | to know |\n|---|---|---|---|\n"
        for name in others:
            here = f"`{defaults[fields[name]]}`" if name in fields else ""
            text += f"| `{name}` | `{arguments[name]}` | {here} | {WORDS[name]} |\n"
    rest: dict[tuple[str, str], list[str]] = {}
    for name in arguments:
        if name not in taken:
            rest.setdefault((outcomes[name], WORDS[name]), []).append(name)
    if rest:
        text += "\n| not here | given all the same | instead |\n|---|---|---|\n"
        text += "".join(
            f"| {_names(names)} | {then} | {words} |\n" for (then, words), names in sorted(rest.items())
        )
    return text


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _is_same(name: str, default: str, fields: Mapping[str, str], defaults: Mapping[str, str]) -> bool:
    return name in fields and name not in OTHERWISE and default == defaults[fields[name]]


def _defaults(kind: Any, fields: Iterable[str]) -> dict[str, str]:
    """What some fields of an object are that was given nothing."""
    from hana_ai.api.settings import DEFAULT_BASE_URL

    made = kind(api_key="a-key")
    shown = {name: peers.shown(getattr(made, name)) for name in fields}
    # The environment of `_surroundings` has these two.
    return {**shown, "api_key": "None", "base_url": peers.shown(DEFAULT_BASE_URL)}


def _hub_outcome(theirs: str, name: str) -> str:
    """What comes of an argument of one of SAP's classes while it is routed."""
    import gen_ai_hub.proxy.langchain.openai as module

    given = {"proxy_model_name": "gpt-4o", name: value_of(name)}
    try:
        made = getattr(module, theirs)(**given)
    except Exception as exc:  # noqa: BLE001 - SAP's own classes fail in many ways without credentials
        return REFUSED if type(exc).__name__ == "TogetherAIInputError" else THEIRS
    if not isinstance(made, ours(theirs)):
        return THEIRS
    taken = name in accepted(ours(theirs)) or name in ("proxy_model_name", "top_logprobs")
    return TAKEN if taken else LEAVE_OUT


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """Neither variables nor files of this machine, and the toolkit routed to a server on it."""
    from hana_ai.api import routing
    from hana_ai.api.local.together import LocalTogether, ScriptedEngine

    before, folder = dict(os.environ), Path.cwd()
    for name in [name for name in os.environ if name.startswith(("TOGETHER_", "OPENAI_", "AICORE_", "HANA_"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as empty, LocalTogether(ScriptedEngine()) as server:
        os.chdir(empty)
        address = {"TOGETHER_BASE_URL": server.base_url, "TOGETHER_API_KEY": str(server.api_key)}
        try:
            os.environ.update(address, ENABLE_TOGETHER_AI="true", TOGETHER_CATALOG_LIFETIME="0")
            routing.activate()
            yield
        finally:
            routing.deactivate()
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(before)


def written(text: str) -> str:
    """The page with its tables as they are to be."""
    found = peers.recorded()
    with _surroundings():
        return _BLOCK.sub(lambda block: f"{block[1]}\n{tables(block[2], found[block[2]])}\n{block[3]}", text)


def main(arguments: list[str]) -> int:
    """Write the page anew, or say whether it is as it is to be."""
    text = PAGE.read_text()
    new = written(text)
    if "--check" in arguments:
        return int(new != text)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
