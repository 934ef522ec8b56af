"""From what was seen of a program to what the recorder signs: facts get the manifest's names here."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.execution.containers.command_image import CommandImage, command_image
from ndrepro.execution.programs.command import Command, moved
from ndrepro.execution.programs.input_files import (
    declared_data,
    own_records,
    read_files,
    standard_input,
    ways_read,
    with_other_paths,
    words_of_files,
)
from ndrepro.execution.programs.metrics_files import MetricsFiles
from ndrepro.execution.programs.output_files import OutputFiles, Outputs, PrintedOutput
from ndrepro.execution.programs.output_streams import stream_kind
from ndrepro.execution.programs.watching import ProgramEnd
from ndrepro.execution.programs.working_folder import OwnName, identity_of
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.program_record import (
    EXECUTABLE,
    FOLDERS,
    IMAGE,
    IMAGE_ATTESTATION,
    INPUTS,
    LISTED,
    OTHER_NAMES,
    OUTPUTS,
    PLACES,
    ProgramFile,
    files_resource,
    interpreter_json,
)
from ndrepro.text.plurals import plural
from provenance.attestation.key_home import key_test
from provenance.attestation.manifest import ENERGY, ERROR, Resource, source_resource
from provenance.capture import container, environment, gpu, machine, source
from provenance.capture.unavailable import printable, probe, unavailable
from provenance.errors import DigestError, ProvenanceError, StorageError
from provenance.formats.atomic_io import make_folder, write_atomically, write_json
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest, file_digest
from provenance.formats.folder_tree import walk
from provenance.hook.opened_files import OPENED_FILES
from provenance.observation.collection import collect
from provenance.observation.process_record import ProcessRecord, encode_processes
from provenance.redaction.redact import redact_text, redact_tree

if TYPE_CHECKING:
    from ndrepro.execution.programs.interpreters import Interpreters

# of the working folder, recorded
_NAMES = 10


@dataclass(frozen=True)
class Repetition:
    """What is known of a repetition before it starts. The program is somebody else's: what it, or what it leaves, names
    is looked at by this process, outside of any sandbox, only as far as this says.

    Attributes:
        origin: the run that it repeats.
        launch: the words that are executed in the command's place, where something confines it.
        variables: the program's environment.
        place: a private folder, the only one from which outputs and metrics are read.
        at: the path under which the program saw it; ``None`` for its own.
        readable: what else it was shown to read.
        importable: the folders of its interpreter's search path, from which distributions are read.
        mapped: paths under which it was shown files of ``place`` or ``readable``: of an editable installation, say.
    """

    origin: Resource
    launch: Command | None
    variables: Mapping[str, str]
    place: Path
    at: Path | None
    readable: tuple[Path, ...]
    importable: frozenset[str]
    mapped: Mapping[Path, Path]

    def here(self, process: ProcessRecord) -> ProcessRecord:
        """What was seen of a process of the program, with the paths of this machine in the place of the sandbox's."""
        return replace(
            process,
            argv=tuple(map(self._word, process.argv)),
            cwd=self._word(process.cwd),
            executable=self._word(process.executable),
            search_path=tuple(map(self._word, process.search_path)),
            opened=tuple(replace(each, path=self._found(each.path)) for each in process.opened),
            imported=tuple(
                replace(each, path=self._found(each.path), importer=self._found(each.importer))
                for each in process.imported
            ),
        )

    def lead_links_here(self) -> None:
        """Have the links that lead below ``at`` lead below ``place``, where the same files are here."""
        with suppress(StorageError, OSError):  # nested more deeply than what anybody writes
            for at, below, files in [*walk(self.place)] if self.at is not None else ():
                for path in (Path(at, name) for name in (*below, *files)):
                    if path.is_symlink() and (here := self._word(target := os.readlink(path))) != target:
                        path.unlink()
                        path.symlink_to(here)

    def _word(self, word: str) -> str:
        return word if self.at is None else moved(word, self.at, self.place)

    def _found(self, path: str) -> str:
        path = self._word(path)
        shown = next((each for each in (Path(path), *Path(path).parents) if each in self.mapped), None)
        return path if shown is None else str(self.mapped[shown] / os.path.relpath(path, shown))

    @property
    def written(self) -> tuple[Path, ...]:
        """Where its outputs may lie, resolved."""
        return (self.place.resolve(),)

    @property
    def read(self) -> tuple[Path, ...]:
        """Where its inputs may lie, resolved."""
        return *self.written, *(path.resolve() for path in self.readable)


