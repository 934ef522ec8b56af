"""Digests: the same as sha256sum's, and an error when a file moves under the reader."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provenance.errors import DigestError
from provenance.formats.digest import FileDigest, bytes_digest, file_digest, listing, tree_digest

NAMES = ["plain.txt", "two words", "new\nline", "back\\slash", "carriage\rreturn", "tab\tbed", "žluťoučký 馬", "a/b"]


@pytest.mark.parametrize("size", [0, 1, 4095, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 3 << 18])
def test_size_and_digest_are_those_of_the_bytes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    assert file_digest(tmp_path / "file") == FileDigest(size, hashlib.sha256(data).hexdigest())
    assert bytes_digest(data) == hashlib.sha256(data).hexdigest()


LARGE = 1 << 24


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1, LARGE + (1 << 21)])
def test_a_large_file_of_which_pieces_are_read_ahead_has_the_digest_of_its_bytes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    assert file_digest(tmp_path / "file") == FileDigest(size, hashlib.sha256(data).hexdigest())


def test_an_error_or_a_stop_while_a_large_file_is_read_ends_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(LARGE + 1))
    threads, read = threading.active_count(), os.readv
    for raised, expected in ((OSError(5, "Input/output error"), DigestError), (KeyboardInterrupt(), KeyboardInterrupt)):
        pieces = 0

        def fails_at_the_third(descriptor: int, buffers: tuple[bytearray], raised: BaseException = raised) -> int:
            nonlocal pieces
            pieces += 1
            if pieces == 3:
                raise raised
            return read(descriptor, buffers)

        monkeypatch.setattr(os, "readv", fails_at_the_third)
        with pytest.raises(expected):
            file_digest(path)
        assert pieces == 3 and threading.active_count() == threads
    monkeypatch.setattr(os, "readv", read)
    os.truncate(path, LARGE)
    assert file_digest(path).size == LARGE, "the control"


@pytest.mark.parametrize("size", [1 << 20, LARGE])
def test_a_file_that_grows_under_the_reader_has_no_digest(tmp_path: Path, size: int) -> None:
    path = tmp_path / "growing"
    path.write_bytes(bytes(size))
    file_digest(path)  # the control: while nobody writes, it has one
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as stream:
            while not stop.is_set() and stream.tell() < 1 << 28:
                stream.write(bytes(4096))

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        with pytest.raises(DigestError, match="changed while it was read"):
            for _ in range(100):
                file_digest(path)
    finally:
        stop.set()
        writer.join()


def test_a_file_that_is_replaced_or_removed_under_the_reader_has_no_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader is stopped between its last byte and its second look; the file system does the rest for real."""
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"same size")
    other.write_bytes(b"SAME SIZE")
    look = os.stat
    for happens, what in ((lambda: os.replace(other, path), "changed"), (lambda: path.unlink(), "vanished")):
        looks = [False, True]  # the first look is before the file is opened

        def second_look(
            *arguments: object, happens: object = happens, looks: list[bool] = looks, **options: object
        ) -> os.stat_result:
            if looks.pop():
                return look(*arguments, **options)  # type: ignore[arg-type]
            monkeypatch.setattr(os, "stat", look)
            happens()  # type: ignore[operator]
            return look(*arguments, **options)  # type: ignore[arg-type]

        file_digest(path)
        monkeypatch.setattr(os, "stat", second_look)
        with pytest.raises(DigestError, match=f"{what} while it was read"):
            file_digest(path)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "target").write_bytes(b"x")
    (tmp_path / "link").symlink_to("target")
    for name in ("pipe", "missing", "."):
        with pytest.raises(DigestError, match=str(tmp_path)):
            file_digest(tmp_path / name)
    assert file_digest(tmp_path / "link") == file_digest(tmp_path / "target")
    with pytest.raises(DigestError):
        file_digest(tmp_path / "link", follow_symlinks=False)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not on the PATH")
def test_sha256sum_accepts_the_listing_and_writes_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in NAMES:
        (tmp_path / name).write_bytes(os.urandom(20))
    text = listing((name, file_digest(tmp_path / name)) for name in NAMES)
    ordered = sorted(NAMES, key=lambda name: name.encode())
    made = subprocess.run(["sha256sum", "--", *ordered], cwd=tmp_path, capture_output=True, check=True).stdout
    assert text.encode() == made
    check = ["sha256sum", "--check", "--strict", "--quiet", "-"]
    assert subprocess.run(check, cwd=tmp_path, input=text.encode(), check=False).returncode == 0
    (tmp_path / "two words").write_bytes(b"changed")  # the control
    assert subprocess.run(check, cwd=tmp_path, input=text.encode(), capture_output=True, check=False).returncode == 1


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 2**40), min_size=2, max_size=6), st.randoms())
def test_a_tree_has_one_digest_whatever_the_order(sizes: dict[str, int], random: object) -> None:
    sizes = {name.encode("utf-8", "replace").decode(): size for name, size in sizes.items()}
    entries = [(name, FileDigest(size, bytes_digest(name.encode()))) for name, size in sizes.items()]
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert tree_digest(shuffled) == tree_digest(entries)
    renamed = [(entries[0][0] + "x", entries[0][1]), *entries[1:]]
    if renamed[0][0] not in sizes:
        assert tree_digest(renamed) != tree_digest(entries)


def test_a_name_that_comes_twice_is_refused() -> None:
    entry = ("name", FileDigest(0, bytes_digest(b"")))
    with pytest.raises(DigestError, match="name: listed twice"):
        listing([entry, ("other", entry[1]), entry])


def test_names_that_are_not_utf8_survive() -> None:
    name = os.fsdecode(b"caf\xe9")
    text = listing([(name, FileDigest(0, bytes_digest(b"")))])
    assert text.encode("utf-8", "surrogateescape").endswith(b"  caf\xe9\n")
    assert len(tree_digest([(name, FileDigest(0, bytes_digest(b"")))])) == 64
