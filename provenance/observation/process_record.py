"""What the start-up hook saw of one Python process, as the recorder keeps it in processes.json.

The files were written by the observed program, which may write anything: they say what was seen, and prove nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from provenance.capture.unavailable import printable
from provenance.errors import ProvenanceError, TrailError
from provenance.formats.bounded_read import DOCUMENT_BYTES, read_bounded
from provenance.formats.canonical_json import canonical_bytes, parse
from provenance.formats.strict_json import Count, Field, read_record

SCHEMA = "urn:ndrepro:processes:v1"
Scalar = str | int | bool | None


def scalars(field: Field) -> dict[str, Scalar]:
    """An object of texts, whole numbers, truth values and nulls. Raises the field's error for anything else."""
    for name, value in field.mapping().items():
        if not (value is None or isinstance(value, (str, int))):
            Field(value, f"{field.path}.{name}", field.error).refuse("text, a whole number, a truth value or null")
    return dict(field.mapping())


def _moment_name(field: Field) -> str:
    return field.one_of(("import", "first step", "exit"))


def _ending(field: Field) -> str:
    return str(field.one_of(("exit", "exec", "")))


def _moment(field: Field) -> str:
    return field.time() if field.value else field.string()


@dataclass(frozen=True)
class OpenedFile:
    """A path that Python code asked to open, and whether to read, to write or both; it need not be there.

    ``replaced``: at least once so that nothing of what it held was left.
    """

    path: str
    read: bool
    written: bool
    replaced: bool = False


@dataclass(frozen=True)
class ImportedModule:
    """A file that was executed as a module of this name.

    ``importer``: the file whose code imported it, or "<frozen runpy>" and the like where that is in none.
    """

    name: str
    path: str
    importer: str


@dataclass(frozen=True)
class TorchMoment:
    """What torch was set to at one moment.

    Attributes:
        name: "import" (torch was imported; random states alone, numpy's of when numpy.random was), "first step" (before
            it) or "exit".
        flags: determinism, precision, threads, autocast; cuBLAS's workspace.
        random: SHA-256 of the state of each random generator.
        seeds: the seed that each generator of torch was last given, as text.
    """

    name: Annotated[str, _moment_name]
    flags: Annotated[Mapping[str, Scalar], scalars]
    random: Mapping[str, str]
    seeds: Mapping[str, str]


@dataclass(frozen=True)
class TorchRecord:
    """What was seen of torch in a process that imported it.

    Attributes:
        version: torch's own.
        steps: optimizer steps taken, of all optimizers together.
        optimizers: their classes, in order of their first steps.
        moments: see ``TorchMoment``.
        loaders: settings of each DataLoader that was alive at the first step, as text.
    """

    version: str
    steps: Count
    optimizers: tuple[str, ...]
    moments: tuple[TorchMoment, ...]
    loaders: tuple[str, ...]


