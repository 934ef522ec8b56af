"""Asks git about the repository that holds a folder, the same whoever asks and however their git is set up.

Every question is a process of git's, with the settings that change an answer fixed, without writing to the repository
(no refreshed index, no lock), without running what its configuration names (file system monitor, external diff), and
without the variables by which a surrounding git command, such as a hook, would point elsewhere. What makes a file look
unchanged that is not (``core.checkStat``, ``core.trustctime``, replaced objects) is switched off. Ownership is left to
git: a repository of another user is refused unless its user has allowed it (``safe.directory``).
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from provenance.errors import SourceError
from provenance.system_programs import find_git, system_variables

_SETTINGS = {
    "core.fsmonitor": "false",
    "core.splitIndex": "false",
    "core.untrackedCache": "false",
    "core.checkStat": "default",
    "core.trustctime": "true",
    "core.quotePath": "true",
    "core.safecrlf": "false",
    "diff.suppressBlankEmpty": "false",
    "log.showSignature": "false",
}
_VARIABLES = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    # what a partial clone lacks comes from no remote, which its configuration names; old releases know the second alone
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_PAGER": "cat",
}
# what `git rev-parse --local-env-vars` lists, but for configuration given in variables, and what changes a diff
_POINTERS = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR GIT_DIFF_OPTS GIT_DIR GIT_EXTERNAL_DIFF GIT_GRAFT_FILE "
    "GIT_ICASE_PATHSPECS GIT_GLOB_PATHSPECS GIT_IMPLICIT_WORK_TREE GIT_INDEX_FILE GIT_LITERAL_PATHSPECS GIT_NAMESPACE "
    "GIT_NOGLOB_PATHSPECS GIT_OBJECT_DIRECTORY GIT_PREFIX GIT_REPLACE_REF_BASE GIT_SHALLOW_FILE GIT_WORK_TREE"
)
_CHUNK_BYTES = 1 << 16


class Sink(Protocol):
    """Takes bytes as they come."""

    def write(self, data: bytes, /) -> object:
        """Take some more."""


@dataclass(frozen=True)
class Repository:
    """The repository that holds ``folder``.

    ``variables`` are set for every question, e.g. another index file, and ``settings`` are its configuration.

    Every method raises SourceError with git's own first line where git cannot answer.
    """

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    def ask(self, *arguments: str, stdin: Path | None = None) -> str:
        """What git prints, names that are not UTF-8 with surrogate escapes. ``stdin`` is the file that it reads."""
        with open(stdin or os.devnull, "rb") as stream:
            try:
                done = subprocess.run(
                    self.command(*arguments), stdin=stream, capture_output=True, env=self._environment()
                )
            except (FileNotFoundError, PermissionError):
                raise _missing_git() from None
        if done.returncode:
            raise _source_error(self.folder, arguments, done.stderr.decode("utf-8", "replace"))
        return os.fsdecode(done.stdout)

    def line(self, *arguments: str) -> str:
        """What git prints, without the end of its last line."""
        return self.ask(*arguments).removesuffix("\n")

    def stream(self, sink: Sink, *arguments: str, stdin: Path | None = None) -> None:
        """What git prints, piece by piece into ``sink``: a difference may be larger than the memory."""
        # git may have more to complain than a pipe holds
        with open(stdin or os.devnull, "rb") as given, tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    self.command(*arguments),
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=self._environment(),
                )
            except (FileNotFoundError, PermissionError):
                raise _missing_git() from None
            with process:
                assert process.stdout is not None
                while chunk := process.stdout.read(_CHUNK_BYTES):
                    sink.write(chunk)
            if process.returncode:
                errors.seek(0)
                raise _source_error(self.folder, arguments, errors.read().decode("utf-8", "replace"))

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in system_variables(os.environ).items() if name not in _POINTERS.split()}
        # messages are compared and shown in English
        return {**kept, "LANGUAGE": "C", "LC_ALL": "C", **_VARIABLES, **self.variables}

    def command(self, *arguments: str) -> list[str]:
        """The words of a question. Raises SourceError where git is not installed."""
        settings = [
            word for name, value in {**_SETTINGS, **self.settings}.items() for word in ("-c", f"{name}={value}")
        ]
        return [_executable(), "-C", str(self.folder), *settings, *arguments]

    def facts(self) -> Facts:
        """Where it is and what kind it is.

        Raises SourceError for a repository whose own folder this is, with a work tree: files that anybody may put into
        a tree of code (HEAD, config, objects, refs) make one, whose configuration names programs to run.
        """
        answers = self.line(
            "rev-parse",
            "--is-inside-work-tree",
            "--is-bare-repository",
            "--is-shallow-repository",
            "--absolute-git-dir",
            "--show-cdup",  # in a work tree the way up to its top; in .git its path; in a bare repository no line
        ).split("\n", 3)
        inside, bare, shallow = (answer == "true" for answer in answers[:3])
        if not inside:
            return Facts(None, Path(answers[3] if bare else answers[3].partition("\n")[0]), bare, shallow)
        git_folder, _, up = answers[3].rpartition("\n")
        top, own = Path(os.path.realpath(self.folder / up)), Path(git_folder)
        if self.folder.resolve().is_relative_to(own.resolve()):
            raise SourceError(f"{self.folder}: files in it look like a git repository's own folder, and are not obeyed")
        return Facts(top, own, bare, shallow)

    def is_checkout_of(self, *folders: str) -> bool:
        """Whether ``folder`` is the top of a work tree of its own, and HEAD has these folders at its top.

        It is not where they were installed or unpacked into somebody's repository, whatever that calls its work tree.
        """
        try:
            if not os.path.lexists(self.folder / ".git") or self.facts().top != self.folder.resolve():
                return False
            return {*folders} <= {*self.ask("ls-tree", "-d", "-z", "--name-only", "HEAD").split("\0")}
        except SourceError:
            return False

    def head(self) -> str:
        """The name of the commit that HEAD names, whether its objects are there or not. Raises NoCommit for none."""
        try:
            return self.line("rev-parse", "--verify", "HEAD")
        except SourceError:
            if self._is_unborn():
                raise NoCommit(f"{self.folder}: no commit yet on branch {self.branch()}") from None
            raise SourceError(f"{self.folder}: HEAD is damaged: it names no commit") from None

    def tree(self) -> str:
        """The name of the tree of HEAD's commit."""
        return self.line("rev-parse", "--verify", "HEAD^{tree}")

    def head_tree_and_branch(self) -> tuple[str, str, str] | None:
        """``head()``, ``tree()`` and ``branch()`` by one question; ``None`` where they have to be asked one by one."""
        try:
            commit, tree, branch = self.line("rev-parse", "HEAD", "HEAD^{tree}", "--abbrev-ref=loose", "HEAD").split(
                "\n"
            )
        except (SourceError, ValueError):
            return None
        return commit, tree, "detached" if branch == "HEAD" else branch

    def switches(self, *names: str) -> tuple[bool, ...]:
        """Settings that are on or off, by their names in lower case; on where they are not set."""
        pattern = f"^({'|'.join(map(re.escape, names))})$"
        try:
            listed = self.ask("config", "--type=bool", "-z", "--get-regexp", pattern)
        except SourceError as error:
            if not error.message.endswith(_SILENT):
                raise
            listed = ""
        values = dict(entry.split("\n") for entry in listed.split("\0") if entry)  # of several the last counts
        return tuple(values.get(name, "true") == "true" for name in names)

    def _is_unborn(self) -> bool:
        try:
            path = self.line("rev-parse", "--git-path", self.line("symbolic-ref", "HEAD"))
            return not (self.folder / path).exists()
        except SourceError:
            return False

    def branch(self) -> str:
        """The branch's name, also where it has no commit yet; "detached" where HEAD names a commit."""
        try:
            return self.line("symbolic-ref", "--short", "HEAD")
        except SourceError as error:
            if "not a symbolic ref" in error.message:
                return "detached"
            raise

    def replaced(self) -> int:
        """How many objects and parents of commits git shows in the place of others here: replacements and grafts."""
        references = self.ask("for-each-ref", "--format=.", "refs/replace/").count("\n")
        grafts = self.folder / self.line("rev-parse", "--git-path", "info/grafts")
        if not grafts.is_file():
            return references
        with grafts.open("rb") as lines:
            return references + sum(bool(line.strip()) and not line.startswith(b"#") for line in lines)

    def remotes(self) -> dict[str, str]:
        """Remote name -> URL, as configured in the repository."""
        try:
            listed = self.ask("config", "--local", "-z", "--get-regexp", r"^remote\..*\.url$")
        except SourceError as error:
            if error.message.endswith(_SILENT):  # git config answers 1 where there is none
                return {}
            raise
        pairs = (entry.partition("\n") for entry in listed.split("\0") if entry)
        return {key.removeprefix("remote.").removesuffix(".url"): url for key, _, url in pairs}


class NoCommit(SourceError):
    """A branch that has no commit yet."""


@dataclass(frozen=True)
class Facts:
    """``top``: the work tree's folder, None in a bare repository or inside of ``.git``."""

    top: Path | None
    git_folder: Path
    bare: bool
    shallow: bool


_SILENT = "no reason given"


def _executable() -> str:
    found = find_git(os.environ.get("GIT_PYTHON_GIT_EXECUTABLE") or "git")
    if found is None:
        raise _missing_git()
    return found


def _missing_git() -> SourceError:
    cure = "install git outside of any repository, so that a run can name its commit"
    return SourceError("git is not installed", cure)


def _source_error(folder: Path, arguments: tuple[str, ...], errors: str) -> SourceError:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[0] if lines else _SILENT)
    said = re.sub(r"^(?:fatal|error): ", "", said)
    if "not a git repository" in said:
        return SourceError(
            f"{folder}: not a git repository", "put the code under git, so that a run can name its commit"
        )
    cure = "see what `git status` says there"
    if "dubious ownership" in said:
        said = "git does not trust a repository that belongs to another user (dubious ownership)"
        cure = f"git config --global --add safe.directory '{folder}'"
    return SourceError(f"{folder}: git {arguments[0]}: {said}", cure)
