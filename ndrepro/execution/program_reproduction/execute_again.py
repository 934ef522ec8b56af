"""Runs a recorded program or script again, and has the new run recorded and signed as every other.

    plan_program ──> ProgramPlan (shown) ── permitted ──> run_again ──> FinishedProgram

The recorder is that of ``ndrepro record``; its program runs in a private folder, in a sandbox where there is one, with
the variables that were recorded and none of the reviewer's own. Standard input is the recorded file, if it was one that
is here, else empty. Judging the two runs is ``ndrepro.analysis.verdicts.program_verdict``'s part.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ndrepro.execution.program_reproduction import private_folder, program_environment
from ndrepro.execution.program_reproduction.confined_program import ConfinedCommand, left_behind
from ndrepro.execution.program_reproduction.data_elsewhere import DataElsewhere
from ndrepro.execution.program_reproduction.launchers import without_launcher
from ndrepro.execution.program_reproduction.private_folder import PrivateFolder
from ndrepro.execution.program_reproduction.program_environment import ProgramEnvironment
from ndrepro.execution.program_reproduction.recorded_command import RecordedCommand, is_plain
from ndrepro.execution.program_reproduction.recorded_inputs import is_inside
from ndrepro.execution.programs.command import Command, moved
from ndrepro.execution.programs.program_account import Repetition
from ndrepro.execution.programs.program_run import FinishedProgram, ProgramRequest, record_program
from ndrepro.execution.reproduce.code_execution import Execution, plan_execution
from ndrepro.execution.reproduce.reexecute import Original
from ndrepro.execution.sandbox.confinement import is_of_the_machine
from ndrepro.execution.sandbox.passed_variables import passed_variables
from ndrepro.execution.sandbox.sandbox import Sandbox
from ndrepro.protocol.errors import SandboxError, UsageError
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.program_record import BEHAVIOUR_OF_PYTHON, is_below
from ndrepro.protocol.recorded.variables import PLACES_OF_MACHINES, is_as_recorded, of_program_not_given
from ndrepro.protocol.run_kind import SCRIPT
from ndrepro.protocol.verdicts import NO_SANDBOX
from ndrepro.text.plurals import all_of, first_of
from provenance.formats.atomic_io import make_folder

# of this machine, whatever was recorded: they name places
_OF_HERE = ("PATH", "LD_LIBRARY_PATH")
_AS_RECORDED = ("PYTHONHASHSEED", "SOURCE_DATE_EPOCH", *BEHAVIOUR_OF_PYTHON)
# of a user, a terminal or a desktop, and no setting of a program's, unless it takes one of these families for one
_OF_A_DESKTOP = re.compile("(?:TERM|XDG|SSH|DBUS|GPG|WAYLAND|GNOME|KDE)_.*")
_OF_A_USER = re.compile(
    "USER|LOGNAME|SHELL|TERM|COLORTERM|(?:NO|FORCE|CLI|LS|PY|PYTHON)_?COLORS?|COLUMNS|LINES|PWD|OLDPWD|SHLVL|_"
    f"|EDITOR|VISUAL|PAGER|BROWSER|DISPLAY|HOSTNAME|TEMP|TMP|PATH|{_OF_A_DESKTOP.pattern}"
)
_SHOWN = 5
# of a path under which the private folder is shown: of the kernel's 4096 the files below need some, too
_MOST_BYTES = 2048


@dataclass(frozen=True)
class ProgramPlan:
    """What will be executed, where, in which environment and sandbox; ``differences`` from the record, in words.

    ``words`` name the private folder; ``at`` is the path under which the program sees that, ``None`` for its own, and
    ``names`` are further ones of its working folder.
    """

    command: RecordedCommand
    words: tuple[str, ...]
    place: PrivateFolder
    environment: ProgramEnvironment
    variables: Mapping[str, str]
    execution: Execution
    recorded_search_path: str = ""
    recorded_home: str = ""
    recorded_variables: Mapping[str, Any] = field(default_factory=dict)
    at: Path | None = None
    names: tuple[Path, ...] = ()

    def seen(self, word: str) -> str:
        """A word that names a path of the private folder, as the program is given it."""
        return word if self.at is None else moved(word, self.place.place, self.at)

    @property
    def home(self) -> str:
        """The path of the recorded home folder, in the private folder where it was in the recorded one; "" for none."""
        home, top = self.recorded_home, self.command.top or self.command.working_folder
        return self.seen(moved(home, top, self.place.place)) if is_plain(Path(home)) else ""

    @property
    def differences(self) -> tuple[str, ...]:
        """Of code, inputs and environment."""
        place = self.place
        found = (*place.differences, *place.missing, *self.environment.differences, *self.environment.concerns)
        return *found, *self.search_path[1], *self.lost_variables, *self.words_of_then

    @property
    def words_of_then(self) -> tuple[str, ...]:
        """The words of the command that name the recorded folder in another way than ``moved`` knows, in words."""
        top = str(self.command.top or self.command.working_folder)
        left = [word for word in self.words if self.at is None and len(top) > 1 and top in re.sub("/+", "/", word)]
        where = "is as it is now" if self.recorded_folder_is_there else "is not there"
        return (f"words that name {top}, which {where}: {all_of(left)}",) if left else ()

    @property
    def recorded_folder_is_there(self) -> bool:
        """Whether the program finds something at the path of the recorded folder, as only a sandbox keeps it from."""
        top = self.command.top or self.command.working_folder
        return self.execution.sandbox == NO_SANDBOX and os.path.lexists(top)

    @property
    def lost_variables(self) -> tuple[str, ...]:
        """The variables that the program had and does not get, in words."""
        names = self.other_variables
        read = sorted(name for name in self._read_and_lost if not _OF_A_USER.fullmatch(name))
        return (
            *([f"variables of then, not so now: {first_of(names, _SHOWN)}"] if names else []),
            *([f"variables that it read, whose values were not recorded: {first_of(read, _SHOWN)}"] if read else []),
        )

    @property
    def other_places(self) -> tuple[str, ...]:
        """The variables of a user or a machine that the program had otherwise than now, in words."""
        here = self.variables if self.execution.sandbox == NO_SANDBOX else Sandbox.variables(self.variables)
        recorded = self.recorded_variables.keys() - {*self.other_variables}
        names = [n for n in PLACES_OF_MACHINES if n in recorded and self.recorded_variables[n] != here.get(n)]
        names += sorted(name for name in self._read_and_lost if _OF_A_DESKTOP.fullmatch(name))
        return (f"places of this machine and its user, not as recorded: {all_of(names)}",) if names else ()

    @property
    def _read_and_lost(self) -> frozenset[str]:
        """The variables that it read, of which nobody recorded the value, and that it does not get."""
        return frozenset(self.command.variables) - self.recorded_variables.keys() - self.variables.keys()

    @property
    def other_variables(self) -> tuple[str, ...]:
        """The names of recorded variables that the program does not get, or with another value."""
        return of_program_not_given(self.recorded_variables, self.variables, self.command.variables)

    @property
    def search_path(self) -> tuple[str, tuple[str, ...]]:
        """PYTHONPATH as far as it leads into the private folder, and the rest of it in words."""
        top, place = self.command.top or self.command.working_folder, self.place.place
        kept: list[str] = []
        lost: list[str] = []
        # an empty one is the folder that Python is started in
        entries = self.recorded_search_path.split(os.pathsep) if self.recorded_search_path else []
        for entry in (entry or os.curdir for entry in entries):
            # one that is relative is looked for in the folder that Python is started in, and stays as it is
            relative = not os.path.isabs(entry)
            here = self.place.working_folder / entry if relative else Path(moved(entry, top, place))
            known = ".." not in here.parts if relative else is_plain(Path(entry)) and is_below(entry, top)
            if known and is_inside(here, place):
                kept.append(entry if relative else str(here))
            else:
                lost.append(f"PYTHONPATH: {all_of([entry])} then, not now")
        return os.pathsep.join(kept), tuple(lost)


def plan_program(
    original: Original,
    scratch: Path,
    *,
    repositories: Sequence[Path],
    private: Sequence[Path],
    sandbox: str,
    rebuild: bool,
    data: Path | None = None,
) -> ProgramPlan:
    """Prepare a private folder below ``scratch``, and say what would be executed in it; nothing is executed.

    Args:
        original: the verified run, a private copy.
        repositories: folders that may be in a repository with the recorded commit.
        private: the folders of runs and keys.
        sandbox: the kind, one of ``ndrepro.execution.sandbox.sandbox.CHOICES``.
        rebuild: install the recorded distributions into an environment of its own.
        data: where inputs are looked for, by digest, that are not where the program read them.

    Raises UsageError for what was not recorded or cannot be had, SandboxError, EnvironmentMissing, StorageError.
    """
    if original.manifest.outcome not in ("completed", "failed"):
        raise UsageError(
            f"{original.place}: it was {original.manifest.outcome}; only a run that ended by itself is repeated"
        )
    command, launched = without_launcher(RecordedCommand.of(original.manifest, original.folder))
    recorded = command.top or command.working_folder
    # a path that somebody else recorded may lead to anything
    own = [recorded] if original.own and recorded.is_dir() else []
    judge = private_folder.judge_of((original.place, original.folder.root, *private), own=original.own)
    execution = plan_execution(original.manifest, original.folder.root, sandbox, [*repositories, *own])
    place = private_folder.build(
        command,
        original.manifest,
        original.folder,
        scratch / "code",
        [*repositories, *own],
        judge,
        None if data is None else DataElsewhere(data),
        maps=execution.sandbox != NO_SANDBOX,
    )
    named, own_run = (command, original.manifest), original.own
    if rebuild:
        folder = scratch / "environment"
        environment = program_environment.rebuild_environment(*named, folder, place.place, own=own_run)
    else:
        environment = program_environment.find_environment(
            *named,
            place.place,
            [*repositories, *own],
            private,
            kept=(*place.shown, *place.mapped, *place.repositories.folders),
            own=own_run,
            maps=execution.sandbox != NO_SANDBOX,
        )
    environment = replace(environment, differences=(*launched, *environment.differences))
    if python := environment.python:
        environment = replace(environment, in_place=private_folder.have_pythons(command, place.place, python))
    return ProgramPlan(
        command,
        tuple(moved(word, recorded, place.place) for word in command.words),
        place,
        environment,
        _variables(original.manifest.variables, environment),
        execution,
        str(original.manifest.variables.get("PYTHONPATH") or ""),
        str(original.manifest.variables.get("HOME") or ""),
        original.manifest.variables,
    )


def run_again(original: Original, plan: ProgramPlan, runs: RunsFolder, home: Path, *, quiet: bool) -> FinishedProgram:
    """Execute what was planned, and permitted, and record it as a repetition of ``original``.

    With ``quiet`` its output is kept in the run's log alone; else it is shown on standard error too, marked. Raises
    SandboxError where it could not be confined, and so was not executed.
    """
    variables = _given(plan)
    request = ProgramRequest(
        Command(plan.words, plan.environment.executable, plan.command.name),
        outputs=plan.command.outputs,
        metrics=plan.command.metrics,
        seeds=plan.command.seeds,
        trail=plan.command.trail,
        repetition=Repetition(
            original.as_resource(),
            None if plan.execution.sandbox == NO_SANDBOX else _launch(plan, variables, runs, home),
            variables,
            plan.place.place,
            plan.at,
            (*plan.place.shown, *plan.environment.shown, *(path.parent for path in plan.environment.interpreters)),
            plan.environment.importable,
            {**plan.environment.editable.opened, **plan.place.mapped, **_named(plan)},
        ),
    )
    runs, home = RunsFolder(runs.root.absolute()), home.absolute()
    with _standing_in(plan.place.working_folder, plan.place.standard_input, quiet=quiet):
        finished = record_program(request, runs, home)
    return replace(finished, left_behind=left_behind(_command_file(plan)))


def _script_keys(plan: ProgramPlan) -> Path:
    return plan.place.place.with_name("keys")


def _bytecode(plan: ProgramPlan) -> Path:
    return plan.place.place.with_name("bytecode")


def _command_file(plan: ProgramPlan) -> Path:
    return plan.place.place.with_name("command.json")


def at_recorded_path(plan: ProgramPlan, runs: RunsFolder, home: Path) -> ProgramPlan:
    """The same, whose program sees the private folder under the recorded path, where a sandbox can show it there: where
    nothing else is shown, nor looked for by anything but the program, and no runs or keys are. Likewise its working
    folder under the other names by which the program opened files, where all of them can be shown.
    """
    top = plan.command.top or plan.command.working_folder
    if plan.execution.sandbox == NO_SANDBOX or not _may_be_shown_at(top, plan, runs, home):
        return plan
    mapped = {path: found for path, found in plan.place.mapped.items() if path not in plan.place.beside}
    placed = replace(plan, at=top, place=replace(plan.place, mapped=mapped))
    names = [path for path in map(Path, plan.command.other_names) if is_plain(path) and not is_below(path, top)]
    names = [path for path in names if not is_below(top, path) and _may_be_shown_at(path, plan, runs, home)]
    for found in (replace(placed, names=tuple(names)), placed):
        with suppress(SandboxError):
            _confined(found, _given(found), runs, home).expect_possible()
            return found
    return plan


def _may_be_shown_at(top: Path, plan: ProgramPlan, runs: RunsFolder, home: Path) -> bool:
    private = {each for path in (runs.root.absolute(), home.absolute()) for each in (path, path.resolve())}
    searched = [entry for name in _OF_HERE for entry in plan.variables.get(name, "").split(os.pathsep)]
    return not (
        len(os.fsencode(top)) > _MOST_BYTES
        or is_of_the_machine(top)
        or any(part.startswith(".") for part in top.parts)  # of a home folder, say: settings, modules
        or any(is_below(each, top) or is_below(top, each) for each in private)
        or any(os.path.isabs(entry) and is_below(entry, top) for entry in searched)
    )


def _named(plan: ProgramPlan) -> dict[Path, Path]:
    """The working folder by each further name."""
    return dict.fromkeys(plan.names, plan.place.working_folder)


def _given(plan: ProgramPlan) -> dict[str, str]:
    """The program's variables, and the folders beside its code that they name."""
    # bytecode beside source may be of another one
    make_folder(_bytecode(plan))
    variables = {
        **plan.variables,
        "PYTHONPATH": os.pathsep.join(map(plan.seen, plan.search_path[0].split(os.pathsep))),
        "PYTHONPYCACHEPREFIX": str(_bytecode(plan)),
        "PWD": plan.seen(str(plan.place.working_folder)),  # as a shell sets it
    }
    if plan.command.kind == SCRIPT:  # it signs its own run, with a key that is thrown away
        # beside the code: no key is kept in a work tree of git's
        make_folder(_script_keys(plan))
        variables["NDREPRO_HOME"] = str(_script_keys(plan))
    return variables


