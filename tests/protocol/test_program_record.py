"""What the recorder writes of a program into a manifest is read back under the same names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from compared_runs import COMMIT, manifest

from ndrepro.protocol.program_record import (
    BUILD_TYPE,
    INPUTS,
    LISTED,
    OUTPUTS,
    PARAMETERS,
    ProgramFile,
    ProgramRecord,
    RecordedInterpreter,
    external_parameters,
    files_resource,
    interpreter_json,
)
from ndrepro.protocol.run_kind import PROGRAM, run_kind
from provenance.attestation.manifest import SOURCE, Manifest, Resource

ASKED = external_parameters(
    name="train",
    command=["python", "train.py", "--lr", "0.1"],
    working_folder="/srv/project/examples",
    seeds={"torch": "18446744073709551615"},
    outputs=["*.pt"],
    data=["data"],
    metrics=["log.csv"],
    trail="every=10",
)
OUTPUT = ProgramFile("model.pt", "declared", 7, "ab" * 32, reason="larger than the limit")
PYTHON = RecordedInterpreter("/usr/bin/python3", "3.12.1", 2, {"torch": "2.8.0"})
OTHER = RecordedInterpreter("/usr/bin/python3.9", "3.9.2", 1, {"pip": "24.0"})


def recorded(**changes: Any) -> Manifest:
    made = replace(
        manifest(),
        build_type=BUILD_TYPE,
        external_parameters=ASKED,
        internal_parameters={
            "ending": {"stops": ["SIGINT"], "outlivedBy": ["sleep 100"]},
            "streams": {"stdin": "terminal"},
            "usage": {"wall_seconds": 1.5},
            "interpreters": [interpreter_json(replace(PYTHON, distributions={})), interpreter_json(OTHER)],
            "observation": {"unavailable": "no Python"},
        },
        dependencies=(
            Resource(SOURCE, digest={"gitCommit": COMMIT}, annotations={"root": "/srv/project"}),
            files_resource(INPUTS, [ProgramFile("a", "opened", 1, "cd" * 32)] * (LISTED + 1), sha256="ef" * 32),
            Resource("dataset:data", digest={"sha256": "12" * 32}),
            Resource("distribution:torch", uri="pkg:pypi/torch@2.8.0"),
        ),
        byproducts=(files_resource(OUTPUTS, [OUTPUT], sha256="ef" * 32, removed=["old.pt"]),),
        outcome="interrupted",
        exit_code=-2,
    )
    return replace(made, **changes)


def test_what_was_written_is_what_is_read() -> None:
    document = recorded()
    read = ProgramRecord.of(Manifest.from_predicate(document.to_predicate()))
    assert run_kind(document) == PROGRAM and set(ASKED) == set(PARAMETERS)
    assert (read.name, read.command[0], read.seeds) == ("train", "python", {"torch": "18446744073709551615"})
    assert (read.wanted_outputs, read.data, read.wanted_metrics) == (("*.pt",), ("data",), ("log.csv",))
    assert (read.trail, read.stops, read.outlived_by) == ("every=10", ("SIGINT",), ("sleep 100",))
    assert (read.outcome, read.exit_code, read.unobserved) == ("interrupted", -2, "no Python")
    assert read.interpreters == (PYTHON, OTHER) and read.distributions == {"torch": "2.8.0"}
    assert (read.outputs, read.output_count) == ((OUTPUT,), 1)
    assert (len(read.inputs), read.input_count) == (LISTED, LISTED + 1)
    assert read.commit == COMMIT and [each.name for each in read.datasets] == ["dataset:data"]


def test_nothing_in_a_manifest_raises() -> None:
    odd: dict[str, Any] = {name: 7 for name in PARAMETERS}
    inner = {"ending": [], "interpreters": [3, {"distributions": 4}], "usage": None, "observation": "?"}
    files = Resource(OUTPUTS, annotations={"count": "many", "files": [5, {"path": "x"}, {"path": "x", "how": "new"}]})
    read = ProgramRecord.of(recorded(external_parameters=odd, internal_parameters=inner, byproducts=(files,)))
    assert (read.name, read.command, read.seeds, read.output_count) == ("", (), {}, 0)
    assert read.outputs == (ProgramFile("x", "new", None, None),)
    assert ProgramRecord.of(manifest()).unobserved == "", "another kind of manifest"
