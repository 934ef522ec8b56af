"""Has each recorded input in the private folder, or shown where it is; or says why it is not to be had.

Looked for, in this order: the run's own copy where there is no commit, the checkout, where the program read it, and
below the path that the reviewer names (``DataElsewhere``). The digest alone decides, but what the recorded commit has
is the code, which nothing replaces: whoever reads the commit must have read what was executed. The content behind a
pointer of Git LFS is the commit's too.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from ndrepro.execution.program_reproduction.data_elsewhere import (
    DataElsewhere,
    FoundData,
    Snapshot,
    all_equal,
    digest_of,
    links_out,
    names_of_no_digest,
    snapshot,
)
from ndrepro.execution.program_reproduction.recorded_command import RecordedCommand, RecordedData, is_of_git
from ndrepro.execution.programs.input_files import is_code, is_source
from ndrepro.execution.sandbox.confinement import is_of_the_system
from ndrepro.execution.sandbox.interpreter_paths import PACKAGE_FOLDERS
from ndrepro.protocol.errors import SandboxError, UsageError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import OPENED, DataPath, ProgramFile, is_below
from provenance.attestation.run_files import inside
from provenance.errors import DigestError
from provenance.formats.atomic_io import make_folder, storage_error
from provenance.formats.bounded_read import LOG_BYTES, open_regular, read_bounded
from provenance.formats.listing import parse
from provenance.git.tracked_files import pointed_digest

Judge = Callable[[Path], None]
# of the machine: what is below is nobody's data
SETTINGS = Path("/etc")
_COPY_BYTES = 256 << 20
_OTHER_CODE = "the recorded commit has another file there, which nothing replaces"
_LEADS_OUT = "a link of the recorded code leads out of it"
# what matplotlib found of the machine's fonts, and looks for again
_FONT_LIST = re.compile(r"/\.cache/matplotlib/fontlist-[\w.-]+\.json\Z", re.ASCII)


class RecordedInputs:
    """Brings inputs one by one. Arguments as those of ``private_folder.build``.

    Attributes:
        shown, mapped, beside, linked, missing, wanted, uncommitted, beside_commit, elsewhere, unlisted,
            of_environment: see ``PrivateFolder``.
        places: where each input that was brought is found, by the recorded file.
    """

    def __init__(
        self,
        command: RecordedCommand,
        place: Path,
        working_folder: Path,
        folder: RunFolder,
        judge: Judge,
        elsewhere: DataElsewhere | None,
        *,
        maps: bool,
    ) -> None:
        self._recorded = command.working_folder
        self._programs = command.programs
        self._top = command.top or command.working_folder
        self._has_commit = command.top is not None
        self._place = place
        self._working_folder = working_folder
        self._folder = folder
        self._judge = judge
        self._elsewhere = elsewhere
        self._maps = maps
        self.shown: dict[Path, Snapshot] = {}
        self.mapped: dict[Path, Path] = {}
        self.beside: dict[Path, Path] = {}
        self.linked: list[str] = []
        self.missing: list[str] = []
        self.uncommitted: list[str] = []
        self.beside_commit: list[str] = []
        self.elsewhere: list[str] = []
        self.unlisted: list[str] = []
        self.of_environment: list[ProgramFile] = []
        self.places: dict[ProgramFile, Path] = {}
        self.wanted = 0
        self._found: dict[RecordedData, Path] = {}

    def bring_data(self, data: RecordedData) -> None:
        """Have declared data, every listed file of them and no other."""
        if self._has_commit and is_of_git(data.path):
            self.missing.append(f"data {data.path}: of git's own files, in whose place are others")
            return
        shown = {*self.shown}
        self._bring_data(data)
        for path in self.shown.keys() - shown:
            self.unlisted += [f"{path}: {name}" for name in names_of_no_digest(path)]

    def _bring_data(self, data: RecordedData) -> None:
        self.wanted += 1
        path = Path(os.path.normpath(self._recorded / data.path))
        expected, here = self._expected(data), self._here(path)
        in_commit = self._has_commit and here is not None and os.path.lexists(here)
        pointed = self._fill_pointers(path, here, expected) if in_commit and here is not None else ()
        problem = self._show_data(data, path)
        if problem and self._is_of_commit(here, None):
            problem = f"{problem}; {_OTHER_CODE}"
        elif problem and self._elsewhere is not None:
            named = [path, *(self._recorded / each.path for each in data.other_paths if each.part == ".")]
            places = (self._elsewhere.data(each, expected) for each in named)
            problem = self._replace(path, next(filter(None, places), None), problem)
        found = self.mapped.get(path) or (here if here is not None and here.exists() else path)
        if not problem and found.is_file() and [*expected] != [path.name]:
            problem = "its list names another file"
        if not problem:
            names = pointed if in_commit else expected
            self.uncommitted += [f"{data.path}: {name}" for name in names if is_code(name) or _is_program(found, name)]
        problem = problem or data.problem
        if here == found and found.is_symlink() and os.path.isabs(led := os.readlink(found)):
            found = Path(led)
        if problem:
            self.missing.append(f"data {data.path}: {problem}")
        elif self._maps and not os.path.isabs(data.path) and not is_below(path, self._top):
            # relative, and above the recorded folder: the program will look above the private one
            self.beside[Path(os.path.normpath(self._working_folder / data.path))] = self.mapped.get(path, path)
        if not problem:
            self._found[data] = found

    def bring_again(self) -> None:
        """Have the data that were brought, all of them, at the other paths by which the program found them."""
        every = [(other, data) for data in self._found for other in data.other_paths]
        missing: dict[str, str] = {}
        # a link to a folder comes before what is below it
        for other, data in sorted(every, key=lambda each: len(Path(each[0].path).parts)):
            if why := self._show_again(self._found[data], other):
                missing.setdefault(data.path, f"{other.path}, by which it was found: {why}")
        self.missing += [f"data {path}: {problem}" for path, problem in missing.items()]

    def _show_again(self, found: Path, other: DataPath) -> str:
        """Have data, which are at ``found``, at another path as well; why they are not, in words."""
        path = Path(os.path.normpath(self._recorded / other.path))
        here, place = self._here(path), Path(os.path.normpath(found / other.part))
        if not is_below(place, found) or not place.exists():
            return f"they have no {other.part}"
        if self._has_commit and is_of_git(other.path):
            return "of git's own files, in whose place are others"
        if is_code(other.path) or (place.is_file() and _is_program(place, "")):
            self.uncommitted.append(other.path)
        leads_to = Path(os.path.realpath(path if here is None else here))
        around = {*self.mapped, *self.shown} - {place}
        above = next((each for each in (path, *path.parents) if each in around), None)
        if here is None and above is not None:
            found = self.mapped.get(above, above) / path.relative_to(above)
            return "" if found.resolve() == place.resolve() else "other data are there"
        if here is None and any(is_below(each, path) for each in around):
            return "other data are below it"
        if here is None and leads_to == place.resolve():
            self.shown.setdefault(path, snapshot(path))
        elif here is None and not self._maps:
            return f"nothing but a sandbox can show {place} there"
        elif here is None:
            self.mapped[path] = place
            self.elsewhere.append(f"data {path}: from {place}")
        elif self.mapped.get(leads_to, leads_to).resolve() == place.resolve():
            return ""  # a link of the commit, or one that was made for the same data
        elif os.path.lexists(here) or not is_inside(here.parent, self._place):
            return "the recorded code, or other data, have something else there"
        else:
            self._link(place, here)
        return ""

    def bring(self, file: ProgramFile) -> None:
        """Have a file, but for one of an installed distribution, which is that of the environment here, one of the
        system's that every sandbox shows, which is the machine's, one of git's own, and what is made again of these and
        of source.
        """
        path = self._recorded / file.path
        here = self._here(path)
        if (self._has_commit and is_of_git(file.path)) or self._is_of_environment(file, path, here):
            self.of_environment.append(file)
            return
        self.wanted += 1
        if not self._has_commit and here is not None and self._unpack(file, here):
            self.beside_commit.append(file.path)
            self.places[file] = here
            return
        before = snapshot(path) if path.is_file() else ()
        is_new = here is None or (self._has_commit and (not os.path.lexists(here) or _points(here)))
        problem = self._bring(file, path, here)
        if problem and problem != _OTHER_CODE and self._elsewhere is not None and file.sha256 is not None:
            problem = self._replace(path, self._elsewhere.file(file.sha256, file.size), problem)
        elif not problem and (not is_below(path, self._top) or (file.size or 0) > _COPY_BYTES):
            self.shown[path] = before
        found = here or self.mapped.get(path, path)
        if not problem and file.sha256 is not None and file.size != found.stat().st_size:
            problem = f"recorded with {file.size} bytes, and it has {found.stat().st_size}"
        if problem:
            self.missing.append(f"input {file.path}: {problem}")
            return
        self.places[file] = found
        if is_new:
            self.beside_commit.append(file.path)
        if is_new and (is_code if here is None else is_source)(file.path):
            self.uncommitted.append(file.path)

    def _is_of_environment(self, file: ProgramFile, path: Path, here: Path | None) -> bool:
        """Whether an input belongs to the machine or to an installation, and not to the program."""
        if is_below(path, SETTINGS) or _FONT_LIST.search(str(path)):
            return True
        if any(part in (*PACKAGE_FOLDERS, "__pycache__") for part in path.parts):
            return True
        script = os.path.dirname(os.path.normpath(path)) in self._programs and file.how == OPENED
        if script and file.copy is None and (here is None or not os.path.lexists(here)):
            return True
        return here is None and is_of_the_system(path) and file.sha256 is not None and digest_of(path) == file.sha256

    def _fill_pointers(self, path: Path, here: Path, expected: Mapping[str, str]) -> tuple[str, ...]:
        """Have the content of declared data behind the pointers of Git LFS that the commit has; their names."""
        filled = []
        for name, sha256 in expected.items():
            one = here / name if here.is_dir() else here
            if not is_inside(one, self._place) or not one.is_file() or pointed_digest(one) != sha256:
                continue
            file = ProgramFile(str(path / name if here.is_dir() else path), OPENED, None, sha256)
            problem = self._bring(file, Path(file.path), one)
            if problem and self._elsewhere is not None:
                self._replace(Path(file.path), self._elsewhere.file(sha256), problem)
            filled.append(name)
        return tuple(filled)

    def _is_shown(self, here: Path) -> bool:
        """Whether a link leads to what is shown to the program anyway, as declared data."""
        real = here.resolve()
        return any(real.is_relative_to(path.resolve()) for path in self.shown)

    def _is_of_commit(self, here: Path | None, sha256: str | None) -> bool:
        """Whether the recorded commit has what is at ``here``, and that neither is nor points to this content."""
        if not self._has_commit or here is None or not os.path.lexists(here) or not is_inside(here, self._place):
            return False
        return sha256 is None or not here.is_file() or pointed_digest(here) != sha256

    def _here(self, path: Path) -> Path | None:
        """Where a recorded path is in the private folder; ``None`` for one outside of the recorded folder."""
        return self._place / os.path.relpath(path, self._top) if is_below(path, self._top) else None

    def _replace(self, path: Path, found: FoundData | None, problem: str) -> str:
        """Have what was found elsewhere in the place of a recorded path; why it is not, in words."""
        here = self._here(path)
        if found is None:
            return f"{problem}; nothing with its digest in {self._elsewhere.path if self._elsewhere else ''}"
        if here is not None and (here.is_dir() or not is_inside(here, self._place)):
            return f"{problem}; {found[0]} has it, and the recorded code has a folder or a link in its place"
        if here is None and not self._maps:
            return f"{problem}; {found[0]} has it, and nothing but a sandbox can show it there: link it to {path}"
        if here is None and self.mapped.get(path, found[0]) != found[0]:
            return f"{problem}; other data are there"
        self.shown[found[0]] = found[1]
        self.elsewhere.append(f"data {path}: from {found[0]}")
        if here is not None:
            self._link(found[0], here)
        elif found[0] != path:  # which is shown as it is
            self.mapped[path] = found[0]
        return ""

    def _link(self, path: Path, here: Path) -> None:
        inside_place = path.is_relative_to(self._place)  # which the program may see under another path
        _put(Path(os.path.relpath(path, here.parent)) if inside_place else path, here, self._place, link=True)
        self.linked.append(os.path.relpath(here, self._place))

    def _unpack(self, file: ProgramFile, here: Path) -> bool:
        """Whether the copy that the run has of an input is at ``here`` now."""
        if file.copy is None or not inside(file.copy) or not is_inside(here, self._place):
            return False
        copy = self._folder.root / file.copy
        if file.sha256 is None or digest_of(copy) != file.sha256:
            return False
        _put(copy, here, self._place, link=False)
        return True

    def _bring(self, file: ProgramFile, path: Path, here: Path | None) -> str:
        """Have an input at ``here``, or see that it is at ``path`` where it was read; why it is not, in words."""
        if file.sha256 is None:
            return f"not digested when it was recorded ({file.reason})" if file.reason else "not digested"
        if here is not None and not (is_inside(here, self._place) or self._is_shown(here)):
            return _LEADS_OUT
        if here is not None and digest_of(here) == file.sha256:
            return ""
        if here is not None and not is_inside(here, self._place):
            return "other data are there"
        if self._is_of_commit(here, file.sha256):
            return _OTHER_CODE
        try:
            self._judge(path)
        except SandboxError as error:
            return error.message
        if not path.is_file():
            return "not here"
        if file.size is not None and path.stat().st_size != file.size:
            return f"another file here ({path})"
        found = digest_of(path)
        if found is None:
            return "not here"
        if found != file.sha256:
            return f"another file here ({path})"
        if here is not None and (file.size or 0) > _COPY_BYTES:
            self._link(path, here)
        elif here is not None:
            _put(path, here, self._place, link=False)
        return ""

    def _show_data(self, data: RecordedData, path: Path) -> str:
        """Have declared data in the private folder, or show them where they are; why they are not, in words."""
        here = self._here(path)
        if here is not None and not is_inside(here, self._place):
            return _LEADS_OUT
        try:
            expected = _listed(data, self._folder)
            if here is not None and all_equal(here, expected):
                return ""
            self._judge(path)
        except (DigestError, SandboxError) as error:
            return error.message
        except OSError as error:
            return f"its files are not listed ({error.strerror})"
        before = snapshot(path) if path.exists() else ()
        if not all_equal(path, expected):
            out = links_out(path)
            return f"a link that leads out of them: {out[0]}" if out else f"not here, or other files ({path})"
        self.shown[path] = before
        if here is not None and not here.exists():
            self._link(path, here)
        elif here is not None:
            return f"a part of it is in the commit and the rest at {path}: have it outside of the repository"
        return ""

    def _expected(self, data: RecordedData) -> Mapping[str, str]:
        """The listed files; none where the listing cannot be read, which was said before."""
        try:
            return _listed(data, self._folder)
        except (DigestError, OSError):
            return {}


def _is_program(top: Path, name: str) -> bool:
    """Whether a file of declared data, whatever its suffix, names its interpreter, or is a program itself."""
    path = top / name if top.is_dir() else top
    if path.suffix and not os.access(path, os.X_OK):
        return False
    try:
        with open(open_regular(path, follow_symlinks=True), "rb") as file:
            return file.read(4).startswith((b"#!", b"\x7fELF"))
    except OSError:
        return False


def _points(path: Path) -> bool:
    return path.is_file() and pointed_digest(path) is not None


def is_inside(path: Path, place: Path) -> bool:
    """Whether a path leads to ``place`` or below it, every link followed: those of the code are its author's."""
    return path.resolve().is_relative_to(place.resolve())


def expect_inside(place: Path, folder: Path) -> None:
    """Raises UsageError where a folder of the code leads out of ``place``."""
    if not is_inside(folder, place):
        raise UsageError(f"{folder.name}: {_LEADS_OUT}, to {folder.resolve()}")


def _listed(data: RecordedData, folder: RunFolder) -> Mapping[str, str]:
    """The listed files of declared data, with their digests. Raises OSError, DigestError."""
    return parse(read_bounded(folder.root / data.listing, LOG_BYTES).decode("utf-8", "surrogateescape"))


def _put(path: Path, here: Path, place: Path, *, link: bool) -> None:
    """Copy or link a file into the private folder. Raises UsageError where a link of the code leads out of it."""
    try:
        expect_inside(place, here.parent)
        make_folder(here.parent)
        here.unlink(missing_ok=True)
        if link:
            here.symlink_to(path)
        else:
            shutil.copyfile(path, here)
    except OSError as error:
        raise storage_error(here, error) from error
