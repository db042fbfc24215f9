"""The watch over the tests' own output can fail: each way to show a key is caught and named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.secrets_watch import MARK

_ROOT = Path(__file__).parents[2]

WAYS = {
    "stdout": "print(KEY)",
    "stderr": "import sys; print(KEY, file=sys.stderr)",
    "capsys": "print(KEY); capsys.readouterr()",
    "a debug record of ours": "import logging; logging.getLogger('hana_ai.api.x').debug('with %s', KEY)",
    "a record of another": "import logging; logging.getLogger('other').warning(KEY)",
    "a record's traceback": (
        "import logging\n"
        "    try: raise ValueError(KEY)\n"
        "    except ValueError: logging.getLogger('hana_ai.api.x').debug('it failed', exc_info=True)"
    ),
    "a warning": "import warnings; warnings.warn(KEY)",
    "an exception": "import pytest\n    with pytest.raises(ValueError): raise ValueError(KEY)",
    "an exception's cause": (
        "import pytest\n"
        "    with pytest.raises(ValueError):\n"
        "        try: raise KeyError(KEY)\n"
        "        except KeyError as exc: raise ValueError('other') from exc"
    ),
    "a child process": (
        "import subprocess, sys\n"
        "    subprocess.run([sys.executable, '-c', f'print({KEY!r})'], stdout=subprocess.PIPE, check=True)"
    ),
    "a failure": "assert KEY == 'something else'",
    "a key that a server made up": "print('local-' + 32 * 'x')",
}
QUIET = (
    "assert KEY; print('local-variable', KEY[:3]); import logging; logging.getLogger('other').warning('no key')"
)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_way_to_show_a_key_fails_its_test_and_names_it(workers: int, tmp_path: Path) -> None:
    key = f"{MARK}-of-a-leak"
    tests = [f"def test_{number}(capsys):\n    {body}\n" for number, body in enumerate(WAYS.values())]
    tests += [f"def test_quiet():\n    {QUIET}\n"]
    tests += [f"@pytest.mark.shows_a_key('it is asked to')\ndef test_open(capsys):\n    {WAYS['capsys']}\n"]
    (tmp_path / "setup.cfg").write_text("[tool:pytest]\n")
    (tmp_path / "test_it.py").write_text(
        "\n".join(["import pytest", f"KEY = '-'.join({key.split('-')!r})", *tests])
    )
    plugins = ("-p", "tests.secrets_watch", "-p", "xdist", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", *plugins, "-n", str(workers), "-rA", "-q"]
    with (tmp_path / "out").open("w") as out:
        # Into a file, since the output of a child process would itself be watched.
        code = subprocess.call(
            [*command, "test_it.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdout=out,
            stderr=out,
            timeout=120,
        )
    said = (tmp_path / "out").read_text()

    assert code == pytest.ExitCode.TESTS_FAILED
    quiet = [way for number, way in enumerate(WAYS) if f"FAILED test_it.py::test_{number} " not in said]
    # pytest tells of a warning after its test; it fails the session by name.
    assert quiet == ["a warning"]
    assert "A key is shown, in: a warning of test_it.py::test_6" in said
    assert "PASSED test_it.py::test_quiet" in said
    assert "PASSED test_it.py::test_open" in said
    assert key not in said
