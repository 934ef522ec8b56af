"""Which entries of a list of runs count, and what is wrong with the rest.

The entries of a file form a tree: each names the one before it by digest. An entry counts when

    signed     a key that is trusted signed it, before it was rotated, revoked or expired by the entry's own time; since
               a writer checks what it appends to, the signature of an entry holds for those of the same key that it
               follows directly, so that of a long list few are verified
    unsigned   it is from before any entry of the list was signed, and a signed one vouches for it, where there are any
    witnessed  it precedes or follows the last head that was kept elsewhere (a witness), where one is given and there

Everything else is named and ignored: what anybody can append breaks nobody's runs. Only this does harm, and only to
runs with a lower sequence, since what is missing might have been theirs; to every run where a witness is given:

    missing    an entry that counts, or that one which counts follows, is chained to an entry that is not there: it was
               removed, edited or rewritten; or its signature does not hold, and one that a trusted key signed follows
               it directly, whose writer had checked it; or a witness is not there, or on no line with the last one

The other kinds of problem: "torn" (a line that is no entry, as an interrupted append leaves one; anybody may have
written it), "ignored" (no valid signature, another list's entry, or a copy), "fork" (two entries that count follow the
same one: locks that do not hold, or one history too many; or a second holder's key has entries of the same run),
"unknown" (a key that is not trusted).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from provenance.errors import LedgerError
from provenance.ledger_entries.entry import GENESIS, Entry, EntryLine, embedded_key, follows
from provenance.signatures.public_key import PublicKey

Kind = Literal["torn", "ignored", "fork", "missing", "unknown"]
# what is wrong with a list in itself; a torn line, or a key that one reader does not trust, is only worth a word
SERIOUS: tuple[Kind, ...] = ("ignored", "fork", "missing")
_ROOT, _ABSENT = -1, -2
_EDITED = (
    "its signature is not that of the key that it names, and was when the next entry was written: it was edited since"
)


@dataclass(frozen=True)
class Problem:
    """What is wrong, on which line (from 1; 0 for the whole list), and whose run's entry it is ("" where none's).

    ``before`` is the sequence before which entries are missing; None where any may be.
    """

    line: int
    reason: str
    kind: Kind
    run: str = ""
    before: int | None = None

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}" if self.line else self.reason


@dataclass(frozen=True)
class CountedEntry:
    """An entry that counts, the line that holds it (from 1), and the holder of its key, "" where none is known."""

    line: int
    entry: Entry
    holder: str = ""


@dataclass(frozen=True)
class LedgerAudit:
    """The entries that count, in the file's order, everything that is wrong, by line, and the identifiers of the keys
    that signed entries of another list.
    """

    entries: tuple[CountedEntry, ...]
    problems: tuple[Problem, ...]
    elsewhere: tuple[str, ...] = ()


@dataclass(slots=True)
class _Node:
    """An entry in the tree: its line's number, place in the file and length, and the node that it follows."""

    line: int
    offset: int
    length: int
    entry: Entry
    parent: int
    authentic: bool = False
    vouched: bool = False  # an authentic entry follows it, however far away
    refusal: str = ""  # why it does not count: its key was revoked, rotated or expired by then, or a witness objects


def audit(
    lines: Iterable[tuple[int, bytes]],
    read_at: Callable[[int, int], bytes],
    keys: Mapping[str, PublicKey] | None,
    witnesses: Sequence[Entry] = (),
) -> LedgerAudit:
    """Read a list once.

    Args:
        lines: its lines, each with its place in the file, in bytes, and its newline.
        read_at: reads a length from a place of the file again.
        keys: the trusted keys by their base64; None takes every key that may sign at its word.
        witnesses: entries that must be in the list.
    """
    tree = _Tree()
    for number, (offset, line) in enumerate(lines, 1):
        tree.read(number, offset, line)
    _authenticate(tree.nodes, read_at, keys)
    found = [*tree.problems, *_compare(tree, witnesses)]
    signed = any(node.authentic for node in tree.nodes)
    counted = [node for node in tree.nodes if _counts(node, signed)]
    edited = [*_edited(tree.nodes, keys)]
    known = {node.line for node in (*counted, *edited)}
    others = [node for node in tree.nodes if node.line not in known]
    found += [*_uncounted(others, keys), *_forks(counted, tree.nodes)]
    found += [
        Problem(node.line, _EDITED, "missing", node.entry.run, None if witnesses else node.entry.sequence + 1)
        for node in edited
    ]
    # of a list without any signature, everything is taken as it is
    harm = (node for node in tree.nodes if node.parent == _ABSENT and (node.authentic or node.vouched or not signed))
    found += [
        Problem(node.line, _gap(node.entry), "missing", before=None if witnesses else node.entry.sequence)
        for node in harm
    ]
    holders = {text: key.holder for text, key in (keys or {}).items()}
    entries = tuple(CountedEntry(node.line, node.entry, holders.get(node.entry.key, "")) for node in counted)
    found += _of_two_holders(entries)
    return LedgerAudit(entries, tuple(sorted(found, key=lambda problem: problem.line)), tuple(tree.elsewhere))


