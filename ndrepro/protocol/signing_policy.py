"""Who may sign what, as a TOML file states it, read strictly: ``ndrepro verify --policy FILE`` enforces it.

    title = "Digits, spring 2027"
    revoked = "never"                 or "before", the default: what a key signed before its revocation counts
    [signers.ada]                     one table for each person or machine
    keys = ["9865193e…"]              identifiers, as `ndrepro keys list` shows them; rotated keys count with these
    identities = [{ identity = "ada@example.org", issuer = "https://accounts.google.com" }]   of keyless signatures
    roles = ["author"]                author, reviewer or both
    experiments = ["lenet_*"]         names with * and ?; all where left out; "network:module.Net_*", "program:*"
    from = 2027-01-01                 what was signed before counts not
    until = 2027-07-01                nor what was signed from then on
    [signatures]                      of the manifest: so many different signers of each role; one author by default
    author = 1
    reviewer = 1
    [verdicts]                        signed by `ndrepro reproduce`: so many different reviewers
    at_least = 1
    accept = ["identical", "close"]
    sandboxed = true                  count only those made in a sandbox
    spot_checks = false               count those of single epochs too

A policy restricts: a key that it names counts only where it is trusted. An identity that it names is accepted, and its
dates are compared with the log's time instead of the signer's. Law: whatever is not known is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timezone
from fnmatch import fnmatchcase
from typing import Any

from ndrepro.protocol.document_place import DocumentPlace
from ndrepro.protocol.errors import suggestion
from ndrepro.protocol.verdicts import CLOSE, CONSISTENT, IDENTICAL

AUTHOR, REVIEWER = "author", "reviewer"
ROLES = (AUTHOR, REVIEWER)
BEFORE, NEVER = "before", "never"
ACCEPTABLE = (IDENTICAL, CLOSE, CONSISTENT)
_KEYID = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# an identity and the provider that vouches for it
KeylessIdentity = tuple[str, str]
_EXAMPLE = "docs/how-to/keys.md has an example"


@dataclass(frozen=True)
class Signer:
    """Whose keys and identities may sign which experiments in which roles; from ``since`` on, and before ``until``."""

    name: str
    keys: tuple[str, ...]
    roles: tuple[str, ...]
    experiments: tuple[str, ...] = ("*",)
    since: datetime | None = None
    until: datetime | None = None
    identities: tuple[KeylessIdentity, ...] = ()

    @property
    def credentials(self) -> tuple[str | KeylessIdentity, ...]:
        """The keys and identities."""
        return (*self.keys, *self.identities)

    def objection(self, role: str, experiment: str, when: datetime | None) -> str:
        """Why a signature of theirs made at ``when`` does not count in this role; "" where it does."""
        if role not in self.roles:
            return f"{self.name} is no {role}"
        if not any(_covers(pattern, experiment) for pattern in self.experiments):
            return f"{self.name} may not sign {experiment}"
        if when is None:
            return f"{self.name}'s is of unknown time" if self.since or self.until else ""
        if self.since and when < self.since:
            return f"{self.name}'s is from {when:%Y-%m-%d}, expected {self.since:%Y-%m-%d} or later"
        if self.until and when >= self.until:
            return f"{self.name}'s is from {when:%Y-%m-%d}, expected before {self.until:%Y-%m-%d}"
        return ""


def _covers(pattern: str, name: str) -> bool:
    """Whether a pattern is of this name. Authors choose what is before a colon, so a pattern must have one too."""
    return pattern == "*" or (fnmatchcase(name, pattern) and (":" in pattern) == (":" in name))


@dataclass(frozen=True)
class RequiredVerdicts:
    """How many reviewers must have repeated a run, with which verdicts, and how."""

    at_least: int
    accept: tuple[str, ...] = (IDENTICAL, CLOSE)
    sandboxed: bool = True
    spot_checks: bool = False


@dataclass(frozen=True)
class SigningPolicy:
    """A policy; see the module. ``signatures`` is how many signers of each role the manifest needs."""

    title: str
    signers: tuple[Signer, ...]
    signatures: Mapping[str, int]
    verdicts: RequiredVerdicts | None = None
    revoked: str = BEFORE

    def signer(self, credentials: Iterable[str | KeylessIdentity]) -> Signer | None:
        """The first signer who has one of these keys or identities."""
        wanted = set(credentials)
        return next((signer for signer in self.signers if wanted.intersection(signer.credentials)), None)

    @property
    def identities(self) -> tuple[tuple[str, KeylessIdentity], ...]:
        """Every identity that it names, with the name of the signer."""
        return tuple((signer.name, each) for signer in self.signers for each in signer.identities)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], file: str) -> SigningPolicy:
        """The policy in a document. Raises UsageError naming ``file``, the place in it and the nearest right word."""
        root = DocumentPlace(file, _EXAMPLE)
        top = root.members(document, ("title", "revoked", "signers", "signatures", "verdicts"))
        tables = root.at("signers").table(top.get("signers"))
        signers = tuple(_signer(name, root.at("signers").at(name), table) for name, table in tables.items())
        if not signers:
            raise root.error("signers: there are none", "add one: [signers.NAME] with keys or identities, and roles")
        _expect_distinct(root.at("signers"), signers)
        policy = cls(
            title=root.at("title").text(top.get("title")),
            signers=signers,
            signatures=_signatures(root.at("signatures"), top.get("signatures")),
            verdicts=_verdicts(root.at("verdicts"), top["verdicts"]) if "verdicts" in top else None,
            revoked=_word(root.at("revoked"), top.get("revoked", BEFORE), (BEFORE, NEVER)),
        )
        _expect_possible(root, policy)
        return policy


def _signer(name: str, place: DocumentPlace, document: Any) -> Signer:
    if not _NAME.fullmatch(name):
        raise place.error("a signer's name has letters, digits, _, . and - only", "rename it")
    table = place.members(document, ("keys", "identities", "roles", "experiments", "from", "until"))
    identities = _identities(place.at("identities"), table["identities"]) if "identities" in table else ()
    keys = () if identities and "keys" not in table else _words(place.at("keys"), table.get("keys"))
    for key in keys:
        if not _KEYID.fullmatch(key):
            raise place.at("keys").error(f"{key!r}, expected a key's identifier", "`ndrepro keys list` shows them")
    roles = _words(place.at("roles"), table.get("roles"))
    for role in roles:
        _word(place.at("roles"), role, ROLES)
    experiments = _words(place.at("experiments"), table.get("experiments", ["*"]))
    since, until = (_time(place.at(key), table[key]) if key in table else None for key in ("from", "until"))
    if since and until and since >= until:
        raise place.error(f"from {since:%Y-%m-%d} is not before until {until:%Y-%m-%d}", "swap them")
    return Signer(name, keys, roles, experiments, since, until, identities)


def _identities(place: DocumentPlace, value: Any) -> tuple[KeylessIdentity, ...]:
    found = []
    for row, table in place.rows(value):
        row.members(table, ("identity", "issuer"))
        identity, issuer = (row.at(key).text(table.get(key)) for key in ("identity", "issuer"))
        if not identity or not issuer:
            raise row.error("an identity and its issuer are needed", "any provider may vouch for any address")
        found.append((identity, issuer))
    return tuple(found)


def _expect_distinct(place: DocumentPlace, signers: tuple[Signer, ...]) -> None:
    """Refuse a key or identity of two signers: one person would count as two."""
    owners: dict[str | KeylessIdentity, str] = {}
    for signer in signers:
        for each in signer.credentials:
            if owners.setdefault(each, signer.name) != signer.name:
                what = f"key {each}" if isinstance(each, str) else f"identity {each[0]}"
                raise place.error(f"{owners[each]} and {signer.name} have the same {what}", "give it to one of them")


def _signatures(place: DocumentPlace, document: Any) -> dict[str, int]:
    table = place.members(document, ROLES)
    return {AUTHOR: 1, **{role: _count(place.at(role), value) for role, value in table.items()}}


def _verdicts(place: DocumentPlace, document: Any) -> RequiredVerdicts:
    table = place.members(document, ("at_least", "accept", "sandboxed", "spot_checks"))
    accept = _words(place.at("accept"), table.get("accept", [IDENTICAL, CLOSE]))
    for word in accept:
        _word(place.at("accept"), word, ACCEPTABLE)
    flags = {key: table.get(key, default) for key, default in (("sandboxed", True), ("spot_checks", False))}
    for key, value in flags.items():
        if not isinstance(value, bool):
            raise place.at(key).error(f"{value!r}, expected true or false")
    return RequiredVerdicts(_count(place.at("at_least"), table.get("at_least")), accept, **flags)


def _expect_possible(root: DocumentPlace, policy: SigningPolicy) -> None:
    """Refuse a policy that no run can meet, which would be noticed late."""
    wanted = dict(policy.signatures)
    if policy.verdicts:
        wanted[REVIEWER] = max(wanted.get(REVIEWER, 0), policy.verdicts.at_least)
    for role, count in wanted.items():
        there = sum(role in signer.roles for signer in policy.signers)
        if there < count:
            raise root.error(f"{count} signers in the role {role} are required, and {there} have it", "add signers")


def _words(place: DocumentPlace, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) and word for word in value):
        raise place.error(f"{value!r}, expected a list of words in quotes" if value else "missing, expected a list")
    if len(set(value)) < len(value):
        raise place.error(f"{value!r} has a word twice", "give each once")
    return tuple(value)


def _word(place: DocumentPlace, value: Any, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        raise place.error(f"{value!r} is not known", suggestion(str(value), known))
    return value


def _count(place: DocumentPlace, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise place.error(f"{value!r}, expected a whole number above 0", "leave it out where none is required")
    return value


def _time(place: DocumentPlace, value: Any) -> datetime:
    """A date's first moment, or a time with its offset."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise place.error(f"{value} has no time zone", "write it as 2027-01-31T12:00:00Z")
        try:
            return value.astimezone(timezone.utc)
        except OverflowError:
            raise place.error(f"{value}, expected a date of the years 2 to 9998", "write it as 2027-01-31") from None
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    raise place.error(f"{value!r}, expected a date", "write it as 2027-01-31, without quotes")
