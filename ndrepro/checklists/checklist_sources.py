"""The sources of a checklist: the files of a folder, its parsed Python, and evidence with file and line.

Of a git repository the files are those that git tracks: what is not committed is not released. Of any other folder
they are all but hidden ones, caches and installed environments. Links are not followed, large files and binaries are
known by name only, and a file of tests is not the project's own code: a seed set in a test trains nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from ndrepro.protocol.errors import UsageError
from provenance.errors import SourceError
from provenance.formats.folder_tree import walk
from provenance.git.repository import Repository
from provenance.toml_file import parse_toml

MAX_FILES = 20_000
MAX_BYTES = 1_000_000
_SKIPPED = {"__pycache__", "node_modules", "site-packages", "venv", "env", "build", "dist"}
_TESTS = {"tests", "test", "testing", "benchmarks"}
_DOC_FOLDERS = {"doc", "docs", "documentation", "documents", "runbooks"}
_DOCS = {".md", ".rst", ".txt", ".adoc"}
# of a longer line only the beginning is searched: a pattern may take the square of its length
_LINE_CHARACTERS = 2000
_INLINE_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")


@dataclass(frozen=True)
class Evidence:
    """Where something was found, a file with a line (0: the whole file) or a field of a manifest, and what it is."""

    place: str
    line: int
    text: str

    def __str__(self) -> str:
        at = f"{self.place}:{self.line}" if self.line else self.place
        return f"{at}  {self.text}" if self.text else at


@dataclass(frozen=True)
class Module:
    """A parsed Python file."""

    path: str
    tree: ast.Module
    lines: tuple[str, ...]

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree."""
        return tuple(ast.walk(self.tree))

    @cached_property
    def names(self) -> dict[str, str]:
        """What imported names stand for: ``np`` is ``numpy``."""
        names: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    names[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
        return names

    @cached_property
    def calls(self) -> tuple[tuple[str, ast.Call], ...]:
        """(dotted name of what is called, with imports resolved; the call). ``loss.backward`` keeps its own name."""
        return tuple((self.dotted(node.func), node) for node in self.nodes if isinstance(node, ast.Call))

    def dotted(self, node: ast.expr) -> str:
        """The dotted name of an expression, ``?`` for a part that is no name."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self.dotted(node.value)}.{node.attr}"
        return "?"

    def at(self, node: ast.AST) -> Evidence:
        """The line of a node as evidence."""
        line = int(getattr(node, "lineno", 1))
        text = self.lines[line - 1].strip() if line <= len(self.lines) else ""
        return Evidence(self.path, line, text[:100])


class Sources:
    """The files of a folder."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UsageError(f"{root}: no folder", "name a run, or the folder of a repository")
        self.root = root
        self.tracked = True
        self._texts: dict[str, str] = {}
        try:
            listed = Repository(root).ask("ls-files", "-z", "--cached").split("\0")
        except SourceError:
            self.tracked = False
            listed = list(_walk(root))
        if len(listed) > MAX_FILES:
            raise UsageError(f"{root}: {len(listed)} files", f"at most {MAX_FILES}: name the folder of the code")
        self.files = tuple(sorted(name for name in set(listed) if name and self._is_file(name)))

    def _is_file(self, name: str) -> bool:
        path = self.root / name
        return path.is_file() and not path.is_symlink()

    @cached_property
    def modules(self) -> tuple[Module, ...]:
        """Every Python file of the project's own code that can be parsed."""
        found = []
        for name in self.files:
            if not name.endswith(".py") or is_test(name):
                continue
            try:
                tree = ast.parse(self.text(name))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue  # Python 2, or a template: it says nothing that can be relied on
            found.append(Module(name, tree, tuple(self.text(name).splitlines())))
        return tuple(found)

    def text(self, name: str) -> str:
        """The text of a file; empty for what is large or no text."""
        if name not in self._texts:
            self._texts[name] = _read(self.root / name)
        return self._texts[name]

    def lines_of(self, name: str) -> list[str]:
        """The lines of a file, of long ones the beginning."""
        return [line[:_LINE_CHARACTERS] for line in self.text(name).splitlines()]

    def named(self, pattern: str, *, anywhere: bool = True) -> Iterator[str]:
        """Files whose name (the last part of the path) matches, whole, whatever the case."""
        for name in self.files:
            path = PurePosixPath(name)
            if re.fullmatch(pattern, path.name, re.IGNORECASE) and (anywhere or len(path.parts) == 1):
                yield name

    def documents(self) -> Iterator[str]:
        """Files for readers: at the top, and under docs."""
        for name in self.files:
            path = PurePosixPath(name)
            top = len(path.parts) == 1 or path.parts[0].lower() in _DOC_FOLDERS
            if path.suffix.lower() in _DOCS and top and not path.name.lower().startswith(("requirements", "license")):
                yield name

    @cached_property
    def readme(self) -> str | None:
        """The README at the top."""
        return next(self.named(r"readme(\.\w+)?", anywhere=False), None)

    def lines(self, name: str, pattern: str) -> Iterator[Evidence]:
        """Lines of a file in which the pattern is found."""
        for number, line in enumerate(self.lines_of(name), 1):
            if re.search(pattern, line, re.IGNORECASE):
                yield Evidence(name, number, line.strip()[:100])

    def stated(self, pattern: str) -> Iterator[Evidence]:
        """``statements`` of every document."""
        for name in self.documents():
            yield from self.statements(name, pattern)

    def statements(self, name: str, pattern: str) -> Iterator[Evidence]:
        """Lines of a document that state it; code blocks, inline code and comments are examples of how to write."""
        text = _without_comments("\n".join(self.lines_of(name)))
        code = set(code_lines(text))
        for number, line in enumerate(text.splitlines(), 1):
            if number not in code and re.search(pattern, _INLINE_CODE.sub("", line), re.IGNORECASE):
                yield Evidence(name, number, line.strip()[:100])

    @cached_property
    def commands(self) -> frozenset[str]:
        """The commands that the project installs, by pyproject.toml."""
        try:
            document = parse_toml(self.text("pyproject.toml") if "pyproject.toml" in self.files else "")
        except ValueError:
            return frozenset()
        project = document.get("project")
        scripts = project.get("scripts") if isinstance(project, dict) else None
        return frozenset(scripts if isinstance(scripts, dict) else ())


def code_lines(text: str) -> Iterator[int]:
    """The numbers of the lines of a Markdown text that are in a code block, fenced or indented."""
    fence, before = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        marker = re.match(r"\s*(`{3,}|~{3,})", line)  # in an item of a list it is indented
        if fence:
            closes = marker is not None and marker[1].startswith(fence) and not line.strip(" `~")
            fence = "" if closes else fence
            if fence:
                yield number
        elif marker is not None:
            fence = marker[1]
        # an indented line resumes a paragraph or a list's item, unless a blank line or more code is before it
        elif re.match(r"( {4}|\t)\s*\S", line) and before in ("", "code"):
            before = "code"
            yield number
            continue
        before = "code" if before == "code" and not line.strip() else line.strip()


def is_test(name: str) -> bool:
    """Whether a file is a test or a benchmark."""
    path = PurePosixPath(name)
    return bool(_TESTS & {part.lower() for part in path.parts[:-1]}) or path.name.startswith(("test_", "conftest"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.stat().st_size <= MAX_BYTES else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _without_comments(text: str) -> str:
    """Markdown without its comments, every line in its place."""
    kept = []
    while text:
        before, _, rest = text.partition("<!--")
        comment, _, text = rest.partition("-->")
        kept += [before, "\n" * comment.count("\n")]
    return "".join(kept)


def _walk(root: Path) -> Iterator[str]:
    for folder, inside, files in walk(root):
        inside[:] = [name for name in inside if not name.startswith(".") and name not in _SKIPPED]
        for name in files:
            yield (Path(folder) / name).relative_to(root).as_posix()
