"""What can be checked of a recorded program: its manifest is made again from the files that are beside it.

    9  request      program.json, which was there before the program started, is what was signed
    10 environment  machine, variables and distributions are those of environment.json
    11 source       the source is not said to be cleaner than the kept patch and files show
    12 files        inputs.json, outputs.json and the listings of declared data are those that were signed, and every
                    copy is the file that it is of; no file is listed with two contents, and nothing lies among the
                    copies that is not listed
    13 trail        every process's trail is whole
    14 metrics      every row is whole, and of a log of which the copy of an output is there those at its end
    15 outcome      outcome, exit code, stops and the recorder's error agree
    16 times        start, end, attempts and the ledger's times agree

What the recorder saw of the program (streams, usage, interpreters) is its word: no file implies it.
"""

from __future__ import annotations

import csv
import json
import os.path
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ndrepro.execution.runs.predicate_check import check_members, expect_as_written, expect_equal
from ndrepro.execution.verification.script_checks import (
    check_environment,
    count_rows,
    expect_names,
    logged_rows,
    source,
    times,
)
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import read_json
from ndrepro.protocol.program_record import (
    AS_BEFORE,
    BUILDER,
    EXECUTABLE,
    FACTS,
    FOLDERS,
    IMAGE,
    IMAGE_ATTESTATION,
    INPUTS,
    LISTED,
    LISTINGS,
    OUTPUTS,
    PARAMETERS,
    ProgramRecord,
    other_paths,
    outcome_of,
)
from ndrepro.protocol.recorded.environment import CAPTURED
from ndrepro.protocol.recorded.logged_rows import EVENTS, FILE, MOST_ROWS, text_rows
from ndrepro.protocol.recorded.manifest_parts import FILE_LISTS, PROGRAM_ANNOTATIONS, check_facts, check_parts
from ndrepro.text.plurals import plural
from provenance.attestation.manifest import (
    CLOCK,
    ENERGY,
    ERROR,
    NOT_RECORDED,
    REPRODUCED_RUN,
    SOURCE,
    Artifact,
    Manifest,
    Resource,
)
from provenance.attestation.run_files import inside
from provenance.attestation.verdict import CheckResult, ExtraCheck
from provenance.capture.unavailable import at, mapping
from provenance.errors import ManifestError, ProvenanceError, TrailError
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.digest import FileDigest, bytes_digest, file_digest
from provenance.formats.digest import listing as as_listing
from provenance.formats.listing import parse
from provenance.formats.metrics_log import Row
from provenance.formats.strict_json import Field
from provenance.formats.trail import Trail
from provenance.observation.process_record import read_processes

_ASK = "ask its author"


def request(root: Path, manifest: Manifest) -> CheckResult:
    """9: what was asked for is what was signed."""
    expect_equal("builder.id", manifest.builder.id, BUILDER)
    asked = read_json(RunFolder(root).program)
    check_members("externalParameters", manifest.external_parameters, asked)
    for where, found, known in (
        ("externalParameters", manifest.external_parameters, PARAMETERS),
        ("internalParameters", manifest.internal_parameters, FACTS),
    ):
        if odd := sorted(set(found) - set(known)):
            raise ManifestError(f"{where}.{odd[0]}: expected {', '.join(known)}", _ASK)
    dependencies = (SOURCE, EXECUTABLE, IMAGE, IMAGE_ATTESTATION, INPUTS, REPRODUCED_RUN)
    expect_names(manifest, dependencies, (OUTPUTS, ENERGY, CLOCK, ERROR, NOT_RECORDED))
    check_parts(manifest, PROGRAM_ANNOTATIONS)
    check_facts(manifest.internal_parameters)
    record = ProgramRecord.of(manifest)
    return CheckResult("request", "pass", f"{record.name}: {' '.join(record.command)[:200]}")


