"""How recorded code is executed: what the code is, in which sandbox it runs, and who allowed it to run in none.

    plan_execution ──> Execution (shown) ── permitted ──> Execution (recorded in the verdict), or SandboxError

Every recorded run is confined where this machine can confine it, also where its code is, by digest, this checkout's
own: the experiment, the data's path and the checkpoints are the author's all the same. Without a sandbox only such
code runs unasked, since this program itself is made of it; any other needs the reviewer's consent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ndrepro.execution.reproduce.recorded_code import code_digest, commits_at_hand
from ndrepro.execution.sandbox.sandbox import Sandbox, choose
from ndrepro.protocol.errors import SandboxError
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.project_folders import CODE
from ndrepro.protocol.training_record import NETWORK, TrainingRecord
from ndrepro.protocol.verdicts import CONTAINER, NO_SANDBOX
from ndrepro.text.plurals import all_of
from provenance.attestation.manifest import Manifest
from provenance.attestation.run_files import inside
from provenance.capture.source_patch import PATCH
from provenance.capture.unavailable import mapping, printable, text
from provenance.capture.work_tree import SUBMODULES
from provenance.comparison.kept_source import differs, patched_paths
from provenance.comparison.recorded_source import COPIED, changed_submodules, untracked_files
from provenance.comparison.recorded_tree import SourceState
from provenance.errors import SourceError
from provenance.git.repository import Repository

# who allowed recorded code to run outside a sandbox
OWN_CODE, BY_OPTION, BY_ANSWER = "this checkout's own code", "--trust-code", "confirmed on the terminal"


@dataclass(frozen=True)
class UntrackedSource:
    """A file in which the recorded code is not that of its commit: its size and digest are known of kept ones."""

    path: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class RecordedCode:
    """The code of a run by its manifest: the commit, a branch that has it here, and the changes to it.

    ``dirty`` is None where it was not recorded. ``own`` says whether its digest is that of this checkout's code.
    ``changed`` are the files of the patch, in ``patch``; ``untracked`` those that the commit does not have.
    """

    commit: str | None
    branch: str | None
    own: bool
    dirty: bool | None
    patch: Path | None
    patch_sha256: str | None
    changed: tuple[str, ...]
    untracked: tuple[UntrackedSource, ...]

    @classmethod
    def of(cls, manifest: Manifest, run: Path, repositories: Sequence[Path] = ()) -> RecordedCode:
        """What ``manifest`` records and the patch in the folder ``run`` changes, the commit being on a branch of one of
        ``repositories``, or of ``commits_at_hand`` where none is named. Raises SourceError for no patch.
        """
        record = TrainingRecord.of(manifest)
        recorded = record.source.annotations or {}
        commit = SourceState(recorded, run).commit
        patch, untracked = (mapping(recorded.get(name)) for name in ("patch", "untracked"))
        dirty = differs(recorded) or recorded.get("dirty")
        digest = patch.get("sha256")
        network = manifest.dependency(NETWORK)
        theirs = mapping((network.annotations or {}).get("files")) if network else {}
        copied = [*map(_file, map(mapping, untracked.get("copied", ())))]
        copied += [UntrackedSource(f"network/{name}", sha256=text(sha256)) for name, sha256 in theirs.items()]
        return cls(
            commit=commit,
            branch=None
            if commit is None
            else next(filter(None, (_branch_with(commit, at) for at in repositories or [commits_at_hand()])), None),
            # a network of somebody's own is none of this checkout's code
            own=network is None and record.code_digest is not None and record.code_digest == code_digest(CODE),
            dirty=dirty if isinstance(dirty, bool) else None,
            patch=run / PATCH if isinstance(digest, str) else None,
            patch_sha256=digest if isinstance(digest, str) else None,
            changed=tuple(map(printable, _patched(recorded, run))),
            untracked=(*copied, *_untracked_in_submodules(recorded)),
        )

    def changes(self) -> tuple[str, ...]:
        """In words, the files that are not as in the commit."""
        kinds = {"patched": self.changed, "untracked": [each.path for each in self.untracked]}
        return tuple(f"{kind}: {all_of(paths)}" for kind, paths in kinds.items() if paths)

    def to_json(self) -> dict[str, Any]:
        """Commit, whether it was dirty, the digest of the patch, the changed paths, untracked files with digests."""
        return {
            "commit": self.commit,
            "own": self.own,
            "dirty": self.dirty,
            "patch_sha256": self.patch_sha256,
            "changed": list(self.changed),
            "untracked": {item.path: item.sha256 for item in self.untracked},
        }


@dataclass(frozen=True)
class Execution:
    """In which sandbox recorded code runs; where in none, ``reason`` says why and ``allowed`` on whose word."""

    sandbox: str
    code: RecordedCode
    reason: str = ""
    allowed: str = ""


Consent = Callable[[Execution], bool]


def plan_execution(
    manifest: Manifest, run: Path, wanted: str, repositories: Sequence[Path] = (), *, container: bool = False
) -> Execution:
    """What will be executed, in which sandbox; ``repositories`` as in RecordedCode. Raises UsageError or SandboxError
    for a sandbox that is not available.
    """
    kind, reason = choose(wanted, container=container)
    return Execution(kind, RecordedCode.of(manifest, run, repositories), reason)


def permitted(planned: Execution, *, trust_code: bool, consent: Consent | None = None) -> Execution:
    """The execution as it is allowed. Raises SandboxError where there is no sandbox, nor consent to do without one."""
    if planned.sandbox != NO_SANDBOX or planned.allowed:
        return planned
    if trust_code:
        return replace(planned, allowed=BY_OPTION)
    if planned.code.own:
        return replace(planned, allowed=OWN_CODE)
    if consent is not None and consent(planned):
        return replace(planned, allowed=BY_ANSWER)
    raise SandboxError(
        f"the recorded code would run with all your rights: no sandbox ({planned.reason})",
        "install bubblewrap; or read the code (commit, source.patch, untracked/), then repeat with --trust-code",
    )


def sandbox_of(execution: Execution, runs: RunsFolder, home: Path) -> Sandbox | None:
    """The sandbox for what is not in a container; it hides the folder of runs and the key home."""
    if execution.sandbox in (NO_SANDBOX, CONTAINER):
        return None
    return Sandbox(execution.sandbox, runs=(runs.root,), secret=(home,))


def _patched(source: Mapping[str, Any], run: Path) -> Iterator[str]:
    """The files that the patch of a work tree changes, and those of its submodules. Raises SourceError for no patch."""
    if isinstance(mapping(source.get("patch")).get("sha256"), str):
        yield from patched_paths(run / PATCH)
    for path, module in _submodules(source):
        yield from (f"{path}/{name}" for name in _patched(module, run / SUBMODULES / path))


def _untracked_in_submodules(source: Mapping[str, Any]) -> Iterator[UntrackedSource]:
    for path, module in _submodules(source):
        found = map(_file, map(mapping, untracked_files(module.get("untracked"), COPIED)))
        yield from (replace(each, path=f"{path}/{each.path}") for each in (*found, *_untracked_in_submodules(module)))


def _submodules(source: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The submodules that differ from their commits, with their states."""
    return ((module["path"], module) for module in changed_submodules(source) if inside(module["path"]))


def _branch_with(commit: str, checkout: Path) -> str | None:
    """A branch of a repository that holds the commit."""
    try:
        names = (
            Repository(checkout).ask("branch", "--all", "--contains", commit, "--format=%(refname:short)").split("\n")
        )
    except SourceError:  # no repository, or the commit is not there
        return None
    return names[0] or None


def _file(entry: Mapping[str, Any]) -> UntrackedSource:
    size, digest = entry.get("bytes"), entry.get("sha256")
    return UntrackedSource(
        str(entry.get("path")), size if isinstance(size, int) else None, digest if isinstance(digest, str) else None
    )
