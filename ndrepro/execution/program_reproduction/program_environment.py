"""The interpreter that a program runs in again, and how its distributions differ from those that were recorded.

    of an own run the file that its recorder started   else the one that the command's first word names on the PATH
    of a script there, the Python that its first line names
    of a distribution's script, the one of that name in the environment here
    --rebuild-env: an environment of its own, of the recorded versions, installed by uv

A rebuilt environment has no distribution that was not recorded, and those that no index can have (installed from a
folder or a repository, or of unknown version) are left out and named. Wheels alone are installed, and its interpreter
is not started here: an author chooses what is in it, and only the sandbox executes that. Nobody else vouches for it,
so the claim on a rebuilt environment is never "checked".

An interpreter is asked what it imports before there is a sandbox, so it must be one that the reviewer chose: a path
that somebody else recorded is never executed, since it may lead to a file of his clone of their repository. uv is
started where no configuration file of others is in force, which could name an index of their own.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import distributions
from pathlib import Path

from ndrepro.execution.environments.interpreters import find_python, run_uv
from ndrepro.execution.program_reproduction import editable_folders, environment_files
from ndrepro.execution.program_reproduction.asked_python import AskedPython, ask_python
from ndrepro.execution.program_reproduction.editable_folders import EditableFolders
from ndrepro.execution.program_reproduction.recorded_command import RecordedCommand
from ndrepro.execution.program_reproduction.recorded_inputs import is_inside
from ndrepro.execution.programs.interpreters import is_python, not_compiled, python_of
from ndrepro.execution.sandbox.interpreter_paths import installation_paths
from ndrepro.protocol.errors import EnvironmentMissing, UsageError
from ndrepro.protocol.program_record import is_below
from ndrepro.protocol.training_record import installed_distributions, recorded_distributions
from ndrepro.text.plurals import all_of, plural
from provenance.attestation.manifest import Manifest
from provenance.capture.distribution_metadata import normalized
from provenance.capture.distributions import DistributionSearch, search
from provenance.errors import DigestError
from provenance.formats.digest import file_digest
from provenance.system_programs import find_any_program

_NAME, _VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"), re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]*")
_SHOWN_LINES = 6
_EDITABLE = "metadata and scripts of an editable installation"
_OF_THE_INDEX = (
    "of the recorded versions installed from the index: nobody has read what their wheels hold, which may stand in "
    "each other's place or run at every start of Python; repeat it in an environment of your own to compare them"
)


@dataclass(frozen=True)
class ProgramEnvironment:
    """Which file is executed, and what differs from the record, in words.

    ``interpreters`` are those that it may start; ``searched`` the folders that they import from, editable installations
    among them, of which ``readable`` is shown, and what ``editable`` says; ``folders`` hold a rebuilt environment,
    whose programs come first, with its ``packages``. ``programs`` are folders whose programs come next: of the Python
    that a shim on PATH leads to, which the sandbox does not show. ``unequal`` has those of the differences that are of
    Python or a distribution, by its name. ``concerns`` are what may be another thing than its distributions say,
    ``notes`` what no source names, and ``scripts`` which function a console script calls; all in words. ``in_place``
    are paths in the recorded folder at which the program finds its interpreter.
    """

    executable: Path
    interpreters: tuple[Path, ...]
    differences: tuple[str, ...]
    folders: tuple[Path, ...] = ()
    searched: tuple[Path, ...] = ()
    programs: tuple[Path, ...] = ()
    packages: Path | None = None
    readable: tuple[Path, ...] = ()
    editable: EditableFolders = field(default_factory=EditableFolders)
    unequal: Mapping[str, str] = field(default_factory=dict)
    concerns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    in_place: tuple[str, ...] = ()

    @property
    def python(self) -> Path | None:
        """The interpreter of this environment; ``None`` where none is here."""
        return next(iter((*(folder / "bin" / "python" for folder in self.folders), *self.interpreters)), None)

    @property
    def importable(self) -> frozenset[str]:
        """The folders that its distributions are read from."""
        return frozenset(map(str, (*self.searched, *filter(None, [self.packages]))))

    @property
    def of_others(self) -> frozenset[str]:
        """The folders whose modules are none of the recorded code: all but where an installation of that imports from,
        and what is shown of other projects that are installed editable."""
        searched = (folder for folder in self.importable if Path(folder) not in self.editable.sources)
        return frozenset((*searched, *map(str, self.editable.readable)))

    @property
    def shown(self) -> tuple[Path, ...]:
        """The folders that the program must be able to read."""
        return *self.folders, *self.readable


def find_environment(
    command: RecordedCommand,
    manifest: Manifest,
    place: Path,
    repositories: Sequence[Path],
    private: Sequence[Path],
    *,
    kept: Sequence[Path] = (),
    own: bool,
    maps: bool,
) -> ProgramEnvironment:
    """The environment that is here.

    Args:
        place: the private folder with the recorded code; nothing in it is executed here.
        repositories, private, kept, maps: as in ``editable_folders.look``; ``kept`` without the interpreter's.
        own: whether this machine's own key signed the run, so that its paths are the reviewer's own.

    Raises UsageError where the command is not found.
    """
    executable, difference = _executable(command, place, own=own)
    of_command = None if is_below(executable, place) else python_of(executable)
    found = _on_path("python3", "python")
    answer = AskedPython() if found is None else ask_python(found)
    named = answer.executable or found
    interpreter = Path(of_command) if of_command else named
    version, searched, _, of_python = answer if interpreter in (None, named) else ask_python(interpreter)
    folders = tuple(Path(place) for place in searched if Path(place).is_dir())
    projects = editable_folders.find(folders, of_python)
    interpreters = tuple(dict.fromkeys(filter(None, (interpreter, named))))
    kept = [*kept, *(path for each in (sys.executable, *interpreters) for path in installation_paths(str(each)))]
    found_editable = editable_folders.look(projects, place, repositories, private, kept, maps=maps)
    here = search(searched)
    installed = replace(here, installed=found_editable.shown(here.installed, folders))
    unequal = dict(_different_distributions(command, manifest, version, installed))
    scripts = {} if is_below(executable, place) else _scripts(command, executable, searched)
    if command.may_be_of_environment and executable.name in scripts:
        difference = ()  # it calls what the distributions say, which are compared
    readable = (*(folder for folder in folders if folder not in projects), *found_editable.readable)
    files = environment_files.look(folders, here, interpreters)
    as_recorded, others = editable_folders.metadata_of_here(installed.installed.values(), place, repositories)
    not_read = editable_folders.not_read(installed.installed.values(), projects)
    false_pythons = sorted({each for python in interpreters for each in not_compiled(python.parent)})
    behind = (named.parent,) if named is not None and found is not None and named.parent != found.parent else ()
    return ProgramEnvironment(
        executable,
        interpreters,
        (*difference, *unequal.values(), *found_editable.differences, *not_read),
        searched=folders,
        programs=behind,
        readable=readable,
        editable=found_editable,
        unequal=unequal,
        concerns=(
            *files.concerns,
            *_archives(searched, of_python),
            *(f"{each}: a script in the place of an interpreter" for each in false_pythons),
            *(f"{name}: {_EDITABLE}, not made from the recorded code" for name in others),
            *(f"built here and not shown: {path}" for path in found_editable.compiled),
        ),
        notes=(
            *files.notes,
            *(f"{name}: {_EDITABLE} here" for name in as_recorded),
            *_not_tracked(found_editable),
            *_of_the_code(found_editable),
        ),
        scripts=tuple(scripts.values()),
    )


def rebuild_environment(
    command: RecordedCommand, manifest: Manifest, folder: Path, place: Path, *, own: bool
) -> ProgramEnvironment:
    """Install the recorded distributions into ``folder``, a new one; ``place`` and ``own`` as in ``find_environment``.

    Raises UsageError where no Python was recorded, EnvironmentMissing where uv cannot install them, with its words.
    """
    if not command.interpreter:
        raise UsageError("--rebuild-env: the recorded program ran no Python", "leave the option out")
    base = find_python(".".join(command.interpreter.split(".")[:2]))
    pins, left_out = _pins(manifest)
    _uv("venv", "--no-project", "--python", str(base), str(folder))
    python = folder / "bin" / "python"
    listed = folder.with_name("recorded.txt")
    listed.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins.items())), encoding="utf-8")
    # by its name each: a name among the user's own settings for building counts more than ":all:"
    wheels = ("--no-deps", "--no-compile-bytecode", *(f"--only-binary={name}" for name in pins))
    _uv("pip", "install", *wheels, "--python", str(python), "--requirements", str(listed))
    script = python.with_name(Path(command.words[0]).name)
    if of_code := _file_of_the_code(command, place):
        executable = of_code
    elif is_python(script):
        executable = python
    elif command.may_be_of_environment and script.is_file():
        executable = script
    else:
        executable = _executable(command, place, own=own)[0]
    packages = next(folder.glob("lib/python*/site-packages"))
    unequal = dict(_different_distributions(command, manifest, ask_python(base).version, search([str(packages)])))
    return ProgramEnvironment(
        executable,
        (base,),
        (*left_out, *unequal.values()),
        (folder,),
        packages=packages,
        unequal=unequal,
        notes=(f"{plural(len(pins), 'package')} {_OF_THE_INDEX}",),
        scripts=() if of_code else tuple(_scripts(command, executable, [str(packages)]).values()),
    )


def _executable(command: RecordedCommand, place: Path, *, own: bool) -> tuple[Path, tuple[str, ...]]:
    """The file to execute, and how it differs from the recorded one. Raises UsageError where there is none.

    Of a Python that is the interpreter itself, which a shim or a link leads to: the sandbox shows no shim. Which one
    the recorded program named is its own word, and counts for nothing. A program of the recorded folder is that of the
    private one, ``place``.
    """
    first = Path(command.words[0])
    digest = (command.executable.digest or {}).get("sha256")
    recorded = command.program or Path()
    if inside := _file_of_the_code(command, place):
        return inside, () if digest in (None, _digest(inside)) else (f"{first}: another file than then",)
    if own and recorded.is_absolute() and _is_own(recorded) and os.access(recorded, os.X_OK):
        if digest not in (None, _digest(recorded)):
            return recorded, (f"{recorded}: another file than then",)
        return (is_python(recorded) and ask_python(recorded).executable) or recorded, ()
    found = _on_path(first.name)
    if found is not None and is_python(found):
        return ask_python(found).executable or found, ()
    if found is None:
        raise UsageError(
            f"{command.words[0]}: command not found", "install it, or rebuild the environment: --rebuild-env"
        )
    return found, () if digest == _digest(found) else (f"{command.words[0]}: {recorded} then, {found} now",)


def _file_of_the_code(command: RecordedCommand, place: Path) -> Path | None:
    """The file of the recorded code that the command's first word names, whatever it is called."""
    recorded, top = command.program or Path(), command.top or command.working_folder
    inside = place / os.path.relpath(recorded, top) if recorded.is_absolute() and is_below(recorded, top) else None
    return inside if inside is not None and inside.is_file() and is_inside(inside, place) else None


