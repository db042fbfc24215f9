"""`hana-ai-together demo`: documents in, answers with sources and costs out."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hana_ai.api.settings import TogetherAISettings, is_loopback
from hana_ai.api.wire.token_counts import Tokens

from .console import Problem, console, dollars, duration
from .servers import local_together
from .vector_stores import OpenedStore, open_vector_store

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from rich.console import Console

    from hana_ai.api.together_ai import Completion, TogetherAIClient

QUESTIONS = (
    "What does the toolkit expect you to bring?",
    "Which variable holds the key of Together AI?",
    "Can vectors of two models be mixed in one column?",
)
"""About this project's own documents."""

_PASSAGE = 300
"""Characters, at most."""
_CODE = re.compile(r"^```.*?^```[^\n]*$", re.DOTALL | re.MULTILINE)
_SUFFIXES = (".md", ".txt")
_MOST_FILES = 2000


@dataclass
class Demo:
    """What the demo works with."""

    client: TogetherAIClient
    stand_in: bool
    """Whether the models are the small local ones."""
    opened: OpenedStore
    out: Console
    embedded_tokens: list[int] = field(default_factory=list)


def run_demo(folder: Path | None, *, questions: Sequence[str] = (), interactive: bool = False) -> int:
    """Run the demo; returns the exit status.

    Raises
    ------
    Problem
        There is nothing to read, or a package is missing.
    """
    out = console()
    root = folder if folder is not None else project_root()
    passages = split(read_documents(root, only_docs=folder is None))
    settings = TogetherAISettings()

    from hana_ai.api.together_ai import TogetherAIClient

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
        demo = Demo(client, stand_in, opened, out, tokens)
        _introduce(demo, embeddings._resolve_model())
        _store(demo, passages, embeddings._resolve_model())
        for number, question in enumerate(questions or QUESTIONS, 1):
            _answer(demo, question, number)
        if interactive:
            _answer_typed(demo, len(questions or QUESTIONS) + 1)
        _explain(demo)
    return 0


# --- documents ---


def project_root() -> Path:
    """The checkout that this package runs from.

    Raises
    ------
    Problem
        The package is installed, without the documents.
    """
    root = Path(__file__).resolve().parents[3]
    if (root / "docs").is_dir() and (root / "setup.cfg").is_file():
        return root
    raise Problem(
        "This project's documents are not installed with it; name a folder: hana-ai-together demo FOLDER"
    )


def read_documents(root: Path, *, only_docs: bool = False) -> dict[str, str]:
    """A folder's Markdown and text files by name; for this project, README.md and docs/.

    Raises
    ------
    Problem
        There are none.
    """
    if not root.is_dir():
        raise Problem(f"{root} is not a folder.")
    found: Iterator[Path] = (
        iter([root / "README.md", *sorted((root / "docs").glob("*.md"))])
        if only_docs
        else iter(sorted(root.rglob("*")))
    )
    texts: dict[str, str] = {}
    for path in found:
        name = path.relative_to(root)
        if path.suffix.lower() not in _SUFFIXES or any(
            part.startswith((".", "node_modules")) for part in name.parts
        ):
            continue
        text = path.read_text("utf-8", "replace")
        if text.strip():
            texts[str(name)] = text
        if len(texts) == _MOST_FILES:
            break
    if not texts:
        raise Problem(f"{root} has no Markdown or text files.")
    return texts


def split(texts: dict[str, str]) -> list[Document]:
    """Split texts into short passages with their file and heading; code is left out.

    Raises
    ------
    Problem
        The text splitter is not installed.
    """
    try:
        from langchain_text_splitters import MarkdownHeaderTextSplitter, RecursiveCharacterTextSplitter
    except ModuleNotFoundError as exc:
        raise Problem(
            f"The demo needs the package {exc.name}. Run: pip install 'hana-ai-together[local]'"
        ) from exc
    by_heading = MarkdownHeaderTextSplitter([("#", "h1"), ("##", "h2"), ("###", "h3")])
    by_length = RecursiveCharacterTextSplitter(
        chunk_size=_PASSAGE, chunk_overlap=0, separators=["\n\n", "\n", ". ", " "]
    )
    passages: list[Document] = []
    for name, text in texts.items():
        for section in by_heading.split_text(_CODE.sub("", text)):
            heading = next((section.metadata[key] for key in ("h3", "h2", "h1") if key in section.metadata), "")
            for passage in by_length.split_documents([section]):
                passage.metadata = {"source": name, "heading": heading}
                passages.append(passage)
    return passages


# --- the steps ---


