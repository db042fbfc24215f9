"""`hana-ai-together doctor`: what is set, what can be reached, and what to do about the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hana_ai.api.errors import TogetherAIError, TogetherAISettingsError
from hana_ai.api.settings import TogetherAISettings, is_loopback

from .console import Problem, console, duration, hanging, installed_versions, print_json
from .vector_stores import hana_connection, hana_is_configured

if TYPE_CHECKING:
    from hana_ai.api.catalog.catalog import Catalog
    from hana_ai.api.hana.connections import Connection
    from hana_ai.api.hana.tables import VectorTableInfo

_MOST_NAMES = 5
_MARKS = {"ok": "[green]ok[/]  ", "note": "[yellow]note[/]", "bad": "[red]bad[/] "}


@dataclass(frozen=True)
class Finding:
    """One line of the report; `todo` says what to do about it."""

    state: Literal["ok", "note", "bad"]
    what: str
    todo: str = ""


def run_doctor(*, call: bool = False, as_json: bool = False) -> int:
    """Print the findings; returns 1 if any of them is bad."""
    if as_json:
        found = list(findings(call=call))
        print_json(found)
        return 1 if any(finding.state == "bad" for finding in found) else 0
    out = console()
    states = set()
    for finding in findings(call=call):
        states.add(finding.state)
        out.print(hanging(_MARKS[finding.state], finding.what))
        if finding.todo:
            out.print(hanging("     [bold]->[/]", finding.todo))
    return 1 if "bad" in states else 0


def findings(*, call: bool = False) -> Iterator[Finding]:
    """Check one thing after another, skipping what depends on something missing."""
    yield Finding("ok", ", ".join(f"{name} {found}" for name, found in installed_versions()))
    try:
        settings = TogetherAISettings()
    except TogetherAISettingsError as exc:
        yield Finding("bad", "the settings cannot be read", str(exc))
        return
    yield _enabled(settings)
    yield from _together(settings, call=call)
    yield from _hana(settings)


def _enabled(settings: TogetherAISettings) -> Finding:
    if settings.enabled:
        return Finding("ok", "the toolkit is routed to Together AI")
    try:
        settings.require_enabled()
    except TogetherAISettingsError as exc:
        return Finding(
            "note", "the toolkit is not routed to Together AI; the LangChain classes work anyway", str(exc)
        )
    return Finding("ok", "the toolkit is routed to Together AI")


def _together(settings: TogetherAISettings, *, call: bool) -> Iterator[Finding]:
    from hana_ai.api.service import catalog_of
    from hana_ai.api.together_ai import TogetherAIClient

    url = settings.together_base_url
    try:
        TogetherAIClient(settings)
    except TogetherAISettingsError as exc:
        yield Finding("bad", "no key", str(exc))
        return
    if settings.together_api_key is not None:
        yield Finding("ok", "TOGETHER_API_KEY is set")
    if is_loopback(url):
        yield Finding("note", f"{url} is a server on this machine, not Together AI")
    catalog = catalog_of(settings)
    started = time.monotonic()
    try:
        models = catalog.models(refresh=True)
    except TogetherAIError as exc:
        yield Finding("bad", f"{url} does not answer properly", str(exc))
        return
    yield Finding("ok", f"{url} lists {len(models)} models, in {duration(time.monotonic() - started)}")
    for kind, variable in (
        ("chat", "TOGETHER_DEFAULT_MODEL"),
        ("embedding", "TOGETHER_DEFAULT_EMBEDDING_MODEL"),
        ("rerank", "TOGETHER_DEFAULT_RERANK_MODEL"),
    ):
        yield _default_model(catalog, settings, kind, variable)
    if call:
        yield from _calls(settings)


def _calls(settings: TogetherAISettings) -> Iterator[Finding]:
    """Ask each default model once, for a handful of tokens."""
    from hana_ai.api.together_ai import TogetherAIClient

    client = TogetherAIClient(settings)
    asked: list[tuple[str, Callable[[], object]]] = [
        ("chat", lambda: client.generate_chat_completion("Say yes.", max_tokens=5)),
        ("embedding", lambda: client.generate_embeddings("yes")),
    ]
    if settings.together_default_rerank_model is not None:
        asked.append(("rerank", lambda: client.reranker().rerank("yes", ["yes", "no"])))
    for kind, ask in asked:
        started = time.monotonic()
        try:
            ask()
        except TogetherAIError as exc:
            yield Finding("bad", f"{kind}: a request failed", str(exc))
        else:
            yield Finding("ok", f"{kind}: a request was answered in {duration(time.monotonic() - started)}")


def _default_model(catalog: Catalog, settings: TogetherAISettings, kind: str, variable: str) -> Finding:
    named: str | None = getattr(settings, variable.lower())
    if named is None:
        try:
            picked = catalog.default(kind)
        except TogetherAISettingsError as exc:
            return Finding("note", f"no {kind} model", str(exc))
        if kind == "rerank":
            # As the routing has it: a rerank model may need an endpoint, which nobody should pay for by chance.
            stays = f"{variable} is not set, so the toolkit reranks by itself"
            return Finding("ok", f"rerank: {stays}; TogetherAIRerank takes {picked}")
        return Finding("ok", f"{kind}: {picked}, picked from the catalogue ({variable} is not set)")
    info = catalog.models().get(named)
    if info is None:
        return _own_endpoint(settings, kind, variable, named)
    if info.deprecated:
        return Finding(
            "note",
            f"{kind}: {named} is about to be retired",
            f"Set {variable} to another name from: hana-ai-together models --kind {kind}",
        )
    return Finding("ok", f"{kind}: {named}")


def _own_endpoint(settings: TogetherAISettings, kind: str, variable: str, named: str) -> Finding:
    """Whether a model that the catalogue does not list is an endpoint of one's own."""
    from .deployments import endpoint_names

    what = f"{kind}: {variable}={named} is not in the catalogue"
    pick = f"pick one from: hana-ai-together models --kind {kind}"
    try:
        names = endpoint_names(settings)
    except TogetherAIError as exc:
        return Finding("note", what, f"Whether it is an endpoint of yours can't be told ({exc}); if not, {pick}")
    if named in names:
        return Finding("ok", f"{kind}: {named}, an endpoint of yours")
    return Finding("bad", f"{what}, nor is it an endpoint of yours", pick[0].upper() + pick[1:])


