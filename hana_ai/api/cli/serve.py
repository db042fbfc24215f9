"""The commands of `hana-ai-together serve` and their arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

serve = App(
    name="serve", help="Run stand-ins for Together AI and SAP HANA on this machine, for as long as you want."
)

_Host = Annotated[
    Literal["127.0.0.1", "::1", "localhost"], Parameter(help="Where to listen: on this machine only.")
]
_Port = Annotated[int, Parameter(help="0 picks a free port.", validator=Number(gte=0, lte=65535))]
_Engine = Annotated[
    Literal["llama", "scripted"], Parameter(help="llama: a small real model. scripted: echoes, for tests.")
]
_Gguf = Annotated[Path | None, Parameter(help="Your own model file for llama; default: SmolLM2-135M-Instruct.")]
_MaxTokens = Annotated[
    int | None,
    Parameter(
        help="llama: tokens of an answer whose request sets no bound; default: 512.", validator=Number(gte=1)
    ),
]
_Seconds = Annotated[float, Parameter(validator=Number(gte=0))]
_Db = Annotated[
    Path | None, Parameter(help="A DuckDB file that keeps the data; default: in memory, lost at the end.")
]
_EnvFile = Annotated[
    Path | None, Parameter(help="Write the variables into this file, such as .env, instead; removed at the end.")
]
_Command = Annotated[
    str, Parameter(help="After --: a program to run with the variables set; the servers end with it.")
]


@serve.command
def together(
    *command: _Command,
    host: _Host = "127.0.0.1",
    port: _Port = 0,
    engine: _Engine = "llama",
    gguf: _Gguf = None,
    max_tokens: _MaxTokens = None,
    latency: _Seconds = 0.0,
    chunk_delay: _Seconds = 0.0,
    dimensions: Annotated[int, Parameter(validator=Number(gte=1))] = 256,
    env_file: _EnvFile = None,
) -> int:
    """Serve Together's HTTP API until Ctrl-C, or while a program runs.

    The key is random; set TOGETHER_LOCAL_API_KEY to choose one.

    Parameters
    ----------
    latency
        scripted: seconds before every answer.
    chunk_delay
        scripted: seconds between the chunks of a stream.
    dimensions
        scripted: length of an embedding.
    """
    from .serving import TogetherOptions, serve_until_stopped, served_together

    options = TogetherOptions(host, port, engine, gguf, max_tokens, latency, chunk_delay, dimensions)
    return serve_until_stopped([served_together(options)], env_file, command)


@serve.command
def hana(
    *command: _Command,
    host: _Host = "127.0.0.1",
    port: _Port = 0,
    db: _Db = None,
    user: str = "DBADMIN",
    certificate: Path | None = None,
    key: Path | None = None,
    env_file: _EnvFile = None,
) -> int:
    """Serve SAP HANA's wire protocol over DuckDB until Ctrl-C, or while a program runs.

    The password is random; set LOCAL_HANA_PASSWORD to choose one.

    Parameters
    ----------
    user
        Name of the administrator.
    certificate
        PEM file; with it every connection is encrypted.
    key
        PEM file of the certificate's private key; default: in the certificate's file.
    """
    from .serving import HanaOptions, serve_until_stopped, served_hana

    options = HanaOptions(host, port, db, user, certificate, key)
    return serve_until_stopped([served_hana(options)], env_file, command)


@serve.command(name="all")
def both(
    *command: _Command,
    host: _Host = "127.0.0.1",
    together_port: _Port = 0,
    hana_port: _Port = 0,
    engine: _Engine = "llama",
    gguf: _Gguf = None,
    max_tokens: _MaxTokens = None,
    db: _Db = None,
    env_file: _EnvFile = None,
) -> int:
    """Serve both until Ctrl-C, or while a program runs: hana-ai-together serve all -- jupyter lab"""
    from .serving import HanaOptions, TogetherOptions, serve_until_stopped, served_hana, served_together

    servers = [
        served_together(TogetherOptions(host, together_port, engine, gguf, max_tokens)),
        served_hana(HanaOptions(host, hana_port, db)),
    ]
    return serve_until_stopped(servers, env_file, command)