def _introduce(demo: Demo, embedding_model: str) -> None:
    from rich.table import Table

    models = "a small local stand-in for Together AI" if demo.stand_in else demo.client.settings.together_base_url
    vectors = "stands in for SAP HANA Cloud" if demo.opened.stand_in else ""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("Answers", demo.client._chat._resolve_model(), f"[yellow]{models}[/]")
    table.add_row("Embeddings", embedding_model, f"[yellow]{models}[/]")
    table.add_row("Vectors", demo.opened.name, f"[yellow]{vectors}[/]")
    demo.out.print(table)


def _store(demo: Demo, passages: list[Document], model: str) -> None:
    started = time.monotonic()
    with demo.out.status("Embedding ..."):
        demo.opened.store.add_documents(passages)
    seconds = time.monotonic() - started
    tokens = sum(demo.embedded_tokens)
    info = demo.client._models().get(model)
    cost = info.cost_of(Tokens(tokens, 0)) if info is not None else None
    files = len({passage.metadata["source"] for passage in passages})
    demo.out.print(
        f"\nRead {files} files, split them into {len(passages)} passages, embedded and stored them: "
        f"{tokens:,} tokens, {dollars(cost, local=demo.stand_in)}, {duration(seconds)}."
    )


def _answer(demo: Demo, question: str, number: int) -> None:
    started = time.monotonic()
    found = demo.opened.store.similarity_search_with_score(question, k=3)
    retrieval = time.monotonic() - started
    demo.out.print(f"\n[bold]{number}  {_escaped(question)}[/]")
    if not found:
        demo.out.print("   No passage found.")
        return
    # More than one passage confuses a model this small.
    used = found[:1] if demo.stand_in else found
    with demo.out.status("Answering ..."):
        answer = _ask(demo, question, [passage for passage, _ in used])
    _print_answer(demo, answer, found, len(used), retrieval)


def _ask(demo: Demo, question: str, passages: Sequence[Document]) -> Completion:
    context = "\n\n".join(passage.page_content for passage in passages)
    prompt = f"{context}\n\nQuestion: {question}\nAnswer in one sentence:"
    return demo.client.generate_chat_completion(prompt, temperature=0, max_tokens=400 if not demo.stand_in else 60)


def _print_answer(
    demo: Demo, answer: Completion, found: Sequence[tuple[Document, float]], used: int, retrieval: float
) -> None:
    from rich.padding import Padding
    from rich.text import Text

    demo.out.print(Padding(Text(" ".join(answer.text.split()) or "(no answer)", style="green"), (0, 0, 0, 3)))
    named: set[str] = set()
    for rank, (passage, score) in enumerate(found):
        heading = f" > {passage.metadata['heading']}" if passage.metadata.get("heading") else ""
        source = f"{passage.metadata['source']}{heading}"
        if rank < used:
            demo.out.print(Padding(Text(f"from {source}  (similarity {score:.2f})", "cyan"), (0, 0, 0, 3)))
            demo.out.print(Padding(Text(_shown(passage.page_content), "dim"), (0, 0, 0, 8)))
        elif source not in named:
            demo.out.print(Padding(Text(f"also {source}  ({score:.2f})", "cyan"), (0, 0, 0, 3)))
        named.add(source)
    usage = answer.usage
    tokens = f"{usage['input_tokens']} + {usage['output_tokens']} tokens" if usage else "tokens unknown"
    cost = dollars(answer.cost_usd, local=demo.stand_in)
    demo.out.print(
        f"   [dim]{tokens}, {cost}, found in {duration(retrieval)}, "
        f"answered in {duration(answer.latency_ms / 1000)}[/]"
    )


def _answer_typed(demo: Demo, number: int) -> None:
    try:
        question = demo.out.input("\nYour own question (Enter to skip): ").strip()
    except EOFError:
        return
    if question:
        _answer(demo, question, number)


def _explain(demo: Demo) -> None:
    lines = []
    if demo.stand_in:
        lines.append(
            "The models were small local stand-ins, not Together AI: a language model with 135 million parameters "
            "that is often wrong, and averages of word vectors."
        )
    if demo.opened.stand_in:
        lines.append(f"The vectors were stored in {demo.opened.name}, not in SAP HANA.")
    if not lines:
        return
    demo.out.print(
        f"\n{' '.join(lines)} Three lines switch to the real services "
        "(create a key at https://api.together.ai/settings/api-keys):\n"
    )
    demo.out.print("   export TOGETHER_API_KEY=...")
    demo.out.print("   export HANA_ADDRESS=... HANA_USER=... HANA_PASSWORD=...")
    demo.out.print("   hana-ai-together demo")


def _shown(text: str) -> str:
    words = " ".join(re.sub(r"[`*]+", "", text).replace("|", " ").split())
    return words if len(words) <= 300 else words[:300].rsplit(" ", 1)[0] + " ..."


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
