"""Rebuilds what a manifest says ran: its code at the recorded commit and patch; and says what is not available.

The digest of the recorded code decides which code is executed: where this checkout's packages have that digest they are
used as they are, else the commit is checked out beside it and the recorded patch and untracked files are put in. Either
way commit, patch and untracked files have to give that digest too: else a run could name code that it never executed.

A commit is known to the reviewer if it is in the history of the checkout that he runs. An installed copy has none: the
repository in which it lies may be the author's. A commit is found where its user stands, and is known to nobody.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.execution.containers import engines
from ndrepro.execution.runs.child_process import child_python
from ndrepro.protocol.errors import EngineError
from ndrepro.protocol.experiment.determinism import instruction_limits
from ndrepro.protocol.messages import Request
from ndrepro.protocol.project_folders import CODE, PACKAGES, UNUSED_IN_TRAINING, packages_of
from ndrepro.protocol.training_record import TrainingRecord, installed_distributions
from ndrepro.protocol.verdicts import FLAGGED, RECORDED_CODE, ClaimCheck, claim
from ndrepro.text.plurals import in_room, plural
from provenance.attestation.manifest import Manifest
from provenance.capture import source
from provenance.capture.unavailable import is_missing
from provenance.comparison.kept_source import differs
from provenance.comparison.recorded_tree import SourceState, check_out
from provenance.errors import SourceError
from provenance.formats.folder_tree import temporary_folder, walk
from provenance.git.repository import Repository
from provenance.git.scratch_repository import LINK, TreeEntry
from provenance.git.tracked_files import GitIndex, TreeComparison, compare, read_commit

_UNKNOWN = "that commit is not in this program's own history (an installed copy has none), so read its code"


@dataclass(frozen=True)
class Rebuilt:
    """The folder that holds the packages to run, in words where they are not the recorded ones, and the claim on them.

    ``claim``: the recorded commit, patch and untracked files give the code that is executed.
    """

    code: Path
    differences: tuple[str, ...]
    claim: ClaimCheck


@contextmanager
def recorded_code(manifest: Manifest, run_dir: Path) -> Iterator[Rebuilt]:
    """The recorded code, for as long as the context is open; this checkout's, with the reason, where it is not had."""
    record = TrainingRecord.of(manifest)
    wanted = record.code_digest
    state = SourceState(record.source.annotations or {}, run_dir)
    here = wanted is not None and code_digest(CODE) == wanted
    if here and _is_checked_out(state):
        yield Rebuilt(CODE, (), claim(RECORDED_CODE, True, f"commit {state.commit}, unchanged, by its digest"))
        return
    with temporary_folder("ndrepro-code-") as scratch:
        place = scratch / "code"
        try:
            missing = check_out(state, commits_at_hand(), place)
            _expect_inside(place)
            found = code_digest(place)
        except SourceError as error:
            rebuilt = _without_source(state, here, error.message)
        else:
            if found is not None and found == wanted:
                # code with the digest of this checkout's is known to the reviewer, wherever it comes from
                known = in_history(state.commit)
                doubts = [] if here else [*([] if known else [_UNKNOWN]), *missing]
                evidence = f"commit {state.commit}, patch and untracked files give the code with the recorded digest"
                said = [evidence, *(_since(state.commit) if known and not here else ()), *doubts]
                checked = claim(RECORDED_CODE, None if doubts else True, in_room(said))
                rebuilt = Rebuilt(CODE if here else place, (), checked)
            else:
                words = f"commit {state.commit} with the recorded patch gives code {found}, recorded is {wanted}"
                rebuilt = _other_code(here, in_room([words, *missing]))
        yield rebuilt


def own_checkout() -> Repository | None:
    """The repository of this program's checkout, whose history the reviewer chose with it; None for a copy of it that
    is installed or unpacked anywhere.
    """
    repository = Repository(CODE)
    return repository if repository.is_checkout_of(*PACKAGES) else None


def commits_at_hand() -> Path:
    """A folder in the repository to look for recorded commits in: this checkout's, else where its user stands."""
    return CODE if own_checkout() else Path.cwd()


def in_history(commit: str | None) -> bool:
    """Whether this checkout's history has the commit; else its reviewer may not know it."""
    if (own := own_checkout()) is None:
        return False
    try:
        own.ask("merge-base", "--is-ancestor", str(commit), "HEAD")
    except SourceError:
        return False
    return True


def _since(commit: str | None) -> tuple[str, ...]:
    """In words, how many commits of this checkout changed what trains since an earlier one: mends may be among them."""
    unused = (f":(exclude){name}" for name in UNUSED_IN_TRAINING)
    later = int(Repository(CODE).line("rev-list", "--count", f"{commit}..HEAD", "--", *PACKAGES, *unused))
    return (f"an earlier commit's code: {plural(later, 'later commit')} here changed what trains",) if later else ()


