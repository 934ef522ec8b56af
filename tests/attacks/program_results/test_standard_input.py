"""A program that reads a file by its standard input is given the same file again, and no other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from strange_programs import CONFINED, Stranger, manifest_of, statuses

from ndrepro.api import Reproduction
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import ProgramRecord

SUMS = "import sys; open('out.txt', 'w').write(str(sum(map(int, sys.stdin))))"
OPENS = "import sys; open('out.txt', 'w').write(str(sum(map(int, open(sys.argv[1])))))"
OVERWRITES = f"""
import os
{SUMS}
try:
    with open('/proc/self/fd/0', 'r+') as given:
        given.write('9')
except OSError:
    pass
"""
LOST = "its standard input was a file, and is empty now"


@contextmanager
def reading(path: Path, start: int = 0) -> Iterator[None]:
    """Have this process's standard input from a file, for a while."""
    before, given = os.dup(0), os.open(path, os.O_RDONLY)
    os.lseek(given, start, os.SEEK_SET)
    try:
        os.dup2(given, 0)
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(given)


def record(author: Stranger, path: Path, start: int = 0) -> RunFolder:
    with reading(path, start):
        return author.record(outputs=("out.txt",))


def evidence(found: Reproduction, name: str) -> str:
    return next(claim.evidence for claim in found.claims if claim.name == name)


@pytest.fixture
def author(tmp_path: Path) -> Stranger:
    return Stranger.make(tmp_path / "a", {"train.py": SUMS, "numbers.txt": "1\n2\n", "others.txt": "5\n"})


def test_the_committed_file_is_read_again_and_named(author: Stranger) -> None:
    """Before: standard input was empty, and the result another one."""
    found = author.reproduce(record(author, author.root / "numbers.txt"))
    assert found.verdict == "identical", found.judgements[0].because
    assert "standard input: " in evidence(found, "recorded code") and "numbers.txt" in evidence(found, "recorded code")
    assert LOST not in evidence(found, "outputs computed")


@pytest.mark.skipif(not CONFINED, reason="no sandbox here")
def test_a_file_elsewhere_is_given_as_a_copy_that_nobody_misses(tmp_path: Path) -> None:
    """An open file can be opened again for writing, whatever the sandbox says of its path."""
    author = Stranger.make(tmp_path / "a", {"train.py": OVERWRITES})
    numbers = tmp_path / "data" / "numbers.txt"
    numbers.parent.mkdir()
    numbers.write_text("1\n2\n")
    numbers.chmod(0o444)
    run = record(author, numbers)
    numbers.write_text("1\n2\n")
    found = author.reproduce(run, data=numbers.parent)
    assert evidence(found, "outputs computed") and LOST not in evidence(found, "outputs computed")
    assert numbers.read_text() == "1\n2\n"


@pytest.mark.skipif(not CONFINED, reason="no sandbox here")
@pytest.mark.parametrize("word", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
@pytest.mark.parametrize("committed", [True, False])
def test_a_word_that_means_standard_input_is_no_file_of_its_own(tmp_path: Path, word: str, *, committed: bool) -> None:
    """Before: undecided, since nothing of the reviewer's is shown at /dev/stdin."""
    author = Stranger.make(tmp_path / "a", {"train.py": OPENS} | ({"numbers.txt": "1\n2\n"} if committed else {}))
    numbers = (author.root if committed else tmp_path) / "numbers.txt"
    numbers.write_text("1\n2\n")
    with reading(numbers):
        run = author.record(sys.executable, "train.py", word, outputs=("out.txt",))
    assert {(file.path, file.how) for file in ProgramRecord.of(manifest_of(run)).inputs} == {
        ("train.py", "command"),
        (str(numbers), "standard input"),
    }
    found = author.reproduce(run)
    assert found.verdict == "identical", found.judgements[0].because
    assert statuses(found)["inputs"] == "checked"
    numbers.write_text("3\n4\n")
    if not committed:
        found = author.reproduce(run)
        assert found.verdict == "undecided" and LOST in evidence(found, "outputs computed")


def test_an_open_file_of_the_recorder_is_no_input(author: Stranger) -> None:
    """``/dev/fd/N`` is another file to each process that asks."""
    with open(author.root / "others.txt") as other:
        word = f"/dev/fd/{other.fileno()}"
        run = author.record(sys.executable, "train.py", word, f"/proc/self/fd/{other.fileno()}", outputs=("out.txt",))
    assert {file.path for file in ProgramRecord.of(manifest_of(run)).inputs} == {"train.py"}


def test_another_file_of_that_name_is_not_given(author: Stranger, tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.txt"
    numbers.write_text("1\n2\n")
    run = record(author, numbers)
    numbers.write_text("3\n4\n")
    found = author.reproduce(run)
    assert found.verdict == "undecided" and LOST in evidence(found, "outputs computed")


def test_a_file_that_was_read_in_part_is_not_given(author: Stranger) -> None:
    """As in ``{ read line; python train.py; } < numbers.txt``: which part it had is not known from the digest."""
    run = record(author, author.root / "numbers.txt", start=2)
    (given,) = (file for file in ProgramRecord.of(manifest_of(run)).inputs if file.how == "standard input")
    assert given.sha256 is None and given.reason == "read from byte 2 on"
    found = author.reproduce(run)
    assert found.verdict == "undecided" and LOST in evidence(found, "outputs computed")


def test_two_standard_inputs_are_none(author: Stranger) -> None:
    """Which of them would be given is not the author's choice."""
    run = record(author, author.root / "numbers.txt")
    author.claim_inputs(
        run, lambda files: [*files, *(replace_path(file) for file in files if file["how"] == "standard input")]
    )
    found = author.reproduce(run)
    assert found.verdict == "undecided" and LOST in evidence(found, "outputs computed")


def replace_path(file: dict[str, object]) -> dict[str, object]:
    from provenance.formats.digest import bytes_digest

    return {**file, "path": "others.txt", "size": 2, "sha256": bytes_digest(b"5\n")}
