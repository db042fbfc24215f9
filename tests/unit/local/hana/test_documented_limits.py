"""The page on the loopback HANA lists what the code refuses, and the limits it has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hana_ai.api.local.hana.language import unsupported

_ROOT = Path(__file__).parents[4]
_PAGE = " ".join((_ROOT / "docs" / "loopback-hana.md").read_text(encoding="utf-8").split())


def test_every_refusal_and_every_limit_is_on_the_page() -> None:
    refused = {
        *unsupported.REFUSED_STATEMENTS.values(),
        *unsupported.REFUSED_OBJECTS.values(),
        *unsupported.REFUSED_FUNCTIONS.values(),
        *unsupported.REFUSED_IN_SCRIPTS.values(),
    }
    assert [text for text in sorted(refused | {*unsupported.OTHER_LIMITS}) if text not in _PAGE] == []


def test_what_the_page_says_there_is_is_what_the_code_has() -> None:
    done = subprocess.run([sys.executable, _ROOT / ".ci" / "loopback_hana.py", "--check"], check=False, timeout=60)
    assert done.returncode == 0, "run python .ci/loopback_hana.py"