def _scripts(command: RecordedCommand, executable: Path, searched: Sequence[str]) -> dict[str, str]:
    """By name the console scripts of distributions that are executed, or were read by what is, with what they call."""
    places = (command.working_folder / file.path for file in command.inputs)
    beside = {place.name for place in places if os.path.dirname(os.path.normpath(place)) in command.programs}
    names = {name for name in (executable.name, *beside) if not is_python(Path(name))}
    found: dict[str, dict[str, None]] = {}
    for each in distributions(path=[*searched]) if names else ():
        for point in each.entry_points:
            if point.group == "console_scripts" and point.name in names:
                found.setdefault(point.name, {})[f"{point.value} of {each.name}"] = None
    return {name: f"{name} is {' and '.join(called)}" for name, called in sorted(found.items())}


def _archives(searched: Sequence[str], own: Collection[Path]) -> Iterator[str]:
    """What is imported from and is no folder."""
    for place in (Path(each) for each in searched if os.path.isfile(each)):
        if place not in own:
            yield f"{all_of([place])}: an archive that modules are imported from"


def _of_the_code(found: EditableFolders) -> Iterator[str]:
    if found.places:
        code = "the recorded code as it was before the start"
        yield f"editable installations here import, of {code}, {all_of(found.places)}"


def _not_tracked(found: EditableFolders) -> Iterator[str]:
    if names := [path for path in found.built if path not in found.compiled]:
        yield f"here alone and not shown: {all_of(names)}"


