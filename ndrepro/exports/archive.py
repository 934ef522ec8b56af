"""One archive of runs for a repository such as Zenodo or OSF, which verifies offline after unpacking.

    README.txt              what is in it, and the commands that verify it
    ro-crate-metadata.json  every run and file, for catalogues (Process Run Crate)
    CITATION.cff            who made it
    keys/                   public keys of the signers, and the statements on them
    policy.toml             the policy that was handed in, if any
    report/                 the report that was handed in, if any
    runs/                   ledger, verdicts, run folders, laid out as they were

Nothing is signed here, and nothing of a run is changed: the folder ``runs`` of an unpacked archive is a folder of runs
like any other. The whole ledger goes in, so that runs that were started and are not in the archive stay visible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ndrepro.exports.citation import citation_file, licence_url
from ndrepro.exports.members import Member
from ndrepro.exports.ro_crate import METADATA, CrateRun, CrateText, crate_metadata
from ndrepro.exports.run_facts import RunFacts
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.text.plurals import plural
from provenance.attestation.key_home import default_home
from provenance.attestation.key_statements import statement_files
from provenance.attestation.run_files import BUNDLES, MANIFEST
from provenance.attestation.trust import TrustPolicy
from provenance.errors import KeyFileError, NotFoundError
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.folder_tree import files_below

RUNS, KEYS, REPORT, POLICY, CITATION, README = "runs", "keys", "report", "policy.toml", "CITATION.cff", "README.txt"
_REPORT_PAGE = "index.html"
_IDENTITIES = """
Some manifests are signed by identities too (Sigstore). `ndrepro verify` shows and refuses those that you did not name:

    ndrepro keys trust --identity ID --issuer URL --name WHOSE
"""


@dataclass(frozen=True)
class ArchiveText:
    """What the author states of an archive; None or empty where nothing was stated.

    ``authors`` are people as "Family, Given", ``licence`` is an identifier of SPDX, ``citation`` a file to take instead
    of one that is made, ``policy`` a file, ``report`` a folder that ``ndrepro report`` wrote.
    """

    title: str | None = None
    authors: tuple[str, ...] = ()
    licence: str | None = None
    citation: Path | None = None
    policy: Path | None = None
    report: Path | None = None


def archive_members(runs: Sequence[RunFacts], text: ArchiveText, trust: TrustPolicy) -> list[Member]:
    """Every file of the archive of these runs, which share a ledger or have none.

    Raises UsageError for no run and for runs of several ledgers, NotFoundError for a file that was named and is not
    there, or a folder that holds no report.
    """
    if not runs:
        raise UsageError("no run to archive", "name runs that verify, or a folder of runs")
    root = _runs_root(runs)
    placed = [CrateRun(facts, _place(facts, root)) for facts in sorted(runs, key=lambda each: str(each.folder))]
    members = [*_of_runs(placed), *_of_folder(root, placed), *_keys(runs, trust), *_given(text)]
    title = text.title or f"Recorded runs: {', '.join(sorted({facts.name for facts in runs}))}"
    keyids = sorted({keyid for facts in runs for keyid in facts.keyids})
    if text.citation is None:
        day = max(facts.manifest.finished_on for facts in runs)[:10]
        members.append(Member(CITATION, citation_file(title, text.authors, day, text.licence, keyids)))
    members.append(Member(README, _readme(title, placed, keyids).encode("utf-8")))
    described = {name for run in placed for name in _paths(run)}
    others = tuple((each.path, _what(each.path)) for each in members if each.path not in described)
    crate = CrateText(title, _description(placed), licence_url(text.licence), text.authors, others)
    return [*members, Member(METADATA, crate_metadata(placed, crate))]


def crate_members(facts: RunFacts) -> list[Member]:
    """Every file of a crate of one run."""
    run = CrateRun(facts, facts.run)
    text = CrateText(f"Recorded run: {facts.title}", _description([run]))
    return [*_of_runs([run]), Member(METADATA, crate_metadata([run], text))]


def _of_runs(runs: Iterable[CrateRun]) -> Iterator[Member]:
    for run in runs:
        for file in run.facts.files:
            yield Member(f"{run.path}/{file.path}", run.facts.folder / file.path, file.sha256)
        yield Member(f"{run.path}/{MANIFEST}", run.facts.manifest_bytes())
        if (bundles := run.facts.bundles()) is not None:
            yield Member(f"{run.path}/{BUNDLES}", bundles)


def _paths(run: CrateRun) -> Iterator[str]:
    return (f"{run.path}/{name}" for name in (*(file.path for file in run.facts.files), MANIFEST, BUNDLES))


def _runs_root(runs: Iterable[RunFacts]) -> Path | None:
    """The folder with the ledger of these runs; None where they have none."""
    roots = {ledger.parent for facts in runs if (ledger := RunFolder(facts.folder).ledger)}
    if len(roots) > 1:
        raise UsageError(f"runs of {len(roots)} ledgers: {', '.join(map(str, sorted(roots)))}", "make one archive each")
    return next(iter(roots), None)


def _place(facts: RunFacts, root: Path | None) -> str:
    folder = facts.folder.absolute()
    if root is not None and folder.is_relative_to(root):
        return f"{RUNS}/{folder.relative_to(root).as_posix()}"
    return f"{RUNS}/{facts.path}"


def _of_folder(root: Path | None, runs: Sequence[CrateRun]) -> Iterator[Member]:
    """The ledger, to its last whole line, and the verdicts on these runs."""
    if root is None:
        return
    lines = read_bounded(RunsFolder(root).ledger, LOG_BYTES)
    yield Member(f"{RUNS}/{RunsFolder(root).ledger.name}", lines[: lines.rfind(b"\n") + 1])
    names = {run.facts.folder.name for run in runs} | {run.facts.run for run in runs}
    verdicts = RunsFolder(root).verdicts
    for path in sorted(verdicts.glob("*.dsse.json")):
        if path.name.partition(".")[0] in names:
            yield Member(f"{RUNS}/{verdicts.name}/{path.name}", read_bounded(path))


def _keys(runs: Iterable[RunFacts], trust: TrustPolicy) -> Iterator[Member]:
    """The signers' public keys, each named by its identifier, and the statements on them that are known here."""
    keyids = sorted({keyid for facts in runs for keyid in facts.keyids})
    for keyid in keyids:
        key = trust.key(keyid)
        if key is not None:
            yield Member(f"{KEYS}/{keyid[:16]}.pub", key.pem.encode("ascii"))
    try:
        statements = statement_files(default_home(), keyids)
    except KeyFileError:  # no key home at all
        statements = ()
    for path in statements:
        yield Member(f"{KEYS}/{path.name}", read_bounded(path))


