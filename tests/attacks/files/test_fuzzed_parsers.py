"""Every parser of what others wrote, fed with damaged files: it reads them, or refuses with an error of this project.

``corpus/PARSER`` keeps inputs that once broke it, and is tried first. Then whole inputs are damaged at
random: always the same in the suite, others with ``make fuzz``, which keeps the smallest that breaks a parser there.
Messages, manifests, ledgers and tensors are in ``test_hostile_content`` and ``test_hostile_tensors``.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hostile_json import LONG, damaged_bytes, fuzzing, mutated
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ndrepro.analysis.results.policy_checks import load_policy
from ndrepro.execution.imports.archive import unpack
from ndrepro.execution.programs.metrics_files import MetricsFiles
from ndrepro.training.data.own_data import npz_arrays, own_images
from ndrepro.training.data.readers import idx
from provenance.attestation.key_home import KeyRing
from provenance.attestation.key_statements import EXPIRES, KeyHistory, KeyStatement
from provenance.attestation.trust import TrustPolicy, read_public_key
from provenance.capture import conda, distribution_metadata
from provenance.errors import ProvenanceError
from provenance.formats.atomic_io import storage_error
from provenance.formats.folder_tree import remove_tree
from provenance.formats.listing import parse
from provenance.keyless.identities import add_identity, load_identities
from provenance.observation.collection import collect
from provenance.observation.process_record import ProcessRecord, encode_processes, read_processes
from provenance.redaction.written_files import redact_log
from provenance.signatures.public_key import PublicKey

CORPUS, ROOT = Path(__file__).with_name("corpus"), Path(__file__).parents[3]
SAVED = Path(__file__).parents[2] / "training" / "data" / "saved_datasets" / "pictures"
SHARD = SAVED / "train" / "data-00000-of-00002.arrow"
Parser = Callable[[Path, bytes], object]


def file_of(name: str, read: Callable[[Path], object]) -> Parser:
    """A parser of a file: the bytes are written to one of that name in a folder of their own."""

    def parser(folder: Path, data: bytes) -> object:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return read(path)

    return parser


def metrics(path: Path) -> object:
    before = MetricsFiles(path.parent, ["none"])
    before._globs = (path.name,)
    log = path.parent / "metrics.jsonl"
    log.unlink(missing_ok=True)
    return before.read(log)


def unpacked(path: Path) -> None:
    try:
        unpack(path, path.parent / "into")
    except OSError as error:  # as ``import_runs`` does
        raise storage_error(path, error) from error
    finally:
        remove_tree(path.parent / "into", ignore_errors=True)


def distribution(path: Path) -> None:
    found = distribution_metadata.read(path.parent.parent, path.parent, ".dist-info")
    list(found.files())
    assert isinstance(found.tops | found.modules, frozenset) and found.content_sha256() != ""


def saved(path: Path) -> object:
    """A folder of Hugging Face's datasets with one file exchanged."""
    root = path.parents[1]
    for below in sorted(SAVED.rglob("*")):
        place = root / below.relative_to(SAVED)
        if below.is_file() and place != path:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(below.read_bytes())
    return own_images.load(root)


def tar(compression: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{compression}") as archive:
        for name in ("runs/fit/a/manifest.dsse.json", "runs/ledger.jsonl"):
            entry = tarfile.TarInfo(name)
            entry.size = 5
            archive.addfile(entry, io.BytesIO(b"12345"))
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("runs/fit/a/manifest.dsse.json", b"12345" * 50)
        archive.writestr("runs/ledger.jsonl", b"12345")
    return file.getvalue()


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "png")
    return file.getvalue()


def arrays() -> bytes:
    file = io.BytesIO()
    images, labels = np.zeros((4, 2, 2), np.uint8), np.arange(4)
    names = npz_arrays.ARRAYS[0]
    np.savez(file, **dict(zip(names, (images, labels, images, labels), strict=True)))
    return file.getvalue()


def statement(home: Path) -> bytes:
    signer = KeyRing(home).signer()
    return KeyStatement(EXPIRES, PublicKey.of_signer(signer), "2030-01-01T00:00:00Z", None, "").sign(signer)


def identities(home: Path) -> bytes:
    add_identity(home, "ana@example.org", "https://accounts.example.org", "ana")
    return (home / "identities.json").read_bytes()


