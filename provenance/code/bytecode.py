"""Bytecode of libraries that is known to be that of their source, so that a process need not compile them anew.

Python believes the bytecode that is in ``__pycache__``: that of another source runs, whatever the source says. A
recorded process therefore reads none of it. ``PYTHONPYCACHEPREFIX`` sends it to a folder of this cache, into which only
an interpreter of this module's own compiles, with neither site-packages nor any bytecode in force, and the process
itself writes nothing (``PYTHONDONTWRITEBYTECODE``). Before each use every file is compared with what was noted when it
was compiled: size, times, inode (the time of change is the kernel's, which no program sets back), and where these
differ the SHA-256 of source and bytecode. What is not as noted, and what was never noted, is removed. A process that
imports copies of sources (``provenance.code.snapshot``) finds for each the bytecode of a source of the same SHA-256.

A folder for each environment of an interpreter: ``bytecode/KEY/`` in
``provenance.formats.digest_cache.cache_folder``, with ``KEY.tsv`` beside it. It may be removed at any time; where it
cannot be written, everything is compiled anew. It protects from stale and forged bytecode in the folders of code. Who
may write to this folder itself, as the same user may, is not kept out: that takes a sandbox.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

from provenance.errors import DigestError
from provenance.formats.digest import file_digest
from provenance.formats.digest_cache import cache_folder, expect_private, identity
from provenance.formats.folder_tree import temporary_folder, walk

# the variables by which a process reads and writes no bytecode at all
NO_BYTECODE = {"PYTHONPYCACHEPREFIX": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
_HEADER = "source\tsize\tmtime_ns\tctime_ns\tinode\tsha256\tbytecode\tsize\tmtime_ns\tctime_ns\tinode\tsha256"
_FIELDS = 12
# two seconds for all of torch; who names the files may name some that take long
_SECONDS = 120
# the bytecode is valid while the source has the time and size in its head, as the interpreter checks when it loads it
_COMPILE = """
import importlib.util, py_compile, sys
sys.pycache_prefix = sys.argv[1]
for source in sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\\0"):
    try:
        target = importlib.util.cache_from_source(source)
        py_compile.compile(source, target, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    except Exception:
        continue
    sys.stdout.buffer.write(f"{source}\\0{target}\\0".encode("utf-8", "surrogateescape"))
"""


class _Row(NamedTuple):
    """A source and its bytecode, each as it was when the one was made from the other: ``identity`` and SHA-256."""

    source: str
    bytecode_path: str
    bytecode: str


class BytecodeCache:
    """The bytecode for one environment, that of ``python``."""

    def __init__(self, python: str) -> None:
        self._python = python
        # each environment of an interpreter has its own: every file is looked at before every run
        name = f"{os.path.abspath(python)}\0{os.path.realpath(python)}"
        with suppress(OSError):
            status = os.stat(python)
            name += f"\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}"
        key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self.prefix = cache_folder().absolute() / "bytecode" / key
        self._index = self.prefix.with_name(f"{key}.tsv")

    def variables(self, copies: Mapping[str, tuple[str, str]] | None = None) -> dict[str, str]:
        """The variables by which a process reads the bytecode that is sound, and no other, and writes none.

        ``copies``: by path, the source that it is a copy of, and its SHA-256; the copy's time becomes the source's.
        """
        try:
            self.check(copies)
        except OSError:  # it cannot be used: the process compiles everything
            return dict(NO_BYTECODE)
        return {**NO_BYTECODE, "PYTHONPYCACHEPREFIX": str(self.prefix)}

    def check(self, copies: Mapping[str, tuple[str, str]] | None = None) -> int:
        """Remove what is not the bytecode of its source any more; how many files are left, without those of ``copies``.

        Raises OSError where the folder is there and cannot be read or written, or others may write to it.
        """
        if not self.prefix.exists():
            return 0
        with self._lock():
            noted = self._load()
            rows = self._sound(noted)
            known = {row.bytecode_path for row in rows.values()}
            for path in _files(str(self.prefix)):
                if path not in known:
                    self._remove(path)
            if rows != noted:
                self._save(rows)
            for copy, (source, sha256) in (copies or {}).items():
                if (row := rows.get(source)) and _sha256(row.source) == sha256:
                    self._give(copy, row)
        return len(rows)

    def add(self, sources: Iterable[str]) -> int:
        """Compile those Python files whose bytecode is not here; how many were. Raises OSError as ``check`` does."""
        self.prefix.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock():
            rows = self._load()
            before = {source: found for source in sources if source not in rows and (found := _status(source))}
            made = 0
            for source, path in self._compiled(before):
                bytecode = _status(path)
                if bytecode and before.get(source) == _status(source):
                    rows[source] = _Row(before[source], path, bytecode)
                    made += 1
            if made:
                self._save(rows)
        return made

    def _compiled(self, sources: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Compile; each source with the path of its bytecode."""
        if not (names := "\0".join(sources)):
            return
        with temporary_folder("ndrepro-no-bytecode-") as nothing:
            # isolated, without site-packages, from the standard library's source
            words = [
                self._python,
                "-I",
                "-S",
                "-B",
                "-X",
                f"pycache_prefix={nothing}",
                "-c",
                _COMPILE,
                str(self.prefix),
            ]
            try:
                text = names.encode("utf-8", "surrogateescape")
                done = subprocess.run(words, input=text, capture_output=True, env={}, cwd=nothing, timeout=_SECONDS)
                output = done.stdout
            except subprocess.TimeoutExpired as late:
                output = late.stdout or b""
        said = output.decode("utf-8", "surrogateescape").split("\0")[:-1]
        yield from zip(said[::2], said[1::2], strict=False)

    def _remove(self, path: str) -> None:
        """Remove a file of the folder's, and what is empty then above it."""
        os.unlink(path)
        with suppress(OSError):
            while (path := os.path.dirname(path)) != str(self.prefix):
                os.rmdir(path)

    def _give(self, copy: str, row: _Row) -> None:
        """Put the bytecode where the interpreter looks for that of ``copy``, an absolute path, which has its source."""
        target = f"{self.prefix}{os.path.dirname(copy)}{os.sep}{os.path.basename(row.bytecode_path)}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(row.bytecode_path, target)
        os.utime(copy, ns=(int(_mtime(row.source)), int(_mtime(row.source))))

    def _sound(self, rows: dict[str, _Row]) -> dict[str, _Row]:
        """The rows whose two files are as they were, with their present status."""
        found = {}
        for source, row in rows.items():
            now, compiled = _unchanged(source, row.source), _unchanged(row.bytecode_path, row.bytecode)
            if now and compiled:
                found[source] = _Row(now, row.bytecode_path, compiled)
        return found

    @contextmanager
    def _lock(self) -> Iterator[None]:
        import fcntl

        expect_private(self.prefix)
        with open(self.prefix.with_name(f"{self.prefix.name}.lock"), "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _load(self) -> dict[str, _Row]:
        """What was noted; nothing of a file that is not whole or not one of ours."""
        try:
            header, *lines = self._index.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
            if header != _HEADER or lines.pop() != "":
                return {}
            split = [line.split("\t") for line in lines]
            return {x[0]: _Row("\t".join(x[1:6]), x[6], "\t".join(x[7:])) for x in split if len(x) == _FIELDS}
        except (OSError, ValueError, IndexError):
            return {}

    def _save(self, rows: dict[str, _Row]) -> None:
        lines = [
            "\t".join([source, *row])
            for source, row in rows.items()
            if not {"\t", "\n"} & set(source)  # which this format cannot hold
        ]
        temporary = self._index.with_name(f".{self._index.name}.{os.getpid()}.tmp")
        temporary.write_text("\n".join([_HEADER, *lines, ""]), encoding="utf-8", errors="surrogateescape")
        temporary.replace(self._index)


def _sha256(status: str) -> str:
    return status.rpartition("\t")[2]


def _mtime(status: str) -> str:
    return status.split("\t")[1]


def _status(path: str) -> str | None:
    """A file as it is, read; None where it cannot be."""
    try:
        return f"{identity(os.stat(path))}\t{file_digest(path).sha256}"
    except (OSError, DigestError):
        return None


def _unchanged(path: str, then: str) -> str | None:
    """The file's status where its content is what it was; another link to a file changes its time, and no content."""
    try:
        if then.startswith(f"{identity(os.stat(path))}\t"):
            return then
    except OSError:
        return None
    now = _status(path)
    same = now is not None and (_sha256(now), _mtime(now)) == (_sha256(then), _mtime(then))
    return now if same else None


def _files(folder: str) -> Iterator[str]:
    for current, _, names in walk(folder):
        yield from (os.path.join(current, name) for name in names)