def _launch(plan: ProgramPlan, variables: Mapping[str, str], runs: RunsFolder, home: Path) -> Command:
    words = _confined(plan, variables, runs, home).words(_command_file(plan))
    return Command(tuple(words), Path(words[0]), plan.command.name)


def _confined(plan: ProgramPlan, variables: Mapping[str, str], runs: RunsFolder, home: Path) -> ConfinedCommand:
    # where it was recorded may be another commit's code now
    environment, place = plan.environment, plan.place.place
    recorded = [plan.command.top or plan.command.working_folder]
    keys = [_script_keys(plan)] if plan.command.kind == SCRIPT else []
    mapped = {str(inside): str(found) for inside, found in {**environment.editable.mapped, **plan.place.mapped}.items()}
    # an editable installation writes by its own path what other steps read by the program's; nothing writes git's files
    kept = plan.place.repositories.folders
    folders = [os.path.normpath(plan.place.working_folder / name) for name in plan.command.folders]
    written = {
        str(inside): str(found)
        for inside, found in environment.editable.mapped.items()
        if any(is_below(each, found) for each in folders) and not any(is_below(each, found) for each in kept)
    }
    return ConfinedCommand(
        kind=plan.execution.sandbox,
        command=(plan.seen(str(environment.executable)), *(plan.words if plan.at is None else plan.command.words)[1:]),
        folder=plan.seen(str(plan.place.working_folder)),
        writable=tuple(map(str, (*([place] if plan.at is None else []), _bytecode(plan), *keys))),
        readable=tuple(
            map(str, (environment.executable, *environment.shown, *plan.place.shown, *plan.place.repositories.folders))
        ),
        interpreters=(sys.executable, *map(str, environment.interpreters)),
        runs=str(runs.root.absolute()),
        secret=str(home.absolute()),
        variables=variables,
        home=plan.home,
        mapped={inside: found for inside, found in mapped.items() if inside not in written},
        placed={
            **written,
            **({} if plan.at is None else {str(plan.at): str(place)}),
            **{str(path): str(found) for path, found in _named(plan).items()},
        },
        links={str(path): target for path, target in environment.editable.links.items()},
        covered=tuple(map(str, {*environment.editable.clones, *recorded} - {*plan.place.shown})),
        expected=plan.place.expected,
    )


