"""The work of `chat`, `complete`, `embed` and `rerank`: one question, or a conversation at the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hana_ai.api.catalog.money import dollars
from hana_ai.api.hana.searching import searcher, source_lines, with_passages
from hana_ai.api.settings import TogetherAISettings

from .console import Problem, console, print_json
from .tables import database

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

    from hana_ai.api.together_ai import TogetherAIClient

_SHOWN = 160
"""Characters of a passage under an answer."""
_END = ("exit", "quit")


@dataclass(frozen=True)
class Asking:
    """How to ask: None is the model's default."""

    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    as_json: bool = False

    def fields(self) -> dict[str, Any]:
        """The fields of a LangChain model."""
        named = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Knowledge:
    """Where `chat` finds what it answers from."""

    table: str
    schema: str | None = None
    k: int = 4


# --- chat ---


def run_chat(
    words: Sequence[str],
    asking: Asking,
    *,
    system: str | None = None,
    knowledge: Knowledge | None = None,
    tools: bool = False,
) -> int:
    """Answer a message, or each line that is typed; returns the exit status.

    Raises
    ------
    Problem
        There is nothing to answer, or what answers is missing.
    """
    if knowledge is not None and tools:
        raise Problem("--table and --tools cannot be used together; the toolkit's tools don't search a table.")
    client = _client()
    talk = _Talk(client, client.chat_model(asking.model, **asking.fields()), asking)
    with _answering(talk, knowledge, tools=tools) as answer:
        history: list[BaseMessage] = _system(system)
        if words or not sys.stdin.isatty():
            answer(history, " ".join(words) or _typed())
            return 0
        console().print("[dim]Ctrl-D or exit ends the conversation.[/]")
        for message in _lines():
            history += answer(history, message)
    return 0


@dataclass(frozen=True)
class _Talk:
    """Who answers, and how."""

    client: TogetherAIClient
    model: BaseChatModel
    asking: Asking


@contextmanager
def _answering(
    talk: _Talk, knowledge: Knowledge | None, *, tools: bool
) -> Iterator[Callable[[Sequence[BaseMessage], str], list[BaseMessage]]]:
    """Yield what answers a message, given what came before; it returns both messages for the next one."""
    if tools:
        with database():
            agent = _agent(talk.model)
            yield lambda history, message: _use_tools(talk, agent, history, message)
    elif knowledge is not None:
        with database() as connection:
            search = searcher(connection, knowledge.table, knowledge.schema, knowledge.k)
            yield lambda history, message: _stream(talk, history, message, search(message))
    else:
        yield lambda history, message: _stream(talk, history, message, [])


def _stream(
    talk: _Talk, history: Sequence[BaseMessage], message: str, found: Sequence[tuple[Document, float]]
) -> list[BaseMessage]:
    from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage

    question = HumanMessage(message)
    whole: AIMessageChunk | None = None
    try:
        for chunk in talk.model.stream([*with_passages(history, found), question]):
            if not talk.asking.as_json:
                sys.stdout.write(chunk.text)
                sys.stdout.flush()
            if isinstance(chunk, AIMessageChunk):
                whole = chunk if whole is None else whole + chunk
    finally:
        if not talk.asking.as_json and whole is not None:
            print()
    answer = AIMessage("") if whole is None else whole
    _tell(talk, answer, found)
    return [question, AIMessage(answer.text)]


def _tell(talk: _Talk, answer: AIMessage, found: Sequence[tuple[Document, float]]) -> None:
    usage: dict[str, Any] = dict(answer.usage_metadata or {})
    name = answer.response_metadata.get("model_name") or talk.asking.model
    cost = _cost(talk.client, name, usage)
    reason = answer.response_metadata.get("finish_reason")
    if talk.asking.as_json:
        said = {"content": answer.text, "model": name, "finish_reason": reason, "usage": usage, "cost_usd": cost}
        if found:
            said["sources"] = [
                {"content": passage.page_content, "metadata": passage.metadata, "score": score}
                for passage, score in found
            ]
        print_json(said)
        return
    out = console()
    for line in source_lines(found, _SHOWN):
        out.print(line, style="dim", markup=False)
    ended = "; cut off at the limit of tokens: --max-tokens" if reason == "length" else ""
    tokens = f"{usage['input_tokens']:,} + {usage['output_tokens']:,} tokens" if usage else "tokens unknown"
    out.print(f"{name}, {tokens}, {dollars(cost)}{ended}", style="dim", markup=False)


def _cost(client: TogetherAIClient, name: str | None, usage: dict[str, Any]) -> Any:
    from hana_ai.api.errors import TogetherAIError
    from hana_ai.api.wire.token_counts import Tokens

    try:
        info = client.catalog.models().get(name or "")
    except TogetherAIError:
        return None
    if info is None or not usage:
        return None
    cached = (usage.get("input_token_details") or {}).get("cache_read")
    return info.cost_of(Tokens(usage["input_tokens"], usage["output_tokens"], cached))