PROCESS = json.dumps(
    {
        **{name: "x" for name in ("executable", "version", "implementation", "prefix", "base_prefix", "cwd")},
        **{"parent_pid": 1, "forked_from": None, "ended_ns": 5, "ending": "exit", "argv": ["a"], "flags": {"utf8": 1}},
        **{"search_path": ["/x"], "distributions": [["numpy", "1"]], "ranks": {"RANK": "0"}, "problems": []},
        **{"folders": {"/x": [1, 2]}, "random_at_exit": {}, "torch": None, "opened_not_listed": 0},
    }
).encode()
LISTING = f"{'0' * 64}  a/b.txt\n{'1' * 64}  c\n".encode()
METADATA = b"Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n\ntext\n"
RECORD = b'numpy/__init__.py,sha256=abc,12\n"a,b.py",sha256=x,1\nnumpy-1.0.dist-info/RECORD,,\n'
POLICY = f'[signers.ana]\nkeys = ["{"a" * 64}"]\nroles = ["author"]\nfrom = 2027-01-01\n'.encode()
ROWS = b'{"step": 1, "loss": 0.5, "of": {"a": 1}}\n{"step": 2, "loss": "nan"}\n'
TABLE = b'step,loss\n1,0.5\n2,"0,4"\n'
IDX = b"\0\0\x08\x01\0\0\0\x04\1\2\3\4"

RECORDED = ProcessRecord(1, "2026-11-21T10:00:00.000000Z")
PARSERS: dict[str, tuple[Parser, Callable[[Path], bytes]]] = {
    "process-file": (file_of("process-1-1.json", lambda path: collect(path.parent)), lambda home: PROCESS),
    "opened-files": (
        file_of("opened-1-1.jsonl", lambda path: (path.with_name("process-1-1.json").write_bytes(PROCESS),
                                                  collect(path.parent))),
        lambda home: b'["/x", "r"]\n["/y", "w"]\n',
    ),
    "metrics-jsonl": (file_of("m.jsonl", metrics), lambda home: ROWS),
    "metrics-csv": (file_of("m.csv", metrics), lambda home: TABLE),
    "log": (file_of("log.txt", redact_log), lambda home: b"token=ghp_" + b"a1B2" * 9 + b"\n"),
    "listing": (lambda folder, data: parse(data.decode("utf-8", "surrogateescape")), lambda home: LISTING),
    "archive-tar": (file_of("a.tar", unpacked), lambda home: tar("")),
    "archive-tar-gz": (file_of("a.tar.gz", unpacked), lambda home: tar("gz")),
    "archive-zip": (file_of("a.zip", unpacked), lambda home: zipped()),
    "key-statement": (lambda folder, data: KeyHistory().add(data), statement),
    "policy": (file_of("policy.toml", load_policy), lambda home: POLICY),
    "processes": (file_of("processes.json", read_processes), lambda home: encode_processes([RECORDED])),
    "identities": (file_of("identities.json", lambda path: load_identities(path.parent)), identities),
    "public-key": (file_of("key.pub", read_public_key), lambda home: KeyRing(home).public_key().pem.encode()),
    "trusted-keys": (
        file_of("home/trust.json", lambda path: TrustPolicy.load(path.parent)),
        lambda home: json.dumps({"keys": []}).encode(),
    ),
    "metadata": (file_of("numpy-1.0.dist-info/METADATA", distribution), lambda home: METADATA),
    "record": (file_of("numpy-1.0.dist-info/RECORD", distribution), lambda home: RECORD),
    "conda": (
        file_of("conda-meta/a.json", lambda path: conda.capture(path.parents[1])),
        lambda home: b'{"name": "a", "version": "1", "build": "0"}',
    ),
    "own-arrays": (file_of("data.npz", npz_arrays.load), lambda home: arrays()),
    "own-image": (file_of("x.png", lambda path: own_images._header(path, path.read_bytes())), lambda home: png()),
    "arrow-stream": (file_of("pictures/train/data-00000-of-00002.arrow", saved), lambda home: SHARD.read_bytes()),
    "saved-dataset": (
        file_of("pictures/train/dataset_info.json", saved),
        lambda home: SHARD.with_name("dataset_info.json").read_bytes(),
    ),
    "saved-state": (
        file_of("pictures/train/state.json", saved), lambda home: SHARD.with_name("state.json").read_bytes()
    ),
    "idx": (file_of("labels-idx1-ubyte", lambda path: idx._parse(path, path.read_bytes())), lambda home: IDX),
}  # fmt: skip


def refused(parser: Parser, folder: Path, data: bytes) -> bool:
    """Whether a parser refuses, as it may; any other error is let through."""
    try:
        parser(folder, data)
    except ProvenanceError as error:
        assert error.message
        return True
    return False