def environment(root: Path, manifest: Manifest) -> CheckResult:
    """10: machine, variables and distributions are those that were captured."""
    folder = RunFolder(root)
    if not folder.environment.exists():
        check_environment(manifest, {"unavailable": "not captured"}, {})
        return CheckResult("environment", "skip", "it was not captured: the recording ended before")
    captured = read_json(folder.environment)
    CAPTURED(Field(captured, folder.environment.name))
    pythons = manifest.internal_parameters.get("interpreters")
    if isinstance(pythons, list) and pythons:  # the distributions of the first are dependencies
        expect_equal("interpreters[0].distributions", mapping(pythons[0]).get("distributions", {}), {})
    record = ProgramRecord.of(manifest)
    # a program that ran no Python has no distributions, whatever the file says of why
    known = captured if record.interpreters else {**captured, "distributions": {"installed": []}}
    check_environment(manifest, known, {}, machine_of=captured)
    return CheckResult("environment", "pass", f"{len(record.distributions)} distributions, variables, machine")


def files(root: Path, manifest: Manifest) -> CheckResult:
    """12: the lists of files are the signed ones, and the copies are of those files."""
    folder, kept = RunFolder(root), {item.path: item for item in manifest.artifacts}
    source = manifest.dependency(SOURCE)
    has_commit = source is not None and "gitCommit" in (source.digest or {})
    counts = []
    expect_as_written(folder.program, folder.environment, folder.inputs, folder.outputs, folder.processes)
    for name, path, resource in (
        (INPUTS, folder.inputs, manifest.dependency(INPUTS)),
        (OUTPUTS, folder.outputs, manifest.byproduct(OUTPUTS)),
    ):
        listed = _listed(name, path, resource)
        _expect_one_content(path.name, listed, ProgramRecord.of(manifest).working_folder)
        for file in listed:
            _expect_recorded(path.name, file, kept)
            if name == INPUTS and file.get("copy") is not None and has_commit:
                raise ManifestError(f"{path.name}: {file['path']} has a copy, and code of a commit has none", _ASK)
        if name == OUTPUTS:
            _expect_written_into(ProgramRecord.of(manifest).folders, listed)
        copies = folder.output_copies if name == OUTPUTS else folder.input_copies
        _expect_copies_of(path.name, copies.name, listed, kept, manifest)
        counts.append(f"{name}: {len(listed)}")
    counts.append(f"data: {_check_data(folder, manifest)} files")
    if folder.processes.exists():
        seen, found = at(manifest.internal_parameters, "observation", "processes"), read_processes(folder.processes)
        if found or isinstance(seen, int):
            expect_equal("observation.processes", seen, len(found))
    _check_log(folder, manifest)
    return CheckResult("files", "pass", ", ".join(counts))


def _expect_written_into(folders: Iterable[str], outputs: Iterable[Mapping[str, Any]]) -> None:
    """Raises ManifestError for a folder that is said to have been written into, and of which no file is listed."""
    above = {str(folder) for file in outputs for folder in Path(file["path"]).parents}
    if others := [name for name in folders if name not in above]:
        raise ManifestError(f"{OUTPUTS}.{FOLDERS}: {others[0]}: no output that was written is listed below it", _ASK)


def _check_log(folder: RunFolder, manifest: Manifest) -> None:
    """Raises ManifestError where log.txt is not what the streams had, as far as nothing was left out or redacted."""
    streams = mapping(manifest.internal_parameters.get("streams"))
    size = mapping(streams.get("log"))
    if not folder.log.exists() or not size or size.get("leftOut") or size.get("problem"):
        return
    log = read_bounded(folder.log, LOG_BYTES)
    if b"[redacted:" in log:
        return
    expect_equal("streams.log.bytes", size.get("bytes"), len(log))
    digests = [at(each, "sha256") for name, each in streams.items() if "std" in name and at(each, "bytes") == len(log)]
    if log and digests and bytes_digest(log) not in digests:
        raise ManifestError(f"{folder.log.name}: not what the program printed, by its recorded digest", _ASK)


