"""The files that Python code of this process opens, seen by an audit hook (PEP 578).

Each path is noted once for each way of opening (read, write, append, or reading and one of these) and each import,
when it is opened, so that a killed process leaves its list. "Append" is every writing that leaves there what the file
holds. What is asked for is listed: the file need not be there. Left out are the interpreter's own folders with their
installed packages, which the distributions describe, /proc, /sys and /dev; no modules, though, that are in these
folders and where Python does not look for them by itself. For compiled Python that is read its source
is listed, which Python then does not open.

A file whose code is executed as a module is listed with the module's name, and with the file whose code imports it:
whatever was on the search path, then or later, and from whichever cache or archive it came, it was executed in that
name. That is seen when the code is executed, and not by what is opened for it.
"""

from __future__ import annotations

import os
import sys

from . import plain_json
from .notes import hand_on
from .process_file import ProcessFile, is_own

TYPE_CHECKING = False  # most programs never import typing
if TYPE_CHECKING:
    import types
    import typing

# what a problem of theirs begins with
OPENED_FILES = "opened files"
# distinct lines of one process; of those beyond, the openings are counted
LIMIT = 20_000
_LETTERS = 4096
_HOOK = os.path.dirname(__file__)
# with it what else the recorder brings
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PACKAGES = ("site-packages", "dist-packages")
_IMPORT_SYSTEM = ("<frozen importlib.", "<frozen zipimport>")
_IMPORTLIB = os.path.join(os.path.dirname(os.__file__), "importlib", "__init__.py")
_KINDS = ("r", "a", "ra", "ra"), ("r", "w", "rw", "rw")
# of what is there the kernel makes the content; it also leads to other files
_NO_FILES = ("/proc/", "/sys/", "/dev/")


# event -> where the kind of limit and its values are among its arguments
LIMITS = {"resource.setrlimit": 0, "resource.prlimit": 1}
_FEWEST_DESCRIPTORS = 64


class OpenedFiles:
    """Receives audit events. ``see`` is what the hook calls for an opening."""

    def __init__(self, process: ProcessFile) -> None:
        self._left_out = tuple(_folders_left_out(process.folder))
        self._modules, self._others = _modules_left_out(process.folder)
        # before what the program reads is noted
        self._bytecode = os.environ.get("PYTHONPYCACHEPREFIX")
        self.restart(process)

    def restart(self, process: ProcessFile) -> None:
        """Begin the list of a process that was forked."""
        self._process = process
        self._seen: set[tuple[str, str, str]] = set()

    def see(self, path: object, flags: object) -> None:
        """Take note of an opening of ``path``: text, bytes, or a descriptor, which was opened before."""
        if not isinstance(path, (str, bytes)):
            return
        path = os.fsdecode(path)
        if type(path) is not str:  # such as numpy's, of which any method may be another
            path = str.__str__(path)
        try:
            path = _plain(path)
        except FileNotFoundError as error:  # there is nothing in a working folder that was removed
            if not is_own(error):
                raise
            return
        kind = _KINDS[bool(flags & os.O_TRUNC)][flags & 3] if isinstance(flags, int) else "r"
        if path.endswith(".pyc"):
            self._note_bytecode(path, kind)
            path = _source_of(path) if kind == "r" else ""
        if path and not path.startswith(self._left_out):
            self._list(path, kind)

    def _note_bytecode(self, path: str, kind: str) -> None:
        """Raise OSError where bytecode is read that is not in the folder that was named for it."""
        own = not self._bytecode or path.startswith(self._bytecode)
        if not own and kind == "r" and path.startswith(self._left_out):
            raise OSError(f"bytecode that was there before was read: {path}")

    def see_compiled(self, module: str, path: str) -> None:
        """Take note of a compiled module that is loaded."""
        path = _plain(path)
        if not self._is_known(path):
            self._list(path, "r", _import(module, _caller()))

    def see_loaded(self) -> None:
        """Take note of the modules that Python imported before anybody looked."""
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and not self._is_known(path := _plain(path)):
                self._list(path, "r", _import(name, None))

    def see_executed(self, code: types.CodeType) -> None:
        """Take note of code that is executed, as a module or by ``exec``, where it is of a file."""
        frame, path, module = _caller(), code.co_filename, ""
        for _ in range(2):  # importlib calls exec by a function of its own
            if frame is None or frame.f_code.co_name == "exec_module":
                break
            frame = frame.f_back if frame.f_code.co_filename.startswith(_IMPORT_SYSTEM) else None
        if frame is not None and frame.f_code.co_name == "exec_module":
            spec = getattr(frame.f_locals.get("module"), "__spec__", None)
            module = str(getattr(spec, "name", ""))
            # compiled code names the file that it was made of, which may be anywhere
            path = str(getattr(spec, "origin", None) or path)
        else:
            frame = _caller()
        if frame is None or path[:1] == "<":
            return
        path = _plain(path)
        if self._is_known(path):
            return
        while not os.path.lexists(path):  # in an archive
            path = os.path.dirname(path)
        if os.path.isfile(path):
            self._list(path, "r", _import(module, frame))

    def _is_known(self, path: str) -> bool:
        """Whether a module is where Python and its environment have theirs, which are compared by distributions."""
        known = path.startswith(self._left_out) and path.startswith(self._modules)
        return known and not path.startswith(self._others)

    def _list(self, path: str, kind: str, imported: str = "") -> None:
        key = (path, kind, imported)
        if key in self._seen:
            return
        # of modules there are never so many
        if len(self._seen) >= (LIMIT if not imported else 2 * LIMIT) or len(path) > _LETTERS:
            self._process.opened_not_listed += 1
            raise OverflowError("more than are listed")
        self._seen.add(key)
        line = f'{{"path":{plain_json.quoted(path)},"mode":"{kind}"{imported}}}\n'
        hand_on(self._process.folder, self._process.stem, line.encode())


