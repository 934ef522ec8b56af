"""What the manifest of a recorded program says: every fact under one name and one type, where it is written and read.

``ndrepro record -- COMMAND`` writes these manifests, whatever the command is. As ``TrainingRecord`` does for a training
run, ``ProgramRecord`` reads one that may be anybody's: a fact that is missing or has another form is empty or ``None``,
and nothing raises.

    externalParameters    what the user asked for (PARAMETERS)
    internalParameters    what the recorder saw (FACTS)
    dependencies          source, executable, container image and the signed statements on it, inputs, a data set for
                          each declared path, distributions
    byproducts            outputs, energy, and the error where recording itself failed

The manifest lists the first files of ``inputs`` and ``outputs`` (``LISTED``); inputs.json and outputs.json in the run
folder have all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provenance.attestation.manifest import DATASET, ERROR, REPRODUCED_RUN, SOURCE, Manifest, Resource
from provenance.capture.unavailable import at, mapping, text, whole

BUILD_TYPE = "urn:ndrepro:program:v1"
BUILDER = "urn:ndrepro:builder"
# dependencies
EXECUTABLE, IMAGE, INPUTS = "executable", "container image", "inputs"
IMAGE_ATTESTATION = "container image attestation"
# byproducts
OUTPUTS = "outputs"
# of the outputs: the folders that they were written into and that were there before the start
FOLDERS = "folders"
# of the inputs: other names of the working folder, by which some were opened
OTHER_NAMES = "otherNames"
# of declared data: other paths by which the program found them
OTHER_PATHS = "otherPaths"
PARAMETERS = ("name", "command", "workingFolder", "seeds", "outputs", "data", "metrics", "trail")
FACTS = ("ending", "streams", "usage", "interpreters", "observation")
# before the bytes of a word that is not UTF-8
_BYTES = "[bytes:"
# how files are known: inputs and outputs
COMMAND, STANDARD_INPUT, OPENED = "command", "standard input", "opened"
DECLARED, NEW, CHANGED, WRITTEN = "declared", "new", "changed", "written"
# in ``--out``, and as the path of an output: what it prints on standard output
STANDARD_OUTPUT = "-"
# files that the manifest itself lists, of each kind
LISTED = 1000
# the folder of the run with a listing of the files of each declared data set
LISTINGS = "data"
# begins the reason of an output that was declared and that the program did not write
NOT_WRITTEN = "not written by this run"
# of an output that was touched, or written with the same bytes again: it may be of an earlier run
AS_BEFORE = "it holds what it held before the start"
# variables that name the folders of a program's user and of temporary files; recorded of programs
PLACES = ("HOME", "TMPDIR")
# where they are, if no variable says
TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")
# variables by which the same Python behaves differently, wherever it is
BEHAVIOUR_OF_PYTHON = (
    "PYTHONOPTIMIZE",
    "PYTHONIOENCODING",
    "PYTHONUTF8",
    "PYTHONWARNINGS",
    "PYTHONDEVMODE",
    "PYTHONINTMAXSTRDIGITS",
    "PYTHONCOERCECLOCALE",
    "PYTHONSAFEPATH",
    "PYTHON_GIL",
    "PYTHON_JIT",
)


@dataclass(frozen=True)
class ProgramFile:
    """A file that a program read or wrote.

    Attributes:
        path: relative to the working folder where it is below it, else absolute; "/" between the parts.
        how: "command" (named in the command line), "standard input", or "opened"; of an output "declared" by the user,
            "new", "changed", or "written" where what was there before is not known.
        size: bytes; ``None`` where the file could not be read.
        sha256: of its content; ``None`` where it is not known, for the ``reason``.
        copy: the path of its copy in the run folder; ``None`` where it was left where it is, for the ``reason``. Of an
            input there is one where no commit has it, and it is source or settings.
        reason: why there is no digest or no copy, or ``AS_BEFORE``; "" where there is nothing to explain.
    """

    path: str
    how: str
    size: int | None
    sha256: str | None
    copy: str | None = None
    reason: str = ""

    @property
    def written(self) -> bool:
        """Whether this run wrote it: a declared output may be as it was before the start."""
        return not self.reason.startswith(NOT_WRITTEN)

    def to_json(self) -> dict[str, Any]:
        """The members that are set: path, how, size, sha256, copy, reason."""
        found = {"path": self.path, "how": self.how, "size": self.size, "sha256": self.sha256, "copy": self.copy}
        known = {name: value for name, value in found.items() if value is not None}
        return {**known, "reason": self.reason} if self.reason else known

    @classmethod
    def from_json(cls, document: Any) -> ProgramFile | None:
        """The file that ``to_json`` wrote; ``None`` for what is none."""
        path, how = text(at(document, "path")), text(at(document, "how"))
        if path is None or how is None:
            return None
        return cls(
            path,
            how,
            size=whole(at(document, "size")),
            sha256=text(at(document, "sha256")),
            copy=text(at(document, "copy")),
            reason=text(at(document, "reason")) or "",
        )


@dataclass(frozen=True)
class DataPath:
    """A path by which a program found declared data otherwise than as they were declared, as by a link.

    Attributes:
        path: as that of a ``ProgramFile``.
        part: which file or folder of the data is there, relative to them; "." for all.
    """

    path: str
    part: str

    def to_json(self) -> dict[str, str]:
        """The members path and part."""
        return {"path": self.path, "part": self.part}


@dataclass(frozen=True)
class RecordedInterpreter:
    """A Python that ran: its path and version, how many processes it had, and the versions of its distributions.

    Those of the first interpreter, which did the work, are dependencies of the manifest, with the digests of their
    RECORDs, and are not repeated; of the others the versions are all that is recorded.
    """

    executable: str
    version: str
    processes: int
    distributions: Mapping[str, str]


@dataclass(frozen=True)
class ProgramRecord:
    """The facts of one manifest of a recorded program, which need not be verified.

    Attributes:
        command: the words of the command, secrets redacted.
        working_folder: where it was started, an absolute path; "" where it is not known.
        seeds: the declared seeds, as text, by name.
        wanted_outputs, wanted_metrics: the globs of ``--out`` and ``--metrics``.
        data: the paths of ``--data``, as they were given.
        trail: ``--trail``: auto, off or every=K.
        outcome, exit_code: how the program ended; -n for signal n.
        stops: names of the signals that asked it to stop.
        outlived_by: command lines of processes that were still running when the program had ended.
        streams: of standard input, output and error, and of the log: see docs/how-to/recording.md.
        usage: seconds and bytes of the whole process tree.
        interpreters: the Pythons that ran, that which did the work first; none where no Python was seen.
        unobserved: why no start-up hook saw the program's Python code; "" where it did.
        inputs, outputs: the first files; ``input_count`` and ``output_count`` say how many there are.
        folders: those of outputs that were there before the start, relative to the working folder.
        other_names: absolute paths of the working folder through links, by which it opened files.
    """

    manifest: Manifest
    name: str
    command: tuple[str, ...]
    working_folder: str
    seeds: Mapping[str, str]
    wanted_outputs: tuple[str, ...]
    wanted_metrics: tuple[str, ...]
    data: tuple[str, ...]
    trail: str
    outcome: str
    exit_code: int | None
    stops: tuple[str, ...]
    outlived_by: tuple[str, ...]
    streams: Mapping[str, Any]
    usage: Mapping[str, Any]
    interpreters: tuple[RecordedInterpreter, ...]
    unobserved: str
    source: Resource
    commit: str | None
    executable: Resource
    datasets: tuple[Resource, ...]
    distributions: Mapping[str, str]
    inputs: tuple[ProgramFile, ...]
    input_count: int
    outputs: tuple[ProgramFile, ...]
    output_count: int
    folders: tuple[str, ...]
    other_names: tuple[str, ...]
    reproduced: Resource | None
    error: str

    @classmethod
    def of(cls, manifest: Manifest) -> ProgramRecord:
        """Read a manifest; nothing in it raises."""
        asked, inner = manifest.external_parameters, manifest.internal_parameters
        source = manifest.dependency(SOURCE) or Resource(SOURCE)
        inputs, outputs = manifest.dependency(INPUTS), manifest.byproduct(OUTPUTS)
        error = manifest.byproduct(ERROR)
        return cls(
            manifest,
            name=text(asked.get("name")) or "",
            command=_texts(asked.get("command")),
            working_folder=text(asked.get("workingFolder")) or "",
            seeds={str(name): str(value) for name, value in mapping(asked.get("seeds")).items()},
            wanted_outputs=_texts(asked.get("outputs")),
            wanted_metrics=_texts(asked.get("metrics")),
            data=_texts(asked.get("data")),
            trail=text(asked.get("trail")) or "",
            outcome=manifest.outcome,
            exit_code=whole(manifest.exit_code),
            stops=_texts(at(inner, "ending", "stops")),
            outlived_by=_texts(at(inner, "ending", "outlivedBy")),
            streams=mapping(inner.get("streams")),
            usage=mapping(inner.get("usage")),
            interpreters=_interpreters(inner.get("interpreters"), _versions(manifest)),
            unobserved=text(mapping(inner.get("observation")).get("unavailable")) or "",
            source=source,
            commit=(source.digest or {}).get("gitCommit"),
            executable=manifest.dependency(EXECUTABLE) or Resource(EXECUTABLE),
            datasets=tuple(item for item in manifest.dependencies if item.name.startswith(DATASET)),
            distributions=_versions(manifest),
            inputs=files_in(inputs and inputs.annotations),
            input_count=whole(at(inputs and inputs.annotations, "count")) or 0,
            outputs=files_in(outputs and outputs.annotations),
            output_count=whole(at(outputs and outputs.annotations, "count")) or 0,
            folders=_texts(at(outputs and outputs.annotations, FOLDERS)),
            other_names=_texts(at(inputs and inputs.annotations, OTHER_NAMES)),
            reproduced=manifest.dependency(REPRODUCED_RUN),
            error=text(at(error and error.annotations, "message")) or "",
        )


def outcome_of(exit_code: int, stops: Sequence[str]) -> str:
    """The outcome of a program: whoever was asked to stop is interrupted, whatever it ends with then."""
    if stops:
        return "interrupted"
    if exit_code < 0:
        return "killed"
    return "failed" if exit_code else "completed"


def files_in(document: Any) -> tuple[ProgramFile, ...]:
    """The files in the member ``files`` of inputs.json, outputs.json, or a resource's annotations."""
    listed = at(document, "files")
    files = map(ProgramFile.from_json, listed if isinstance(listed, list) else ())
    return tuple(file for file in files if file is not None)


