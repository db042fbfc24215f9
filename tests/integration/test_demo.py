"""The demo as a newcomer starts it: no key, no database, the small real models on this machine."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from hana_ai.api import cli
from hana_ai.api.cli.app import run
from hana_ai.api.cli.console import Problem, this_command
from hana_ai.api.cli.demo import QUESTIONS
from hana_ai.api.cli.demo_documents import read_documents, split
from hana_ai.api.cli.nearness import UNRELATED, bar, measured_bar
from hana_ai.api.errors import TogetherAIError
from tests.conftest import ScriptedTogether, export
from tests.integration.hana.ingest.test_sources import write_office
from tests.words import embed_by_words

Demo = Callable[..., str]


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run hana-ai-together without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "hana_ai.api.cli", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=240,
        check=False,
        env={**os.environ, "PYTHONPATH": "", **variables},
    )


def one_line(text: str) -> str:
    return " ".join(text.split())


def command_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run it in this process, whose other tests have imported most of it, as if there were no terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "argv", [str(Path(cli.__file__).with_name("__main__.py")), *arguments])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    ended = run(list(arguments))
    out = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, ended, out.out, out.err)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("process", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["here", "process"])
def test_the_demo_answers_right_about_the_projects_own_documents(
    process: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("demo", "--no-input")
    done = command(*arguments) if process else command_here(monkeypatch, capsys, *arguments)

    assert done.returncode == 0, done.stderr
    said = re.split(r"^\d ", done.stdout, flags=re.MULTILINE)
    questions = {one_line(part).partition("?")[0] + "?": one_line(part) for part in said[1:]}
    assert list(questions) == list(QUESTIONS)
    key, mixed, hana, unknown = questions.values()
    assert re.search(r"is TOGETHER_API_KEY\. from docs/getting-started\.md", key)
    assert re.search(r"\bno\b.* from docs/embeddings\.md > .*\(similarity 0\.\d\d\) Vectors of two models", mixed)
    assert re.search(r"wire protocol.* from docs/local\.md", hana)
    assert unknown.partition("? ")[2].startswith("Not in these documents. The nearest is ")
    assert len(re.findall(r"\d+ \+ \d+ tokens, free \(local\), found in .*, answered in [\d.]+ m?s", said[1])) == 1

    assert "a small local stand-in for Together AI" in done.stdout
    assert "stands in for SAP HANA Cloud" in done.stdout
    real = re.findall(r"^Real: (.*)\. Stand-ins: (.*)\.$", done.stdout, re.MULTILINE)
    assert len(real) == 1
    assert "documents" in real[0][0]
    assert "models (one with 135 million parameters" in real[0][1]
    assert "database (the loopback HANA" in real[0][1]
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()][-3:]
    assert lines[0].startswith("export TOGETHER_API_KEY=")
    assert lines[1].startswith("export HANA_ADDRESS=")
    assert lines[2] == f"{sys.executable} -m hana_ai.api.cli demo"
    assert max(map(len, done.stdout.splitlines())) < 1000, "padded to the width of a pipe"


# --- whether an answer is in the documents ---

ANSWERED = (
    *QUESTIONS[:3],
    "What happens after a 429 reply?",
    "Which Python versions are supported?",
    "How do I move a table to another model?",
    "How do I delete an endpoint?",
    "Which class gives embeddings?",
    "How are costs counted when a price is unknown?",
    "Can I use a proxy?",
)
NOT_ANSWERED = (
    QUESTIONS[3],
    "What is the capital of France?",
    "Who is the CEO of Siemens?",
    "What is the price of a train ticket to Berlin?",
    "Which vacation days do employees have?",
    "How do I change a tyre?",
    "What is the warranty of the dishwasher?",
    "How is insulin produced?",
    "Where is the nearest hospital?",
    "How is the weather in Walldorf?",
)


@pytest.fixture(scope="module")
def best_scores() -> Iterator[Callable[[Sequence[str]], list[float]]]:
    """The similarity of the nearest passage of this project's documents, for each question."""
    import numpy as np

    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.local.together import LocalTogether
    from hana_ai.api.local.together.engines.wordllama_engine import WordLlamaEngine

    passages = split(read_documents(None).texts, prose_only=True)
    with LocalTogether(WordLlamaEngine()) as server:
        embeddings = TogetherAIEmbeddings(
            model=server.model("embedding"), base_url=server.base_url, api_key=server.api_key
        )
        rows = np.array(embeddings.embed_documents([passage.page_content for passage in passages]))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)

        def score(questions: Sequence[str]) -> list[float]:
            asked = np.array(embeddings.embed_documents(questions))
            asked /= np.linalg.norm(asked, axis=1, keepdims=True)
            return [float(best) for best in (asked @ rows.T).max(axis=1)]

        yield score


