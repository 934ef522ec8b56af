"""The files that Python code of this process opens, seen by an audit hook (PEP 578).

Each path is written once for each way of opening (read, write, append, or reading and one of these) and each import,
when it is opened, so that a killed process leaves its list. "Append" is every writing that leaves there what the file
holds. What is asked for is listed: the file need not be there. Left out are the interpreter's own folders with their
installed packages, which the distributions describe, /proc, /sys and /dev. For compiled Python that is read its source
is listed, which Python then does not open.

Of a file that an import opens its line has the module's name, too, and the file whose code imports it: whatever was on
the search path, then or later, this was executed in that name.
"""

from __future__ import annotations

import os
import sys

from . import plain_json
from .process_file import ProcessFile, append

TYPE_CHECKING = False  # most programs never import typing
if TYPE_CHECKING:
    import types

# what a problem of theirs begins with
OPENED_FILES = "opened files"
# distinct lines of one process; of those beyond, the openings are counted
LIMIT = 20_000
_LETTERS = 4096
_HOOK = os.path.dirname(__file__)
_IMPORT_SYSTEM = "<frozen importlib."
_IMPORTLIB = os.path.join(os.path.dirname(os.__file__), "importlib", "__init__.py")
_KINDS = ("r", "a", "ra", "ra"), ("r", "w", "rw", "rw")


class OpenedFiles:
    """Receives audit events. ``see`` is what the hook calls for an opening."""

    def __init__(self, process: ProcessFile) -> None:
        self._left_out = tuple(_folders_left_out(process.folder))
        self.restart(process)

    def restart(self, process: ProcessFile) -> None:
        """Begin the list of a process that was forked."""
        self._process = process
        self._seen: set[tuple[str, str, str]] = set()

    def see(self, path: object, flags: object, module: str = "") -> None:
        """Take note of an opening of ``path``: text, bytes, or a descriptor, which was opened before; of a compiled
        ``module`` that is loaded."""
        if not isinstance(path, (str, bytes)):
            return
        path = os.fsdecode(path)
        if type(path) is not str:  # such as numpy's, of which any method may be another
            path = str.__str__(path)
        if path[:1] != "/":
            path = os.path.join(os.getcwd(), path)
        kind = _KINDS[bool(flags & os.O_TRUNC)][flags & 3] if isinstance(flags, int) else "r"
        if path.endswith(".pyc"):
            path = _source_of(path) if kind == "r" else ""
        if not path or path.startswith(self._left_out):
            return
        imported = _import(module) if kind == "r" else ""
        key = (path, kind, imported)
        if key in self._seen:
            return
        if len(self._seen) >= LIMIT or len(path) > _LETTERS:
            self._process.opened_not_listed += 1
            return
        self._seen.add(key)
        line = f'{{"path":{plain_json.quoted(path)},"mode":"{kind}"{imported}}}\n'
        append(os.path.join(self._process.folder, f"opened-{self._process.stem}.jsonl"), line.encode())


def _import(module: str) -> str:
    """The members of a line that tell the import which this opening is of, or of ``module``; "" for another opening."""
    frame: types.FrameType | None = sys._getframe()
    found = ""
    while frame is not None:
        found = frame.f_code.co_filename
        if not found.startswith((_IMPORT_SYSTEM, _HOOK)):
            break
        if frame.f_code.co_name == "get_code":
            module = str(frame.f_locals.get("fullname", ""))
        frame = frame.f_back
    if not module:
        return ""
    while frame is not None and (found[:1] == "<" or found == _IMPORTLIB):  # code of no file: what executes it
        frame = frame.f_back
        found = frame.f_code.co_filename if frame is not None else found
    importer = found if found[:1] == "<" else os.path.abspath(found)
    return f',"module":{plain_json.quoted(module[:_LETTERS])},"importer":{plain_json.quoted(importer[:_LETTERS])}'


def _source_of(path: str) -> str:
    """The source of ``__pycache__/name.cpython-311.pyc``; "" for another place."""
    folder, name = os.path.split(path)
    above, last = os.path.split(folder)
    return os.path.join(above, name.partition(".")[0] + ".py") if last == "__pycache__" else ""


def _folders_left_out(out: str) -> list[str]:
    hook = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    folders = {out, hook, os.path.dirname(os.__file__), "/proc", "/sys", "/dev"}
    for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix):
        if prefix not in ("/", "/usr", "/usr/local"):
            folders |= {os.path.join(prefix, "lib"), os.path.join(prefix, "lib64")}
    # no slash: these stand before a version
    return [f"{each}/" for each in folders] + ["/usr/lib/python", "/usr/local/lib/python"]