def other_paths(document: Any) -> tuple[DataPath, ...]:
    """Those in the annotations of declared data."""
    listed = at(document, OTHER_PATHS)
    found = ((text(at(each, "path")), text(at(each, "part"))) for each in (listed if isinstance(listed, list) else ()))
    return tuple(DataPath(path, part) for path, part in found if path is not None and part is not None)


def external_parameters(
    *,
    name: str,
    command: Iterable[str],
    working_folder: str,
    seeds: Mapping[str, str],
    outputs: Iterable[str],
    data: Iterable[str],
    metrics: Iterable[str],
    trail: str,
) -> dict[str, Any]:
    """What the user chose; the words are given without secrets."""
    return {
        "name": name,
        "command": list(command),
        "workingFolder": working_folder,
        "seeds": dict(seeds),
        "outputs": list(outputs),
        "data": list(data),
        "metrics": list(metrics),
        "trail": trail,
    }


def files_resource(name: str, files: Iterable[ProgramFile], *, sha256: str | None, **more: Any) -> Resource:
    """The dependency or byproduct that sums up files: ``count``, ``bytes``, the first of them, and ``more``.

    ``sha256`` is the digest of the document in the run folder that lists all of them.
    """
    listed = list(files)
    annotations = {
        "count": len(listed),
        "bytes": sum(each.size or 0 for each in listed),
        "files": [each.to_json() for each in listed[:LISTED]],
        **more,
    }
    return Resource(name, digest=None if sha256 is None else {"sha256": sha256}, annotations=annotations)


