"""`%%together` in a real shell of IPython, and in a kernel, against the loopback servers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from hana_ai.api import routing
from hana_ai.api.local.together import Received, Reply, ScriptedEngine, Usage
from tests.conftest import ScriptedTogether, export
from tests.shells import ipython_shell
from tests.words import embed_by_words

Cell = Callable[..., tuple[str, str]]


@pytest.fixture
def shell(together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    with ipython_shell(monkeypatch) as found:
        found.run_line_magic("load_ext", "hana_ai.api")
        yield found
        found.run_line_magic("unload_ext", "hana_ai.api")
        routing.deactivate()


@pytest.fixture
def cell(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> Cell:
    """Runs a cell; returns what it printed, and what was wrong."""
    capsys.readouterr()

    def run(code: str, *, fails: bool = False) -> tuple[str, str]:
        done = shell.run_cell(code)
        said = capsys.readouterr()
        assert (done.error_in_exec is not None) == fails, said
        return said.out, said.err

    return run


def bodies(engine: ScriptedEngine) -> list[Any]:
    return [request.body for request in engine.requests if request.path == "/v1/chat/completions"]


def test_a_cell_is_a_prompt_and_its_answer_is_streamed(cell: Cell, engine: ScriptedEngine) -> None:
    engine.always(Reply(text="It keeps columns together.", usage=Usage(21, 6)))
    out, _ = cell("%%together\nWhat is a\ncolumn store?\n")
    assert out == f"It keeps columns together.\n({engine.CHAT}, 21 + 6 tokens, $0.000000)\n"
    (body,) = bodies(engine)
    assert body["stream"] is True
    assert body["messages"] == [{"role": "user", "content": "What is a\ncolumn store?"}]


def test_options_reach_the_model_and_the_answer_a_variable(
    cell: Cell, shell: InteractiveShell, engine: ScriptedEngine
) -> None:
    engine.always(Reply(text="Yes.", usage=Usage(9, 1)))
    cell(
        f'%%together -m {engine.CHAT} --system "Be brief." --temperature=0.5 --max-tokens 7 --no-stream -o answer'
        "\nIs it?"
    )
    (body,) = bodies(engine)
    assert (body["model"], body["temperature"], body["max_tokens"]) == (engine.CHAT, 0.5, 7)
    assert [message["content"] for message in body["messages"]] == ["Be brief.", "Is it?"]
    answer = shell.user_ns["answer"]
    assert answer.text == "Yes."
    assert answer.usage_metadata["total_tokens"] == 10


def test_a_line_takes_apostrophes_and_variables(
    cell: Cell, shell: InteractiveShell, engine: ScriptedEngine
) -> None:
    shell.push({"thing": "store"})
    cell("%together --max-tokens 5 What's a column {thing}?")
    assert bodies(engine)[0]["messages"][0]["content"] == "What's a column store?"


def test_the_answer_shows_before_it_is_whole(shell: InteractiveShell, engine: ScriptedEngine) -> None:
    engine.always(Reply(text="one two three"))
    seen: list[str] = []

    class Watched:
        def write(self, text: str) -> int:
            seen.append(text)
            return len(text)

        def flush(self) -> None: ...

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("sys.stdout", Watched())
        shell.run_cell("%together Count.")
    assert len([text for text in seen if text.strip()]) > 2, seen


# --- errors ---


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("%%together --modell x\nHello", "There is no option --modell. Did you mean --model? See: %together?"),
        ("%%together --max-tokens many\nHello", "--max-tokens needs a number, not 'many'."),
        ("%%together -m\nHello", "--model needs a value. See: %together?"),
        ("%%together Hello\nHello", "The prompt belongs into the cell, not after %%together: Hello"),
        ("%%together\n \n", "There is no prompt. Write it into the cell below %%together, or after %together."),
        ("%together", "There is no prompt. Write it into the cell below %%together, or after %together."),
        ("%%together -o 1a\nHello", "--output needs the name of a variable, not '1a'."),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_sent(
    code: str, says: str, cell: Cell, engine: ScriptedEngine
) -> None:
    out, err = cell(code, fails=True)
    assert [line for line in (out + err).splitlines() if line] == [f"UsageError: {says}"]
    assert bodies(engine) == []


def test_what_the_service_says_is_one_line(cell: Cell, engine: ScriptedEngine) -> None:
    engine.on("/v1/chat/completions", Reply(status=401, error={"message": "Invalid API key provided"}))
    out, err = cell("%%together\nHello", fails=True)
    lines = [line for line in (out + err).splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("UsageError: ")
    assert "Invalid API key" in lines[0]


def test_a_model_that_is_not_there_is_one_line(cell: Cell) -> None:
    out, err = cell("%%together -m local/scripted-caht\nHello", fails=True)
    lines = [line for line in (out + err).splitlines() if line]
    assert len(lines) == 1
    assert "local/scripted-chat" in lines[0]


def test_an_interrupt_keeps_what_was_said_and_stops_the_notebook(
    cell: Cell, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hana_ai.api import ChatTogetherAI

    plain = ChatTogetherAI.stream

    def broken_off(*given: Any, **named: Any) -> Iterator[Any]:
        for chunk in plain(*given, **named):
            yield chunk
            if chunk.text:
                raise KeyboardInterrupt

    monkeypatch.setattr(ChatTogetherAI, "stream", broken_off)
    engine.always(Reply(text="one two three"))
    out, err = cell("%%together\nCount.", fails=True)
    assert out.startswith("one")
    assert "three" not in out
    assert "UsageError: Stopped." in out + err


# --- from a table ---


def test_an_answer_from_a_vector_table_shows_its_passages(
    cell: Cell, together: ScriptedTogether, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hana_ai.api import TogetherAIEmbeddings, TogetherHanaDB
    from hana_ai.api.local.hana import LocalHana

    engine.on("/v1/embeddings", embed_by_words)
    with LocalHana() as hana:
        export(monkeypatch, hana.environment())
        embedding = TogetherAIEmbeddings(model=engine.EMBEDDING, **together.client)
        TogetherHanaDB(table_name="FACTS", embedding=embedding).add_texts(
            ["The coffee machine is on floor 3.", "Invoices are due after 30 days."],
            [{"source": "office.md"}, {"source": "sales.md"}],
            ids=["1", "2"],
        )
        engine.on("/v1/chat/completions", Reply(text="On floor 3 [1].", usage=Usage(64, 6)))
        out, _ = cell("%%together --table FACTS -k 1\nWhere is the coffee machine?")
        assert out.startswith("On floor 3 [1].\n[1] office.md (0.")
        assert "The coffee machine is on floor 3.\n" in out
        assert "Invoices" not in out
        assert "[1] The coffee machine is on floor 3." in bodies(engine)[-1]["messages"][0]["content"]
        _, err = cell("%%together --table FACT\nWhere?", fails=True)
        assert "UsageError: " in err
        assert "FACT" in err
    monkeypatch.setenv("HANA_PORT", "1")
    out, err = cell("%%together --table FACTS\nWhere?", fails=True)
    assert next(line for line in (out + err).splitlines() if line).startswith("UsageError: SAP HANA refused: ")


# --- loading, and a kernel ---


def test_the_magic_goes_with_the_extension(shell: InteractiveShell) -> None:
    assert shell.find_cell_magic("together") is not None
    assert "--temperature" in (shell.find_line_magic("together").__doc__ or "")
    shell.run_line_magic("unload_ext", "hana_ai.api")
    assert shell.find_cell_magic("together") is None
    assert shell.find_line_magic("together") is None


@pytest.mark.filterwarnings("ignore")
def test_in_a_kernel_the_answer_is_text_in_the_order_of_its_cells_and_an_error_ends_the_run(
    together: ScriptedTogether, engine: ScriptedEngine, tmp_path: Path
) -> None:
    def answered(request: Received) -> Reply:
        return Reply(text=f"<b>{request.body['messages'][-1]['content']}</b>", usage=Usage(1, 1))

    engine.on("/v1/chat/completions", answered)
    cells = [
        "%load_ext hana_ai.api",
        "%%together -o first\nFirst",
        "%together {first.text}",
        "%%together --k\nMore",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    client = NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    with pytest.raises(CellExecutionError, match="--k needs a value"):
        client.execute(env={**os.environ, **together.environment(), "IPYTHONDIR": str(tmp_path)})
    texts = ["".join(output.get("text", "") for output in made.outputs) for made in notebook.cells]
    assert texts[1].startswith("<b>First</b>\n(")
    assert texts[2].startswith("<b><b>First</b></b>\n(")
    # What a model writes is never run as HTML.
    assert all(output.output_type in ("stream", "error") for made in notebook.cells for output in made.outputs)