def test_what_is_in_the_documents_is_above_the_bar_and_what_is_not_below(
    best_scores: Callable[[Sequence[str]], list[float]],
) -> None:
    found = bar(best_scores(UNRELATED))
    assert [q for q, score in zip(ANSWERED, best_scores(ANSWERED), strict=True) if score < found] == []
    assert [q for q, score in zip(NOT_ANSWERED, best_scores(NOT_ANSWERED), strict=True) if score >= found] == []


def test_the_bar_moves_with_the_model_and_bears_documents_about_a_probe() -> None:
    scores = [0.2 + 0.001 * (number % 5) for number in range(40)]
    plain = bar(scores)
    assert 0.2 < plain < 0.22
    assert bar([0.5 + score for score in scores]) == pytest.approx(0.5 + plain)
    # The documents are a cookery book: four of the questions have their answer in it.
    assert bar([*scores[:36], 0.9, 0.9, 0.8, 0.9]) == pytest.approx(plain, abs=0.001)


def test_the_bar_is_measured_by_one_vector_for_each_question() -> None:
    asked: list[str] = []

    def embed(questions: Sequence[str]) -> list[list[float]]:
        asked.extend(questions)
        return [[float(number)] for number in range(len(questions))]

    assert measured_bar(embed, lambda vector: 0.25) == 0.25
    assert tuple(asked) == UNRELATED
    assert len({*UNRELATED}) == len(UNRELATED)


# --- your own documents ---

# The environment names a database where it is not the point that the demo starts its own.


@pytest.fixture
def demo(together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Demo:
    """Runs the demo on the scripted server, whose vectors follow the words of a text."""
    together.engine.on("/v1/embeddings", embed_by_words)
    export(monkeypatch, together.environment())
    # Where tests run in parallel it is set, and lines would be wrapped as in a terminal.
    monkeypatch.delenv("COLUMNS", raising=False)

    monkeypatch.setattr(sys, "argv", ["hana-ai-together"])

    def start(*arguments: object, status: int = 0) -> str:
        ended = run(["demo", *map(str, arguments)])
        out = capsys.readouterr()
        assert ended == status, out.err
        return out.out + out.err

    return start


QUESTIONS_BY_FILE = {
    "letter.docx": "Which words has the letter?",
    "book.xlsx": "How many people has Walldorf?",
    "slides.pptx": "What is the title on the slide?",
    "page.html": "What is the page of the web?",
    "table.csv": "What is the weight of the apple?",
    "paper.pdf": "Which portable words?",
    "wide.txt": "Wie oft wird der Kühlkreis gespült?",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("hana_environment")
def test_files_of_all_formats_are_read_and_what_is_not_is_named_and_counted(demo: Demo, tmp_path: Path) -> None:
    write_office(tmp_path)
    (tmp_path / "wide.txt").write_text("Der Kühlkreis wird monatlich gespült.", encoding="utf-16")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / ".env").write_text("SECRET=1")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "left.md").write_text("Somebody else's.")
    asked = [word for question in QUESTIONS_BY_FILE.values() for word in ("--question", question)]
    said = demo(tmp_path, *asked)

    assert "Read 8 files" in said
    for name, question in QUESTIONS_BY_FILE.items():
        answer = re.split(r"^\d ", said.partition(question)[2], maxsplit=1, flags=re.MULTILINE)[0]
        assert f"from {name} " in one_line(answer), question
    assert "Not read: 6 files." in said
    assert "  picture.png: neither text nor a known document format (.png)" in said
    assert "  .env: hidden" in said
    assert "  empty.txt: empty" in said
    assert "  node_modules/left.md: packages of Node.js" in said
    assert "  broken.docx, broken.pdf: damaged, or not what its name says" in said


@pytest.mark.usefixtures("hana_environment")
def test_many_files_of_one_reason_are_counted_in_one_line(demo: Demo, tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number:02}.txt").write_text("")
    (tmp_path / "a.txt").write_text("The filter is cleaned monthly.")
    said = demo(tmp_path, "--question", "When is the filter cleaned?")
    assert "Not read: 12 files." in said
    assert "00.txt, 01.txt, 02.txt, 03.txt, 04.txt and 7 more: empty" in said


