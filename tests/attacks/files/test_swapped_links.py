"""A folder that is imported is shared with its author, who puts links in the place of files while they are copied."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import pytest

from ndrepro.execution.imports import archive
from ndrepro.execution.imports.archive import UnpackedFolder, unpack


@pytest.mark.parametrize("where", ["file", "folder"])
def test_a_link_that_takes_the_place_of_what_was_listed_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Before, the file that it leads to was copied among the runs."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "z.txt").write_text("a secret")
    source = tmp_path / "runs"
    (source / "folder").mkdir(parents=True)
    for name in ("folder/a.txt", "folder/z.txt"):
        (source / name).write_text("a run's")
    write = UnpackedFolder.write

    def exchanging(folder: UnpackedFolder, stream: IO[bytes], name: str) -> None:
        if name.endswith("a.txt"):
            (source / "folder").rename(source / "away")
            (source / "folder").symlink_to(tmp_path / "private" if where == "folder" else source / "away")
            if where == "file":
                (source / "folder").unlink()
                (source / "away").rename(source / "folder")
                (source / "folder/z.txt").unlink()
                (source / "folder/z.txt").symlink_to(tmp_path / "private/z.txt")
        write(folder, stream, name)

    monkeypatch.setattr(archive.UnpackedFolder, "write", exchanging)
    with pytest.raises(OSError, match=r"symbolic link|no folder of its own"):
        unpack(source, tmp_path / "there")
    assert not any("secret" in path.read_text() for path in (tmp_path / "there").rglob("*.txt"))
