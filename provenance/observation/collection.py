"""Reads what the start-up hook of a program's processes wrote. Everything is bounded: the program may write anything.

A process file that cannot be read gives a record that has the number and start in its name, and says why.
"""

from __future__ import annotations

import json
import operator
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from provenance.errors import ProvenanceError, TrailError
from provenance.formats.bounded_read import read_bounded
from provenance.formats.strict_json import Field, read_record, timestamp
from provenance.hook.opened_files import OPENED_FILES
from provenance.observation.process_record import (
    ImportedModule,
    OpenedFile,
    ProcessRecord,
    TorchRecord,
    scalars,
    string_map,
    strings,
)
from provenance.redaction.redact import redact_arguments

# processes of one program that are listed; the first ones to start
PROCESS_LIMIT = 2000
_ENTRIES, _FOLDERS = 200_000, 300
_PROCESS_BYTES, _OPENED_BYTES = 1 << 22, 1 << 27
# of all files together, which are held in memory
_TOTAL_BYTES = 1 << 29
_NAME = re.compile(r"(process|opened|trail)-([0-9]{1,10})-([0-9]{1,19})(?:-([0-9]{1,6}))?\.(json|jsonl|bin)")
_TEXTS = ("cwd", "executable", "prefix", "base_prefix", "version", "implementation")
# whether it reads, writes, and replaces what the file held
_MODES = {
    "r": (True, False, False),
    "a": (False, True, False),
    "ra": (True, True, False),
    "w": (False, True, True),
    "rw": (True, True, True),
}


class _Room:
    """Reads files as far as all of them together have room."""

    def __init__(self) -> None:
        self._left = _TOTAL_BYTES

    def read(self, path: Path, limit: int) -> bytes:
        """A file of at most ``limit`` bytes. Raises OSError for a larger one, and where there is no room for it."""
        content = read_bounded(path, min(limit, self._left))
        self._left -= len(content)
        return content


def collect(output: Path, notes: Mapping[str, bytes] | None = None) -> tuple[ProcessRecord, ...]:
    """One record for each Python process that wrote into ``output`` or has ``notes`` (``NoteListener``), in order of
    their starts.

    Raises ProvenanceError where the folder cannot be listed. Of more than PROCESS_LIMIT processes the first are
    returned, the last of which says so in its ``problems``.
    """
    try:
        with os.scandir(output) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_ENTRIES), strict=False)]
    except FileNotFoundError:
        names = []  # the program deleted it
    except OSError as error:
        raise TrailError(f"{output}: cannot be listed ({error.strerror})") from None
    trails: dict[str, list[tuple[int, str]]] = {}
    processes, notes = [], notes or {}
    for name in {*names, *(f"process-{stem}.json" for stem in notes)}:
        match = _NAME.fullmatch(name)
        if match and match[1] == "process" and match[4] is None:
            processes.append((int(match[3]), int(match[2])))
        elif match and match[1] == "trail" and match[4] is not None:
            trails.setdefault(f"{match[2]}-{match[3]}", []).append((int(match[4]), name))
    processes.sort()
    found: list[ProcessRecord] = []
    room = _Room()
    for started_ns, pid in processes[:PROCESS_LIMIT]:
        own = sorted(trails.get(f"{pid}-{started_ns}", ()))
        more = len(processes) - PROCESS_LIMIT if len(found) == PROCESS_LIMIT - 1 else 0
        problems = [f"{more} more Python processes are not listed"] if more > 0 else []
        found.append(_process(output, pid, started_ns, tuple(name for _, name in own), problems, room, notes))
    return tuple(found)


def _process(
    output: Path,
    pid: int,
    started_ns: int,
    trails: tuple[str, ...],
    problems: list[str],
    room: _Room,
    notes: Mapping[str, bytes],
) -> ProcessRecord:
    stem = f"{pid}-{started_ns}"
    name = f"process-{stem}.json"
    opened, imported = _opened(output / f"opened-{stem}.jsonl", notes.get(stem, b""), problems, room)
    try:
        document = Field(json.loads(room.read(output / name, _PROCESS_BYTES)), name, TrailError)
        record = _record(document, problems)
    except (OSError, ValueError, RecursionError, ProvenanceError) as error:
        why = getattr(error, "strerror", None) or str(error)
        record = ProcessRecord(pid, "", problems=(*problems, f"its process file cannot be read: {why}"[:500]))
    return replace(record, pid=pid, started=_time(started_ns), opened=opened, imported=imported, trails=trails)


