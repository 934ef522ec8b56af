"""Images kept with the runs that were made in them: ``RUNS/images/DIGEST.tar``, of Apptainer ``DIGEST.sif``.

    study run --archive-image ── keep ──> RUNS/images/DIGEST.tar        an archive without names, which they load
    reproduce ── find_kept ──> the image by its name, else by its digest in the engine's store, else from there

A file is named by the digest that manifests have: of the image's configuration, or of the file of a file engine. What
is in it is compared with that name when it is written and before it is loaded; the engine itself compares every layer
with the configuration. Signed statements on the image, where there are any, are put beside it.
"""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.execution.containers import docker_engine
from ndrepro.execution.containers.engines import ContainerChoice, find
from ndrepro.execution.containers.image_attestation import beside, find_statements
from ndrepro.protocol.errors import EngineError, ImageError
from ndrepro.protocol.image_reference import FILE_ENGINES, PinnedImage
from ndrepro.protocol.messages import Container
from provenance.formats.atomic_io import make_folder, storage_error
from provenance.formats.digest import bytes_digest, file_digest
from provenance.git.tracked_paths import expect_no_tracked_link, tracked

# of a description in an archive; layers are not read here
_MOST_BYTES = 16 * 2**20
# of Docker's older archives
_OLDER_NAMES = "repositories"
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True)
class ImageArchive:
    """What an archive of one image says: the digest of its configuration, those of its manifests, and its names."""

    configuration: str
    manifests: frozenset[str]
    names: tuple[str, ...]

    @property
    def digests(self) -> frozenset[str]:
        """By which an engine may know the image."""
        return self.manifests | {self.configuration}

    @classmethod
    def read(cls, path: Path) -> ImageArchive:
        """Raises EngineError for a file that is no archive of one image, as `docker save` writes it."""
        try:
            with tarfile.open(path) as opened:
                _expect_plain(opened)
                entry = image_entry(opened)
                configuration = f"sha256:{bytes_digest(read_member(opened, entry['Config']))}"
                present = opened.getnames()
                index = json.loads(read_member(opened, "index.json"))["manifests"] if "index.json" in present else []
                manifests = frozenset(each["digest"] for each in index if _leads_to(opened, each, configuration))
                names = [each.get("annotations", {}).get(name) for each in index for name in _NAMES]
                older = json.loads(read_member(opened, _OLDER_NAMES)) if _OLDER_NAMES in present else {}
                found = (*(entry["RepoTags"] or ()), *older, *filter(None, names))
                return cls(configuration, manifests, tuple(map(str, found)))
        except (tarfile.TarError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            message = f"{path}: no archive of one image ({type(error).__name__}: {error})"
            raise EngineError(
                message, "remove it, and keep the image again: ndrepro study run … --archive-image"
            ) from None


def _expect_plain(archive: tarfile.TarFile) -> None:
    """Raises ValueError where two readers might take different members for the same one."""
    names = [member.name for member in archive]
    odd = [name for name, count in Counter(map(posixpath.normpath, names)).items() if count > 1]
    odd += [name for name in names if posixpath.normpath(name) != name or name.startswith(("/", ".."))]
    if odd:
        raise ValueError(f"{odd[0]!r} is there twice, or is not spelled plainly")


def _leads_to(archive: tarfile.TarFile, entry: Mapping[str, Any], configuration: str, deeper: int = 1) -> bool:
    """Whether a manifest, or one of an index of manifests, is of the image with this configuration, by digests."""
    digest = str(entry["digest"])
    name = f"blobs/sha256/{digest.removeprefix('sha256:')}"
    if name not in archive.getnames():
        return False
    content = read_member(archive, name)
    if digest != f"sha256:{bytes_digest(content)}":
        raise ValueError(f"{name} has another digest")
    document = json.loads(content)
    if "manifests" in document:
        return deeper > 0 and any(_leads_to(archive, each, configuration, 0) for each in document["manifests"])
    return bool(document["config"]["digest"] == configuration)


def image_entry(archive: tarfile.TarFile) -> dict[str, Any]:
    """The description of the one image in an archive. Raises ValueError or KeyError."""
    (entry,) = json.loads(read_member(archive, "manifest.json"))
    return dict(entry)


def read_member(archive: tarfile.TarFile, name: str) -> bytes:
    """A description in an archive. Raises ValueError or KeyError."""
    member = archive.getmember(name)
    content = archive.extractfile(member) if member.isreg() and member.size <= _MOST_BYTES else None
    if content is None:
        raise ValueError(f"{name} is no description of an image")
    return content.read()


def kept_path(container: Container, folder: Path) -> Path:
    """Where an image is kept."""
    if container.engine in FILE_ENGINES:
        return folder / f"{container.digest.removeprefix('sha256:')}{Path(container.image).suffix}"
    return folder / f"{container.identifier.removeprefix('sha256:')}.tar"


def keep(image: PinnedImage, folder: Path, home: Path) -> Path:
    """Keep an image in a folder, once; its path. Raises EngineError or StorageError."""
    expect_no_tracked_link(folder, "name another folder of runs: --runs DIR")
    container = find(ContainerChoice.pinned(image), "cpu")
    target = kept_path(container, folder)
    written = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        make_folder(folder)
        if not target.exists():
            if container.engine in FILE_ENGINES:
                shutil.copyfile(container.image, written)
            else:
                docker_engine.save(container.engine, container.identifier, written)
            _expect(written, container.engine, container.digests)
            os.replace(written, target)
    except OSError as error:
        raise storage_error(target, error) from None
    finally:
        written.unlink(missing_ok=True)
    copy_attestation(container, target, home)
    return target


def copy_attestation(container: Container, target: Path, home: Path) -> None:
    """Put the signed statements on an image, where there are any, beside a file that was made of it."""
    found = find_statements(container.engine, container.image, container.digests, home)
    if found is None:  # those of an earlier file of that name
        beside(target).unlink(missing_ok=True)
    else:
        shutil.copyfile(found, beside(target))


def find_kept(wanted: ContainerChoice, device: str, folders: Sequence[Path]) -> Container:
    """A recorded image as ``engines.find`` gives it: by its name, by a digest, or from where it is kept.

    Raises EngineError where it is nowhere, or what is kept is another image; DeviceError as ``engines.find`` does.
    """
    try:
        return find(wanted, device)
    except ImageError as error:
        missing = error
    for choice in _elsewhere(wanted, folders):
        with suppress(EngineError):
            return find(choice, device)
    raise ImageError(missing.message, f"{missing.cure}; or put its archive into {folders[0]}")


def _elsewhere(wanted: ContainerChoice, folders: Iterable[Path]) -> Iterator[ContainerChoice]:
    """The very image under other names; of an archive once it is loaded."""
    files = [path for folder in folders for path in _kept_files(wanted, folder)]
    if wanted.engine in FILE_ENGINES:
        yield from (ContainerChoice(wanted.engine, str(path.absolute()), wanted.digests) for path in files)
        return
    by_digest = [ContainerChoice(wanted.engine, digest, wanted.digests) for digest in sorted(wanted.digests)]
    yield from by_digest
    for path in files:
        _expect(path, wanted.engine, wanted.digests)
        docker_engine.load(wanted.engine, path)
        yield from by_digest


def _kept_files(wanted: ContainerChoice, folder: Path) -> list[Path]:
    endings = (Path(wanted.image).suffix,) if wanted.engine in FILE_ENGINES else (".tar",)
    names = [f"{digest.removeprefix('sha256:')}{ending}" for digest in sorted(wanted.digests) for ending in endings]
    found = [folder / name for name in names if (folder / name).is_file()]
    return [path for path in found if not any(tracked([path.absolute()]))]  # a clone may bring them


def _expect(path: Path, engine: str, digests: frozenset[str]) -> None:
    """Raises EngineError for a file of another image, or an archive that would take over names in the store."""
    if engine in FILE_ENGINES:
        found = frozenset({f"sha256:{file_digest(path).sha256}"})
    else:
        archive = ImageArchive.read(path)
        found = archive.digests
        if archive.names:
            message = f"{path}: it names itself {archive.names[0]}, which loading it would move to this image"
            raise EngineError(message, f"load it yourself, if that is right: {engine} load --input {path}")
    if not found & digests:
        message = f"{path}: it is {min(found)}, expected {' or '.join(sorted(digests))}"
        raise EngineError(message, "it is damaged or another image: remove it, or get the right one")
