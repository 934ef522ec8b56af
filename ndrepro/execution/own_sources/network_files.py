"""The Python files that define a network of the user's own: found, digested, kept in the run folder, and read back.

    current folder ── find ──> NetworkFiles ── write ──> RUN/network/ ── read ──> the training process imports them

Where the current folder has no such module, it is that of an installed package that offers the network (``offered``).
Nothing is imported here: which modules of the folder the network's module imports is read from their code by
the standard library's ``modulefinder``. These files are copied, and the training process finds no others of that
folder or package, so what is executed is what was signed. Libraries are imported as they are installed, and recorded as
such.
"""

from __future__ import annotations

import re
import symtable
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import decode_source
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

from ndrepro.execution.own_sources.offered import folder_of, networks
from ndrepro.protocol.errors import NdreproError, UsageError, suggestion
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.own import is_own_network, is_source_name
from ndrepro.protocol.training_record import NETWORK
from ndrepro.text.plurals import first_of
from provenance.attestation.manifest import Resource
from provenance.capture.unavailable import printable
from provenance.formats.atomic_io import make_folder, storage_error
from provenance.formats.bounded_read import open_regular
from provenance.formats.digest import FileDigest, bytes_digest, tree_digest
from provenance.formats.folder_tree import walk
from provenance.redaction.redact import redact_text

_MOST_FILES, _MOST_BYTES = 500, 4 << 20
_NOT_THEIRS = ("ndrepro", "provenance")
_SHOWN = 3
# code that can give a name to something by other means than a statement at the top of its module
_BINDS_UNSEEN = re.compile(rb"\b(global|globals|vars|locals|exec|setattr|__dict__|__getattr__)\b|\bimport\s*\(?\s*\*")


@dataclass(frozen=True)
class NetworkFiles:
    """Python files by their names below the folder from which they are imported, e.g. ``mypkg/nets.py``."""

    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents: the setting ``network_source``."""
        return tree_digest((name, FileDigest(len(data), bytes_digest(data))) for name, data in self.files.items())

    @classmethod
    def find(cls, arch: str, folder: Path) -> NetworkFiles:
        """The files of ``MODULE:CALLABLE`` in ``folder``, or of an installed package that offers this network.

        Raises UsageError, naming the file and what to change.
        """
        module, _, _ = arch.partition(":")
        path, alone = _place(module, folder), ""
        if not path.is_file():
            installed = folder_of(module) if any(offer.value == arch for offer in networks()) else None
            if installed is None or not _place(module, installed).is_file():
                raise _no_file(arch, path, folder)
            folder, path, alone = installed, _place(module, installed), module.partition(".")[0]
        files = {name: _content(folder / name, name) for name in sorted(_imported(module, path, folder, alone))}
        if len(files) > _MOST_FILES or sum(map(len, files.values())) > _MOST_BYTES:
            raise UsageError(
                f"{arch}: its module imports {len(files)} files of {folder}, more than are kept with a run",
                "put the network into a package that imports little else",
            )
        _expect_name(arch, path, files[path.relative_to(folder).as_posix()])
        return cls(files)

    @classmethod
    def read(cls, folder: Path) -> NetworkFiles:
        """The files that a run keeps, each whole. Raises NdreproError for anything else there, such as bytecode."""
        try:
            return cls(dict(_kept(folder)))
        except OSError as error:
            raise NdreproError(f"{folder}: the network's source cannot be read ({error.strerror})") from None

    def write(self, folder: Path) -> None:
        """Keep the files below ``folder``. Raises StorageError."""
        for name, data in self.files.items():
            place = folder / name
            try:
                make_folder(place.parent)
                place.write_bytes(data)
            except OSError as error:
                raise storage_error(place, error) from error

    def resource(self, arch: str) -> Resource:
        """What the manifest says of them."""
        listed = {name: bytes_digest(data) for name, data in sorted(self.files.items())}
        return Resource(NETWORK, digest={"sha256": self.digest}, annotations={"import": arch, "files": listed})


def with_source(experiment: Experiment, kept: Path | None) -> tuple[Experiment, NetworkFiles | None]:
    """The experiment with its network's source, and the files to keep with the run; None for this project's networks.

    Args:
        experiment: what is to be trained.
        kept: the folder of files that a run keeps, to train with those; None to look in the current folder.

    Raises UsageError where the files cannot be had, or are not those that the experiment names by digest.
    """
    if not is_own_network(experiment.arch):
        return experiment, None
    files = NetworkFiles.find(experiment.arch, Path.cwd()) if kept is None else NetworkFiles.read(kept)
    expect_source(experiment, files)
    return experiment.with_settings({"network_source": files.digest}), files


def expect_source(experiment: Experiment, files: NetworkFiles) -> None:
    """Raises UsageError where the files are not those that the experiment names."""
    if experiment.network_source not in (None, files.digest):
        raise UsageError(
            f"{experiment.arch}: its files ({', '.join(sorted(files.files)[:3])}) are not those of the experiment: "
            f"digest {files.digest[:16]}, expected {str(experiment.network_source)[:16]}",
            "get the original files again, or leave network_source out to train the files that are here",
        )


def _expect_name(arch: str, path: Path, source: bytes) -> None:
    """Raise UsageError where the module binds nothing to the callable's name, as far as its code shows that."""
    name = arch.partition(":")[2]
    if _BINDS_UNSEEN.search(source):
        return
    symbols = symtable.symtable(decode_source(source), str(path), "exec").get_symbols()
    names = [each.get_name() for each in symbols if each.is_assigned() or each.is_imported()]
    if name in names:
        return
    defined = [each.get_name() for each in symbols if each.is_namespace()]
    cure = f"it defines {first_of(defined, _SHOWN)}" if defined else "define it there"
    raise UsageError(f"{arch}: {path} has no {name}", suggestion(name, names, cure))


