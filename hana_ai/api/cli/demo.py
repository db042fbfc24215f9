"""`hana-ai-together demo`: documents in, answers with sources and costs out."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hana_ai.api.catalog.money import dollars
from hana_ai.api.settings import TogetherAISettings, is_loopback
from hana_ai.api.wire.token_counts import Tokens

from .console import Problem, console, counted, duration, hanging, this_command
from .demo_documents import Reading, left_out_lines, read_documents, split
from .nearness import measured_bar
from .servers import local_together
from .vector_stores import OpenedStore, open_vector_store

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from rich.console import Console

    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.together_ai import Completion, TogetherAIClient

QUESTIONS = (
    "Which variable holds the key of Together AI?",
    "Can vectors of two models be mixed in one column?",
    "What is the loopback HANA?",
    "Who painted the Mona Lisa?",
)
"""About this project's own documents, but for the last, whose answer is not in them."""

_NOT_THERE = "Not in these documents."
_FOUND = 3
"""Passages, at most."""


@dataclass
class Demo:
    """What the demo works with."""

    client: TogetherAIClient
    embeddings: TogetherAIEmbeddings
    stand_in: bool
    """Whether the models are the small local ones."""
    opened: OpenedStore
    out: Console
    bar: float = 0.0
    """The similarity from which on a passage is near."""
    embedded_tokens: list[int] = field(default_factory=list)


def run_demo(source: Path | None, *, questions: Sequence[str] = (), interactive: bool = False) -> int:
    """Run the demo; returns the exit status.

    Parameters
    ----------
    source : pathlib.Path or None
        A file or a folder; None reads this project's own documents and asks about them.
    questions : sequence of str
        Instead of the project's own.
    interactive : bool
        Whether to prompt for questions.

    Raises
    ------
    Problem
        There is nothing to read or to ask, or a package is missing.
    """
    out = console()
    with out.status("Reading ..."):
        reading = read_documents(source)
    if source is None:
        questions = questions or QUESTIONS
    elif not (questions or interactive):
        raise Problem("What is to be asked? Add: --question 'How often ...?'")
    passages = split(reading.texts, prose_only=source is None)
    with ExitStack() as stack:
        demo = stack.enter_context(_opened(out))
        _introduce(demo)
        _store(demo, reading, passages)
        for number, question in enumerate(questions, 1):
            _answer(demo, question, number)
        if interactive:
            _answer_typed(demo, len(questions) + 1)
        _explain(demo, source)
    return 0


@contextmanager
def _opened(out: Console) -> Iterator[Demo]:
    """Models and a vector store: those of the settings, else stand-ins."""
    from hana_ai.api.together_ai import TogetherAIClient

    settings = TogetherAISettings()
    with ExitStack() as stack:
        stand_in = settings.together_api_key is None and not is_loopback(settings.together_base_url)
        if stand_in:
            with out.status("Loading the local models ..."):
                server = stack.enter_context(local_together())
            settings = TogetherAISettings(
                together_base_url=server.base_url,
                together_api_key=server.api_key,
                together_default_model=server.model("chat"),
                together_default_embedding_model=server.model("embedding"),
            )
        tokens: list[int] = []
        client = stack.enter_context(TogetherAIClient(settings))
        embeddings = client.embeddings(on_usage=lambda usage: tokens.append(int(usage.get("total_tokens", 0))))
        opened = stack.enter_context(open_vector_store(settings, embeddings))
        yield Demo(client, embeddings, stand_in, opened, out, embedded_tokens=tokens)


# --- the steps ---


def _introduce(demo: Demo) -> None:
    from rich.table import Table

    models = "a small local stand-in for Together AI" if demo.stand_in else demo.client.settings.together_base_url
    vectors = "stands in for SAP HANA Cloud" if demo.opened.stand_in else ""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("Answers", demo.client._chat._resolve_model(), f"[yellow]{models}[/]")
    table.add_row("Embeddings", demo.embeddings._resolve_model(), f"[yellow]{models}[/]")
    table.add_row("Vectors", demo.opened.name, f"[yellow]{vectors}[/]")
    demo.out.print(table)


def _store(demo: Demo, reading: Reading, passages: list[Document]) -> None:
    started = time.monotonic()
    with demo.out.status("Embedding ..."):
        demo.opened.store.add_documents(passages)
        demo.bar = _measured_bar(demo)
    seconds = time.monotonic() - started
    tokens = sum(demo.embedded_tokens)
    info = demo.client._models().get(demo.embeddings._resolve_model())
    cost = info.cost_of(Tokens(tokens, 0)) if info is not None else None
    files, parts = counted(len(reading.texts), "file"), counted(len(passages), "passage")
    demo.out.print(
        f"\nRead {files}, split them into {parts}, embedded and stored them: "
        f"{tokens:,} tokens, {dollars(cost, local=demo.stand_in)}, {duration(seconds)}."
    )
    for line in left_out_lines(reading.left_out):
        demo.out.print(line, style="yellow", markup=False)
    demo.out.print(
        f"A passage counts as near from a similarity of {demo.bar:.2f} on: "
        "questions about unrelated things stay below that.",
        style="dim",
    )


