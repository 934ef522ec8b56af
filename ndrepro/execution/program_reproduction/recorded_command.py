"""What is executed again: the command of a recorded program or script, as its manifest has it.

What a manifest does not say is not guessed: words that were redacted, and a working folder that was not recorded, end
in an error that names them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.execution.programs.input_files import is_code
from ndrepro.execution.programs.interpreters import is_python
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import (
    AS_BEFORE,
    STANDARD_INPUT,
    DataPath,
    ProgramFile,
    ProgramRecord,
    decoded_word,
    files_in,
    is_below,
    other_paths,
)
from ndrepro.protocol.run_kind import PROGRAM, SCRIPT, run_kind
from provenance.attestation.manifest import DATASET, Manifest, Resource
from provenance.attestation.run_files import inside
from provenance.capture.unavailable import at, text
from provenance.errors import ProvenanceError
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.observation.process_record import read_processes
from provenance.recording.script_record import ScriptRecord

_REDACTED = "[redacted:"
# its repetition is written to the folder of that name
_NAME = re.compile(r"\w[\w+=. -]{0,99}")
_VERSION = re.compile(r"[0-9]+\.[0-9]+(?:\.[\w.+-]+)?", re.ASCII)
# a repository there would take the place of any program that a command names
_OF_THE_SYSTEM = ("/bin", "/usr/bin")
# PATH_MAX and NAME_MAX of Linux
_MOST_BYTES, _MOST_NAME_BYTES = 4096, 255
# what a script's session writes into the folder of its own run
_SCRIPT_METRICS, _SCRIPT_OUTPUTS = ("**/metrics.jsonl",), ("**/artifacts/**",)


@dataclass(frozen=True)
class RecordedData:
    """Declared data: their path as it was given, the file of the run that lists every digest, and other paths by which
    the program found them, or a part of them; ``problem`` says why these are not all.
    """

    path: str
    listing: str
    other_paths: tuple[DataPath, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class RecordedCommand:
    """A command with everything that its manifest says of how to run it.

    Attributes:
        kind: program or script.
        words: those of the command line.
        executable: the file that was executed, with its digest where one was recorded; see ``program``.
        working_folder: an absolute path of the machine where it ran.
        top: the top of the repository that the working folder was in, likewise; ``None`` where it was in none.
        inputs: the files that it is known to have read.
        written: the paths of those that it wrote.
        other_names: paths of the working folder through links, by which it opened files.
        folders: the folders that it wrote into and that were there before the start, relative to the working folder.
        variables: the names of the environment variables that its Python code is known to have read.
        data: what was declared with --data.
        interpreter: the version of the Python that did the work, such as 3.11.7; "" where none was seen.
        pythons: the paths of those that it ran in.
        standard_input: which of ``inputs`` standard input was read from; ``None`` where it was no file.
    """

    kind: str
    name: str
    words: tuple[str, ...]
    executable: Resource
    working_folder: Path
    top: Path | None
    inputs: tuple[ProgramFile, ...]
    data: tuple[RecordedData, ...]
    outputs: tuple[str, ...]
    metrics: tuple[str, ...]
    seeds: Mapping[str, int]
    trail: str
    interpreter: str
    written: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    pythons: frozenset[str] = frozenset()
    standard_input: ProgramFile | None = None
    folders: tuple[str, ...] = ()
    other_names: tuple[str, ...] = ()

    @property
    def program(self) -> Path | None:
        """The file that the first word named where it ran; ``None`` for a name alone, found at no recorded place."""
        word, uri = self.words[0], self.executable.uri
        if os.sep in word:
            return self.working_folder / word
        return self.working_folder / uri if uri and os.path.basename(uri) == word else None

    @property
    def programs(self) -> frozenset[str]:
        """The folders of these Pythons, whose scripts belong to their environments."""
        return frozenset(map(os.path.dirname, self.pythons))

    @property
    def may_be_of_environment(self) -> bool:
        """Whether the first word named a script beside a recorded Python, or a program at no recorded place."""
        return self.program is None or os.path.dirname(os.path.normpath(self.program)) in self.programs

    @classmethod
    def of(cls, manifest: Manifest, folder: RunFolder) -> RecordedCommand:
        """The command of a run whose signed files are in ``folder``. Raises UsageError for what cannot be repeated."""
        kind = run_kind(manifest)
        if kind not in (PROGRAM, SCRIPT):
            raise UsageError(
                f"{manifest.invocation_id}: unknown build type {manifest.build_type!r}: how to run it is not known"
            )
        made = cls._of_program(manifest, folder) if kind == PROGRAM else cls._of_script(manifest)
        made._expect_complete(manifest.invocation_id)
        return made

    @classmethod
    def _of_program(cls, manifest: Manifest, folder: RunFolder) -> RecordedCommand:
        record = ProgramRecord.of(manifest)
        written = [file for file in listed_files(folder.outputs) or record.outputs if file.written]
        # read after it was written: earlier releases list such a file among the inputs, too
        read, top = listed_files(folder.inputs) or record.inputs, _top(record.source)
        places = {file: os.path.normpath(os.path.join(record.working_folder, file.path)) for file in (*read, *written)}
        own = {(places[file], file.sha256) for file in written}
        from_file = at(record.streams, "stdin") == "file"
        standard_inputs = [file for file in read if from_file and file.how == STANDARD_INPUT]
        # as "env A=1 .venv/bin/python" names one
        pythons = {each.executable for each in record.interpreters if is_python(Path(each.executable))}
        return cls(
            PROGRAM,
            record.name,
            tuple(map(decoded_word, record.command)),
            record.executable,
            Path(record.working_folder),
            top,
            tuple(file for file in read if (places[file], file.sha256) not in own and places[file] not in pythons),
            tuple(_data(record)),
            record.wanted_outputs,
            record.wanted_metrics,
            dict(_seeds(record.seeds)),
            record.trail,
            _version(record.interpreters[0].version) if record.interpreters else "",
            # a script that was made executable is still the code
            tuple(file.path for file in written if not (file.reason == AS_BEFORE and is_code(file.path))),
            read_variables(folder.processes),
            frozenset(pythons),
            standard_inputs[0] if len(standard_inputs) == 1 else None,
            record.folders,
            record.other_names,
        )

    @classmethod
    def _of_script(cls, manifest: Manifest) -> RecordedCommand:
        record = ScriptRecord.of(manifest)
        source = manifest.dependency("source") or Resource("source")
        return cls(
            SCRIPT,
            record.name,
            record.command,
            Resource("executable", uri=record.command[0] if record.command else None),
            Path(record.working_folder),
            _top(source),
            (),
            (),
            _SCRIPT_OUTPUTS,
            _SCRIPT_METRICS,
            dict(_seeds(record.seeds)),
            "off",
            python_of_script(manifest),
        )

    def _expect_complete(self, run: str) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"{run}: {self.name[:100]!r}: no name for a folder of runs", "ask its author for another run"
            )
        if not self.words:
            raise UsageError(f"{run}: it recorded no command", "ask its author how it was started")
        hidden = [number for number, word in enumerate(self.words) if _REDACTED in word]
        if hidden:
            place = ", ".join(str(number) for number in hidden)
            raise UsageError(
                f"{run}: its command held a secret, which was redacted (argument {place})",
                "pass secrets by a file or variable; or run it by hand: ndrepro record -- COMMAND",
            )
        if any("\0" in word for word in self.words):
            raise UsageError(f"{run}: its command has a NUL character, which no program can be given")
        if not self.working_folder.is_absolute():
            raise UsageError(
                f"{run}: its working folder was not recorded", "record it again with this version of ndrepro"
            )
        read = [file.path for file in self.inputs]
        read += [path for data in self.data for path in (data.path, *(each.path for each in data.other_paths))]
        named = (
            str(self.working_folder),
            str(self.top or ""),
            *read,
            *self.written,
            *self.folders,
            *self.pythons,
            *self.other_names,
        )
        if odd := [path for path in named if not _is_possible(path)]:
            raise UsageError(
                f"{run}: {odd[0][:200]!r} is a path that no file can have", "ask its author for another run"
            )
        for path in filter(None, (self.working_folder, self.top)):
            if not is_plain(path):
                raise UsageError(
                    f"{run}: {str(path)[:200]!r} is no path that a recorder writes: it is relative, or leads back up",
                    "ask its author for another run",
                )
        if self.top is not None and any(is_below(place, self.top) for place in _OF_THE_SYSTEM):
            raise UsageError(
                f"{run}: its repository is said to be {self.top}, where the system's own programs are",
                "ask its author for a run in a repository of its own",
            )


def _top(source: Resource) -> Path | None:
    """The top of the recorded repository; ``None`` where there was no commit."""
    top = at(source.annotations, "root")
    return Path(top) if isinstance(top, str) and "gitCommit" in (source.digest or {}) else None


def is_of_git(path: str) -> bool:
    """Whether a path is in a repository's own folder: another repository answers, and obeys no file of the author's."""
    return ".git" in (part.casefold() for part in Path(path).parts)


def _data(record: ProgramRecord) -> Iterator[RecordedData]:
    """The data sets, and what was declared and is none of them, of which nothing can be compared."""
    described = {each.name.removeprefix(DATASET): each.annotations for each in record.datasets}
    for path in dict.fromkeys([*described, *(path for path in record.data if _REDACTED not in path)]):
        listing = at(described.get(path), "listing")
        known = isinstance(listing, str) and inside(listing)
        found = str(listing) if known else "no listing was recorded"
        problem = text(at(described.get(path), "problem")) or ""
        yield RecordedData(path, found, other_paths(described.get(path)), problem)


def listed_files(path: Path) -> tuple[ProgramFile, ...]:
    """Every file that inputs.json or outputs.json lists, which are two of the run's signed files."""
    return files_in(json.loads(read_bounded(path, LOG_BYTES))) if path.is_file() else ()


