"""A cluster profile: what a site needs of every submission, in one TOML file, so that nobody types it again.

    partition = "gpu"                 # as --partition; and so account, gpus, pack, gpu_memory_gib, memory_gib, minutes
    account = "project7"
    qos = "long"
    jobs = 64                         # tasks at the same time
    prologue = ["module load apptainer/1.3", "export http_proxy="]
    engine = "apptainer"              # as --in
    image = "/shared/images/ndrepro.sif"
    scratch = "$TMPDIR"               # a folder of the node: data are copied there before a task trains
    mail = "me@example.org"           # when an array ends, or a task fails
    [sbatch]                          # any other options of sbatch, by their long names
    constraint = "a100"

``--profile NAME`` reads ``clusters/NAME.toml`` in the key home, ``--profile FILE.toml`` that file. Options of the
command line come before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ndrepro.protocol.document_place import DocumentPlace
from ndrepro.protocol.errors import UsageError, suggestion
from provenance.errors import NotFoundError
from provenance.toml_file import read_toml

_TEXTS = ("partition", "account", "qos", "engine", "image", "scratch", "mail")
# an option is an argument of sbatch; a line of the prologue may have tabs
_OPTION, _TEXT = re.compile("[a-z][a-z0-9-]*"), re.compile(r"[^\x00-\x1f\x7f]+")
_LINE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_MOST = 10**6
_WHOLE = ("gpus", "pack", "minutes", "jobs")


@dataclass(frozen=True)
class Profile:
    """What a profile says; ``None`` or empty where it says nothing. ``sbatch`` has qos and mail too."""

    partition: str | None = None
    account: str | None = None
    gpus: int | None = None
    pack: int | None = None
    gpu_memory_gib: float | None = None
    memory_gib: float | None = None
    minutes: int | None = None
    jobs: int | None = None
    prologue: tuple[str, ...] = ()
    engine: str | None = None
    image: str | None = None
    scratch: str = ""
    sbatch: Mapping[str, str] = field(default_factory=dict)


def find_profile(name: str, home: Path) -> Profile:
    """The profile of that name, or in that file.

    Raises UsageError for none, and for whatever is wrong in it, StorageError for one that cannot be read.
    """
    path = Path(name) if name.endswith(".toml") or "/" in name else home / "clusters" / f"{name}.toml"
    try:
        document = read_toml(path, "see runbooks/cluster.md for how one is written")
    except NotFoundError:
        known = sorted(each.stem for each in (home / "clusters").glob("*.toml"))
        cure = suggestion(name, known) if known else f"write {path}: see runbooks/cluster.md"
        raise UsageError(f"--profile {name}: there is no {path}", cure) from None
    return from_document(document, str(path))


def from_document(document: Mapping[str, Any], file: str) -> Profile:
    """The profile in a document. Raises UsageError with the file, the key and what was expected."""
    place = DocumentPlace(file, "see runbooks/cluster.md for how a profile is written")
    keys = {each.name for each in fields(Profile)} | set(_TEXTS)
    table = dict(place.members(document, tuple(sorted(keys))))
    sbatch = {
        key: _option(place.at("sbatch"), key, value) for key, value in place.table(table.pop("sbatch", {})).items()
    }
    found: dict[str, Any] = {key: _value(place, key, value) for key, value in table.items()}
    if qos := found.pop("qos", ""):
        sbatch["qos"] = qos
    if mail := found.pop("mail", ""):
        sbatch |= {"mail-user": mail, "mail-type": "END,FAIL"}
    if found.get("image") and not found.get("engine"):
        raise place.error("image without engine", 'say the engine too: engine = "apptainer"')
    return Profile(**found, sbatch=sbatch)


def _value(place: DocumentPlace, key: str, value: Any) -> Any:
    if key == "prologue":
        if not isinstance(value, list) or not all(isinstance(line, str) and _LINE.fullmatch(line) for line in value):
            raise place.error(f"prologue={value!r}, expected a list of lines in quotes")
        return tuple(value)
    if key in _TEXTS:
        if not isinstance(value, str) or not _TEXT.fullmatch(value):
            raise place.error(f"{key}={value!r}, expected text in quotes, without control characters")
        return value
    kinds = (int,) if key in _WHOLE else (int, float)
    least = 0 if key in ("gpus", "memory_gib") else 1
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= _MOST:
        what = "a whole number" if key in _WHOLE else "a number"
        raise place.error(f"{key}={value!r}, expected {what} from {least} to {_MOST:,}")
    return value


def _option(place: DocumentPlace, key: str, value: Any) -> str:
    if not _OPTION.fullmatch(key):
        raise place.error(f"{key!r}: expected the long name of an option of sbatch, such as constraint")
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not _TEXT.fullmatch(str(value)):
        raise place.error(f"{key}={value!r}, expected text in quotes, without control characters, or a whole number")
    return str(value)