def _agent(model: BaseChatModel) -> Any:
    """An agent over hana-ml's tools."""
    try:
        from hana_ai.tools.toolkit import HANAMLToolkit  # type: ignore[import-untyped]
        from hana_ml.dataframe import ConnectionContext  # type: ignore[import-untyped]
        from langchain.agents import create_agent
    except ModuleNotFoundError as exc:
        raise Problem(
            f"--tools needs the package {exc.name}. Run: pip install 'hana-ai-together[toolkit]'"
        ) from exc
    from hana_ai.api.hana.connections import connection_properties

    context = ConnectionContext(**connection_properties(TogetherAISettings()))
    return create_agent(model, HANAMLToolkit(context, used_tools="all").get_tools())


def _use_tools(talk: _Talk, agent: Any, history: Sequence[BaseMessage], message: str) -> list[BaseMessage]:
    from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
    from langchain_core.messages.ai import add_usage

    question = HumanMessage(message)
    text, name, reason, usage = "", talk.asking.model, None, None
    shown = not talk.asking.as_json
    for part, _ in agent.stream({"messages": [*history, question]}, stream_mode="messages"):
        if isinstance(part, ToolMessage):
            text = ""
            if shown:
                console().print(f"{part.name}: {' '.join(part.text.split())[:_SHOWN]}", style="dim", markup=False)
        elif isinstance(part, AIMessageChunk):
            text += part.text
            usage = add_usage(usage, part.usage_metadata) if part.usage_metadata else usage
            name = part.response_metadata.get("model_name") or name
            reason = part.response_metadata.get("finish_reason") or reason
            if not talk.asking.as_json:
                sys.stdout.write(part.text)
                sys.stdout.flush()
    if shown:
        print()
    metadata = {"model_name": name, "finish_reason": reason}
    answer = AIMessage(text, usage_metadata=usage, response_metadata=metadata)
    _tell(talk, answer, [])
    return [question, AIMessage(text)]


def _system(text: str | None) -> list[BaseMessage]:
    from langchain_core.messages import SystemMessage

    return [] if text is None else [SystemMessage(text)]


def _lines() -> Iterator[str]:
    """What is typed, line by line, until Ctrl-D or exit."""
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return
        if line.lower() in _END:
            return
        if line:
            yield line


def _typed(what: str = "a message") -> str:
    """The words that were piped in.

    Raises
    ------
    Problem
        There are none.
    """
    text = "" if sys.stdin.isatty() else sys.stdin.read().strip()
    if not text:
        raise Problem(f"there is nothing to send: name {what}, or pipe it in.")
    return text


# --- one request ---


def run_complete(words: Sequence[str], asking: Asking, stop: Sequence[str]) -> int:
    """Continue a text; returns the exit status."""
    client = _client()
    parameters: dict[str, Any] = {**asking.fields(), **({"stop": list(stop)} if stop else {})}
    done = client.generate_completion(" ".join(words) or _typed("a text"), model=asking.model, **parameters)
    usage = dict(done.usage) if done.usage else {}
    if asking.as_json:
        print_json({"text": done.text, "model": done.model, "usage": usage, "cost_usd": done.cost_usd})
        return 0
    print(done.text)
    tokens = f"{usage['input_tokens']:,} + {usage['output_tokens']:,} tokens" if usage else "tokens unknown"
    console().print(f"{done.model}, {tokens}, {dollars(done.cost_usd)}", style="dim", markup=False)
    return 0


def run_embed(texts: Sequence[str], model: str | None, *, as_json: bool) -> int:
    """Embed each text, or each line that is piped in; returns the exit status."""
    done = _client().generate_embeddings(list(texts) or _typed("a text").splitlines(), model=model)
    vectors = [list(vector) for vector in done.vectors]
    if as_json:
        print_json({"model": done.model, "vectors": vectors, "usage": done.usage, "cost_usd": done.cost_usd})
        return 0
    for vector in vectors:
        print(f"[{', '.join(f'{number:.6g}' for number in vector)}]")
    return 0


def run_rerank(query: str, texts: Sequence[str], model: str | None, top_n: int | None, *, as_json: bool) -> int:
    """Order texts, or lines that are piped in, by how well they answer a query; returns the exit status."""
    documents = list(texts) or _typed("the texts").splitlines()
    rows = [
        {"index": row["index"], "score": row["relevance_score"], "text": documents[row["index"]]}
        for row in _client().reranker(model).rerank(query, documents, top_n=top_n)
    ]
    if as_json:
        print_json(rows)
        return 0
    for row in rows:
        print(f"{row['score']:.4f}  {row['text']}")
    return 0


def _client() -> TogetherAIClient:
    from hana_ai.api.together_ai import TogetherAIClient

    return TogetherAIClient()