@pytest.mark.usefixtures("hana_environment")
def test_a_single_file_is_enough(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("The filter is green.")
    (tmp_path / "pumps.txt").write_text("The filter of the pump is cleaned every month.")
    said = demo(tmp_path / "pumps.txt", "--question", "How often is the filter of the pump cleaned?")
    assert "Read 1 file, split them into 1 passage" in said
    assert "from pumps.txt" in said
    assert "every month" in said


@pytest.mark.usefixtures("hana_environment")
def test_your_documents_are_asked_your_questions_only(
    demo: Demo, together: ScriptedTogether, tmp_path: Path
) -> None:
    (tmp_path / "office.txt").write_text("The coffee machine is on floor 3.")
    said = demo(
        tmp_path, "--question", "Where is the coffee machine?", "--question", "Which variable holds the key?"
    )
    assert not [question for question in QUESTIONS if question in said]
    assert re.findall(r"^\d \w+", said, re.MULTILINE) == ["1 Where", "2 Which"]
    assert one_line(said.partition("2 Which variable holds the key?")[2]).startswith("Not in these documents.")
    chats = [request for request in together.engine.requests if request.path == "/v1/chat/completions"]
    assert len(chats) == 1, "a model was asked without a passage"
    assert "Not in these documents" in str(chats[0].body)


def test_without_a_question_the_demo_says_how_to_ask(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "office.txt").write_text("The coffee machine is on floor 3.")
    assert demo(tmp_path, status=1) == (
        "hana-ai-together: What is to be asked? Add: --question 'How often ...?'\n"
    )


@pytest.mark.usefixtures("hana_environment")
def test_questions_are_asked_for_until_there_is_none(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("Where is the coffee machine?\nWhere is the machine?\n\n"))
    (tmp_path / "office.txt").write_text("The coffee machine is on floor 3.")
    said = demo(tmp_path)
    assert said.count("from office.txt") == 2
    assert said.count("Your own question") == 3


@pytest.mark.usefixtures("hana_environment")
def test_a_missing_converter_is_named_with_what_installs_it(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hana_ai.api.hana.ingest import files

    monkeypatch.setitem(sys.modules, "markitdown", None)
    files._converter.cache_clear()
    (tmp_path / "page.html").write_text("<p>The filter is cleaned.</p>")
    said = demo(tmp_path, "--question", "What?", status=1)
    assert len(said.splitlines()) == 1
    assert "page.html: this format needs another package: pip install 'hana-ai-together[documents]'" in said
    (tmp_path / "a.txt").write_text("The filter is cleaned monthly.")
    said = demo(tmp_path, "--question", "When is the filter cleaned?")
    assert "  page.html: this format needs another package: pip install 'hana-ai-together[documents]'" in said


@pytest.mark.usefixtures("hana_environment")
def test_what_is_too_much_for_a_demo_is_left_to_ingest(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("The filter is cleaned monthly.")
    (tmp_path / "b.log").write_text("a line of a log that nobody reads\n" * 160_000)
    said = demo(tmp_path, "--question", "When is the filter cleaned?")
    assert (
        "b.log: more than the 5,000,000 characters that the demo takes; hana-ai-together ingest takes them" in said
    )


def test_the_demo_uses_the_server_that_the_environment_names(
    demo: Demo, together: ScriptedTogether, tmp_path: Path
) -> None:
    (tmp_path / "pumps.txt").write_text("The filter of the pump is cleaned every month.")
    said = demo(tmp_path, "--question", "How often is the filter of the pump cleaned?")
    assert re.search(r"^Real: .*the models.* Stand-ins: the database", said, re.MULTILINE)
    assert said.splitlines()[-1] == f"   hana-ai-together demo {tmp_path}"
    assert {request.path for request in together.engine.requests} >= {"/v1/embeddings", "/v1/chat/completions"}
    assert together.api_key not in said


def test_the_recommended_command_works_where_the_path_lacks_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "my venv" / "bin" / "hana-ai-together"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert this_command() == "'my venv/bin/hana-ai-together'"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert this_command() == f"'{program}'"
    monkeypatch.setenv("PATH", str(program.parent))
    assert this_command() == "hana-ai-together"
    monkeypatch.setattr(sys, "argv", ["/site-packages/hana_ai/api/cli/__main__.py"])
    assert this_command() == f"{sys.executable} -m hana_ai.api.cli"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("demo", "no-such-folder"), "There is no file or folder no-such-folder."),
        (("demo", "."), "There is nothing to read in .: it has no files."),
        (("models",), "There is no Together API key."),
    ],
)
def test_an_error_is_one_clear_line(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(list(arguments)) == 1
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1
    with pytest.raises((Problem, TogetherAIError)):
        run([*arguments, "--debug"])