@pytest.mark.parametrize("name", PARSERS)
def test_a_damaged_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    parser, made = PARSERS[name]
    whole = made(tmp_path / "home")
    for path in sorted(CORPUS.glob(f"{name}/*")):
        refused(parser, tmp_path, path.read_bytes())
    try:
        documents = mutated(json.loads(whole)).map(lambda found: json.dumps(found).encode())
    except ValueError:
        documents = st.nothing()

    @fuzzing(60)
    @given(st.one_of(damaged_bytes(whole), documents, st.binary(max_size=64)))
    def fuzz(data: bytes) -> None:
        try:
            refused(parser, tmp_path, data)
        except Exception:
            if LONG:  # the last one that breaks it is the smallest
                (CORPUS / name).mkdir(parents=True, exist_ok=True)
                (CORPUS / name / "new").write_bytes(data)
            raise

    assert name == "trusted-keys" or not refused(parser, tmp_path, whole), "the control"
    fuzz()


def test_every_kept_input_is_of_a_parser() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= PARSERS.keys()


# where each function is fuzzed that reads what somebody else may have written: an entry above, or a test
FUZZED = {
    "analysis.audit.claims.read_claims": "test_toml_files",
    "analysis.comparison.operation_diff.read_difference": "test_hostile_content",
    "analysis.results.policy_checks.load_policy": "policy",
    "analysis.results.results.read_results": "test_hostile_content",
    "api.read_runs": "test_hostile_content",
    "attestation.dsse.read_envelope": "test_hostile_content",
    "attestation.key_statements.read_statement": "key-statement",
    "attestation.ledger.read_heads": "test_hostile_content",
    "attestation.trust.read_listed": "trusted-keys",
    "attestation.trust.read_public_key": "public-key",
    "capture.distribution_metadata.read": "metadata",
    "execution.studies.study_file.load_study": "test_hostile_content",
    "formats.canonical_json.parse": "test_hostile_content",
    "formats.listing.parse": "listing",
    "formats.metrics_log.parse_row": "test_hostile_content",
    "formats.metrics_log.parse_scalars": "test_hostile_content",
    "formats.metrics_log.read_scalars": "test_hostile_content",
    "keyless.identities.load_identities": "identities",
    "observation.process_record.read_processes": "processes",
    "protocol.messages.read_json": "test_hostile_content",
    "protocol.recorded.training_files.read_timing": "test_free_members",
    "protocol.training_state.read_states": "test_hostile_content",
    "protocol.training_state.read_tensors": "test_hostile_tensors",
    "toml_file.parse_toml": "test_toml_files",
    "toml_file.read_toml": "policy",
}
# these read through the ones above, or what this machine itself wrote, or bytes of any kind
_OTHERS = (
    "analysis.audit.published_tables.read_table analysis.comparison.side.read_side "
    "analysis.results.reviewer_verdicts.read_attestations checklists.checklist_run.read_run "
    "execution.containers.docker_engine.load execution.containers.image_archive.read_member "
    "execution.environments.lockfile.read_pins execution.program_reproduction.recorded_command.read_variables "
    "execution.programs.input_files.read_files "
    "execution.runs.run_lookup.read_recorded execution.runs.run_lookup.read_results execution.slurm.task.read_events "
    "execution.studies.cost_model.read_costs execution.studies.job.parse execution.studies.launchers.read_event "
    "execution.studies.search_results.read_found execution.studies.search_results.read_values "
    "capture.untracked_copies.read_regular formats.bounded_read.read_bounded formats.bounded_read.read_small "
    "formats.bounded_read.read_tail formats.portable.read_at git.tracked_files.read_commit "
    "git.tracked_files.read_index "
    "attestation.run_files.read_bundles formats.strict_json.read_record formats.strict_json.read_versioned "
)
NO_PARSERS = frozenset(_OTHERS.split())
_NAME = re.compile(r"^def ((?:read|parse|load)(?:_[a-z_]+)?)\(", re.MULTILINE)


def test_every_parser_is_in_the_table_of_those_that_are_fuzzed() -> None:
    """A new one has to be fuzzed, or said to be none."""
    found = set()
    for package in ("provenance", "ndrepro"):
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT / package).with_suffix("").parts)
            if not module.startswith(("training.", "cli.", "report.")):
                found |= {f"{module}.{name}" for name in _NAME.findall(path.read_text(encoding="utf-8"))}
    assert found == FUZZED.keys() | NO_PARSERS and not FUZZED.keys() & NO_PARSERS
    tests = {path.stem for path in Path(__file__).parents[1].rglob("test_*.py")}
    assert set(FUZZED.values()) <= PARSERS.keys() | tests