def _is_checked_out(state: SourceState) -> bool:
    """Whether this checkout is at the recorded, unchanged commit, and its code consists of that commit's very files.

    `git status` would believe flags and ignored names, and start what the configuration names as a filter.
    """
    own = own_checkout()
    if own is None or _changes_packages(state):
        return False
    try:
        if own.head() != state.commit:
            return False
        files = {path.relative_to(CODE).as_posix() for each in packages_of(CODE) for path in source.python_files(each)}
        commit = {path: entry for path, entry in read_commit(own).items() if _is_own(path, entry)}
        return files <= commit.keys() and compare(own, commit, GitIndex()) == TreeComparison((), ())
    except SourceError:
        return False


def _is_own(path: str, entry: TreeEntry) -> bool:
    return path.partition("/")[0] in PACKAGES and entry.mode != LINK


def _changes_packages(state: SourceState) -> bool:
    """Whether the record has, or may have, changes against its commit."""
    return bool(differs(state.recorded) or state.recorded.get("dirty") is not False)


def _without_source(state: SourceState, here: bool, reason: str) -> Rebuilt:
    """What is executed where the recorded source cannot be rebuilt. That of an installed copy has no commit."""
    without_commit = is_missing(state.recorded.get("commit")) and not differs(state.recorded)
    if here and (without_commit or not _changes_packages(state)):
        evidence = f"the executed code has the recorded digest; that its commit gives it is not checked: {reason}"
        return Rebuilt(CODE, (), claim(RECORDED_CODE, None, evidence))
    return _other_code(here, reason)


def _other_code(here: bool, reason: str) -> Rebuilt:
    """This checkout's code, which is not what the record of the source gives, or is not shown to be."""
    if here:
        words = f"the executed code has the recorded digest, but not by the recorded source: {reason}"
        return Rebuilt(CODE, (f"code: {reason}",), ClaimCheck(RECORDED_CODE, FLAGGED, words))
    words = f"{reason}; this checkout's code is used"
    return Rebuilt(CODE, (f"code: {words}",), ClaimCheck(RECORDED_CODE, FLAGGED, words))


def environment_differences(manifest: Manifest, request: Request) -> tuple[str, ...]:
    """Distributions of the environment that will be used which are not those recorded, one line each."""
    script = "import json; from provenance.capture.distributions import capture; print(json.dumps(capture()))"
    if request.container is not None:
        listing = engines.python_output(request.container, script, CODE)
    else:
        words = [child_python(request), "-c", script]
        listing = subprocess.run(words, cwd=CODE, capture_output=True, text=True, check=True).stdout
    try:
        here = installed_distributions(captured := json.loads(listing.splitlines()[-1]))
        editable = [item["name"] for item in captured["installed"] if "source" in item and item["name"] != "ndrepro"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:  # a stranger's image
        raise EngineError(
            f"its python3 does not list what is installed ({type(error).__name__}: {listing[-100:]!r})",
            "use another image: --in ENGINE --image NAME, or none: --env main",
        ) from None
    then = TrainingRecord.of(manifest).distributions
    lines = []
    for name in sorted(set(here) | set(then)):
        before, now = then.get(name), here.get(name)
        if before is None or now is None:
            lines.append(f"{name}: {'not there then' if before is None else 'not here now'}")
        elif before.version != now.version:
            lines.append(f"{name}: {before.version} then, {now.version} now")
        elif now.digest is not None and not before.same_files(now):
            lines.append(f"{name} {now.version}: other files than then")
    return *lines, *(f"{name}: an editable installation, which the sandbox does not show" for name in editable)


def limit_differences(manifest: Manifest, request: Request) -> tuple[str, ...]:
    """Instruction limits that a run would inherit here which are not those recorded, one line each.

    A container is started with none of this process's variables.
    """
    own = (request.experiment.determinism, request.experiment.cpu_isa)
    then = instruction_limits(manifest.variables, *own)
    now = {} if request.container is not None else instruction_limits(os.environ, *own)
    return tuple(
        f"{name}: {then.get(name, 'not set')} then, {now.get(name, 'not set')} now"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    )


def _expect_inside(place: Path) -> None:
    """Raises SourceError for a link that leads out: it would be read here, where the reviewer's own files are."""
    top = place.resolve()
    for folder, below, files in walk(place):
        for path in (Path(folder, name) for name in (*below, *files)):
            if path.is_symlink() and top not in path.resolve().parents:
                raise SourceError(f"{path.relative_to(place)}: a link that leads out of the recorded code")


def code_digest(folder: Path) -> Any:
    """The digest of a folder's packages, as runs record it."""
    return source.package_digest([folder / name for name in PACKAGES]).get("tree_sha256")
