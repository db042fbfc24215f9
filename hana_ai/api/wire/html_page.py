"""A page in one file that fetches nothing: it works offline, in light and dark. No I/O but its own style."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from .html import escaped


def whole_page(mark: str, title: str, body: str, *, style: str = "", script: str = "") -> str:
    """A whole page.

    Parameters
    ----------
    mark : str
        A comment for its first line, by which its file is known again.
    title : str
        As text.
    body : str
        HTML.
    style : str
        CSS, after that of all pages.
    script : str
        The only JavaScript that the page lets run, whatever its body has.
    """
    base = resources.files(__package__).joinpath("html_page.css").read_text("utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    end = ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
        end = f"<script>{script}</script>\n"
    return (
        f'<!doctype html>{mark}\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escaped(title)}</title>\n<style>\n{base}{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n{end}</body>\n</html>\n"
    )
