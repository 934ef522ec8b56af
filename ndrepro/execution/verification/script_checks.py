"""What can be checked of a run of ``ndrepro.record``: its manifest is made again from the files that are beside it.

    9  request      the builder signs in the script's own process, and nothing is asked for in other fields
    10 environment  distributions, variables and machine are those of environment.json, at the start and at the end
    11 source       the source is not said to be cleaner than the kept patch and files show
    12 metrics      every row that was logged is whole
    13 outcome      outcome, exit code and the recorded error agree
    14 times        start, end, attempts and the ledger's times agree

Parameters, seeds, command, notes and usage are the script's own word: no file implies them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ndrepro.execution.runs.predicate_check import (
    check_members,
    check_source,
    check_times,
    expect_as_written,
    expect_equal,
)
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import read_json
from ndrepro.protocol.recorded.environment import SCRIPT
from ndrepro.protocol.recorded.manifest_parts import check_parts
from ndrepro.protocol.recorded.start_and_end import expect_unchanged
from ndrepro.text.plurals import plural
from provenance.attestation import packages
from provenance.attestation.manifest import (
    CLOCK,
    DATASET,
    DISTRIBUTION,
    ERROR,
    NOT_RECORDED,
    SOURCE,
    Manifest,
    Resource,
)
from provenance.attestation.verdict import CheckResult, ExtraCheck
from provenance.capture.unavailable import is_missing
from provenance.errors import ManifestError
from provenance.formats.metrics_log import Row, read_scalars
from provenance.formats.strict_json import Field
from provenance.recording.script_record import BUILDER, INTERNAL, LATER_PARAMETERS, PARAMETERS


def request(root: Path, manifest: Manifest) -> CheckResult:
    """9: the manifest has the fields of a script's run, and no other."""
    expect_equal("builder.id", manifest.builder.id, BUILDER)
    asked = set(manifest.external_parameters) - set(LATER_PARAMETERS)
    for where, found, known in (
        ("externalParameters", asked, PARAMETERS),
        ("internalParameters", set(manifest.internal_parameters), INTERNAL),
    ):
        if odd := sorted(found ^ set(known)):
            raise ManifestError(f"{where}.{odd[0]}: expected {', '.join(known)}", "ask its author")
    expect_names(manifest, (SOURCE,), (CLOCK, ERROR, NOT_RECORDED))
    check_parts(manifest)
    name = manifest.external_parameters["name"]
    return CheckResult("request", "pass", f"{name}: parameters, seeds and command are the script's own word")


def expect_names(manifest: Manifest, dependencies: Collection[str], byproducts: Collection[str]) -> None:
    """Raises ManifestError for a dependency or byproduct that no recorder writes, or one that comes twice.

    Readers would choose between two, each another one; and nothing implies what no recorder writes. Distributions and
    data are named one by one; the same data may have been declared twice.
    """
    for where, resources, known in (
        ("resolvedDependencies", manifest.dependencies, dependencies),
        ("byproducts", manifest.byproducts, byproducts),
    ):
        found: dict[str, Resource] = {}
        for item in resources:
            if item.name not in known and not (
                known is dependencies and item.name.startswith((DISTRIBUTION, DATASET, "distributions"))
            ):
                raise ManifestError(f"{where}.{item.name}: expected {', '.join(known)}", "ask its author")
            first = found.get(item.name)
            again = item.name.startswith(DATASET) and first is not None and first.digest == item.digest
            # a recorder's error, and then the contradiction for which it signs a failed run
            if first is not None and not again and item.name != ERROR:
                raise ManifestError(f"{where}.{item.name}: it comes twice", "ask its author")
            found[item.name] = item


def environment(root: Path, manifest: Manifest) -> CheckResult:
    """10: packages, variables and machine are those that were captured."""
    start, end = captured_environment(RunFolder(root))
    check_environment(manifest, start, end)
    expect_as_written(RunFolder(root).environment)
    moments = {"start": start, "end": end}
    known = {when: seal.get("variables", seal) for when, seal in moments.items()}
    for when, recorded in manifest.internal_parameters["variables"].items():
        if when not in known:
            raise ManifestError(f"internalParameters.variables.{when}: expected start and end")
        if not (is_missing(known[when]) and is_missing(recorded)):
            expect_equal(f"internalParameters.variables.{when}", recorded, known[when])
    return CheckResult("environment", "pass", f"{len(packages.resources(start))} distributions, variables, machine")


