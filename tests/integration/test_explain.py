"""`hana-ai-together explain`, and the line after an error that names it."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from hana_ai.api.cli.app import run
from hana_ai.api.errors.entries import entries, words_in

ROOT = Path(__file__).parents[2]
HEADINGS = re.findall(r"^## `(.+)`$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("words", HEADINGS)
def test_each_entry_is_found_by_a_message_with_its_words(words: str) -> None:
    assert words_in(f"TogetherAIError: before that,\n{words.upper()} after it") == words
    assert entries()[words]


def test_an_entry_has_no_links_to_pages_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert not re.search(r"\]\(", "".join(entries().values()))
    assert run(["explain"]) == 0
    assert capsys.readouterr().out.splitlines() == HEADINGS


def test_words_of_a_message_are_enough(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "together", "api key"]) == 0
    assert capsys.readouterr().out.startswith("There is no Together API key\n\nNeither TOGETHER_API_KEY nor")


def test_a_message_without_an_entry_is_said_to_have_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "the moon is full"]) == 1
    assert "no entry is about this message. All: hana-ai-together explain" in capsys.readouterr().err


@pytest.mark.parametrize("at_a_terminal", [True, False])
def test_the_line_after_an_error_names_the_entry_at_a_terminal(
    at_a_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: at_a_terminal)
    assert run(["chat", "Hello"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("hana-ai-together: There is no Together API key")
    if not at_a_terminal:
        assert len(said) == 1
        return
    command = shlex.split(said[1].removeprefix("More: "))
    assert run(command[1:]) == 0
    assert "Neither TOGETHER_API_KEY nor" in capsys.readouterr().out
