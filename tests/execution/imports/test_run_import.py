"""Archives made to harm are refused in words, and nothing of them stays."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from ndrepro.execution.imports import archive, run_import
from ndrepro.protocol.errors import UsageError
from provenance.attestation.trust import TrustPolicy
from provenance.errors import StorageError

NOBODY = TrustPolicy(Path("none"), None, ())


def tar(file: Path, kind: str, **members: bytes) -> Path:
    with tarfile.open(file, f"w:{kind}") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file


def import_of(file: Path) -> run_import.Imported:
    """The import of one archive; whatever it answers, nothing unpacked is left behind."""
    into = file.parent / "imported"
    try:
        return run_import.import_runs(file, into, "theirs", NOBODY)
    finally:
        assert not list(into.glob(".*"))


def damaged(file: Path, at: int) -> Path:
    data = bytearray(file.read_bytes())
    data[at : at + 20] = bytes(20)
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
def test_a_small_archive_does_not_fill_the_disk(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tar(tmp_path / "bomb.tar", kind, zeros=bytes(4 << 20))
    with pytest.raises(UsageError, match=r"no manifest\.dsse\.json"):
        import_of(file)  # the control: 4 MiB are within what anybody may send
    monkeypatch.setattr(archive, "_LEAST_BYTES", 1 << 20)
    with pytest.raises(UsageError, match="over 100 times its size"):
        import_of(file)


def test_members_are_counted_be_they_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "many.tar"
    with tarfile.open(file, "w") as packed:
        for number in range(4):
            member = tarfile.TarInfo(str(number))
            member.type = tarfile.DIRTYPE
            packed.addfile(member)
    for most, said in ((4, "no manifest"), (3, "more than")):
        monkeypatch.setattr(archive, "_MOST_FILES", most)
        with pytest.raises(UsageError, match=said):
            import_of(file)


@pytest.mark.parametrize(("place", "said"), [(".slurm/mini", r"no manifest\.dsse\.json"), ("lenet", "link")])
def test_links_that_a_study_under_slurm_left_are_passed_over_and_others_are_not(
    tmp_path: Path, place: str, said: str
) -> None:
    folder = tmp_path / "runs" / place
    folder.mkdir(parents=True)
    (folder / "script.sh").symlink_to("elsewhere.sh")
    (tmp_path / "runs" / "file").touch()
    with tarfile.open(tmp_path / "runs.tar", "w") as packed:
        packed.add(tmp_path / "runs", "runs")
    for source in (tmp_path / "runs", tmp_path / "runs.tar"):
        with pytest.raises(UsageError, match=said):
            import_of(source)


def test_a_file_that_is_there_twice_or_is_a_folder_too_is_named(tmp_path: Path) -> None:
    twice = tmp_path / "twice.tar"
    for names in (("a", "a"), ("a", "a/b"), ("a/b", "a")):
        with tarfile.open(twice, "w") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(name))
        with pytest.raises(UsageError, match=f"'{names[1]}' is in the archive twice"):
            import_of(twice)


def test_a_damaged_archive_is_said_whatever_its_compression(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    xz = damaged(tar(tmp_path / "torn.tar.xz", "xz", a=content), 400)
    zips = {}
    for name, method in (("deflated", zipfile.ZIP_DEFLATED), ("lzma", zipfile.ZIP_LZMA)):
        zips[name] = tmp_path / f"{name}.zip"
        with zipfile.ZipFile(zips[name], "w", method) as archive:
            archive.writestr("a", content)
    with pytest.raises(UsageError, match=r"no manifest\.dsse\.json"):
        import_of(zips["deflated"])  # the control: it is whole
    for file in (xz, *(damaged(path, 60) for path in zips.values())):
        with pytest.raises(StorageError, match="cannot be read"):
            import_of(file)


def test_an_encrypted_archive_is_said(tmp_path: Path) -> None:
    file = tmp_path / "secret.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"text")
    data = bytearray(file.read_bytes())
    data[6] |= 1  # the flag, in the member's header and in the directory
    data[data.find(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(data)
    with pytest.raises(StorageError, match="encrypted"):
        import_of(file)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a"])
def test_a_name_is_one_word_whatever_is_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="expected one word"):
        run_import.import_runs(tmp_path, tmp_path, name, NOBODY)
    with pytest.raises(UsageError, match="no manifest"):
        run_import.import_runs(tar(tmp_path / "x.tar", ""), tmp_path / "into", "word", NOBODY)  # the control


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "into").touch()
    with pytest.raises(UsageError, match="into: a file, expected a folder"):
        run_import.import_runs(tar(tmp_path / "x.tar", ""), tmp_path / "into", "word", NOBODY)
