"""Audit the dependencies: against the advisories noted here, and with pip-audit where its service answers.

The first needs no network: no requirement of setup.cfg may allow a version with a vulnerability that
`advisories.json` names, and none may be installed. The second is asked about a package that is known to be
vulnerable first; where it does not know even that one, it can't be reached, and the first check stands alone.

    python .ci/audit.py [--offline]
"""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

HERE = Path(__file__).parent
KNOWN_TO_BE_VULNERABLE = "jinja2==2.4.1"
SECONDS = 10
SECONDS_FOR_ALL = 180


def requirements(setup_cfg: Path) -> Iterator[tuple[str, Requirement]]:
    """The requirements of a setup.cfg with their sections, without the distribution itself."""
    config = configparser.ConfigParser()
    config.read(setup_cfg)
    sections = {"install_requires": config["options"]["install_requires"], **config["options.extras_require"]}
    own = canonicalize_name(config["metadata"]["name"])
    for section, lines in sections.items():
        for line in filter(None, map(str.strip, lines.splitlines())):
            requirement = Requirement(line)
            if canonicalize_name(requirement.name) != own:
                yield section, requirement


def allowed(setup_cfg: Path, advisories: Sequence[Mapping[str, str]]) -> list[str]:
    """What setup.cfg allows although it is vulnerable."""
    fixed = {canonicalize_name(entry["package"]): entry for entry in advisories}
    return [
        f"setup.cfg, {section}: {requirement} allows versions below {entry['fixed']} ({entry['id']})"
        for section, requirement in requirements(setup_cfg)
        if (entry := fixed.get(canonicalize_name(requirement.name))) and not _bounded(requirement, entry["fixed"])
    ]


def _bounded(requirement: Requirement, fixed: str) -> bool:
    return any(
        clause.operator in (">=", ">", "==", "~=") and Version(clause.version) >= Version(fixed)
        for clause in requirement.specifier
    )


def installed(advisories: Sequence[Mapping[str, str]]) -> list[str]:
    """What is installed although it is vulnerable."""
    found = []
    for entry in advisories:
        try:
            version = metadata.version(entry["package"])
        except metadata.PackageNotFoundError:
            continue
        if Version(version) < Version(entry["fixed"]):
            found.append(f"installed: {entry['package']} {version}, fixed in {entry['fixed']} ({entry['id']})")
    return found


def pip_audit(*arguments: str, seconds: float) -> list[dict[str, Any]] | None:
    """What pip-audit says of each package; None where it does not answer."""
    command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off"]
    try:
        done = subprocess.run(
            [*command, f"--timeout={SECONDS}", *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        audited: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return audited


def reachable() -> bool:
    """Whether pip-audit knows a vulnerability when it sees one."""
    if util.find_spec("pip_audit") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text(f"{KNOWN_TO_BE_VULNERABLE}\n")
        audited = pip_audit("--requirement", str(file), "--no-deps", "--disable-pip", seconds=3 * SECONDS)
    return any(entry.get("vulns") for entry in audited or ())


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong; 1 if anything is."""
    noted = json.loads((HERE / "advisories.json").read_text())
    wrong = allowed(HERE.parent / "setup.cfg", noted["advisories"]) + installed(noted["advisories"])
    said = f"{len(noted['advisories'])} advisories checked against setup.cfg and what is installed"
    if "--offline" not in arguments and reachable():
        audited = pip_audit("--local", "--skip-editable", seconds=SECONDS_FOR_ALL)
        wrong += [
            f"pip-audit: {entry['name']} {entry['version']} has {vulnerability['id']}, "
            f"fixed in {', '.join(vulnerability['fix_versions']) or 'no version'}"
            for entry in audited or ()
            for vulnerability in entry.get("vulns", ())
            if vulnerability["id"] not in noted["accepted"]
        ]
        said += f"; pip-audit looked at {len(audited or ())} packages"
    else:
        said += "; pip-audit is not installed or its service does not answer"
    print(said + ".")
    print("".join(f"{line}\n" for line in wrong), end="")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
