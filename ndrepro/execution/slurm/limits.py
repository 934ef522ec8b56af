"""What a site allows of one user: asked of Slurm before a submission, so that nothing is refused half-way.

    scontrol show config      MaxArraySize: indices stay below it
    scontrol show partition   whether it is there and up, MaxTime, the QOS of its own
    sacctmgr show assoc       the user's association with an account: MaxSubmit, GrpSubmit, MaxWall, its QOS
    sacctmgr show qos         MaxSubmit of a user and of an account, GrpSubmit, MaxWall

The smallest of each kind holds. A site without accounting sets no limits of the last two kinds.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ndrepro.execution.slurm.queue import ask
from ndrepro.protocol.errors import EngineError, suggestion

_DEFAULT_ARRAY_SIZE = 1001  # Slurm's own
_MINUTES = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


@dataclass(frozen=True)
class Limits:
    """The most elements of an array, jobs in the queue and minutes of a job; None where the site sets no limit.

    ``submit_source`` and ``minutes_source`` say who set it. ``partition`` is the one that jobs go to, "" where unknown.
    """

    array_size: int = _DEFAULT_ARRAY_SIZE
    submit: int | None = None
    submit_source: str = ""
    minutes: int | None = None
    minutes_source: str = ""
    partition: str = ""


def ask_limits(partition: str | None, account: str | None, qos: str | None) -> Limits:
    """The limits of a submission. Raises EngineError for a partition that is not there, or is down."""
    chosen = _partition(partition)
    name = chosen.get("PartitionName", "")
    associations = _associations(account, name)
    named = {qos, chosen.get("QoS"), *(row["DefaultQOS"] or row["QOS"] for row in associations)}
    services = [row for row in _rows("qos", _QOS) if row["Name"] in named]
    submit = [*_named(associations, "account", "Account", ("MaxSubmit", "GrpSubmit"), _count)]
    submit += _named(services, "QOS", "Name", ("MaxSubmitPU", "MaxSubmitPA", "GrpSubmit"), _count)
    minutes = [*_named(associations, "account", "Account", ("MaxWall",), minutes_of)]
    minutes += _named(services, "QOS", "Name", ("MaxWall",), minutes_of)
    if (longest := minutes_of(chosen.get("MaxTime", ""))) is not None:
        minutes.append((longest, f"MaxTime of the partition {name}"))
    most, most_source = min(submit, default=(None, ""))
    longest_here, longest_source = min(minutes, default=(None, ""))
    return Limits(_array_size(), most, most_source, longest_here, longest_source, name)


def minutes_of(text: str) -> int | None:
    """Minutes of Slurm's D-HH:MM:SS, D-HH, HH:MM:SS, MM:SS or MM; None for UNLIMITED, NONE or nothing."""
    match = _MINUTES.fullmatch(text)
    if match is None:
        return None
    days, *rest = match.groups()
    numbers = [int(each) for each in rest if each is not None]
    if days is not None:  # counted from hours
        hours, minutes, _ = (*numbers, 0, 0)[:3]
        return (int(days) * 24 + hours) * 60 + minutes
    if len(numbers) == 3:
        return numbers[0] * 60 + numbers[1]
    return numbers[0]


# columns of accounting
_ASSOCIATION = ("Account", "Partition", "MaxSubmit", "GrpSubmit", "MaxWall", "QOS", "DefaultQOS")
_QOS = ("Name", "MaxSubmitPU", "MaxSubmitPA", "GrpSubmit", "MaxWall")


def _partition(name: str | None) -> dict[str, str]:
    """The fields of the partition of that name, or of the default one; empty where there is no default."""
    known = {}
    for line in ask("scontrol", "--oneliner", "show", "partition").splitlines():
        fields = dict(pair.split("=", 1) for pair in line.split() if "=" in pair)
        known[fields.get("PartitionName", "")] = fields
    if name is None:
        return next((fields for fields in known.values() if fields.get("Default") == "YES"), {})
    wanted = [each for each in name.split(",") if each]  # several: Slurm takes the first that is free
    for each in wanted:
        if each not in known:
            raise EngineError(f"the cluster has no partition '{each}'", suggestion(each, known))
        if known[each].get("State", "UP") != "UP":
            raise EngineError(f"the partition {each} is {known[each]['State']}", "choose another; see `sinfo`")
    return known[wanted[0]] if wanted else {}


def _array_size() -> int:
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    return int(match[1]) if match else _DEFAULT_ARRAY_SIZE


def _associations(account: str | None, partition: str) -> list[dict[str, str]]:
    """The user's rows; of several accounts that of ``account``, or of the default one."""
    user = getpass.getuser()
    found = [row for row in _rows("assoc", _ASSOCIATION, f"user={user}") if row["Partition"] in ("", partition)]
    if account is None and len({row["Account"] for row in found}) > 1:
        account = next((row["DefaultAccount"] for row in _rows("user", ("DefaultAccount",), user)), None)
    return [row for row in found if account is None or row["Account"] == account]


def _rows(table: str, fields: tuple[str, ...], *conditions: str) -> list[dict[str, str]]:
    """Rows of accounting; none where the site has no accounting."""
    words = ("sacctmgr", "--noheader", "--parsable2", "show", table, *conditions, f"format={','.join(fields)}")
    try:
        listed = ask(*words)
    except EngineError:
        return []
    return [dict(zip(fields, line.split("|"), strict=True)) for line in listed.splitlines() if line]


def _named(
    rows: Iterable[dict[str, str]], kind: str, key: str, columns: tuple[str, ...], read: Callable[[str], int | None]
) -> Iterator[tuple[int, str]]:
    for row in rows:
        for column in columns:
            if (value := read(row[column])) is not None:
                yield value, f"{column} of the {kind} {row[key]}"


def _count(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