def _hana(settings: TogetherAISettings) -> Iterator[Finding]:
    if not hana_is_configured(settings):
        yield Finding(
            "note",
            "no database: HANA_ADDRESS and HANA_USERKEY are not set",
            "To use SAP HANA Cloud, set HANA_ADDRESS, HANA_USER and HANA_PASSWORD.",
        )
        return
    if not settings.hana_userkey:
        missing = [name for name in ("HANA_USER", "HANA_PASSWORD") if getattr(settings, name.lower()) is None]
        if missing:
            yield Finding(
                "bad", f"HANA_ADDRESS is set, but {' and '.join(missing)} is not", f"Set {', '.join(missing)}."
            )
            return
    try:
        with hana_connection(settings) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT VERSION FROM SYS.M_DATABASE")
            (version,) = cursor.fetchone()
            cursor.close()
            yield Finding("ok", f"SAP HANA {version}")
            yield from _vector_tables(settings, connection)
    except Problem as exc:
        yield Finding("bad", "no connection to SAP HANA", str(exc))


def _vector_tables(settings: TogetherAISettings, connection: Connection) -> Iterator[Finding]:
    """Tables that refuse the model in use, or whose model is not known."""
    from hdbcli import dbapi  # type: ignore[import-untyped]

    try:
        from hana_ai.api.hana.tables import list_tables

        found = list_tables(connection, settings.hana_schema)
    except dbapi.Error as exc:
        yield Finding("note", "the vector tables cannot be listed", exc.errortext)
        return
    if not found:
        return
    yield Finding(
        "ok", f"{len(found)} vector table{'s' if len(found) != 1 else ''}; hana-ai-together tables lists them"
    )
    mixed = [info for info in found if info.known == "mixed"]
    unknown = [info for info in found if info.known == "unknown" and info.rows is not None]
    model = settings.together_default_embedding_model
    other = [
        info for info in found
        if info.known == "stamp" and model is not None and info.model != model and not _is_of_saps(info)
    ]  # fmt: skip
    too_wide = [info for info in found if info.known == "stamp" and _differs_in_width(info, found)]
    if mixed:
        yield Finding(
            "note",
            f"vectors of several widths, so of several models: {_names(mixed)}",
            "Embed the texts again: hana-ai-together tables migrate TABLE",
        )
    if unknown:
        yield Finding(
            "note",
            f"it is not recorded which model made the vectors: {_names(unknown)}",
            "Find out: hana-ai-together tables check TABLE; or name it: hana-ai-together tables stamp TABLE MODEL",
        )
    if other:
        yield Finding(
            "note",
            f"of another model than TOGETHER_DEFAULT_EMBEDDING_MODEL={model}: "
            f"{_names(other, lambda info: f'{info.table} ({info.model})')}",
            "They refuse it. Name their model where they are used, or: hana-ai-together tables migrate TABLE",
        )
    if too_wide:
        yield Finding(
            "note",
            "stamped with the same model, but of different widths: "
            f"{_names(too_wide, lambda info: f'{info.table} ({info.model}, {info.width})')}",
            "One of the stamps is wrong. Find out: hana-ai-together tables check TABLE --together MODEL",
        )


def _is_of_saps(info: VectorTableInfo) -> bool:
    return info.model is not None and info.model.startswith("SAP_")


def _differs_in_width(info: VectorTableInfo, tables: Sequence[VectorTableInfo]) -> bool:
    widths = {
        other.width for other in tables if other.known == "stamp" and other.model == info.model and other.width
    }
    return len(widths) > 1


def _names(
    tables: Sequence[VectorTableInfo], shown: Callable[[VectorTableInfo], str] = lambda info: info.table
) -> str:
    names = [shown(info) for info in tables[:_MOST_NAMES]]
    more = len(tables) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
