"""What the free parts of a manifest may hold: dependencies and byproducts, and what a recorder saw of a program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ndrepro.protocol.program_record import (
    CHANGED,
    COMMAND,
    DECLARED,
    EXECUTABLE,
    FOLDERS,
    IMAGE,
    IMAGE_ATTESTATION,
    INPUTS,
    NEW,
    OPENED,
    OTHER_NAMES,
    OTHER_PATHS,
    OUTPUTS,
    STANDARD_INPUT,
    WRITTEN,
)
from ndrepro.protocol.recorded.environment import IMPORTED_FILES, LOADED_CODE
from ndrepro.protocol.recorded.shapes import (
    COUNT,
    SECONDS,
    TEXTS,
    Shape,
    among,
    array,
    captured,
    each,
    git_name,
    missing,
    nothing,
    number,
    one_of,
    record,
    run_id,
    sha256,
    table,
    text,
    truth,
    version,
    whole,
)
from ndrepro.protocol.training_record import CODE, CONTINUED_RUN
from provenance.attestation.manifest import (
    CLOCK,
    DATASET,
    ENERGY,
    ERROR,
    NOT_RECORDED,
    REPRODUCED_RUN,
    SOURCE,
    Manifest,
    Resource,
)
from provenance.capture.unavailable import at
from provenance.formats.strict_json import Field

_DIGEST = captured(sha256)
_KEPT = {"bytes": COUNT, "sha256": _DIGEST}


def _state(field: Field) -> None:
    """The state of a work tree, of the source's own repository or of a submodule."""
    _WORK_TREE(field)


_FILE = record(
    {"path": text},
    {
        **{"how": text, "conversion": text, "reason": text, "bytes": captured(COUNT), "sha256": _DIGEST},
        **{"redacted": truth, "unredacted": record(_KEPT), "commit": captured(text), "dirty": captured(truth)},
    },
)
_FILES = array(_FILE)
_MANY = record({"count": COUNT, "files": _FILES}, {"against": text, "listing_sha256": sha256})
_LEFT = {"listing_sha256": sha256, "reason": text, "bytes": captured(COUNT)}
_PATCH = record(
    {},
    {
        **_KEPT,
        **{"file": text, "redacted": truth, "unredacted": record(_KEPT), "omitted": _MANY},
        **{"left_out": record(_KEPT, {"reason": text}), "whole_files": TEXTS},
    },
)
_TREE: dict[str, Shape] = {
    "dirty": captured(truth),
    "changed": captured(_MANY),
    "submodules": captured(record({"dirty": truth, "changed": array(_state)})),
    "unwatched": captured(_FILES),
    "converted": captured(record({"count": COUNT, "files": TEXTS}, {"settings": table(text)})),
    "patch": captured(_PATCH),
    "untracked": captured(
        record({"copied": _FILES, "left_out": _FILES}, {"left_out_too": record({"files": COUNT, **_LEFT})})
    ),
    "excluded": array(one_of(_FILE, text)),
}
_WORK_TREE = captured(record({"path": text, "how": text}, {"commit": one_of(nothing, captured(text)), **_TREE}))
_SOURCE = captured(
    record(
        {},
        {
            **each("root commit tree branch describe", captured(text)),
            "remotes": captured(table(text)),
            "shallow": captured(truth),
            "code": captured(record({}, {"tree_sha256": sha256, "files": COUNT})),
            **_TREE,
        },
    )
)
_CODE = captured(
    record({"tree_sha256": sha256, "files": COUNT}, {"not_copied": record({"count": COUNT, "files": _FILES})})
)
_RUN = record({"run": run_id})
_COUNTERS = captured(table(captured(number(0, 1e16, "J"))))
ANNOTATIONS: dict[str, Shape] = {
    SOURCE: _SOURCE,
    CODE: _CODE,
    REPRODUCED_RUN: _RUN,
    CONTINUED_RUN: _RUN,
    ENERGY: record({"cpu_packages": _COUNTERS, "gpus": _COUNTERS}),
    CLOCK: record({"set_back_seconds": whole(1)}),
    ERROR: record({"type": text, "message": text}, {"cure": text}),  # a script's exception has no cure
    NOT_RECORDED: table(text),
}
_WAYS = {INPUTS: (COMMAND, STANDARD_INPUT, OPENED), OUTPUTS: (DECLARED, NEW, CHANGED, WRITTEN)}
_OF_LISTED = {"size": COUNT, "sha256": sha256, "copy": text, "reason": text}
_DIGESTS = captured(record({}, {"sha256": sha256, "gitCommit": git_name}))
_VERSIONS = record({}, each("ndrepro python", version))
_LISTS = {name: array(record({"path": text, "how": among(*ways)}, _OF_LISTED)) for name, ways in _WAYS.items()}
# inputs.json and outputs.json
FILE_LISTS = {name: record({"files": files}) for name, files in _LISTS.items()}
_SUM = {"count": COUNT, "bytes": COUNT}
_DATA = captured(
    record(
        {"files": COUNT, "bytes": COUNT, "listing": text},
        {OTHER_PATHS: array(record({"path": text, "part": text})), "problem": text},
    )
)
# of a recorded program alone
PROGRAM_ANNOTATIONS: dict[str, Shape] = {
    EXECUTABLE: record({}),
    IMAGE: record({"engine": text}, {"unavailable": text, "attestation": missing}),
    IMAGE_ATTESTATION: record({}),
    INPUTS: record({**_SUM, "files": _LISTS[INPUTS]}, {"problem": text, OTHER_NAMES: TEXTS}),
    OUTPUTS: record(
        {**_SUM, "files": _LISTS[OUTPUTS]}, {"problem": text, **each(f"unmatched removed {FOLDERS}", TEXTS)}
    ),
}
_NAMED_BY_URI = (SOURCE, EXECUTABLE, IMAGE)
_STREAM = record({"to": text, "bytes": COUNT, "sha256": sha256}, {"left": truth})
_LOG = record({"bytes": COUNT, "leftOut": COUNT}, {"problem": text})
_GPU_USE = record(
    {"index": COUNT},
    {
        **each("peak_process_memory_bytes peak_memory_bytes", captured(COUNT)),
        **{"samples": COUNT, "mean_busy_percent": captured(number(0, 100, "%"))},
    },
)
# internalParameters of a recorded program, by name (``ndrepro.protocol.program_record.FACTS``)
PROGRAM_FACTS: dict[str, Shape] = {
    "ending": captured(record({"stops": TEXTS, "outlivedBy": TEXTS})),
    "streams": captured(record({"stdin": text, "log": _LOG}, each("stdout stderr stdout+stderr", _STREAM))),
    "usage": captured(
        record(
            {},
            {
                **each("wall_seconds user_seconds system_seconds", SECONDS),
                **each("peak_memory_bytes largest_process_bytes memory_samples", captured(COUNT)),
                **{"peak_memory_source": text, "shared_memory": text, "gpus": array(_GPU_USE)},
            },
        )
    ),
    "interpreters": array(
        record({"executable": text, "version": text, "processes": COUNT, "distributions": table(text)})
    ),
    "observation": captured(record({"processes": whole(1)})),
}


