"""Small files are read within bounds, whatever they are."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from provenance.errors import StorageError
from provenance.formats.bounded_read import SMALL_BYTES, read_small


def test_a_file_of_up_to_64_kib_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for data in (b"", b"a\n", b"x" * SMALL_BYTES):
        file.write_bytes(data)
        assert read_small(file) == data
    file.write_bytes(b"x" * (SMALL_BYTES + 1))
    with pytest.raises(StorageError, match="more than 65536 bytes"):
        read_small(file)
    with pytest.raises(FileNotFoundError):
        read_small(tmp_path / "none")


def test_a_pipe_is_read_where_a_user_may_name_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(StorageError, match="not a regular file"):
        read_small(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"key",))
    writer.start()
    assert read_small(pipe, pipes=True) == b"key"
    writer.join()


@pytest.mark.parametrize("kind", ["folder", "device", "loop"])
def test_anything_else_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    for pipes in (False, True):
        with pytest.raises(StorageError, match="x: cannot be read"):
            read_small(path, pipes=pipes)
