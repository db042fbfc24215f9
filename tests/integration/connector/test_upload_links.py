"""Links in a folder that is uploaded: what lies outside stays there, and a Hugging Face cache works as ever."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hana_ai.api import TogetherAIConnector
from hana_ai.api.connector.account import Limits
from hana_ai.api.connector.folder_files import folder_files
from hana_ai.api.connector.upload_parts import JOURNAL, UploadProgress
from hana_ai.api.errors import TogetherAIInputError
from tests.conftest import ScriptedTogether

from .conftest import DEDICATED

METADATA = {"name": "tuned", "base_model": DEDICATED}
PRIVATE = b"a private file of somebody else"


@pytest.fixture
def private(tmp_path: Path) -> Path:
    file = tmp_path / "elsewhere" / "private.txt"
    file.parent.mkdir()
    file.write_bytes(PRIVATE)
    return file


def sent(server: ScriptedTogether) -> list[str]:
    return sorted(file.path for model in server.management.models.values() for file in model.revisions[-1].files)


def check_names(link: Path, error: Exception) -> None:
    assert str(link) in str(error)
    if link.is_symlink():
        targets = (str(link.readlink()), os.path.realpath(link))
        assert any(target in str(error) for target in targets)


LINKS: dict[str, Callable[[Path, Path], object]] = {
    "a file outside": lambda folder, private: (folder / "link").symlink_to(private),
    "a file outside, relative": lambda folder, _: (folder / "link").symlink_to("../elsewhere/private.txt"),
    "a folder outside": lambda folder, private: (folder / "link").symlink_to(private.parent),
    "the folder above": lambda folder, _: (folder / "link").symlink_to(".."),
    "the folder itself": lambda folder, _: (folder / "link").symlink_to("."),
    "itself": lambda folder, _: (folder / "link").symlink_to("link"),
    "nothing": lambda folder, _: (folder / "link").symlink_to("gone"),
    "a device": lambda folder, _: (folder / "link").symlink_to("/dev/zero"),
    "a process's files": lambda folder, _: (folder / "link").symlink_to("/proc/self/environ"),
    "a pipe": lambda folder, private: (
        os.mkfifo(private.parent / "pipe"),
        (folder / "link").symlink_to(private.parent / "pipe"),
    ),
    "a pipe within": lambda folder, _: (os.mkfifo(folder / ".pipe"), (folder / "link").symlink_to(".pipe")),
    "a pipe, no link": lambda folder, _: os.mkfifo(folder / "link"),
    "a link of a link": lambda folder, private: (
        (folder / ".first").symlink_to(private),
        (folder / "link").symlink_to(".first"),
    ),
    "a folder within that has a link": lambda folder, private: (
        (folder / "inner").mkdir(),
        (folder / "inner" / "link").symlink_to(private),
    ),
}


@pytest.mark.parametrize("where", LINKS)
async def test_a_link_that_leads_elsewhere_is_named_and_nothing_is_sent(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path, private: Path, where: str
) -> None:
    LINKS[where](adapter, private)
    before = len(server.engine.requests)
    with pytest.raises(TogetherAIInputError, match="link") as caught:
        async with asyncio.timeout(20):
            await connector.upload_artifact(adapter, METADATA)
    check_names(adapter / "inner" / "link" if (adapter / "inner").exists() else adapter / "link", caught.value)
    assert len(server.engine.requests) == before
    assert server.management.models == {}


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
async def test_the_adapters_own_files_may_not_be_elsewhere_either(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path, tmp_path: Path, name: str
) -> None:
    (adapter / name).rename(tmp_path / name)
    (adapter / name).symlink_to(tmp_path / name)
    with pytest.raises(TogetherAIInputError, match=f"{name} is a link to .*{name}, outside of"):
        await connector.upload_artifact(adapter, METADATA)
    assert server.management.models == {}


async def test_links_within_the_folder_are_followed(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path, tmp_path: Path
) -> None:
    (adapter / "more").mkdir()
    (adapter / "more" / "notes.txt").write_text("Trained on Tuesday.")
    (adapter / "latest").symlink_to("more")
    (adapter / "notes.txt").symlink_to(adapter / "more" / "notes.txt")
    (tmp_path / "named otherwise").symlink_to(adapter)
    await connector.upload_artifact(tmp_path / "named otherwise", METADATA)
    own = ["adapter_config.json", "adapter_model.safetensors"]
    assert sent(server) == [*own, "latest/notes.txt", "more/notes.txt", "notes.txt"]


def in_cache(tmp_path: Path, adapter: Path) -> Path:
    """The same adapter as huggingface_hub keeps it; returns its snapshot."""
    model = tmp_path / "hub" / "models--someone--tuned"
    snapshot = model / "snapshots" / "0123abc"
    (snapshot / "more").mkdir(parents=True)
    (model / "blobs").mkdir()
    for number, name in enumerate(["adapter_config.json", "adapter_model.safetensors", "more/vocabulary.txt"]):
        blob = model / "blobs" / f"{number:040x}"
        source = adapter / name
        blob.write_bytes(source.read_bytes() if source.exists() else b"words")
        up = "../" * (2 + name.count("/"))
        (snapshot / name).symlink_to(f"{up}blobs/{blob.name}")
    return snapshot


async def test_a_snapshot_of_a_hugging_face_cache_is_uploaded(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path, tmp_path: Path
) -> None:
    await connector.upload_artifact(in_cache(tmp_path, adapter), METADATA)
    assert sent(server) == ["adapter_config.json", "adapter_model.safetensors", "more/vocabulary.txt"]


@pytest.mark.parametrize(
    "where", ["another model's blobs", "beside the blobs", "by way of a blob", "blobs are a link"]
)
async def test_a_link_out_of_the_cache_is_refused(
    connector: TogetherAIConnector,
    server: ScriptedTogether,
    adapter: Path,
    tmp_path: Path,
    private: Path,
    where: str,
) -> None:
    snapshot = in_cache(tmp_path, adapter)
    model = snapshot.parents[1]
    if where == "another model's blobs":
        other = tmp_path / "hub" / "models--else--private" / "blobs"
        other.mkdir(parents=True)
        (other / "f00").write_bytes(PRIVATE)
        (snapshot / "link").symlink_to(other / "f00")
    elif where == "beside the blobs":
        (model / "refs").write_bytes(PRIVATE)
        (snapshot / "link").symlink_to("../../refs")
    elif where == "by way of a blob":
        (model / "blobs" / "f00").symlink_to(private)
        (snapshot / "link").symlink_to("../../blobs/f00")
    else:
        shutil.rmtree(model / "blobs")
        (model / "blobs").symlink_to(private.parent)
        (snapshot / "adapter_config.json").unlink()
        (snapshot / "adapter_config.json").symlink_to("../../blobs/private.txt")
    with pytest.raises(TogetherAIInputError, match="is a link to"):
        await connector.upload_artifact(snapshot, METADATA)
    assert server.management.models == {}


@pytest.mark.parametrize("what", ["file", "folder", "pipe"])
def test_a_file_that_is_exchanged_after_the_check_is_not_read(adapter: Path, private: Path, what: str) -> None:
    (adapter / "inner").mkdir()
    (adapter / "inner" / "private.txt").write_bytes(b"my own")
    [file] = [file for file in folder_files(adapter) if file.path == "inner/private.txt"]
    if what == "folder":
        shutil.rmtree(adapter / "inner")
        (adapter / "inner").symlink_to(private.parent)
    else:
        (adapter / "inner" / "private.txt").unlink()
        if what == "pipe":
            os.mkfifo(adapter / "inner" / "private.txt")
        else:
            (adapter / "inner" / "private.txt").symlink_to(private)
    with pytest.raises(TogetherAIInputError, match=r"inner/private\.txt"):
        file.open()


async def test_a_file_that_is_exchanged_between_its_parts_ends_the_upload(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path, private: Path,
    limit: Callable[..., Limits],
) -> None:  # fmt: skip
    limit(part_bytes=1024, parts_at_once=1, first_retry=0.01)

    def exchange(_: UploadProgress) -> None:
        weights = adapter / "adapter_model.safetensors"
        if not weights.is_symlink():
            weights.unlink()
            weights.symlink_to(private)

    with pytest.raises(TogetherAIInputError, match=r"adapter_model\.safetensors in .* can't be read"):
        await connector.upload_artifact(adapter, METADATA, on_progress=exchange)


async def test_the_journal_is_neither_read_from_nor_written_to_what_is_no_file(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path, private: Path
) -> None:
    os.mkfifo(adapter / JOURNAL)
    (adapter / f"{JOURNAL}.new").symlink_to(private)
    async with asyncio.timeout(20):
        await connector.upload_artifact(adapter, METADATA)
    assert (await asyncio.to_thread(private.read_bytes)) == PRIVATE
    assert sent(server) == ["adapter_config.json", "adapter_model.safetensors"]


def test_folders_that_link_to_each_other_multiply_to_an_error_and_no_further(tmp_path: Path) -> None:
    for level in range(20):
        (tmp_path / "many" / str(level)).mkdir(parents=True)
        (tmp_path / "many" / str(level) / "file").write_text("x")
        for name in ("left", "right"):
            if level:
                (tmp_path / "many" / str(level) / name).symlink_to(tmp_path / "many" / str(level - 1))
    with pytest.raises(TogetherAIInputError, match="more than 10000 files"):
        folder_files(tmp_path / "many")
