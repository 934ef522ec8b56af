"""What is kept of an image: a file of another image, or an archive with names, is not taken for it."""

import io
import json
import os
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from real_runs import Bench
from small_studies import write_study
from stand_in_engine import write_engine, write_image

from ndrepro.execution.containers.engines import ContainerChoice
from ndrepro.execution.containers.image_archive import ImageArchive, _expect, find_kept, keep
from ndrepro.execution.studies.kept_images import keep_images
from ndrepro.execution.studies.plan import make_plan
from ndrepro.execution.studies.study_file import load_study
from ndrepro.protocol.errors import EngineError, UsageError
from ndrepro.protocol.image_reference import PinnedImage
from ndrepro.protocol.study.study import inside
from provenance.formats.digest import bytes_digest


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PinnedImage:
    monkeypatch.setenv("PATH", f"{write_engine(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    return write_image(tmp_path / "image.sif")


def test_an_image_file_is_found_where_it_is_kept_and_nothing_else_is(bench: Bench, pinned: PinnedImage) -> None:
    study = load_study(write_study(bench.root, '[grids.main]\naxes.method = ["bn"]'))
    with pytest.raises(UsageError, match="no run of mini is in a container image"):
        keep_images(make_plan(study, [], bench.options), bench.options)
    plan = make_plan(inside(study, pinned), [], bench.options)
    (kept,) = keep_images(plan, bench.options)
    folder = bench.options.runs.images
    assert kept == folder / f"{pinned.digest.removeprefix('sha256:')}.sif" == keep(pinned, folder, bench.options.home)
    wanted = ContainerChoice("apptainer", pinned.image, frozenset({pinned.digest}))
    assert find_kept(wanted, "cpu", [folder]).image == pinned.image
    Path(pinned.image).unlink()
    assert find_kept(wanted, "cpu", [bench.root, folder]).image == str(kept)
    with pytest.raises(EngineError, match="no such image file") as missing:
        find_kept(replace(wanted, digests=frozenset({f"sha256:{'0' * 64}"})), "cpu", [folder])
    assert str(folder) in missing.value.cure
    for words in (["init", "-q"], ["add", "--force", str(kept)]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    with pytest.raises(EngineError, match="no such image file"):  # it came with a clone
        find_kept(wanted, "cpu", [folder])
    (folder / ".git" / "index").unlink()
    kept.write_bytes(b"damaged")
    with pytest.raises(EngineError, match="no such image file"):
        find_kept(wanted, "cpu", [folder])


def write_archive(path: Path, **members: object) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_an_archive_says_what_it_is_and_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    entry = {"Config": "config.json", "RepoTags": ["a:1"], "Layers": []}
    configuration = f"sha256:{bytes_digest(b'{}')}"
    manifest = {"config": {"digest": configuration}}
    digest = bytes_digest(json.dumps(manifest).encode())
    index = {"manifests": [{"digest": f"sha256:{digest}", "annotations": {"io.containerd.image.name": "b:1"}}]}
    members = {"manifest_json": [entry], "config_json": {}, "index_json": index, f"blobs/sha256/{digest}": manifest}
    right = write_archive(tmp_path / "right.tar", **members)
    found = ImageArchive.read(right)
    assert found == ImageArchive(configuration, frozenset({f"sha256:{digest}"}), ("a:1", "b:1"))
    for number, members in enumerate(
        ({}, {"manifest_json": []}, {"manifest_json": [entry, entry]}, {"manifest_json": [entry]}, {"manifest_json": 1})
    ):
        with pytest.raises(EngineError, match="no archive of one image"):
            ImageArchive.read(write_archive(tmp_path / f"{number}.tar", **members))
    (tmp_path / "text").write_text("no archive", encoding="utf-8")
    for path in (tmp_path / "text", tmp_path / "nowhere"):
        with pytest.raises(EngineError, match="no archive of one image"):
            ImageArchive.read(path)


CONFIGURATION, OTHER = b'{"architecture":"amd64"}', b'{"architecture":"other"}'
TAG = "docker.io/library/python:3.11"


def described(configuration: bytes, *tags: str) -> bytes:
    return json.dumps([{"Config": name_of(configuration), "RepoTags": list(tags) or None, "Layers": []}]).encode()


def name_of(configuration: bytes) -> str:
    return f"{bytes_digest(configuration)}.json"


def indexed(digest: str, **annotations: str) -> bytes:
    return json.dumps({"manifests": [{"digest": digest, "annotations": annotations}]}).encode()


OF_ITS_OWN = (("manifest.json", described(CONFIGURATION)), (name_of(CONFIGURATION), CONFIGURATION))
OF_ANOTHER = (("manifest.json", described(OTHER)), (name_of(OTHER), OTHER))
WANTED = f"sha256:{bytes_digest(CONFIGURATION)}"
ODD = {
    "one description after another": (*OF_ANOTHER, *OF_ITS_OWN),
    "a description below": (*OF_ITS_OWN, ("./manifest.json", described(OTHER, TAG)), (name_of(OTHER), OTHER)),
    "a way back": (*OF_ITS_OWN, ("x/../manifest.json", described(OTHER, TAG))),
    "a name": (("manifest.json", described(CONFIGURATION, TAG)), (name_of(CONFIGURATION), CONFIGURATION)),
    "a name of older archives": (*OF_ITS_OWN, ("repositories", json.dumps({TAG: {"3.11": "x"}}).encode())),
    "a name in the index": (*OF_ITS_OWN, ("index.json", indexed(WANTED, **{"io.containerd.image.name": TAG}))),
    "a digest that is only claimed": (*OF_ANOTHER, ("index.json", indexed(WANTED))),
    "nested too deeply": (("manifest.json", b"[" * 100_000),),
    "a link to itself": (("manifest.json", b"manifest.json"),),
}


def archive_of(path: Path, members: tuple[tuple[str, bytes], ...], *, links: bool = False) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = 0 if links else len(content)
            member.type, member.linkname = (tarfile.SYMTYPE, content.decode()) if links else (tarfile.REGTYPE, "")
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ODD)
def test_an_archive_that_an_engine_might_read_otherwise_is_not_loaded(tmp_path: Path, kind: str) -> None:
    digests = frozenset({WANTED})
    _expect(archive_of(tmp_path / "honest.tar", OF_ITS_OWN), "podman", digests)
    odd = archive_of(tmp_path / "odd.tar", ODD[kind], links="link" in kind)
    with pytest.raises(EngineError):
        _expect(odd, "podman", digests)
