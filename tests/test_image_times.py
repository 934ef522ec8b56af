"""The times in an image that docker's classic store built: the commit's at the latest, the base image untouched."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from image_times import with_times

from ndrepro.execution.containers.image_archive import ImageArchive

SECONDS = 1_714_557_600
STAMP = "2024-05-01T10:00:00Z"


def layer(name: str, mtime: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        folder = tarfile.TarInfo("made")
        folder.type, folder.mtime = tarfile.DIRTYPE, mtime
        archive.addfile(folder)
        info = tarfile.TarInfo(f"made/{name}")
        info.size, info.mtime, info.mode, info.pax_headers = 1, mtime, 0o640, {"SCHILY.xattr.user.a": "b"}
        archive.addfile(info, io.BytesIO(b"x"))
        link = tarfile.TarInfo("made/link")
        link.type, link.linkname, link.mtime = tarfile.LNKTYPE, f"made/{name}", mtime
        archive.addfile(link)
    return stream.getvalue()


def saved(path: Path, base: bytes, built: bytes) -> Path:
    """What `docker save` writes of an image of two layers."""
    layers = {f"blobs/sha256/{hashlib.sha256(data).hexdigest()}": data for data in (base, built)}
    history = [{"created": "2026-01-01T00:00:00Z"}, {"created": STAMP}, {"created": STAMP, "empty_layer": True}]
    diffs = [f"sha256:{Path(name).name}" for name in layers]
    config = json.dumps({"history": history, "rootfs": {"type": "layers", "diff_ids": diffs}}).encode()
    entry = {"Config": "config.json", "RepoTags": ["small:1"], "Layers": list(layers)}
    with tarfile.open(path, "w") as archive:
        for name, data in {**layers, "config.json": config, "manifest.json": json.dumps([entry]).encode()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def configuration(path: Path) -> str:
    return ImageArchive.read(path).configuration


def layers_of(path: Path) -> list[list[tarfile.TarInfo]]:
    with tarfile.open(path) as archive:
        content: Any = archive.extractfile("manifest.json")
        (entry,) = json.load(content)
        return [tarfile.open(fileobj=archive.extractfile(name)).getmembers() for name in entry["Layers"]]


def test_builds_that_differ_in_their_times_become_one_image(tmp_path: Path) -> None:
    base = layer("base", SECONDS + 50)
    first = saved(tmp_path / "1.tar", base, layer("f", SECONDS + 1000))
    again = saved(tmp_path / "2.tar", base, layer("f", SECONDS + 2000))
    assert configuration(first) != configuration(again), "the control"
    for number, source in enumerate((first, again)):
        with_times(source, tmp_path / f"{number}.out", SECONDS)
    assert configuration(tmp_path / "0.out") == configuration(tmp_path / "1.out")
    assert ImageArchive.read(tmp_path / "0.out").digests == {configuration(tmp_path / "0.out")}
    kept, built = layers_of(tmp_path / "0.out")
    assert {member.mtime for member in kept} == {SECONDS + 50}, "the base image's layer is as it was"
    assert {member.mtime for member in built} == {SECONDS}
    assert [(member.name, member.mode, member.linkname) for member in built][1:] == [
        ("made/f", 0o640, ""),
        ("made/link", 0o644, "made/f"),
    ]
    assert built[1].pax_headers == {"SCHILY.xattr.user.a": "b"}
    other = saved(tmp_path / "3.tar", base, layer("g", SECONDS))
    with_times(other, tmp_path / "3.out", SECONDS)
    assert configuration(tmp_path / "3.out") != configuration(tmp_path / "0.out")