def writing_limited(event: str, arguments: tuple[typing.Any, ...]) -> str:
    """Which limit of this process will keep the list from being written; "" for none."""
    kind, *values = arguments[LIMITS[event] :][:2]
    resource, limit = sys.modules["resource"], values[0][0] if values and values[0] is not None else -1
    smallest = {resource.RLIMIT_FSIZE: sys.maxsize, resource.RLIMIT_NOFILE: _FEWEST_DESCRIPTORS}.get(kind, 0)
    return f"{event} to {limit}" if 0 <= limit < smallest else ""


def _plain(path: str) -> str:
    """A path that says by its words in which folder it is, whatever links are on it. Raises FileNotFoundError where it
    is relative and the working folder was removed."""
    if path[:1] != "/":
        path = os.path.join(os.getcwd(), path)
    # those of a process are links that are others in another process
    odd = path.startswith(_NO_FILES) or "//" in path or "/./" in path or "/../" in path
    return os.path.realpath(path) if odd else path


def _caller() -> types.FrameType | None:
    """The innermost frame that is none of the hook's."""
    frame: types.FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_HOOK):
        frame = frame.f_back
    return frame


def _import(module: str, frame: types.FrameType | None) -> str:
    """The members of a line that tell in which name a file is executed, and the file whose code asked for it."""
    found = "<start of Python>"
    while frame is not None:
        code = frame.f_code
        found = code.co_filename
        # of code of no file it is what executes that
        if found[:1] != "<" and found != _IMPORTLIB and code.co_name != "exec_module":
            break
        frame = frame.f_back
    importer = os.path.abspath(found) if found[:1] != "<" else found
    return f',"module":{plain_json.quoted(module[:_LETTERS])},"importer":{plain_json.quoted(importer[:_LETTERS])}'


def _source_of(path: str) -> str:
    """The source of ``__pycache__/name.cpython-311.pyc``; "" for another place."""
    folder, name = os.path.split(path)
    above, last = os.path.split(folder)
    return os.path.join(above, name.partition(".")[0] + ".py") if last == "__pycache__" else ""


def _modules_left_out(out: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The folders that Python imports from by itself, those of ``.pth`` files among them, and in these the folders of
    packages that it does not search: in a virtual environment those of the Python that it was made from.
    """
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    searched = [f"{each.rstrip(os.sep)}{os.sep}" for each in sys.path if each and each not in named]
    own = tuple([f"{_ROOT}{os.sep}", f"{out}{os.sep}", f"{os.path.dirname(os.__file__)}{os.sep}", *searched])
    packages = [f"{each}{name}{os.sep}" for each in own for name in _PACKAGES]
    return own, tuple([each for each in packages if each not in own])


def _folders_left_out(out: str) -> list[str]:
    folders = {out, _ROOT, os.path.dirname(os.__file__), *(place.rstrip("/") for place in _NO_FILES)}
    for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix):
        if prefix not in ("/", "/usr", "/usr/local"):
            folders |= {os.path.join(prefix, "lib"), os.path.join(prefix, "lib64")}
    # no slash: these stand before a version
    return [f"{each}/" for each in folders] + ["/usr/lib/python", "/usr/local/lib/python"]