def _listed(name: str, path: Path, resource: Resource | None) -> list[Mapping[str, Any]]:
    """The files in a list. Raises ManifestError where list and manifest differ."""
    if resource is None:
        if path.exists():
            raise ManifestError(f"{name}: {path.name} is there, and the manifest has none", _ASK)
        return []
    expect_equal(f"{name}.digest", dict(resource.digest or {}).get("sha256"), file_digest(path).sha256)
    document = json.loads(read_bounded(path, LOG_BYTES))
    FILE_LISTS[name](Field(document, path.name))
    found, described = document["files"], resource.annotations or {}
    expect_equal(f"{name}.files", described.get("files"), found[:LISTED])
    expect_equal(f"{name}.count", described.get("count"), len(found))
    expect_equal(f"{name}.bytes", described.get("bytes"), sum(file.get("size", 0) for file in found))
    listed: list[Mapping[str, Any]] = found
    paths = [file.get("path") for file in listed]
    if name == OUTPUTS and len(set(paths)) < len(paths):  # one to show, and another to compare
        raise ManifestError(f"{path.name}: a path comes twice", _ASK)
    return listed


def _expect_recorded(name: str, file: Mapping[str, Any], kept: Mapping[str, Artifact]) -> None:
    """Raises ManifestError for what no recorder says of a file: a reason beside a copy, another copy."""
    copy = file.get("copy")
    if copy is None:
        return
    # a file that was not written, or could not be copied, has no copy
    if file.get("reason") not in (None, "", AS_BEFORE):
        raise ManifestError(f"{name}: {file.get('path')} has a copy, and a reason for having none", _ASK)
    found = kept.get(copy)
    if found is None or (found.sha256, found.size) != (file.get("sha256"), file.get("size")):
        raise ManifestError(f"{name}: {copy} is another file than {file.get('path')}", _ASK)


def _expect_one_content(name: str, listed: Sequence[Mapping[str, Any]], working_folder: str) -> None:
    """Raises ManifestError where one file has two digests: one would be shown, and the other compared.

    A file may come twice, as standard input and as a word of the command, or by an absolute path too.
    """
    found: dict[str, Any] = {}
    for file in listed:
        place = os.path.normpath(os.path.join(working_folder, str(file.get("path"))))
        digest = file.get("sha256")
        if digest is not None and found.setdefault(place, digest) != digest:
            raise ManifestError(f"{name}: {file.get('path')} comes twice, with different contents", _ASK)


def _expect_copies_of(
    name: str, copies_name: str, listed: Sequence[Mapping[str, Any]], kept: Iterable[str], manifest: Manifest
) -> None:
    """Raises ManifestError for what is in a folder of copies and is not the copy of a listed file, by its path.

    A recorder that failed may have left copies, and no list.
    """
    top = f"{copies_name}/"
    copies = {file["copy"]: file.get("path") for file in listed if file.get("copy") is not None}
    odd = [copy for copy, path in copies.items() if copy != f"{top}{path}"]
    if manifest.byproduct(OUTPUTS) is not None or manifest.byproduct(ERROR) is None:
        odd += sorted(path for path in kept if path.startswith(top) and path not in copies)
    if odd:
        raise ManifestError(f"{name}: {odd[0]} is the copy of no file of that path", _ASK)