def read_variables(path: Path) -> tuple[str, ...]:
    """The names in processes.json of a run, which is one of the run's signed files; none where it cannot be read."""
    try:
        return tuple(dict.fromkeys(name for each in read_processes(path) for name in each.variables))
    except ProvenanceError:
        return ()


def python_of_script(manifest: Manifest) -> str:
    """The version of the Python that a script ran in, and was recorded by; "" for none, and for a program."""
    return _version(at(manifest.machine, "interpreter", "version")) if run_kind(manifest) == SCRIPT else ""


def _version(recorded: Any) -> str:
    """The version at the beginning of ``sys.version``; "" for anything else, which uv could take for an option."""
    words = recorded.split() if isinstance(recorded, str) else []
    return words[0] if words and _VERSION.fullmatch(words[0]) else ""


def _seeds(recorded: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in recorded.items():
        try:
            yield name, int(value)
        except (TypeError, ValueError):
            continue


def _is_possible(path: str) -> bool:
    """Whether a file system can have it."""
    longest = max(len(os.fsencode(part)) for part in path.split(os.sep))
    return "\0" not in path and len(os.fsencode(path)) < _MOST_BYTES and longest <= _MOST_NAME_BYTES


def is_plain(path: Path) -> bool:
    """Whether a recorded path is absolute and leads nowhere but down: else its words may be below a folder, and itself
    somewhere else.
    """
    return path.is_absolute() and str(path) == os.path.normpath(path)