class ProgramAccount:
    """Captures what there is to know at the start and at the end, and makes the parts of the manifest of it.

    Attributes:
        notes: what was asked for and is not there, for people.
        processes: what was seen of each Python process; the modules that it imported, where they are here.
        machine: the machine, its GPUs, container and variables, and the program's interpreter.
        dependencies: the run that this one repeats, source, executable, inputs, data and distributions.
    """

    def __init__(
        self, command: Command, repetition: Repetition | None, working_folder: Path, folder: RunFolder, home: Path
    ) -> None:
        self._command = command
        self._repetition = repetition
        self._folder = folder
        self._working_folder = working_folder
        self._home = home
        self._origin = None if repetition is None else repetition.origin
        self._variables = os.environ if repetition is None else repetition.variables
        self._is_key = key_test(working_folder, home, self._variables, by_name=repetition is None)
        self._environment: dict[str, Any] = {}
        self._source: dict[str, Any] = unavailable("the run ended before its source was captured")
        self._executable = Resource(EXECUTABLE, uri=printable(str(command.executable)))
        self._data: tuple[Resource, ...] = ()
        self._data_paths: Sequence[Path] = ()
        self._stdin: ProgramFile | None = None
        self._stdin_kind = stream_kind(0)
        self._outputs: OutputFiles | None = None
        self._metrics: MetricsFiles | None = None
        self._process_problem = ""
        self._own_name = OwnName(working_folder)
        self._opened_elsewhere = self._kept_inputs = 0
        self._image: CommandImage | None = None
        self._interpreters: Interpreters | None = None
        self._inputs_resource: Resource | None = None
        self._outputs_resource: Resource | None = None
        self.notes: tuple[str, ...] = ()
        self.processes: tuple[ProcessRecord, ...] = ()

    def capture_start(
        self, outputs: Sequence[str], metrics: Sequence[str], data: Sequence[Path], runs: RunsFolder
    ) -> None:
        """Capture what is there before the program starts. Raises StorageError."""
        place = self._working_folder
        self._environment = redact_tree(
            printable(
                {
                    "variables": probe(environment.recorded_variables, self._variables, PLACES),
                    "machine": probe(machine.capture),
                    "gpus": probe(gpu.capture),
                    "container": probe(container.capture, os.environ),
                }
            )
        )
        write_json(self._folder.environment, self._environment)
        written = None if self._repetition is None else self._repetition.written
        if self._repetition is None:
            self._source = source.capture(place, self._folder.root, exclude=[runs.root], data=data)
        else:  # a recorded tree may look like a repository, whose configuration git would obey
            self._source = unavailable("the recorded source was checked out, and git is not asked about it")
        with suppress(DigestError):
            digest = {"sha256": file_digest(self._command.executable).sha256}
            self._executable = Resource(EXECUTABLE, uri=self._executable.uri, digest=digest)
        self._image = self._find_image()
        self._data_paths = data
        self._data = declared_data(data, self._folder.root)
        self._stdin = standard_input(self._is_key)
        self._metrics = MetricsFiles(place, metrics, written)
        self._outputs = OutputFiles(place, outputs, [runs.root], written, self._is_key)

    def capture_processes(self, output: Path, notes: Mapping[str, bytes]) -> None:
        """Read what the start-up hook noted and wrote into ``output``, and keep the trails. Nothing of it raises."""
        try:
            if self._repetition is not None:
                self._repetition.lead_links_here()
            seen = collect(output, notes)
            self.processes = seen if self._repetition is None else tuple(map(self._repetition.here, seen))
            for process in self.processes:
                for name in process.trails:
                    self._keep_trail(output / name)
            write_atomically(self._folder.processes, encode_processes(self.processes))
        except (ProvenanceError, OSError) as error:
            self._process_problem = error.message if isinstance(error, ProvenanceError) else str(error)

    def _find_image(self) -> CommandImage | None:
        """The image of the command's container; of somebody else's command no engine is asked."""
        if self._repetition is not None:
            return None
        return command_image(self._command.executable, self._command.words, self._working_folder, self._home)

    def _keep_trail(self, path: Path) -> None:
        # the program may have put anything there
        if stat.S_ISREG(path.lstat().st_mode):
            make_folder(self._folder.trails)
            os.replace(path, self._folder.trails / path.name)

    def capture_end(self, end: ProgramEnd | None) -> None:
        """Capture what the program read and wrote, and in which interpreters it ran. Raises StorageError."""
        # not before the program starts, which would wait for it
        from ndrepro.execution.programs.interpreters import find_interpreters

        if self._image is not None and not self._image.sha256:
            self._image = self._find_image()  # the command may have fetched it
        importable = None if self._repetition is None else self._repetition.importable
        self._interpreters = find_interpreters(
            self.processes, self._command.executable, self._command.words, importable
        )
        self._environment = {**self._environment, **redact_tree(dict(self._interpreters.captured))}
        write_json(self._folder.environment, self._environment)
        if self._outputs is None:
            return
        every = [
            (process, replace(each, path=self._own_name.of(each.path)))
            for process in self.processes
            for each in process.opened
            if not self._is_key(each.path)
        ]
        # a sandbox shows what counts of a repetition at its own path
        opened = [each for process, each in every if self._repetition is not None or process.shares(each.path)]
        changed = self._changed_meanwhile(each.path for each in opened if not each.written)
        self._opened_elsewhere = len(every) - len(opened)
        written = {os.path.normpath(each.path) for each in opened if each.written}
        rewritten = {os.path.normpath(each.path) for each in opened if each.replaced}
        outputs = self._outputs.record(self._folder, written, _printed(end), written - rewritten, changed)
        self._record_outputs(outputs)
        # a file that standard input is read from is listed as that, also where code opens it by /dev/stdin
        no_inputs = {self._stdin.path} if self._stdin is not None else set()
        no_inputs |= own_records(opened) if self._repetition is None else set()
        read = [each.path for each in opened if each.read and os.path.normpath(each.path) not in no_inputs]
        self._record_inputs(read, outputs)
        if self._repetition is None:
            data, links = zip(self._data, self._data_paths, strict=True), self._outputs.links
            self._data = tuple(with_other_paths(each, self._working_folder, path, links, read) for each, path in data)
        metrics = self._metrics.read(self._folder.metrics, rewritten) if self._metrics is not None else ()
        self.notes = tuple(self._notes(outputs, metrics, end))

    def _changed_meanwhile(self, opened: Iterable[str]) -> set[str]:
        """The files outside of the working folder that it read, and that it or another program wrote since the start:
        nobody knows what was read.
        """
        start = self._folder.program.stat().st_ctime_ns  # by the clock of the kernel, as the files' own times
        # an installer that links to installed files changes their times as well
        searched = (entry for process in self.processes for entry in process.search_path)
        folders = (str(self._working_folder), *(entry for entry in searched if entry.endswith("-packages")))
        left_out = tuple(os.path.join(folder, "") for folder in folders)
        outside = {path for path in map(os.path.normpath, opened) if not path.startswith(left_out)}
        known = {path: identity_of(Path(path)) for path in outside} if self._repetition is None else {}
        return {path for path, found in known.items() if found is not None and found[2] > start}

    def _record_outputs(self, outputs: Outputs) -> None:
        digest = _write_files(self._folder.outputs, outputs.files)
        more: dict[str, Any] = {"unmatched": list(outputs.unmatched), "removed": list(outputs.removed[:LISTED])}
        more[FOLDERS] = list(outputs.folders[:LISTED])
        if outputs.problem:
            more["problem"] = outputs.problem
        self._outputs_resource = _printable(files_resource(OUTPUTS, outputs.files, sha256=digest, **more))

    def _record_inputs(self, opened: Sequence[str], outputs: Outputs) -> None:
        written = {str(self._working_folder / file.path): file for file in outputs.files if file.written}
        # an output may be read by a link to it
        real = {os.path.realpath(path): path for path in written}
        opened = [real.get(os.path.realpath(path), path) for path in opened]
        within = None if self._repetition is None else self._repetition.read
        keep = self._folder if self._repetition is None and not self._commit else None
        words = words_of_files(self._working_folder, self._command.words[1:], self._is_key)
        found = read_files(self._working_folder, words, opened, written, self._data_paths, within, keep)
        self._kept_inputs = sum(file.copy is not None for file in found.files)
        both = (*found.files, *self._read_and_written(words, opened, written))
        files = (*filter(None, [self._stdin]), *sorted(both, key=lambda file: file.path))
        elsewhere = f"{self._opened_elsewhere} openings in another file system, such as a container's, are left out"
        problems = [found.problem] * bool(found.problem) + [elsewhere] * bool(self._opened_elsewhere)
        if beyond := sum(each.opened_not_listed for each in self.processes):
            problems.append(f"{plural(beyond, 'opening')} beyond what the hook lists")
        problems += {text for each in self.processes for text in each.problems if text.startswith(OPENED_FILES)}
        more: dict[str, Any] = {"problem": "; ".join(problems)} if problems else {}
        if names := sorted(self._own_name.others)[:_NAMES]:
            more[OTHER_NAMES] = names
        digest = _write_files(self._folder.inputs, files)
        self._inputs_resource = _printable(files_resource(INPUTS, files, sha256=digest, **more))

    def _read_and_written(
        self, words: Iterable[str], opened: Iterable[str], written: Mapping[str, ProgramFile]
    ) -> Iterable[ProgramFile]:
        """The outputs that it read, too, as they were before it changed them."""
        for path, how in ways_read(self._working_folder, words, opened).items():
            file = written.get(path)
            before = None if file is None or self._outputs is None else self._outputs.read_before(path, file.sha256)
            if file is not None and before is not None:
                yield ProgramFile(file.path, how, before.size, before.sha256)

    def _notes(self, outputs: Outputs, metrics: Iterable[str], end: ProgramEnd | None) -> Iterable[str]:
        if self._kept_inputs:
            yield f"code: no commit has it; {plural(self._kept_inputs, 'file')} that it read kept with the run"
        if self._image is not None and self._image.attestation_problem:
            yield f"statements on the image: not referred to: {self._image.attestation_problem}"
        for pattern in outputs.unmatched:
            yield f"--out {pattern}: no file matches"
        yield from metrics
        if outputs.problem:
            yield f"outputs: {outputs.problem}"
        if end is not None and end.outlived_by:
            yield f"still running: {', '.join(end.outlived_by[:3])}; what it does from now on is not recorded"

    def internal_parameters(self, end: ProgramEnd | None) -> dict[str, Any]:
        """What was seen of the program, by the names of ``FACTS``."""
        missing = unavailable("it was never started")
        return {
            "ending": missing if end is None else {"stops": list(end.stops), "outlivedBy": list(end.outlived_by)},
            "streams": missing if end is None else self._streams(end),
            "usage": missing if end is None else dict(end.usage),
            "interpreters": [interpreter_json(each) for each in self._interpreters.found] if self._interpreters else [],
            "observation": self._observation(),
        }

    def _streams(self, end: ProgramEnd) -> dict[str, Any]:
        log: dict[str, Any] = {"bytes": end.log.bytes, "leftOut": end.log.left_out}
        if end.log.problem:
            log["problem"] = end.log.problem
        return {"stdin": self._stdin_kind, **end.streams, "log": log}

    def _observation(self) -> dict[str, Any]:
        """How many Python processes the hook saw, or why none."""
        if self.processes:
            return {"processes": len(self.processes)}
        if self._process_problem:
            return unavailable(self._process_problem)
        if self._image is not None:
            return unavailable(f"it ran in a container of {self._image.engine}, where no start-up hook was seen")
        if self._interpreters is None or not self._interpreters.found:
            return unavailable("no Python process with the start-up hook was seen: the command is no Python")
        if any(word.startswith("-") and set("IES") & set(word) for word in self._command.words[1:3]):
            return unavailable("Python was started with -I, -E or -S, which keep the start-up hook out")
        return unavailable("the Python process did not load the start-up hook")

    @property
    def _commit(self) -> str | None:
        return (source_resource(self._source).digest or {}).get("gitCommit")

    @property
    def machine(self) -> Any:
        """Everything of environment.json but the distributions, which are dependencies."""
        from provenance.attestation import packages

        return packages.machine(self._environment, {})

    @property
    def dependencies(self) -> tuple[Resource, ...]:
        """Every dependency, in the manifest's order."""
        origin = () if self._origin is None else (self._origin,)
        inputs = () if self._inputs_resource is None else (self._inputs_resource,)
        described = source_resource(self._source)
        installed = () if self._interpreters is None else self._interpreters.dependencies
        image = () if self._image is None else _image_resources(self._image)
        return (*origin, described, self._executable, *image, *inputs, *self._data, *installed)

    def byproducts(self, end: ProgramEnd | None, error: ProvenanceError | None) -> tuple[Resource, ...]:
        """The outputs, the energy that was counted, and what went wrong with recording."""
        found = [] if self._outputs_resource is None else [self._outputs_resource]
        found += [] if end is None else [Resource(ENERGY, annotations=dict(end.energy))]
        if error is not None:
            said = {"type": type(error).__name__, "message": redact_text(error.message), "cure": error.cure}
            found.append(Resource(ERROR, annotations=printable(said)))
        return tuple(found)