def captured_environment(folder: RunFolder) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What environment.json has of the start and of the end; the recorder's marker where it has none."""
    found = read_json(folder.environment) if folder.environment.exists() else {}
    absent = {"unavailable": "not captured"}
    start, end = (found.get(when, absent) for when in ("start", "end"))
    if not isinstance(start, Mapping) or not isinstance(end, Mapping):
        raise ManifestError(f"{folder.environment.name}: expected an object for start and for end", "ask its author")
    SCRIPT(Field(found, folder.environment.name))
    expect_unchanged({"start": {"environment": start}, "end": {"environment": end}})
    return start, end


def check_environment(
    manifest: Manifest, start: Mapping[str, Any], end: Mapping[str, Any], machine_of: Mapping[str, Any] | None = None
) -> None:
    """Raises ManifestError where a distribution or a fact of the machine is not the one that was captured.

    ``start`` and ``end`` are captured environments; ``machine_of`` is the one to make the machine of, where it is not
    that of the start.
    """
    if is_missing(start):  # the recorder's reason stands in the manifest alone
        listed = any(item.name.startswith(DISTRIBUTION) for item in manifest.dependencies)
        if listed or not is_missing(manifest.machine):
            raise ManifestError("machine: recorded, and environment.json has nothing of it", "ask its author")
        return
    machine = manifest.machine if isinstance(manifest.machine, Mapping) else {"machine": manifest.machine}
    check_members("machine", machine, packages.machine(machine_of or start, end))
    made = {item.name: item.to_json() for item in packages.resources(start)}
    recorded = [item for item in manifest.dependencies if item.name in made or item.name.startswith(DISTRIBUTION)]
    if len({item.name for item in recorded}) < len(recorded):
        raise ManifestError("resolvedDependencies: a distribution comes twice", "ask its author")
    check_members("resolvedDependencies", {item.name: item.to_json() for item in recorded}, made)


def source(root: Path, manifest: Manifest) -> CheckResult:
    """11: the source is as the files show that were kept of it."""
    check_source(RunFolder(root), manifest)
    described = manifest.dependency(SOURCE)
    commit = (described.digest or {}).get("gitCommit") if described else None
    return CheckResult("source", "pass", f"commit {str(commit)[:12]}" if commit else "no commit")


def metrics(root: Path, manifest: Manifest) -> CheckResult:
    """12: every row is whole."""
    return count_rows(logged_rows(RunFolder(root), manifest))


def logged_rows(folder: RunFolder, manifest: Manifest) -> list[Row] | None:
    """The rows of metrics.jsonl, None where it is not there; a process that was killed may have left half of one."""
    return read_scalars(folder.metrics, tolerate_torn=manifest.outcome == "killed") if folder.metrics.exists() else None


def count_rows(rows: list[Row] | None) -> CheckResult:
    """The result of the check, of rows that are whole."""
    if rows is None:
        return CheckResult("metrics", "skip", "nothing was logged")
    return CheckResult("metrics", "pass", plural(len(rows), "row"))


def outcome(root: Path, manifest: Manifest) -> CheckResult:
    """13: every record of how it ended agrees."""
    error, code = manifest.byproduct(ERROR), manifest.exit_code
    unrecorded = manifest.byproduct(NOT_RECORDED)
    if manifest.outcome == "completed" and (code != 0 or error or unrecorded):
        raise ManifestError(f"outcome: completed, with exit code {code}{' and an error' if error else ''}")
    if manifest.outcome == "failed" and code == 0 and not (error or unrecorded):
        raise ManifestError("outcome: failed, with exit code 0 and no error that says why")
    reason = (error.annotations or {}).get("message") if error else None
    return CheckResult("outcome", "pass", f"{manifest.outcome}, exit code {code}" + (f": {reason}" if reason else ""))


def times(root: Path, manifest: Manifest) -> CheckResult:
    """14: start, end, attempts and the ledger agree."""
    set_back = check_times(RunFolder(root), manifest)
    return CheckResult("times", "pass", f"{manifest.started_on} to {manifest.finished_on}{set_back}")


CHECKS: tuple[ExtraCheck, ...] = (request, environment, source, metrics, outcome, times)
