"""Archives made to fill memory or disk, or to hide files, are refused in bounded memory, and leave nothing.

Each archive is imported by a process of its own, which reports the memory that it took beyond the interpreter's.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from real_runs import wait_for
from recorded_runs import ROOT

from ndrepro.execution.imports import run_import
from ndrepro.protocol.errors import UsageError
from provenance.attestation.trust import TrustPolicy

NOBODY = TrustPolicy(Path("none"), None, ())
MOST_MEMORY = 200 << 20

# one process for all archives, a fork for each: the peak of a fork begins at what it has
IMPORTER = """
import json, os, sys, time
from pathlib import Path
from ndrepro.execution.imports.run_import import import_runs
from provenance.attestation.trust import TrustPolicy
from provenance.errors import ProvenanceError
def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))
for number, file in enumerate(sys.argv[2:]):
    if os.fork() == 0:
        before, started = peak(), time.process_time()
        try:
            import_runs(Path(file), Path(sys.argv[1]), f"n{number}", TrustPolicy(Path("none"), None, ()))
            said = "imported"
        except ProvenanceError as error:
            said = f"{type(error).__name__}: {error.message}"
        answer = {"said": said, "memory": peak() - before, "seconds": time.process_time() - started}
        print(json.dumps(answer), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, file
"""


def tar_member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, size: int | None = None) -> bytes:
    """The blocks of one member; ``size`` is what its header claims."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, len(data) if size is None else size
    return member.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def gzipped(file: Path, *pieces: bytes) -> Path:
    with gzip.open(file, "wb", compresslevel=9) as stream:
        stream.writelines(pieces)
    return file


def long_pax(file: Path) -> Path:
    """The archive of the report: 815 kB, whose only pax header is 833 MB of one value."""
    length = 833 << 20
    start = tar_member("x", kind=tarfile.XHDTYPE, size=length) + b"%d comment=" % length
    file.write_bytes(gzip.compress(start) + gzip.compress(bytes(1 << 20)) * (length >> 20))
    return file


def long_gnu_name(file: Path) -> Path:
    return gzipped(file, tar_member("x", bytes(64 << 20), tarfile.GNUTYPE_LONGNAME), tar_member("x"))


def many_long_headers(file: Path) -> Path:
    """Every header is within the bound, and slow to read for older releases of tarfile."""
    header = tar_member("x", b"1" * 4096, tarfile.XHDTYPE)
    return gzipped(file, *(header + tar_member(str(number)) for number in range(2000)), bytes(1024))


def nested_headers(file: Path) -> Path:
    return gzipped(file, *[tar_member("x", b"y\0", tarfile.GNUTYPE_LONGNAME)] * 5000)


def sparse_map(file: Path) -> Path:
    member = bytearray(tar_member("x", kind=tarfile.GNUTYPE_SPARSE, size=0))
    member[482] = 1  # its map continues, in as many blocks as say so
    member[148:156] = b"%06o\0 " % sum([*member[:148], *b" " * 8, *member[156:]])
    block = b"00000000001\0" * 42 + b"\1" + bytes(7)
    return gzipped(file, bytes(member), block * 200_000)


def negative_size(file: Path) -> Path:
    return gzipped(file, tar_member("x", size=-1024), tar_member("y"), bytes(1024))


def many_folders(file: Path) -> Path:
    member = tar_member("d", kind=tarfile.DIRTYPE)
    return gzipped(file, *[member * 1000] * 101, bytes(1024))


def zeros_behind_the_end(file: Path) -> Path:
    return gzipped(file, tar_member("x"), *[bytes(1 << 20)] * 64)


def hidden_member(file: Path) -> Path:
    """Another reader, which ignores the end, would find one more file."""
    return gzipped(file, tar_member("x"), bytes(1024), tar_member("hidden"), bytes(1024))


def xz_dictionary(file: Path) -> Path:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    data = bytearray(lzma.compress(bytes(1 << 20), lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters))
    # the block's header: its size, flags, the filter's identifier and length, the dictionary's size, the checksum
    data[16] = 39  # 3 GiB
    length = (data[12] + 1) * 4
    data[12 + length - 4 : 12 + length] = struct.pack("<I", zlib.crc32(data[12 : 12 + length - 4]))
    file.write_bytes(data)
    return file


def zip_directory(file: Path, entry: bytes, count: int, before: bytes = b"") -> Path:
    directory = entry * count
    place = len(before)
    end = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), place)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, place + len(directory), 1)
    last = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    file.write_bytes(before + directory + end + locator + last)
    return file