def _record(document: Field, problems: list[str]) -> ProcessRecord:
    """A record of the hook's own document."""
    facts = document.mapping()

    def optional(name: str, otherwise: Any) -> Field:
        value = facts.get(name)
        return Field(otherwise if value is None else value, f"{document.path}.{name}", TrailError)

    other, same = _folders(optional("folders", {}))
    ending, torch = optional("ending", ""), document.member("torch")
    values: dict[str, Any] = {name: document.member(name).string() for name in _TEXTS}
    values |= {name: string_map(optional(name, {})) for name in ("ranks", "random_at_exit")}
    return ProcessRecord(
        **values,
        pid=0,
        started="",
        parent_pid=document.member("parent_pid").integer(0),
        forked_from=None if facts.get("forked_from") is None else document.member("forked_from").integer(0),
        ended=_time(document.member("ended_ns").integer(0)) if ending.value else "",
        ending=ending.one_of(("exit", "exec", "")),
        argv=tuple(redact_arguments(strings(optional("argv", [])))),
        flags=scalars(optional("flags", {})),
        search_path=strings(optional("search_path", [])),
        distributions=dict(_distributions(optional("distributions", []))),
        variables=strings(optional("variables", [])),
        opened_not_listed=optional("opened_not_listed", 0).integer(0),
        other_folders=other,
        same_folders=same,
        torch=None if torch.value is None else read_record(TorchRecord, torch),
        problems=tuple(dict.fromkeys((*problems, *strings(optional("problems", []))))),
    )


def _distributions(pairs: Field) -> Iterator[tuple[str, str]]:
    """Names, as PEP 503 compares them, and versions; of several with one name the first, which an import finds."""
    known = set()
    for pair in pairs.items():
        words = strings(pair)
        if len(words) != 2:
            pair.refuse("a name and a version")
        name, version = words
        name = re.sub(r"[-_.]+", "-", name).lower()
        if name not in known:
            known.add(name)
            yield name, version


def _folders(identities: Field) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The folders that are others here than the process saw, by device and number, and those that are the same."""
    other: list[str] = []
    same: list[str] = []
    for folder, identity in list(identities.mapping().items())[:_FOLDERS]:
        try:
            status = os.stat(folder)
            found = [status.st_dev, status.st_ino]
        except (OSError, ValueError):
            found = []
        (same if found == identity else other).append(folder)
    return tuple(other), tuple(same)


def _opened(
    path: Path, notes: bytes, problems: list[str], room: _Room
) -> tuple[tuple[OpenedFile, ...], tuple[ImportedModule, ...]]:
    """The list of opened files, as far as it goes, each path once; and the modules among them."""
    content = b""
    try:
        content = room.read(path, _OPENED_BYTES)
    except FileNotFoundError:
        pass
    except OSError as error:
        problems.append(f"{OPENED_FILES}: the list cannot be read ({error.strerror})")
    imported: dict[ImportedModule, None] = {}
    found: dict[str, tuple[bool, ...]] = {}
    wrong = 0
    for line in (notes + content).split(b"\n")[:-1]:
        try:
            entry = json.loads(line)
            if "problem" in entry:
                problems.append(str(entry["problem"])[:500])
                continue
            name, how = entry["path"], _MODES[entry["mode"]]
            module = ImportedModule(entry.get("module", ""), name, entry.get("importer", ""))
        except (ValueError, KeyError, TypeError, RecursionError):
            wrong += 1
            continue
        if not all(isinstance(each, str) and "\0" not in each for each in astuple(module)):
            wrong += 1
            continue
        if "importer" in entry:
            imported[module] = None
        found[name] = tuple(map(operator.or_, found.get(name, (False,) * 3), how))
    if wrong:
        problems.append(f"{OPENED_FILES}: {wrong} lines of the list are no entries")
    return tuple(OpenedFile(name, *how) for name, how in found.items()), tuple(imported)


def _time(ns: int) -> str:
    try:
        return timestamp(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000))
    except OverflowError:
        raise TrailError(f"{ns} ns since 1970 is no time") from None