def _measured_bar(demo: Demo) -> float:
    """The probes are embedded as queries are, but in one request."""
    as_queries = demo.embeddings.model_copy(update={"document_prefix": demo.embeddings.query_prefix})
    return measured_bar(as_queries.embed_documents, lambda vector: demo.opened.nearest(vector, 1)[0][1])


def _answer(demo: Demo, question: str, number: int) -> None:
    started = time.monotonic()
    found = demo.opened.nearest(demo.embeddings.embed_query(question), _FOUND)
    retrieval = time.monotonic() - started
    demo.out.print()
    demo.out.print(hanging(f"[bold]{number}[/]", question, "bold"))
    near = [(passage, score) for passage, score in found if score >= demo.bar]
    if not near:
        _say(demo, _NOT_THERE, "green")
        passage, score = found[0]
        _say(demo, f"The nearest is {_source(passage)}  (similarity {score:.2f})", "cyan")
        return
    # More than one passage confuses a model this small.
    used = near[:1] if demo.stand_in else near
    with demo.out.status("Answering ..."):
        answer = _ask(demo, question, [passage for passage, _ in used])
    _print_answer(demo, answer, near, len(used), retrieval)


def _ask(demo: Demo, question: str, passages: Sequence[Document]) -> Completion:
    context = "\n\n".join(passage.page_content for passage in passages)
    wanted = "Answer the question with words of the text."
    if not demo.stand_in:
        # The small model would say so always, or never.
        wanted += f" If the text does not hold the answer, say: {_NOT_THERE}"
    prompt = f"Text: {context}\n\n{wanted}\nQuestion: {question}"
    return demo.client.generate_chat_completion(prompt, temperature=0, max_tokens=400 if not demo.stand_in else 60)


def _print_answer(
    demo: Demo, answer: Completion, found: Sequence[tuple[Document, float]], used: int, retrieval: float
) -> None:
    _say(demo, answer.text or "(no answer)", "green")
    named: set[str] = set()
    for rank, (passage, score) in enumerate(found):
        source = _source(passage)
        if rank < used:
            _say(demo, f"from {source}  (similarity {score:.2f})", "cyan")
            _say(demo, passage.page_content, "dim", indent=8)
        elif source not in named:
            _say(demo, f"also {source}  ({score:.2f})", "cyan")
        named.add(source)
    usage = answer.usage
    tokens = f"{usage['input_tokens']} + {usage['output_tokens']} tokens" if usage else "tokens unknown"
    cost = dollars(answer.cost_usd, local=demo.stand_in)
    _say(
        demo,
        f"{tokens}, {cost}, found in {duration(retrieval)}, answered in {duration(answer.latency_ms / 1000)}",
        "dim",
    )


def _answer_typed(demo: Demo, number: int) -> None:
    """Ask for questions until there is none."""
    while True:
        try:
            question = demo.out.input("\nYour own question (Enter to end): ").strip()
        except EOFError:
            return
        if not question:
            return
        _answer(demo, question, number)
        number += 1


def _explain(demo: Demo, source: Path | None) -> None:
    real = ["the documents, their passages and similarities", "the calls over HTTP"]
    stand_ins = []
    if demo.stand_in:
        stand_ins.append("the models (one with 135 million parameters, often wrong, and averages of word vectors)")
    else:
        real.append("the models")
    if demo.opened.stand_in:
        stand_ins.append(f"the database ({demo.opened.name})")
    else:
        real.append("SAP HANA")
    demo.out.print(f"\nReal: {', '.join(real)}. Stand-ins: {', '.join(stand_ins) or 'none'}.", soft_wrap=True)
    if not stand_ins:
        return
    demo.out.print(
        "\nThree lines switch to the real services (create a key at https://api.together.ai/settings/api-keys):\n"
    )
    again = " ".join([this_command(), "demo", *([] if source is None else [shlex.quote(str(source))])])
    for line in (
        "export TOGETHER_API_KEY=...",
        "export HANA_ADDRESS=... HANA_USER=... HANA_PASSWORD=...",
        again,
    ):
        demo.out.print(f"   {line}", markup=False, soft_wrap=True)


def _source(passage: Document) -> str:
    heading = passage.metadata.get("heading")
    return f"{passage.metadata['source']} > {heading}" if heading else str(passage.metadata["source"])


def _say(demo: Demo, text: str, style: str, indent: int = 3) -> None:
    """A paragraph below a question, in one line where nobody watches."""
    demo.out.print(hanging(" " * (indent - 1), " ".join(text.split()), style))
