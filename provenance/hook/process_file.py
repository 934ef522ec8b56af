"""The file about one process: what it is, how it was started, what it uses, when it ended.

It is replaced as a whole at each writing, so a reader finds the last complete one.
"""

from __future__ import annotations

import os
import sys
import time

from . import plain_json

SCHEMA = "urn:ndrepro:process:v1"
# of what a process may make arbitrarily large
_ARGUMENTS, _ARGUMENT_LETTERS, _PATHS, _DISTRIBUTIONS, _PROBLEMS = 1000, 2000, 200, 3000, 20
_HOOK, _PYTHON = os.path.dirname(__file__), os.path.dirname(os.__file__)
_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")


class ProcessFile:
    """One process's facts and the file that has them.

    ``torch`` is what the observation of torch adds, ``opened_not_listed`` how many openings were beyond the list's
    limit, ``variables`` has the names of the environment variables that were read (``read_variables``).
    """

    def __init__(self, folder: str, forked_from: int | None = None) -> None:
        self.folder = folder
        self.pid = os.getpid()
        self.started_ns = time.time_ns()
        self.stem = f"{self.pid}-{self.started_ns}"
        self.opened_not_listed = 0
        self.variables: dict[str, None] = {}
        self.torch: dict[str, object] | None = None
        self._problems: list[str] = []
        self._forked_from = forked_from
        self._first = {
            "schema": SCHEMA,
            "pid": self.pid,
            "parent_pid": os.getppid(),
            "forked_from": forked_from,
            "started_ns": self.started_ns,
            "argv": _arguments(),
            "cwd": _working_folder(),
            "executable": sys.executable or "",
            "prefix": sys.prefix,
            "base_prefix": sys.base_prefix,
            "version": sys.version,
            "implementation": sys.implementation.name,
            "flags": {name: getattr(sys.flags, name) for name in dir(sys.flags) if _is_flag(name)},
        }

    def note(self, part: str, error: object) -> str:
        """Add why a part of the observation stopped, each reason once; of many that there are more. What was added."""
        text = f"{part}: {type(error).__name__}: {error}" if isinstance(error, Exception) else f"{part}: {error}"
        if text[:500] in self._problems:
            return ""
        if len(self._problems) >= _PROBLEMS:
            text = f"{part}: more that are not listed"
        if text[:500] in self._problems:
            return ""
        self._problems.append(text[:500])
        return text[:500]

    def write(self, ending: str | None = None, random: dict[str, str] | None = None) -> None:
        """Write the facts as they are now. ``ending`` is ``exit`` or ``exec`` where the process ends now."""
        facts: dict[str, object] = dict(self._first)
        if self._forked_from is None:
            facts["search_path"] = [str(entry) for entry in sys.path[:_PATHS]]
            facts["folders"] = _identities([self._first["cwd"], *sys.path[:_PATHS]])
        if ending is not None and self._forked_from is None:
            facts["distributions"] = distributions(sys.path[:_PATHS])
        facts["ranks"] = {name: os.environ[name] for name in _RANKS if name in os.environ}
        facts["opened_not_listed"] = self.opened_not_listed
        facts["variables"] = list(self.variables)
        facts["torch"] = self.torch
        facts["random_at_exit"] = random
        facts["ending"] = ending
        facts["ended_ns"] = None if ending is None else time.time_ns()
        facts["problems"] = self._problems
        path = os.path.join(self.folder, f"process-{self.stem}.json")
        append(path + ".new", (plain_json.encode(facts) + "\n").encode(), anew=True)
        os.replace(path + ".new", path)


def is_own(error: Exception, *folders: str) -> bool:
    """Whether the hook raised an exception, or what it calls, in Python's own folder or these: else it is of a handler
    of signals, which ran meanwhile, and the program's."""
    trace, own = error.__traceback__, (_HOOK, _PYTHON, "<frozen ", *folders)
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(own):
            return False
        trace = trace.tb_next
    return True


def append(path: str, content: bytes, *, anew: bool = False) -> None:
    """Add bytes to a file, or write it anew. Raises OSError.

    The file is opened for each writing: a descriptor that stayed open would take a number that the program may expect
    for a file of its own, and a program that closes all descriptors would have what follows written into its files.
    """
    how = os.O_TRUNC if anew else os.O_APPEND
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def distributions(path: list[str]) -> list[list[str]]:
    """Name and version of every distribution whose metadata are on ``path``, by the names of their folders."""
    found: list[list[str]] = []
    for entry in path:
        try:
            names = sorted(os.listdir(entry or os.curdir))
        except OSError:
            continue
        for name in names:
            stem, ending = os.path.splitext(name)
            if ending in (".dist-info", ".egg-info") and len(found) < _DISTRIBUTIONS:
                parts = stem.split("-")
                found.append([parts[0], parts[1] if len(parts) > 1 else ""])
    return found


def _identities(folders: list[object]) -> dict[str, list[int]]:
    """Device and number of each absolute folder: whoever reads this elsewhere knows whether it sees the same one."""
    found = {}
    for folder in folders:
        if isinstance(folder, str) and folder.startswith("/"):
            try:
                status = os.stat(folder)
            except OSError:
                continue
            found[folder] = [status.st_dev, status.st_ino]
    return found


def _is_flag(name: str) -> bool:
    return not name.startswith(("_", "n_")) and name not in ("count", "index")


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # deleted


def _arguments() -> list[str]:
    """The whole command line; ``sys.argv`` is not there yet."""
    arguments = getattr(sys, "orig_argv", None)
    if arguments is None:
        try:
            descriptor = os.open("/proc/self/cmdline", os.O_RDONLY | os.O_CLOEXEC)
            try:
                content = os.read(descriptor, 1 << 20)
            finally:
                os.close(descriptor)
            arguments = [os.fsdecode(each) for each in content.split(b"\0")[:-1]]
        except OSError:
            arguments = []
    return [str(each)[:_ARGUMENT_LETTERS] for each in arguments[:_ARGUMENTS]]