def _check_data(folder: RunFolder, manifest: Manifest) -> int:
    """The number of files of all declared data. Raises ManifestError where a digest or a count is not the listing's."""
    count = 0
    for data in ProgramRecord.of(manifest).datasets:
        described = data.annotations or {}
        if not data.digest and "unavailable" in described:
            continue
        listing = described.get("listing")
        if not (isinstance(listing, str) and listing.startswith(f"{LISTINGS}/") and inside(listing)):
            raise ManifestError(f"{data.name}: it has a digest and no listing of its files", _ASK)
        content = read_bounded(folder.root / listing, LOG_BYTES)
        expect_equal(f"{data.name}.digest", dict(data.digest or {}), {"sha256": bytes_digest(content)})
        lines = content.decode("utf-8", "surrogateescape")
        listed = parse(lines)
        if lines != as_listing((name, FileDigest(0, digest)) for name, digest in listed.items()):
            raise ManifestError(f"{data.name}: {listing} is not as a recorder writes it", _ASK)
        expect_equal(f"{data.name}.files", described.get("files"), len(listed))
        count += len(listed)
        parts = {".", *(str(part) for name in listed for part in (name, *Path(name).parents))}
        if odd := [each for each in other_paths(described) if each.part not in parts]:
            raise ManifestError(f"{data.name}: {odd[0].path} is said to be {odd[0].part}, which is not listed", _ASK)
    return count


def trail(root: Path, manifest: Manifest) -> CheckResult:
    """13: every trail is whole; a process that was killed may have left half a record."""
    folder = RunFolder(root)
    paths = sorted(folder.trails.glob("*")) if folder.trails.is_dir() else []
    if not paths:
        return CheckResult("trail", "skip", "no optimizer step was seen")
    records = 0
    for path in paths:
        recorded = Trail(path)
        problems = recorded.problems()
        if problems and not (recorded.torn_bytes and len(problems) == 1):
            raise TrailError(f"{path.name}: {'; '.join(problems)}", _ASK)
        records += len(recorded)
    return CheckResult("trail", "pass", f"{plural(records, 'record')} in {plural(len(paths), 'trail')}")


def metrics(root: Path, manifest: Manifest) -> CheckResult:
    """14: every row is whole, and none is another than its log has, where that was kept as an output."""
    folder = RunFolder(root)
    rows = logged_rows(folder, manifest)
    found, record, logged = count_rows(rows), ProgramRecord.of(manifest), dict[str, list[Row]]()
    for row in rows or ():
        logged.setdefault(str(row.get(FILE)), []).append(row)
    if logged and not record.wanted_metrics:
        raise ManifestError(f"{folder.metrics.name}: it has rows, and no log was asked for", _ASK)
    # a log may have grown meanwhile, and not all of it been read
    if record.outlived_by or len(rows or ()) >= MOST_ROWS:
        return found
    for path, taken in logged.items():
        copy = folder.output_copies / path
        if EVENTS in copy.name or not inside(path) or not copy.is_file():
            continue
        # what a log held before the start is none of the run's
        kept = [repr({**row, FILE: path}) for row in _readable(copy)]
        if kept[len(kept) - len(taken) :] != list(map(repr, taken)):
            raise ManifestError(f"{folder.metrics.name}: its rows of {path} are not those of the kept copy", _ASK)
    return found


def _readable(copy: Path) -> Iterator[Row]:
    """The rows of a log up to the first that is none, as its recorder read them."""
    with suppress(ProvenanceError, ValueError, RecursionError, csv.Error):
        yield from text_rows(copy, read_bounded(copy, LOG_BYTES))


def outcome(root: Path, manifest: Manifest) -> CheckResult:
    """15: every record of how it ended agrees."""
    record, code = ProgramRecord.of(manifest), manifest.exit_code
    failed = manifest.byproduct(ERROR) or manifest.byproduct(NOT_RECORDED)
    if isinstance(code, int) and not failed:
        expect_equal("outcome", manifest.outcome, outcome_of(code, record.stops))
    elif manifest.outcome == "completed" and (failed is None or code != 0):
        raise ManifestError(f"outcome: completed, with exit code {code}", _ASK)
    error = f"; recording: {record.error}" if record.error else ""
    return CheckResult("outcome", "pass", f"{manifest.outcome}, exit code {record.exit_code}{error}")


CHECKS: tuple[ExtraCheck, ...] = (request, environment, source, files, trail, metrics, outcome, times)
