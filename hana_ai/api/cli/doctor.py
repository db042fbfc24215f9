"""`hana-ai-together doctor`: what is set, what can be reached, and what to do about the rest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hana_ai.api.errors import TogetherAIError, TogetherAISettingsError
from hana_ai.api.settings import TogetherAISettings, is_loopback

from .console import Problem, console, duration, hanging, installed_versions
from .vector_stores import hana_connection, hana_is_configured

if TYPE_CHECKING:
    from hana_ai.api.catalog.catalog import Catalog

_MARKS = {"ok": "[green]ok[/]  ", "note": "[yellow]note[/]", "bad": "[red]bad[/] "}


@dataclass(frozen=True)
class Finding:
    """One line of the report; `todo` says what to do about it."""

    state: Literal["ok", "note", "bad"]
    what: str
    todo: str = ""


def run_doctor() -> int:
    """Print the findings; returns 1 if any of them is bad."""
    out = console()
    states = set()
    for finding in findings():
        states.add(finding.state)
        out.print(hanging(_MARKS[finding.state], finding.what))
        if finding.todo:
            out.print(hanging("     [bold]->[/]", finding.todo))
    return 1 if "bad" in states else 0


def findings() -> Iterator[Finding]:
    """Check one thing after another, skipping what depends on something missing."""
    yield Finding("ok", ", ".join(f"{name} {found}" for name, found in installed_versions()))
    try:
        settings = TogetherAISettings()
    except TogetherAISettingsError as exc:
        yield Finding("bad", "the settings cannot be read", str(exc))
        return
    yield _enabled(settings)
    yield from _together(settings)
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


def _together(settings: TogetherAISettings) -> Iterator[Finding]:
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
        yield _default_model(catalog, kind, variable, getattr(settings, variable.lower()))


def _default_model(catalog: Catalog, kind: str, variable: str, named: str | None) -> Finding:
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
        return Finding(
            "note",
            f"{kind}: {variable}={named} is not in the catalogue",
            "Fine for an endpoint of your own; otherwise pick one from: hana-ai-together models --kind " + kind,
        )
    if info.deprecated:
        return Finding(
            "note",
            f"{kind}: {named} is about to be retired",
            f"Set {variable} to another name from: hana-ai-together models --kind {kind}",
        )
    return Finding("ok", f"{kind}: {named}")


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
    except Problem as exc:
        yield Finding("bad", "no connection to SAP HANA", str(exc))
        return
    yield Finding("ok", f"SAP HANA {version}")