def _no_file(arch: str, path: Path, folder: Path) -> UsageError:
    module, _, name = arch.partition(":")
    cure = "start the run in the folder from which Python would import the network's module"
    if module.endswith(".py"):
        cure = f"name the module without .py: {module.removesuffix('.py')}:{name}"
    return UsageError(f"{arch}: no file {path.relative_to(folder)} in {folder}", cure)


def _place(module: str, folder: Path) -> Path:
    """The file of a module: a package's is its initialiser."""
    package = folder.joinpath(*module.split("."))
    return package / "__init__.py" if package.is_dir() else package.with_name(f"{package.name}.py")


class _OnePackage(ModuleFinder):
    """Follows imports within one installed package: the others beside it are recorded as they are installed."""

    def __init__(self, folder: Path, package: str) -> None:
        super().__init__(path=[str(folder)], excludes=list(_NOT_THEIRS))
        self._package = package

    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:
        """Find a module as ModuleFinder does. Raises ImportError for a top-level one of another package."""
        if path is None and name != self._package:
            raise ImportError(name)
        return super().find_module(name, path, parent)


def _imported(module: str, path: Path, folder: Path, alone: str) -> Iterator[str]:
    """Names of the files below ``folder`` that importing the module executes, according to import statements.

    Only those of the package ``alone``, where one is named.
    """
    for above in path.relative_to(folder).parents:
        package = folder / above
        if package != folder and not (package / "__init__.py").is_file():
            raise UsageError(f"{package}: no package without an __init__.py", "add an empty file __init__.py there")
    finder = _OnePackage(folder, alone) if alone else ModuleFinder(path=[str(folder)], excludes=list(_NOT_THEIRS))
    try:
        finder.import_hook(module)
    except SyntaxError as error:
        raise UsageError(f"{error.filename}:{error.lineno}: {error.msg}", "mend it, then start again") from None
    except (ImportError, ValueError, OSError, AttributeError) as error:
        raise UsageError(f"{path}: what it imports cannot be followed ({error})", "mend it, then start again") from None
    for found in finder.modules.values():
        file = getattr(found, "__file__", None)
        if file and file.endswith(".py"):
            yield Path(file).relative_to(folder).as_posix()


def _content(path: Path, name: str) -> bytes:
    try:
        with open(open_regular(path, follow_symlinks=True), "rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})", "see to its rights") from None
    text = data.decode("utf-8", "surrogateescape")
    if printable(name) != name or redact_text(text) != text:
        raise UsageError(
            f"{path}: it holds what looks like a password or key, and is to be kept with the run",
            "take it out: a variable of the environment is not recorded with its value",
        )
    return data


def _kept(folder: Path) -> Iterator[tuple[str, bytes]]:
    for current, below, names in walk(folder):
        for name in sorted((*names, *(each for each in below if Path(current, each).is_symlink()))):
            path = Path(current, name)
            kept = path.relative_to(folder).as_posix()
            if not is_source_name(kept):
                raise NdreproError(
                    f"{folder}: {printable(kept)} is no Python source that an import statement names", "ask its author"
                )
            with open(open_regular(path, beneath=folder), "rb") as stream:
                data = stream.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise NdreproError(f"{folder}: {kept} has more than {_MOST_BYTES} bytes", "ask its author")
            yield kept, data