def _variables(recorded: Mapping[str, str], environment: ProgramEnvironment) -> dict[str, str]:
    """The recorded variables that may decide a result, and this machine's search paths."""
    plain = {name: value for name, value in recorded.items() if isinstance(value, str) and "[redacted:" not in value}
    found = {name: value for name, value in passed_variables(plain).items() if name not in _OF_HERE}
    found |= {name: value for name, value in plain.items() if name in _AS_RECORDED or is_as_recorded(name)}
    found |= {name: os.environ[name] for name in _OF_HERE if name in os.environ}
    folders = [*(str(folder / "bin") for folder in environment.folders), *map(str, environment.programs)]
    found["PATH"] = os.pathsep.join([*folders, found.get("PATH", os.defpath)])
    return found


@contextmanager
def _standing_in(folder: Path, standard_input: Path | None, *, quiet: bool) -> Iterator[None]:
    """Be, for a while, a process in ``folder`` with a file or nothing for standard input, and output put aside."""
    before = os.getcwd()
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (0, 1, 2)]
    nothing = os.open(os.devnull, os.O_RDWR)
    given = os.open(standard_input or os.devnull, os.O_RDONLY)
    try:
        os.chdir(folder)
        os.dup2(given, 0)
        for number in (1, 2):
            os.dup2(nothing if quiet else kept[2], number)
        yield
    finally:
        for number, copy in enumerate(kept):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nothing)
        os.close(given)
        os.chdir(before)