@dataclass(frozen=True)
class ProcessRecord:
    """One Python process of a recorded program.

    Attributes:
        pid, parent_pid: as the process saw them, which in a container is another number than outside.
        forked_from: the process of which it is a copy; ``None`` where it started as a Python of its own. Search path
            and distributions are those of that process, and not repeated.
        started, ended: in UTC; ``ended`` is "" where it left without an end: killed, crashed, or by ``os._exit``.
        ending: "exit", "exec" (it became another program) or "".
        argv: the whole command line, secrets redacted.
        flags: ``sys.flags``.
        search_path: ``sys.path`` at the end; at the start where there is no end.
        distributions: versions by name as the folders of their metadata tell them, of a process that ended;
            ``provenance.capture.distributions.search(search_path)`` says more where the folders can be read here.
        variables: names of the environment variables that its Python code read.
        ranks: RANK, LOCAL_RANK and WORLD_SIZE, where set.
        opened: files that it opened; not in processes.json. ``opened_not_listed`` counts openings beyond the limit.
        imported: those of them that an import opened, likewise.
        other_folders: those of its working folder and search path that are other folders here, as in a container.
        same_folders: those that are the same ones; neither is in processes.json.
        torch: ``None`` where it did not import torch.
        random_at_exit: SHA-256 of the state of each random generator that was loaded.
        trails: names of its trail files, in order.
        problems: which parts of the observation failed, and why.
    """

    pid: Count
    started: Annotated[str, _moment]
    parent_pid: Count = 0
    forked_from: Count | None = None
    ended: Annotated[str, _moment] = ""
    ending: Annotated[str, _ending] = ""
    argv: tuple[str, ...] = ()
    cwd: str = ""
    executable: str = ""
    prefix: str = ""
    base_prefix: str = ""
    version: str = ""
    implementation: str = ""
    flags: Annotated[Mapping[str, Scalar], scalars] = field(default_factory=dict)
    search_path: tuple[str, ...] = ()
    distributions: Mapping[str, str] = field(default_factory=dict)
    variables: tuple[str, ...] = ()
    ranks: Mapping[str, str] = field(default_factory=dict)
    opened: tuple[OpenedFile, ...] = ()
    imported: tuple[ImportedModule, ...] = ()
    opened_not_listed: Count = 0
    other_folders: tuple[str, ...] = ()
    same_folders: tuple[str, ...] = ()
    torch: TorchRecord | None = None
    random_at_exit: Mapping[str, str] = field(default_factory=dict)
    trails: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def rank(self) -> int | None:
        """Its place among the processes of distributed training; ``None`` where it takes part in none."""
        text = self.ranks.get("RANK", "")
        return int(text) if text.isascii() and text.isdigit() else None

    def shares(self, path: str) -> bool:
        """Whether a path that it named leads to the same file here; in a container only below a folder that does."""
        folders = {**dict.fromkeys(self.same_folders, True), **dict.fromkeys(self.other_folders, False)}
        above = [folder for folder in folders if path == folder or path.startswith(f"{folder}/")]
        # the innermost folder decides: another one may be mounted inside
        return folders[max(above, key=len)] if above else not self.other_folders

    def to_json(self) -> dict[str, Any]:
        """Every attribute but those of files here, as JSON that is fit for UTF-8."""
        found = {name: value for name, value in asdict(self).items() if name not in _OF_FILES_HERE}
        plain: dict[str, Any] = printable(found)
        return plain

    @classmethod
    def from_json(cls, document: Field) -> ProcessRecord:
        """The record that ``to_json`` wrote. Raises the field's error for anything else."""
        return read_record(cls, document, apart=_OF_FILES_HERE, later=("variables",))


_OF_FILES_HERE = ("opened", "imported", "other_folders", "same_folders")


def encode_processes(records: Iterable[ProcessRecord]) -> bytes:
    """The content of processes.json: canonical JSON, ``{"schema", "processes": [...]}``."""
    return canonical_bytes({"schema": SCHEMA, "processes": [each.to_json() for each in records]})


def read_processes(path: Path) -> tuple[ProcessRecord, ...]:
    """The records of a processes.json. Raises ProvenanceError where it is missing or follows another schema."""
    try:
        document = parse(read_bounded(path, DOCUMENT_BYTES))
    except OSError as error:
        raise TrailError(f"{path}: cannot be read ({error.strerror})") from None
    member = Field(document, path.name, ProvenanceError).members(("schema", "processes"))
    member["schema"].one_of((SCHEMA,))
    return tuple(map(ProcessRecord.from_json, member["processes"].items()))


def strings(field: Field) -> tuple[str, ...]:
    """An array of texts. Raises the field's error for anything else."""
    return tuple(each.string() for each in field.items())


def string_map(field: Field) -> dict[str, str]:
    """An object of texts. Raises the field's error for anything else."""
    for name, value in field.mapping().items():
        Field(value, f"{field.path}.{name}", field.error).string()
    return dict(field.mapping())
