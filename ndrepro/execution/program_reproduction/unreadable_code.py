"""Files that may be executed and that nobody can read as source: by their content, as Python and the kernel go by it.

Python executes an archive or bytecode under whatever name, the kernel a program, and who loads a pickle executes what
is in it, also compressed or in an array of objects. A name that says so counts as well. Not seen is what a library
makes of its own formats.
"""

from __future__ import annotations

import ast
import bz2
import gzip
import lzma
import os
import pickletools
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from ndrepro.execution.imports.sequential_stream import SequentialStream
from ndrepro.execution.programs.input_files import is_code
from provenance.formats.folder_tree import files_below

_LIBRARIES, _ARCHIVES = (".so", ".pyd", ".dll", ".dylib"), (".pyz", ".zip", ".egg", ".whl")
_PICKLED = (".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth", ".ckpt")
_SUFFIXES = frozenset((".pyc", ".pyo", *_LIBRARIES, *_ARCHIVES, *_PICKLED))
_PROGRAM = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
# releases of Python 3 up to now, in the first two bytes of bytecode, as a little-endian number
_BYTECODE = range(3000, 4000)
_PICKLES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
# an array's header says its type, a number of Python 2 as 3L; Source: numpy.lib.format
_ARRAY, _LONG = b"\x93NUMPY", re.compile(r"(?<=\d)L\b")
# also strings of any length, which are pickled, too
_OBJECT = re.compile("O|T|object")
# operations of a pickle that name what is called, and how a pickle's reader says that more would have to follow
_CALLS = frozenset(("GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"))
_NAMES, _PUTS = ("GLOBAL", "INST"), ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
# and those that then call it, or change it
_EXECUTES = frozenset(("INST", "OBJ", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "SETITEM", "SETITEMS"))
# a module, and a name in it: of text, two lines are seldom both
_NAMED = re.compile(r"\S+ [^\W\d]\w*(?:\.\w+)*")
_TORN = re.compile(r"exhausted|no newline found|(?:expected (\d+) bytes.*)?remain|not enough data")
# in UTF-8: a carriage return that ends no line for git; the characters of text that is shown in another direction; a
# form feed behind an indentation, which then is none; letters that nobody sees, and selectors in a name
_HIDES = re.compile(
    rb"\r(?!\n)|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]|(?m:^)[ \t]+\f|\xe3\x85\xa4|\xe1\x85[\x9f\xa0]|\xef\xbe\xa0"
    rb"|\xcd\x8f|[A-Za-z_](?:\xef\xb8[\x80-\x8f]|\xf3\xa0[\x84-\x87][\x80-\xbf]|\xe1\xa0[\x8b-\x8d])"
)
_SOURCE_BYTES = 8 << 20
# of a member, the whole header of an array that numpy reads
_MEMBER_BYTES, _MOST_MEMBERS = 1 << 14, 10_000
_LZMA = b"\x5d\x00\x00"
_GZIP, _BZIP2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ"
# of a file's start; a first line that is longer is read by nobody
_START_BYTES = 1 << 16
_XZ_MEMORY = 256 << 20
# an archive's directory is named at its end, before a comment of at most 64 KiB; Source: APPNOTE.TXT 4.3.16
_END, _END_BYTES, _MOST_COMMENT = b"PK\x05\x06", 22, 1 << 16
_MOST_DIRECTORY = 8 << 20
_LOCATOR, _LOCATOR_BYTES = b"PK\x06\x07", 20
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MODULES = (b".py", b".pkl")
_BLOCK, _FILES_OF_TAR = 512, (b"0", b"\0")
_MODULE_NAME = re.compile(rb"\.(?:pyw?|pyc|pyo|ipynb|sh|so|pyd|pkl|pickle|pth|pt|zip|egg|whl)(?:[\0\n]|$)")
_MOST_DECOMPRESSED, _PIECE_BYTES = 256 << 20, 1 << 20
# an encoding in which a comment can hold code, PEP 263
_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-_.a-zA-Z0-9]+)")
_PLAIN = re.compile(
    rb"(?i)(utf[-_]?8([-_]sig)?|u8|ascii|us[-_]ascii|latin[-_]?1|l1|iso[-_]?(latin[-_]1|8859[-_]?\d+)|cp125\d)"
)