def _is_own(path: Path) -> bool:
    """Whether a file belongs to this user or to root."""
    return path.is_file() and path.stat().st_uid in (0, os.getuid())


def _different_distributions(
    command: RecordedCommand, manifest: Manifest, version: str, found: DistributionSearch
) -> Iterator[tuple[str, str]]:
    """Each distribution of the interpreter that is not as recorded, with a line; nothing where no Python ran."""
    if not command.interpreter:
        return
    if version != command.interpreter:
        yield "python", f"python: {command.interpreter} then, {version or 'none'} now"
    then = {normalized(name): each for name, each in recorded_distributions(manifest).items()}
    here = installed_distributions(found.to_json())
    for name in sorted(then.keys() | here.keys()):
        before, now = then.get(name), here.get(name)
        if before is None or now is None:
            yield name, f"{name}: {'not there then' if before is None else 'not here now'}"
        elif before.version != now.version:
            yield name, f"{name}: {before.version or 'unknown'} then, {now.version} now"
        elif not before.same_files(now) and before.digest and now.digest:
            yield name, f"{name} {now.version}: other files than then"


def _pins(manifest: Manifest) -> tuple[dict[str, str], tuple[str, ...]]:
    """Versions that an index may have; and the others, in words."""
    pins, left_out = {}, []
    for item in manifest.dependencies:
        if (named := item.distribution) is None:
            continue
        name, version = named
        if "origin" in (item.annotations or {}):
            left_out.append(f"{name} {version}: installed from a folder or a repository, which no index has")
        elif not version:
            left_out.append(f"{name}: its version is not known")
        elif not (_NAME.fullmatch(name) and _VERSION.fullmatch(version)):
            left_out.append(f"{name} {version}: no name and version of a distribution")
        else:
            pins[name] = version
    return pins, tuple(left_out)


def _uv(*words: str) -> None:
    done = run_uv(*words)
    if done.returncode:
        said = "; ".join(line.strip() for line in done.stderr.strip().splitlines()[-_SHOWN_LINES:])
        raise EnvironmentMissing(
            f"the recorded environment cannot be built: uv {words[0]}: {said}",
            "leave --rebuild-env out: the environment that is here is compared with the recorded one",
        )


def _on_path(*names: str) -> Path | None:
    """The first of these programs that is on this machine."""
    return next((Path(path) for path in map(find_any_program, names) if path), None)


def _digest(path: Path) -> str | None:
    try:
        return file_digest(path).sha256
    except DigestError:
        return None