def check_parts(manifest: Manifest, more: Mapping[str, Shape] | None = None) -> None:
    """Raises ManifestError for a part that a recorder writes and that has another member or value than it writes.

    ``more`` are the shapes of one kind of run alone.
    """
    shapes = {**ANNOTATIONS, **(more or {})}
    for where, resources in (("resolvedDependencies", manifest.dependencies), ("byproducts", manifest.byproducts)):
        for item in resources:
            if item.name in shapes:
                _check_resource(f"{where}.{item.name}", item, shapes[item.name])
            elif more and item.name.startswith(DATASET):
                _check_resource(f"{where}.{item.name}", item, _DATA)
    code = manifest.dependency(CODE)
    if code is not None and (code.digest or {}).get("sha256") != at(code.annotations, "tree_sha256"):
        Field(code.annotations, f"resolvedDependencies.{CODE}").member("tree_sha256").refuse("its digest")
    _VERSIONS(Field(dict(manifest.builder.version), "builder.version"))
    machine = manifest.machine if isinstance(manifest.machine, dict) else {}
    for name, shape in (("imported_files", IMPORTED_FILES), ("loaded_code", LOADED_CODE)):
        if name in machine:
            shape(Field(machine[name], f"machine.{name}"))


def _check_resource(where: str, item: Resource, shape: Shape) -> None:
    found = item.to_json()
    odd = sorted(found.keys() - {"name", "annotations", "digest"} - ({"uri"} if item.name in _NAMED_BY_URI else set()))
    if item.name in (ENERGY, CLOCK, ERROR, NOT_RECORDED) and "digest" in found:
        odd.append("digest")
    if odd:
        Field(found[odd[0]], f"{where}.{odd[0]}").refuse("nothing: no recorder writes it")
    _DIGESTS(Field(found.get("digest", {}), f"{where}.digest"))
    shape(Field(found.get("annotations", {}), f"{where}.annotations"))


def check_facts(facts: Mapping[str, Any]) -> None:
    """Raises ManifestError for a fact of a recorded program that has another form than a recorder writes."""
    for name, value in facts.items():
        if name in PROGRAM_FACTS:
            PROGRAM_FACTS[name](Field(value, f"internalParameters.{name}"))