def _printed(end: ProgramEnd | None) -> PrintedOutput | None:
    """Standard output where it was to be kept."""
    if end is None or end.output is None:
        return None
    facts = end.streams["stdout"]
    return PrintedOutput(facts["bytes"], facts["sha256"], end.output)


def _image_resources(image: CommandImage) -> Iterable[Resource]:
    """The image, and the signed statements on it, or why they are not referred to."""
    facts: dict[str, Any] = {"engine": image.engine, **(unavailable(image.reason) if image.reason else {})}
    if image.attestation_problem:
        facts["attestation"] = unavailable(image.attestation_problem)
    digest = {"sha256": image.sha256} if image.sha256 else None
    yield Resource(IMAGE, uri=printable(redact_text(image.image)), digest=digest, annotations=printable(facts))
    if image.attestation:
        yield Resource(IMAGE_ATTESTATION, digest={"sha256": image.attestation.removeprefix("sha256:")})


def _write_files(path: Path, files: Iterable[ProgramFile]) -> str:
    """Write the list of all files as canonical JSON; its digest."""
    document = canonical_bytes(printable({"files": [file.to_json() for file in files]}))
    write_atomically(path, document)
    return bytes_digest(document)


def _printable(resource: Resource) -> Resource:
    return Resource(resource.name, digest=resource.digest, annotations=printable(dict(resource.annotations or {})))