def interpreter_json(interpreter: RecordedInterpreter) -> dict[str, Any]:
    """The interpreter as the manifest holds it."""
    return {
        "executable": interpreter.executable,
        "version": interpreter.version,
        "processes": interpreter.processes,
        "distributions": dict(interpreter.distributions),
    }


def is_below(path: str | Path, top: str | Path) -> bool:
    """Whether a recorded path is ``top`` or below it, by its words alone."""
    return Path(os.path.normpath(path)).is_relative_to(os.path.normpath(top))


def encoded_word(word: str) -> str:
    """A word of a command as a manifest holds it: one that is not UTF-8 by its bytes, in hexadecimal."""
    return (
        word
        if word.isascii() or os.fsencode(word) == word.encode("utf-8", "replace")
        else (f"{_BYTES}{os.fsencode(word).hex()}]")
    )


def decoded_word(word: str) -> str:
    """The word of which ``encoded_word`` made this one."""
    try:
        return os.fsdecode(bytes.fromhex(word[len(_BYTES) : -1])) if word.startswith(_BYTES) else word
    except ValueError:
        return word


def _interpreters(recorded: Any, installed: Mapping[str, str]) -> tuple[RecordedInterpreter, ...]:
    found: list[RecordedInterpreter] = []
    for item in recorded if isinstance(recorded, list) else ():
        versions = {str(name): str(version) for name, version in mapping(at(item, "distributions")).items()}
        found.append(
            RecordedInterpreter(
                text(at(item, "executable")) or "",
                text(at(item, "version")) or "",
                whole(at(item, "processes")) or 0,
                versions if found else installed,
            )
        )
    return tuple(found)


def _versions(manifest: Manifest) -> dict[str, str]:
    return dict(filter(None, (item.distribution for item in manifest.dependencies)))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()