def _given(text: ArchiveText) -> Iterator[Member]:
    """What was handed in to go with the runs."""
    for name, file in ((CITATION, text.citation), (POLICY, text.policy)):
        if file is not None:
            if not file.is_file():
                raise NotFoundError(f"{file}: no such file", "check the path")
            yield Member(name, read_bounded(file, follow_symlinks=True))
    if text.report is not None:
        if not (text.report / _REPORT_PAGE).is_file():
            raise NotFoundError(f"{text.report}: no report in it", "make one: ndrepro report -o DIR")
        for path in files_below(text.report):
            if path.is_file() and not path.is_symlink():
                yield Member(f"{REPORT}/{path.relative_to(text.report).as_posix()}", path)


def _description(runs: Sequence[CrateRun]) -> str:
    return f"{plural(len(runs), 'recorded run')}, each with a signed manifest that lists every one of its files."


def _what(path: str) -> str:
    """What a file that belongs to no run is."""
    known = {
        CITATION: "how to cite these runs",
        README: "how to verify these runs",
        POLICY: "the policy of whose signatures count",
        f"{RUNS}/ledger.jsonl": "the signed list of every run that was started",
    }
    folders = {KEYS: "a public key, or a statement on one", REPORT: "a page of the report", RUNS: "a signed verdict"}
    return known.get(path) or folders[path.partition("/")[0]]


def _readme(title: str, runs: Sequence[CrateRun], keyids: Sequence[str]) -> str:
    keys = " ".join(f"--key {KEYS}/{keyid[:16]}.pub" for keyid in keyids)
    listed = "\n".join(f"    {run.path}   {run.facts.manifest.outcome}" for run in runs)
    return f"""{title}

{_description(runs)} Nothing here needs a network, and nothing of a run is executed to verify it:

    ndrepro verify {runs[0].path} {keys}

A key that comes with what it signed proves only that the runs belong together. Compare its identifier with one that
the signer gave you in another way:

{chr(10).join(f"    {keyid}" for keyid in keyids)}

Runs:

{listed}

To compare them with your own: ndrepro import ARCHIVE {keys}
{_IDENTITIES if any(run.facts.bundles() is not None for run in runs) else ""}"""