def zip_entry(name: bytes, size: int, compressed: int, offset: int, crc: int = 0) -> bytes:
    head = struct.pack("<4s6H3I", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, crc, compressed, size)
    return head + struct.pack("<5H2I", len(name), 0, 0, 0, 0, 0, offset) + name


def local_entry(name: bytes, data: bytes, size: int) -> bytes:
    return struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 8, 0, 0, 0, len(data), size, len(name), 0) + name + data


def million_entries(file: Path) -> Path:
    return zip_directory(file, zip_entry(b"a", 0, 0, 0), 1_000_000, local_entry(b"a", b"", 0))


def overlapping_entries(file: Path) -> Path:
    """A thousand names for one piece of compressed zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packer.compress(bytes(1 << 20)) + packer.flush()
    local = local_entry(b"a", data, 1 << 20)
    entries = b"".join(zip_entry(b"%04d" % number, 1 << 20, len(data), 0) for number in range(1000))
    return zip_directory(file, entries, 1, local)


def zip_of(file: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def ratio(file: Path) -> Path:
    return zip_of(file, zeros=bytes(64 << 20), more=bytes(1 << 20))


def long_name(file: Path) -> Path:
    return zip_of(file, **{"a" * 65_000: b""})


def deep_path(file: Path) -> Path:
    return zip_of(file, **{"d/" * 5000 + "f": b""})


def huge_manifest(file: Path) -> Path:
    """A list of lists takes a hundredfold of its text once it is parsed."""
    return zip_of(file, **{"runs/x/y/manifest.dsse.json": b'{"payload": [' + b"[]," * (10 << 20) + b"[]]}"})


BOMBS: dict[Callable[[Path], Path], str] = {
    long_pax: "headers of over",
    long_gnu_name: "headers of over",
    many_long_headers: "headers of over",
    nested_headers: "headers of over",
    sparse_map: "headers of over",
    negative_size: "",
    many_folders: "more than 100000 files",
    zeros_behind_the_end: "behind its end",
    hidden_member: "behind its end",
    xz_dictionary: "Memory usage limit",
    million_entries: "directory is larger",
    overlapping_entries: "shares bytes",
    ratio: "no manifest",
    long_name: "longer or deeper",
    deep_path: "longer or deeper",
    huge_manifest: "imported nothing",
}


def imported(into: Path, *files: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTER, str(into), *map(str, files)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_bombs_are_refused_in_bounded_memory_and_leave_nothing(tmp_path: Path) -> None:
    files = [make(tmp_path / f"{make.__name__}.bin") for make in BOMBS]
    into = tmp_path / "imported"
    answers = imported(into, *files)
    assert len(answers) == len(BOMBS)
    print(f"\n{'archive':<24}{'kB':>7}{'MiB taken':>11}{'CPU s':>7}  answer")
    for (make, expected), file, answer in zip(BOMBS.items(), files, answers, strict=True):
        size, memory = file.stat().st_size / 1e3, answer["memory"] / (1 << 20)
        print(f"{make.__name__:<24}{size:>7.0f}{memory:>11.1f}{answer['seconds']:>7.2f}  {answer['said'][:60]}")
        if expected == "imported nothing":
            assert answer["said"] == "imported"
        else:
            assert answer["said"].startswith(("UsageError", "StorageError")) and expected in answer["said"]
        assert answer["memory"] < MOST_MEMORY, make.__name__
    assert list(into.iterdir()) == []


def test_the_measure_sees_memory(tmp_path: Path) -> None:
    """The control: what tarfile alone takes for a pax header a tenth as long."""
    file = gzipped(tmp_path / "x.gz", tar_member("x", bytes(80 << 20), tarfile.XHDTYPE), tar_member("y"))
    program = (
        IMPORTER.replace(
            "from ndrepro.execution.imports.run_import import import_runs",
            "import tarfile\ndef import_runs(file, *rest):\n    tarfile.open(file).getnames()",
        )
        .replace("except ProvenanceError", "except Exception")
        .replace("error.message", "error")
    )
    done = subprocess.run([sys.executable, "-c", program, "-", str(file)], capture_output=True, text=True, cwd=ROOT)
    assert json.loads(done.stdout)["memory"] > 80 << 20, done.stderr


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("A/x", "a/y"), "in another spelling"),
        (("a/X", "a/x"), "in another spelling"),
        (("caf\u00e9", "cafe\u0301"), "in another spelling"),
        (("a\udc80b",), "not UTF-8"),
        (("a/../../b",), "leads out"),
    ],
)
def test_names_that_a_file_system_may_take_for_one_are_refused(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    file = tmp_path / "names.tar"
    with tarfile.open(file, "w", errors="surrogateescape") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(UsageError, match=said):
        run_import.import_runs(file, tmp_path / "into", "theirs", NOBODY)


def test_a_pipe_in_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    os.mkfifo(tmp_path / "runs" / "metrics.jsonl")
    for source in (tmp_path / "runs", tmp_path / "runs" / "metrics.jsonl"):
        with pytest.raises(UsageError, match=r"pipe|regular"):
            run_import.import_runs(source, tmp_path / "into", "theirs", NOBODY)


def test_an_import_that_is_killed_leaves_nothing_for_the_next(tmp_path: Path) -> None:
    into, big = tmp_path / "imported", tmp_path / "big"
    big.mkdir()
    with (big / "zeros").open("wb") as file:
        file.truncate(1 << 40)  # no blocks on the disk; its copy would take minutes
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORTER, str(into), str(big)], env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: list(into.glob(".import-*/runs/zeros")), process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    left = list(into.iterdir())
    assert len(left) == 1 and left[0].name.startswith(".import-")
    wait_for(lambda: not _held(left[0]))
    with pytest.raises(UsageError, match="no manifest"):
        run_import.import_runs(zip_of(tmp_path / "empty.zip", a=b""), into, "theirs", NOBODY)
    assert list(into.iterdir()) == []


def _held(folder: Path) -> bool:
    """Whether the killed process still has the folder's lock; its end takes a moment."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_an_import_under_way_is_left_alone(tmp_path: Path) -> None:
    with run_import._scratch_folder(tmp_path) as first, run_import._scratch_folder(tmp_path) as second:
        assert first.is_dir() and second.is_dir() and first != second
    assert not list(tmp_path.iterdir())


def test_files_that_no_manifest_lists_stay_out_and_are_named(tmp_path: Path) -> None:
    kept = ROOT / "docs" / "runs"
    run = next(path.parent for path in sorted(kept.glob("*/manifest.dsse.json")))
    shutil.copytree(run, tmp_path / "theirs" / "runs" / "exp" / "run")
    for name in ("sitecustomize.py", "exp/run/metrics.pyc", "exp/evil.so", "verdicts/x.sh", ".data"):
        place = tmp_path / "theirs" / "runs" / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"x")
    trust = TrustPolicy.from_files(sorted(kept.rglob("author.pub")))
    found = run_import.import_runs(tmp_path / "theirs", tmp_path / "into", "theirs", trust)
    assert found.folder is not None and [run.taken for run in found.runs] == [True]
    unlisted = ("sitecustomize.py", "exp/run/author.pub", "exp/run/metrics.pyc", "exp/evil.so", "verdicts/x.sh")
    assert set(found.unlisted) == {f"runs/{name}" for name in unlisted}
    names = {path.name for path in found.folder.rglob("*") if path.is_file()}
    assert "manifest.dsse.json" in names and not names & {"sitecustomize.py", "metrics.pyc", "evil.so", "x.sh", ".data"}