class _Tree:
    """The entries of a file by what they follow, as they are read; and what is wrong with lines by themselves."""

    def __init__(self) -> None:
        self.nodes: list[_Node] = []
        self.places: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.elsewhere: set[str] = set()
        self._ledger = ""

    def read(self, number: int, offset: int, line: bytes) -> None:
        """Take the next line."""
        try:
            item = EntryLine.from_bytes(line.removesuffix(b"\n"))
        except LedgerError as error:
            whole = line.startswith(b"{") and line.endswith(b"}\n")
            self.problems.append(Problem(number, f"no entry: {error.message}", "ignored" if whole else "torn"))
            return
        entry, before = item.entry, self._before(item.entry)
        if entry.digest in self.places:
            self._ignore(number, entry, "a copy of an earlier line")
        elif entry.ledger and self._ledger and entry.ledger != self._ledger:
            self._ignore(number, entry, "an entry of another list")
            key = embedded_key(entry)
            if key is not None and key.keyid not in self.elsewhere and item.holds(key):
                self.elsewhere.add(key.keyid)
        else:
            if entry.ledger and not self._ledger and before != _ABSENT and item.holds(embedded_key(entry)):
                self._ledger = entry.ledger
            self.places[entry.digest] = len(self.nodes)
            self.nodes.append(_Node(number, offset, len(line), entry, before))

    def _before(self, entry: Entry) -> int:
        if entry.previous == GENESIS and entry.sequence == 1:
            return _ROOT
        place = self.places.get(entry.previous, _ABSENT)
        return place if place >= 0 and follows(entry, self.nodes[place].entry) else _ABSENT

    def _ignore(self, number: int, entry: Entry, reason: str) -> None:
        self.problems.append(Problem(number, reason, "ignored", entry.run))


def _authenticate(
    nodes: list[_Node], read_at: Callable[[int, int], bytes], keys: Mapping[str, PublicKey] | None
) -> None:
    """Mark what trusted keys signed, and what they signed after. From the end: what follows is marked before."""
    for node in reversed(nodes):
        if node.entry.key and not node.authentic:
            key = embedded_key(node.entry) if keys is None else keys.get(node.entry.key)
            if key is not None:
                line = read_at(node.length, node.offset).removesuffix(b"\n")
                node.authentic = EntryLine.from_bytes(line).holds(key)
        known = keys.get(node.entry.key) if keys else None
        node.refusal = (known.refusal(node.entry.time) or "") if known and node.authentic else ""
        if node.parent >= 0 and (node.authentic or node.vouched):
            before = nodes[node.parent]
            before.vouched = True
            # its writer checked what it appended to, and would not have followed a false entry of its own
            before.authentic = before.authentic or (node.authentic and before.entry.key == node.entry.key)


def _compare(tree: _Tree, witnesses: Sequence[Entry]) -> Iterator[Problem]:
    """Mark what is on no line with the last witness: a list that is only appended to has nothing beside its head."""
    places = [tree.places[witness.digest] for witness in witnesses if witness.digest in tree.places]
    head = place = max(places, key=lambda place: tree.nodes[place].entry.sequence, default=_ABSENT)
    on_line = set()
    while place >= 0:
        on_line.add(place)
        place = tree.nodes[place].parent
    for witness in witnesses:
        if tree.places.get(witness.digest) not in on_line:
            what = f"entry {witness.sequence} of a witness is not there"
            yield Problem(0, f"{what}: its last entries were removed or rewritten", "missing")
    for place, node in enumerate(tree.nodes if on_line else ()):
        if node.parent >= head and node.parent in on_line:  # an entry is below the one that it follows
            on_line.add(place)
        if place not in on_line:
            sequence = tree.nodes[head].entry.sequence
            node.refusal = f"it neither precedes nor follows entry {sequence} of a witness: the list was rewritten"


def _counts(node: _Node, signed: bool) -> bool:
    return not node.refusal and (node.authentic or (not node.entry.key and (node.vouched or not signed)))


def _edited(nodes: list[_Node], keys: Mapping[str, PublicKey] | None) -> Iterator[_Node]:
    """Entries by trusted keys whose signature does not hold, and did when the one that follows them was written."""
    followed = {node.parent for node in nodes if node.authentic and node.parent >= 0}
    for node in (nodes[place] for place in sorted(followed)):
        if not node.authentic and node.entry.key and (keys is None or node.entry.key in keys):
            yield node


def _uncounted(nodes: list[_Node], keys: Mapping[str, PublicKey] | None) -> list[Problem]:
    """Problems of entries that do not count: each false signature, and how many are unsigned or of each other key."""
    found = []
    others: dict[str, list[_Node]] = {}
    for node in nodes:
        if node.entry.key and (keys is None or node.entry.key in keys):
            reason = node.refusal or "its signature is not that of the key that it names"
            found.append(Problem(node.line, reason, "ignored", node.entry.run))
        else:
            others.setdefault(node.entry.key, []).append(node)
    for key, theirs in others.items():
        public = embedded_key(theirs[0].entry)
        whose = f"by the key {public.keyid}, which is not trusted" if public else "by no key that may sign"
        reason = (
            f"{whose if key else 'unsigned, and no signed entry follows'} ({len(theirs)} from here on): not counted"
        )
        run = theirs[0].entry.run if len(theirs) == 1 else ""
        found.append(Problem(theirs[0].line, reason, "unknown" if key else "ignored", run))
    return found


def _forks(counted: list[_Node], nodes: list[_Node]) -> list[Problem]:
    first: dict[int, _Node] = {}
    found = []
    for node in counted:
        other = first.setdefault(node.parent, node)
        if node.parent != _ABSENT and other is not node:
            after = f"entry {nodes[node.parent].entry.sequence}" if node.parent >= 0 else "nothing"
            reason = f"a fork: it follows {after}, as line {other.line} does"
            found.append(Problem(node.line, reason, "fork", node.entry.run))
    return found


def _of_two_holders(entries: Iterable[CountedEntry]) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for each in entries:
        if each.holder and first.setdefault(each.entry.run, each.holder) != each.holder:
            reason = "a second history of its run, by a key of another holder"
            yield Problem(each.line, reason, "fork", each.entry.run)


def _gap(entry: Entry) -> str:
    if entry.sequence == 1:
        return "an entry that calls itself the first and is chained to another"
    return f"entry {entry.sequence - 1}, which this one follows, is not there: it was removed, edited or rewritten"
