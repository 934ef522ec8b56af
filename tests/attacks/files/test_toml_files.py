"""Files of TOML that would stop their reader: every one ends in an error of this project, with the file and a hint."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ndrepro.analysis.audit.published_tables import claims_document
from ndrepro.analysis.results.policy_checks import load_policy
from ndrepro.checklists.checklist_files import configurations
from ndrepro.checklists.checklist_sources import Sources
from ndrepro.execution.slurm.profile import find_profile
from ndrepro.execution.studies.study_file import load_study
from provenance.errors import NotFoundError, StorageError, UsageError
from provenance.toml_file import TOML_BYTES, parse_toml, read_toml

READERS: dict[str, Callable[[Path], object]] = {
    "study": load_study,
    "profile": lambda path: find_profile(str(path), path.parent),
    "policy": load_policy,
    "claims": claims_document,
}
HOSTILE = {
    "no TOML": (b"a = ", "Invalid value"),
    "no UTF-8": (b"\xff\xfe", "can't decode byte 0xff"),
    "long number": (b"x = 1" + b"0" * 5000, "a number of more than 4300 digits"),
    "deep arrays": (b"x = " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
    "deep tables": (b"x = " + b"{a = " * 5000 + b"1" + b"}" * 5000, "nested too deeply"),
    "long key": (b"a ." * 30000 + b"a = 1", "a key of more than 100 parts"),
    "long quoted key": (b'[' + b'"a".' * 30000 + b"'a']", "a key of more than 100 parts"),
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("reader", READERS)
def test_hostile_text_is_a_usage_error(tmp_path: Path, reader: str, text: str) -> None:
    path, (data, reason) = tmp_path / "file.toml", HOSTILE[text]
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        READERS[reader](path)
    assert caught.value.message.startswith(f"{path}: not TOML: ") and reason in caught.value.message
    assert len(caught.value.message) < len(str(path)) + 200 and caught.value.cure


@pytest.mark.parametrize("reader", READERS)
def test_a_file_of_any_size_or_kind_is_read_no_further_than_the_bound(tmp_path: Path, reader: str) -> None:
    endless, large = tmp_path / "endless.toml", tmp_path / "large.toml"
    endless.symlink_to("/dev/zero")
    with large.open("wb") as stream:
        os.truncate(stream.fileno(), 1 << 40)
    for path in (endless, large, tmp_path):
        with pytest.raises(StorageError) as caught:
            READERS[reader](path)
        assert str(path) in caught.value.message


def test_a_fifo_is_waited_for_only_where_pipes_may_be(tmp_path: Path) -> None:
    path = tmp_path / "fifo.toml"
    os.mkfifo(path)
    for reader in ("study", "profile", "claims"):
        with pytest.raises(StorageError, match="not a regular file"):
            READERS[reader](path)


def test_a_file_up_to_the_bound_is_read_and_none_is_not_found(tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    path.write_bytes(b"a.b = 1\n" + b"#" * (TOML_BYTES - 8))
    assert read_toml(path, "an example") == {"a": {"b": 1}}
    with pytest.raises(NotFoundError, match=r"none\.toml: no such file"):
        read_toml(tmp_path / "none.toml", "an example")


def test_keys_texts_and_numbers_of_many_parts_that_harm_nobody_are_read() -> None:
    key, numbers = ".".join("a" * 100), [n + 0.5 for n in range(300)]
    assert parse_toml(f"{key} = 1") and parse_toml(f"x = {numbers}") == {"x": numbers}
    assert parse_toml('x = "' + "An end. " * 300 + '"')


@pytest.mark.parametrize("text", HOSTILE)
def test_a_repository_that_holds_one_is_checked_all_the_same(tmp_path: Path, text: str) -> None:
    for name in ("pyproject.toml", "settings.toml"):
        (tmp_path / name).write_bytes(b"epochs = 1\n" + HOSTILE[text][0])
    (tmp_path / "other.toml").write_text("epochs = 1\n")
    sources = Sources(tmp_path)
    assert sources.commands == frozenset()
    assert [found.place for found in configurations(sources)] == ["other.toml"]


@pytest.mark.parametrize("text", ["project = 1", "[project]\nscripts = 1", "[[project]]"])
def test_a_project_of_another_kind_has_no_commands(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert Sources(tmp_path).commands == frozenset()