def unreadable_code(paths: Iterable[Path], left_out: Sequence[Path] = ()) -> Iterator[Path]:
    """The files at or below these paths that may hold such code, but for what is below ``left_out``.

    Raises StorageError for folders nested too deeply.
    """
    for path in paths:
        for file in files_below(path) if path.is_dir() else [path]:
            if any(file.is_relative_to(folder) for folder in left_out):
                continue
            if file.is_file() and (file.suffix.lower() in _SUFFIXES or _is_unreadable(file)):
                yield file


def _is_unreadable(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            start = stream.read(_START_BYTES)
            if _ends_in_modules(stream) or _holds_objects(stream) or _hides_lines(file, start, stream):
                return True
        inner = _decompressed(file, start)
        if _holds_modules(file, start, inner):
            return True
        size = file.stat().st_size if inner is start else sys.maxsize
        start = inner
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return True
    return _is_code(start, size) or _is_odd_text(file, start)


def _is_code(start: bytes, size: int = sys.maxsize) -> bool:
    """Whether bytes begin a program, bytecode, a pickle, or an array of objects; ``size``: of the whole."""
    is_bytecode = start[2:4] == b"\r\n" and int.from_bytes(start[:2], "little") in _BYTECODE
    is_known = is_bytecode or _is_array_of_objects(start) or start.startswith((*_PROGRAM, *_PICKLES))
    return bool(is_known or _calls_as_pickle(start, size))


def _is_array_of_objects(start: bytes) -> bool:
    """Whether bytes begin an array in which there are objects, or one whose header cannot be read to its end."""
    if not start.startswith(_ARRAY):
        return False
    begin = 10 if start[6:7] == b"\1" else 12
    end = begin + int.from_bytes(start[8:begin], "little")
    try:
        header = ast.literal_eval(_LONG.sub("", start[begin:end].decode("latin-1")).strip())
        return end > len(start) or _names_objects(header["descr"])
    except (LookupError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        return True


def _names_objects(described: Any) -> bool:
    """Whether a type is one of objects: by its name, that of a part with its shape, or those of named fields."""
    if isinstance(described, str):
        return _OBJECT.search(described) is not None
    if isinstance(described, tuple):
        return _names_objects(described[0])
    return any(_names_objects(field[1]) for field in described)


def _calls_as_pickle(start: bytes, size: int) -> bool:
    """Whether a file begins as a pickle of any protocol, with its mark or without, that names what it calls.

    An operation that finds too little on the stack ends it: most text is none, though its letters are operations. One
    that continues beyond ``start`` counts, whatever it is, if a file of this size can have it.
    """
    names = calls = False
    depth, marks = 0, list[int]()
    try:
        for operation, argument, _ in pickletools.genops(start):
            needed = operation.stack_before
            if pickletools.markobject in needed or (operation.name == "POP" and marks[-1:] == [depth]):
                if not marks:
                    return calls
                depth, needed = marks.pop(), needed[: needed.index(pickletools.markobject)] if len(needed) > 1 else []
            is_text = operation.name in _NAMES and not _NAMED.fullmatch(str(argument))
            if is_text or depth < max(len(needed), operation.name in _PUTS):
                return calls
            if operation.name == "MARK":
                marks.append(depth)
            else:
                depth += len(operation.stack_after) - len(needed)
            names = names or operation.name in _CALLS
            calls = calls or (names and operation.name in _EXECUTES)
    except ValueError as error:
        torn = _TORN.search(str(error)) if len(start) == _START_BYTES else None
        return calls or (torn is not None and int(torn[1] or 0) < size)
    return names


def _ends_in_modules(stream: IO[bytes]) -> bool:
    """Whether a file ends in an archive that has modules, or a directory too large to be looked through."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _END_BYTES - _MOST_COMMENT))
    end = stream.read() if size > _END_BYTES else b""
    at = end.rfind(_END)
    if at < 0 or len(end) - at < _END_BYTES:
        return False
    if end[max(0, at - _LOCATOR_BYTES) : at].startswith(_LOCATOR):  # another directory counts, of any size
        return True
    length, before = int.from_bytes(end[at + 12 : at + 16], "little"), size - len(end) + at
    stream.seek(max(0, before - length))
    directory = stream.read(min(length, _MOST_DIRECTORY))
    return length > min(before, _MOST_DIRECTORY) or any(name in directory for name in _MODULES)


def _holds_modules(file: Path, start: bytes, inner: bytes) -> bool:
    """Whether a file, with ``inner`` as its decompressed start, is a tar archive with code, or one too large to see.

    Source: ustar, pax and GNU headers of tar(5).
    """
    if not _is_tar(inner[:_BLOCK]):
        return False
    packed = inner is not start
    if packed and not start.startswith((_GZIP, _BZIP2, _XZ)):
        return True
    with file.open("rb") as opened:
        stream, place = _content(opened) if packed else opened, 0
        for _ in range(_MOST_MEMBERS):
            _skip_to(stream, place)
            header = stream.read(_BLOCK)
            if not any(header):
                return False
            size = int(header[124:136].strip(b"\0 ") or b"0", 8)
            if size < 0:  # no writer's
                return True
            body = stream.read(min(size, _MEMBER_BYTES if header[156:157] in _FILES_OF_TAR else _START_BYTES))
            names = header[:100], body if header[156:157] not in _FILES_OF_TAR else b""
            if any(map(_MODULE_NAME.search, names)) or _is_code(body):
                return True
            place += _BLOCK + -(-size // _BLOCK) * _BLOCK
            if packed and place > _MOST_DECOMPRESSED:
                return True
    return True


def _content(packed: BinaryIO) -> SequentialStream:
    stream = SequentialStream(packed)
    stream.expect_content()
    return stream


def _skip_to(stream: BinaryIO | SequentialStream, place: int) -> None:
    if not isinstance(stream, SequentialStream):
        stream.seek(place)
        return
    while (left := place - stream.tell()) > 0 and stream.read(min(left, _PIECE_BYTES)):
        pass


def _is_tar(header: bytes) -> bool:
    """Whether the sum of a header's bytes, without the sum's own, is the one that it names."""
    stored = header[148:156].strip(b"\0 ")
    whole = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    return len(header) == _BLOCK and stored.isdigit() and f"{whole:o}".encode() == stored.lstrip(b"0")


def _holds_objects(stream: IO[bytes]) -> bool:
    """Whether a file is an archive with a pickle or an array of objects, or with more members than are looked at."""
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            # the others are unpacked without a bound
            if len(members) > _MOST_MEMBERS or any(each.compress_type not in _BOUNDED for each in members):
                return True
            return any(_is_code(archive.open(each).read(_MEMBER_BYTES)) for each in members if not each.is_dir())
    except zipfile.BadZipFile:
        return False
    except (RuntimeError, NotImplementedError, ValueError, OverflowError, struct.error):  # encrypted, or damaged
        return True


def _hides_lines(file: Path, start: bytes, stream: IO[bytes]) -> bool:
    """Whether source is not what a reader sees: Python ends a line, and a comment, at a lone carriage return; some
    characters turn the direction in which text is shown, and some are names that are not shown.
    """
    if b"\0" in start or not (is_code(file.name) or not file.suffix):  # in source Python refuses it
        return False
    stream.seek(0)
    text = stream.read(_SOURCE_BYTES + 1)
    return len(text) > _SOURCE_BYTES or _HIDES.search(text) is not None


def _decompressed(file: Path, start: bytes) -> bytes:
    """The start of what is in a compressed file, of any other file as it is."""
    if start.startswith(_XZ):
        return lzma.LZMADecompressor(memlimit=_XZ_MEMORY).decompress(start, _START_BYTES)
    if start.startswith(_LZMA):
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE, _XZ_MEMORY).decompress(start, _START_BYTES)
    if start[:1] == b"x" and int.from_bytes(start[:2], "big") % 31 == 0:  # RFC 1950; it may be text, too
        with suppress(zlib.error):
            return zlib.decompressobj().decompress(start, _START_BYTES)
    if start.startswith((_GZIP, _BZIP2)):
        with gzip.open(file) if start.startswith(_GZIP) else bz2.open(file) as stream:
            return stream.read(_START_BYTES)
    return start


def _is_odd_text(file: Path, start: bytes) -> bool:
    if b"\0" in start:  # which Python refuses in source
        return False
    if file.suffix.lower() in (".py", ".pyw", "") and len(start) == _START_BYTES and start.count(b"\n") < 2:
        return True
    found = [match[1] for line in start.splitlines()[:2] if (match := _CODING.match(line))]
    return any(not _PLAIN.fullmatch(name) for name in found)
