"""Whatever a trusted key signed, and whatever lies in a run folder, is read or refused with an error of this project.

Real documents are mutated (``hostile_json``): other types, huge and non-finite numbers, deep nesting, lone surrogates,
missing and unknown members, damaged bytes. A reader may return or raise a ProvenanceError, and nothing else.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_json import damaged_bytes, fuzzing, mutated, small_places
from hypothesis import given
from hypothesis import strategies as st
from recorded_runs import ROOT
from reviewed_runs import Reviewed
from signed_runs import SAMPLE

from ndrepro.analysis.results.results import read_results
from ndrepro.analysis.results.reviewer_verdicts import read_attestations
from ndrepro.analysis.run_curves import run_curves
from ndrepro.cli import app as command_line
from ndrepro.cli.display import terminal
from ndrepro.execution.runs.run_lookup import summaries
from ndrepro.execution.studies.study_file import load_study
from ndrepro.exports.formats import DOCUMENTS, ExportOptions
from ndrepro.exports.ro_crate import CrateRun, CrateText, crate_metadata
from ndrepro.exports.run_facts import RunFacts
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Container, Evaluated, Request, Result, Scores, read_json
from ndrepro.protocol.replay_messages import Operation, ReplayRequest, StepRecord, TensorBits, Wanted
from ndrepro.protocol.signing_policy import SigningPolicy
from ndrepro.protocol.training_record import TrainingRecord
from ndrepro.protocol.training_state import Place, StateDigest
from ndrepro.report.page.run_page import write_run_page
from provenance.attestation.dsse import PAYLOAD_TYPE, pae, read_envelope, sign_envelope, write_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy
from provenance.errors import ProvenanceError
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest
from provenance.formats.metrics_log import read_scalars
from provenance.formats.trail import TensorName, Trail, TrailWriter, compare, float_bits

CONTAINER = Container("podman", "5.0", "localhost/x", "sha256:" + "0" * 64, "1" * 64, "550")
REQUEST = Request(Experiment.from_name("lenet_nd_5_digits", {}), "/data", container=CONTAINER)
SCORES = Scores(1, 12, 2.0, 0.3, 1.9, 0.25, 0.1, 0.5, 0.5)
BITS = TensorBits((2, 3), "float32", "0" * 16)
STEP = StepRecord(
    3, 0, "cpu", "2.13.0", 1, {"w": BITS}, {"w": BITS}, {"images": BITS},
    (Operation("forward", "conv", "Conv2d", "", "aten.convolution", "", "1", ("w",), (BITS,)),), ("0" * 16,), "0" * 16,
)  # fmt: skip
STATE = {"epoch": 1, "step": 12, "network": "0" * 64, "momentum": "1" * 64, "state": "2" * 64}
READERS: dict[Callable[[Any], Any], Any] = {
    Request.from_json: REQUEST.to_json(),
    Result.from_json: Result("failed", 1, 12, "cpu", {"type": "DataError", "message": "m", "cure": "c"}).to_json(),
    Scores.from_row: asdict(SCORES),
    Evaluated.from_json: Evaluated(1.0, 0.5, 0.9, 100).to_json(),
    Experiment.from_json: REQUEST.experiment.to_json(),
    ReplayRequest.from_json: ReplayRequest(REQUEST, 3, "c").to_json(),
    StepRecord.from_json: STEP.to_json(),
    Wanted.from_json: Wanted("forward", 1, "w").to_json(),
    Place.from_json: asdict(Place(12, 1, 3, 1.0, 2, 16, 5)),
    StateDigest.from_row: STATE,
}


def refused(function: Callable[[], Any]) -> bool:
    """Whether a reader refuses, as it may; any other error is let through."""
    try:
        function()
    except ProvenanceError as error:
        assert error.message
        return True
    return False


def name_of(reader: Callable[..., Any]) -> str:
    return getattr(reader, "__qualname__", str(reader))


@pytest.mark.parametrize("reader", READERS, ids=name_of)
def test_a_message_is_read_or_refused(reader: Callable[[Any], Any], tmp_path: Path) -> None:
    """Each message is written to a file and read from it, as processes exchange them."""
    document = json.loads(json.dumps(READERS[reader]))
    assert not refused(lambda: reader(document)), "the control: what is not mutated is read"
    count = {True: 0, False: 0}

    @fuzzing(250)
    @given(mutated(document))
    def fuzz(found: Any) -> None:
        count[refused(lambda: reader(found))] += 1
        (tmp_path / "x.json").write_text(json.dumps(found), encoding="utf-8")
        refused(lambda: reader(read_json(tmp_path / "x.json")))

    fuzz()
    print(f"\n{name_of(reader)}: {count[True]} refused, {count[False]} read")
    assert count[True] > 20


def test_a_log_of_numbers_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [json.dumps({**asdict(SCORES), "epoch": epoch}) for epoch in (1, 2)]

    @fuzzing(300)
    @given(st.one_of(damaged_bytes("\n".join([*rows, ""]).encode()),
                     mutated(asdict(SCORES)).map(lambda row: (json.dumps(row) + "\n").encode())))  # fmt: skip
    def fuzz(data: bytes) -> None:
        path.write_bytes(data)
        refused(lambda: [Scores.from_row(row) for row in read_scalars(path, tolerate_torn=True)])

    fuzz()


def test_a_trail_is_read_or_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "trail.bin", tmp_path / "whole.bin"
    tensors = [TensorName("w", (2, 3), "<f4"), TensorName("b", (3,), "<f4")]
    records = np.array([[step, float_bits(1.0 / (step + 1)), step * 7, step * 9] for step in range(6)], dtype=np.uint64)
    for each in (path, whole):
        with TrailWriter(each, tensors) as writer:
            writer.append(records)
    data = whole.read_bytes()
    end = 12 + int.from_bytes(data[8:12], "little")
    header = json.loads(data[12:end])

    def with_header(document: Any) -> bytes:
        text = json.dumps(document).encode()
        return data[:8] + len(text).to_bytes(4, "little") + text + data[end:]

    @fuzzing(400)
    @given(st.one_of(damaged_bytes(data), mutated(header).map(with_header)))
    def fuzz(damaged: bytes) -> None:
        path.write_bytes(damaged)

        def read() -> None:
            trail = Trail(path)
            trail.problems(), trail.last(), trail.start
            compare(trail, Trail(whole))
            compare(Trail(whole), trail)

        refused(read)

    fuzz()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    KeyRing(folder).signer()
    return folder


def signed(home: Path, document: Any) -> bytes:
    return signed_bytes(home, canonical_bytes(document))


def signed_bytes(home: Path, payload: bytes) -> bytes:
    signer = KeyRing(home).signer()
    return write_envelope(
        PAYLOAD_TYPE,
        payload,
        [(signer.public_key.keyid, bytes.fromhex(signer.sign(pae(PAYLOAD_TYPE, payload)).signature))],
    )


@pytest.fixture(scope="module")
def statement() -> Any:
    """A real statement, with what dirty sources, edited libraries, containers and failures add to one."""
    document = small_places(json.loads(read_envelope(SAMPLE.read_bytes())[1]), most=4)
    definition, details = document["predicate"]["buildDefinition"], document["predicate"]["runDetails"]
    digest, size = "3" * 64, {"bytes": 3, "sha256": "4" * 64}
    named = next(item for item in definition["resolvedDependencies"] if item["name"] == "source")
    named["annotations"] |= {
        "dirty": True,
        "changed": {"count": 1, "files": [{"path": "a.py", "how": "changed"}]},
        "patch": {"file": "source.patch", **size, "redacted": True, "unredacted": size,
                  "omitted": {"count": 1, "listing_sha256": digest, "files": [{"path": "b", **size, "reason": "r"}]}},
        "untracked": {
            "copied": [{"path": "n.py", **size, "redacted": False}],
            "left_out": [{"path": "m", **size, "reason": "r"}],
            "left_out_too": {"files": 2, "bytes": 9, "listing_sha256": digest, "reason": "r"},
        },
        "submodules": {"dirty": True, "changed": [{"path": "s", "how": "h", "commit": "5" * 40, "dirty": True}]},
        "converted": {"count": 1, "files": ["c"], "settings": {"core.autocrlf": "true"}},
        "excluded": [{"path": "e", "reason": "r"}],
    }  # fmt: skip
    definition["externalParameters"] |= {"container": asdict(CONTAINER), "segment": {"fromStep": 3, "epochs": 1}}
    details["byproducts"].append({"name": "error", "annotations": {"type": "DataError", "message": "m", "cure": "c"}})
    edited = {"path": "torch/a.py", "sha256": digest, "recorded_sha256": digest}
    details["machine"]["imported_files"] = {"checked": 3, "edited": {"torch": [edited]}}
    listed = document["subject"]
    paths = {item["name"] for item in listed}
    details["artifacts"] = [item for item in details["artifacts"] if item["path"] in paths]
    return document


@st.composite
def free_parts_mutated(draw: st.DrawFn, document: Any) -> Any:
    """The statement with a part mutated that no schema fixes: parameters, the machine, what annotates a resource."""
    found = copy.deepcopy(document)
    definition, details = found["predicate"]["buildDefinition"], found["predicate"]["runDetails"]
    holders = [(definition, "externalParameters"), (definition, "internalParameters"), (details, "machine")]
    resources = [*definition["resolvedDependencies"], *details["byproducts"]]
    holders += [(item, "annotations") for item in resources if item.get("annotations")]
    holder, key = holders[draw(st.integers(0, len(holders) - 1))]
    holder[key] = draw(mutated(holder[key]))
    return found


def run_command(*words: str) -> int:
    """A command in this process, its output thrown away; its errors come through."""
    terminal.console.cache_clear()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return command_line.invoke(words)


COMMANDS: dict[str, Callable[[str, str], tuple[str, ...]]] = {
    "diff": lambda run, other: ("diff", run, other),
    "diff --json": lambda run, other: ("diff", other, run, "--json"),
    "show": lambda run, other: ("show", run),
    "show --json": lambda run, other: ("show", run, "--json"),
    "checklist": lambda run, other: ("checklist", run),
    "checklist --form": lambda run, other: ("checklist", run, "--form", "neurips"),
    "verify": lambda run, other: ("verify", run, "--manifest-only"),
    "list": lambda run, other: ("list", "--runs", str(Path(run).parents[1])),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_signed_manifest_is_read_or_refused_by(
    command: str, statement: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NDREPRO_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    run, other = (tmp_path / "runs" / "exp" / name for name in ("hostile", "whole"))
    for folder in (run, other):
        folder.mkdir(parents=True)
        (folder / "manifest.dsse.json").write_bytes(signed(home, statement))
        (folder / "request.json").write_text(json.dumps(REQUEST.to_json()))
    words = COMMANDS[command](str(run), str(other))
    assert run_command(*words) in (0, 1), "the control"

    @fuzzing(80)
    @given(st.one_of(free_parts_mutated(statement), free_parts_mutated(statement), mutated(statement)))
    def fuzz(document: Any) -> None:
        try:
            data = signed(home, document)
        except ProvenanceError:
            return  # no JSON that can be signed
        (run / "manifest.dsse.json").write_bytes(data)
        refused(lambda: run_command(*words))

    fuzz()


def test_results_of_hostile_manifests_are_named_and_hide_no_others(statement: Any, home: Path, tmp_path: Path) -> None:
    """What reports, studies and sensitivity analyses read."""
    run = tmp_path / "runs" / "exp" / "hostile"
    run.mkdir(parents=True)
    policy = TrustPolicy.load(home)

    @fuzzing(80)
    @given(free_parts_mutated(statement))
    def fuzz(document: Any) -> None:
        try:
            (run / "manifest.dsse.json").write_bytes(signed(home, document))
        except ProvenanceError:
            return
        found = read_results(tmp_path / "runs", policy=policy)
        found.account()
        assert len(summaries(RunsFolder(tmp_path / "runs"))) == 1

    fuzz()


def test_every_fact_of_a_training_record_is_read_or_refused(statement: Any) -> None:
    properties = ("experiment", "container", "environments", "segment", "experiment_document")

    @fuzzing(300)
    @given(free_parts_mutated(statement))
    def fuzz(document: Any) -> None:
        try:
            manifest = Statement.from_bytes(canonical_bytes(document)).manifest
        except ProvenanceError:
            return
        record = TrainingRecord.of(manifest)
        for name in properties:
            refused(lambda name=name: getattr(record, name))

    fuzz()


def test_every_export_of_a_signed_manifest_is_written_or_refused(statement: Any, tmp_path: Path) -> None:
    signed = sign_envelope(b"{}", KeyRing(tmp_path / "home").signer())
    (tmp_path / "manifest.dsse.json").write_bytes(signed)
    written = 0

    @fuzzing(60)
    @given(free_parts_mutated(statement))
    def fuzz(document: Any) -> None:
        nonlocal written
        try:
            manifest = Statement.from_bytes(canonical_bytes(document)).manifest
        except ProvenanceError:
            return
        facts = RunFacts(tmp_path, manifest, "0" * 64, bytes_digest(b"{}"), ("1" * 64,))
        text = CrateText("title", "description")
        for name in DOCUMENTS:
            written += not refused(lambda name=name: DOCUMENTS[name](facts, ExportOptions()))
        written += not refused(lambda: crate_metadata([CrateRun(facts, "run")], text))

    fuzz()
    assert written > 100, "the control: most are written"


def test_a_ledger_is_read_line_by_line_whatever_is_in_it(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger, signer = Ledger(path), KeyRing(home).signer()
    for number in range(3):
        ledger.append("begun", f"run-{number}", signer, name="x", parameters="0" * 64)
        ledger.append("ended", f"run-{number}", signer, outcome="completed", manifest="1" * 64)
    data = path.read_bytes()
    line = json.loads(data.split(b"\n")[0])

    @fuzzing(200)
    @given(st.one_of(damaged_bytes(data), mutated(line).map(lambda found: json.dumps(found).encode() + b"\n" + data)))
    def fuzz(damaged: bytes) -> None:
        path.write_bytes(damaged)
        refused(lambda: (ledger.entries(), ledger.verify()))
        refused(lambda: summaries(RunsFolder(tmp_path)))

    fuzz()


def test_an_envelope_is_read_or_refused(home: Path, statement: Any) -> None:
    envelope = signed(home, statement)

    @fuzzing(200)
    @given(
        st.one_of(damaged_bytes(envelope), mutated(json.loads(envelope)).map(lambda found: json.dumps(found).encode()))
    )
    def fuzz(data: bytes) -> None:
        refused(lambda: Statement.from_bytes(read_envelope(data)[1]))

    fuzz()


def test_a_study_is_read_or_refused(tmp_path: Path) -> None:
    data = (ROOT / "studies" / "smoke.toml").read_bytes()
    path = tmp_path / "smoke.toml"

    @fuzzing(150)
    @given(damaged_bytes(data))
    def fuzz(damaged: bytes) -> None:
        path.write_bytes(damaged)
        refused(lambda: load_study(path).runs())

    fuzz()


def test_the_list_of_trusted_keys_is_read_or_refused(tmp_path: Path) -> None:
    KeyRing(tmp_path / "author").signer()
    policy = TrustPolicy.load(tmp_path / "home")
    policy.add(KeyRing(tmp_path / "author").public_key().pem, "the author")
    path = next(path for path in (tmp_path / "home").iterdir() if path.suffix == ".json")
    data = path.read_bytes()

    @fuzzing(150)
    @given(st.one_of(damaged_bytes(data), mutated(json.loads(data)).map(lambda found: json.dumps(found).encode())))
    def fuzz(damaged: bytes) -> None:
        path.write_bytes(damaged)
        refused(lambda: TrustPolicy.load(tmp_path / "home").keys())

    fuzz()


POLICY = {
    "title": "t",
    "revoked": "never",
    "signers": {
        "ada": {"keys": ["1" * 64], "roles": ["author"], "experiments": ["lenet_*"], "from": "2027-01-01"},
        "rita": {"keys": ["2" * 64, "3" * 64], "roles": ["author", "reviewer"]},
    },
    "signatures": {"author": 1, "reviewer": 1},
    "verdicts": {"at_least": 1, "accept": ["identical", "close"], "sandboxed": True, "spot_checks": False},
}


def test_a_policy_is_read_or_refused() -> None:
    @fuzzing(200)
    @given(mutated(POLICY))
    def fuzz(document: Any) -> None:
        if isinstance(document, dict):  # TOML's documents are tables
            refused(lambda: SigningPolicy.from_document(document, "policy.toml"))

    fuzz()


def test_a_signed_verdict_is_read_or_refused_and_hides_no_other(tmp_path: Path) -> None:
    reviewed = Reviewed(tmp_path)
    honest = reviewed.sign(reviewed.run, reviewed.same, "identical")
    document = json.loads(read_envelope(honest.read_bytes())[1])
    hostile = honest.with_name("hostile.dsse.json")
    scores = reviewed.read()[0]

    @fuzzing(100)
    @given(mutated(document))
    def fuzz(changed: Any) -> None:
        hostile.write_bytes(signed_bytes(reviewed.reviewer.home, json.dumps(changed).encode()))
        found = read_attestations(scores, reviewed.policy)
        assert honest in {item.path for item in found.held} or hostile in {item.path for item in found.held}
        json.dumps(found.to_json())

    fuzz()


def test_a_page_draws_whatever_a_program_logged(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Names that command a terminal or a formula, numbers that no axis can have."""
    names = ("\ud800", "\x1b]0;evil\x07", "$\\frac{", "_hidden", "a" * 20_000, "%s {0}", "</title><script>", "x\ny\0")
    numbers = (1.7e308, -1.7e308, 10**400, -(10**400), 5e-324, "nan", "inf", -0.0, 10**25)
    rows = [{"step": step, **{name: numbers[(step + place) % len(numbers)] for place, name in enumerate(names)}}
            for step in (0, 10**400, 1, 2, 3, 4, 5, 6, 7)]  # fmt: skip
    folder = RunFolder(tmp_path)
    folder.metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    panels = run_curves(folder)
    assert len(panels) == len(names) and all(len(panel.title) <= 800 for panel in panels)
    write_run_page(tmp_path / "run.html", "run", "completed", [], panels, "1")
    page = (tmp_path / "run.html").read_text()
    assert "<script>" not in page and "not finite and not drawn" in page and "_hidden" in page
    assert not list(recwarn)
