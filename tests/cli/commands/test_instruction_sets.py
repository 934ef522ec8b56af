"""One experiment under two instruction sets: recorded as such, named as the cause, and never taken for one condition.

``ATEN_CPU_CAPABILITY`` limits torch's own kernels on every processor; the other variables go the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from dishonest_author import planned
from real_runs import Bench
from recorded_runs import Answer

from ndrepro.analysis.results.results import read_results
from ndrepro.analysis.sensitivity.experimental_design import design_of
from ndrepro.execution.reproduce.reexecute import Original
from ndrepro.execution.studies.run_status import DONE, REFUSED, RunStatus, Survey
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.experiment.determinism import CPU_ISAS, INSTRUCTION_LIMITS
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.study.study import StudyRun
from ndrepro.training.compute import determinism
from provenance.attestation.dsse import read_envelope
from provenance.attestation.manifest import Manifest
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy

pytestmark = pytest.mark.skipif(
    "avx2" not in Path("/proc/cpuinfo").read_text(), reason="this processor has but one of the two"
)
NAME = "lenet_nd_1_digits"
FEW = {"train_images": "48", "test_images": "16"}
LIMIT = "ATEN_CPU_CAPABILITY"
TITLE = "another limit of the instruction sets"
Command = Callable[..., Answer]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def runs(bench: Bench) -> dict[str, Path]:
    """The same experiment under plain kernels, under those of AVX2, and at the canonical level under either."""
    made = {}
    for value in ("default", "avx2"):
        for level in ("deterministic", "canonical"):
            with pytest.MonkeyPatch.context() as patch:
                for name in INSTRUCTION_LIMITS:
                    patch.delenv(name, raising=False)
                patch.setenv(LIMIT, value)
                patch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41" if value == "default" else "AVX2")
                finished = bench.run(NAME, determinism=level, **FEW)
            assert finished.outcome == "completed", finished.error
            made[f"{level} {value}"] = finished.folder.root
    return made


@pytest.fixture(autouse=True)
def author(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the runs, and no limits but those that a test sets."""
    monkeypatch.setenv("NDREPRO_HOME", str(bench.options.home))
    for name in INSTRUCTION_LIMITS:
        monkeypatch.delenv(name, raising=False)


def manifest_of(folder: Path) -> Manifest:
    return Statement.from_bytes(read_envelope((folder / "manifest.dsse.json").read_bytes())[1]).manifest


def test_what_limits_a_run_reaches_it_and_is_recorded(runs: dict[str, Path]) -> None:
    for value, capability in (("default", "DEFAULT"), ("avx2", "AVX2")):
        manifest = manifest_of(runs[f"deterministic {value}"])
        assert manifest.variables[LIMIT] == value
        assert manifest.internal_parameters["determinism"]["end"]["cpu_capability"] == capability
    assert manifest_of(runs["canonical avx2"]).variables[LIMIT] == "default", "the level's own"
    assert manifest_of(runs["canonical avx2"]).variables["ONEDNN_MAX_CPU_ISA"] == "AVX2"


def test_the_canonical_level_has_the_same_bits_under_either(runs: dict[str, Path]) -> None:
    for name in ("trail.bin", "weights.safetensors", "metrics.jsonl"):
        assert (runs["canonical default"] / name).read_bytes() == (runs["canonical avx2"] / name).read_bytes(), name


def test_diff_names_it_as_the_cause_and_locates_what_it_moved(ndrepro: Command, runs: dict[str, Path]) -> None:
    first, second = (str(runs[f"deterministic {value}"]) for value in ("default", "avx2"))
    answer = ndrepro("diff", first, second, "--locate", "--json")
    assert answer.code == 1, answer.err
    causes = answer.json["causes"]
    (cause,) = [each for each in causes if each["title"] == TITLE]
    assert cause["assessment"] != "ruled out" and any(f"{LIMIT} default -> avx2" in line for line in cause["evidence"])
    assert causes.index(cause) == 0 or "code" in causes[0]["title"], "it comes before what follows from it"
    located = answer.json["located"]
    assert located["faithful"] == [True, True], "each was replayed under its own limits"
    assert located["operations"][0]["arguments"] == located["operations"][1]["arguments"]
    assert located["difference"]["differing"] > 0
    same = ndrepro("diff", *(str(runs[f"canonical {value}"]) for value in ("default", "avx2")))
    assert same.code == 0 and "ONEDNN_MAX_CPU_ISA SSE41 -> AVX2" in same.out


def test_a_repetition_under_other_limits_says_so(bench: Bench, runs: dict[str, Path]) -> None:
    folder = runs["deterministic avx2"]
    original = Original(RunFolder(folder), manifest_of(folder))
    said = [f"{LIMIT}: avx2 then, not set now", "ONEDNN_MAX_CPU_ISA: AVX2 then, not set now"]
    assert [line for line in planned(original, bench.options).differences if " then, " in line] == said
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LIMIT, "avx2")
        patch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        assert [line for line in planned(original, bench.options).differences if " then, " in line] == []


def test_a_study_counts_a_run_only_under_the_limits_it_would_have(bench: Bench, runs: dict[str, Path]) -> None:
    asked = StudyRun("main", bench.experiment(NAME, **FEW))

    def status() -> RunStatus:
        return Survey(bench.options.runs, bench.options.home).status(asked)

    other = status()
    assert (other.state, "made with ATEN_CPU_CAPABILITY=" in other.reason) == (REFUSED, True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LIMIT, "avx2")
        patch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        same = status()
    assert same.state == DONE and same.folder is not None and same.folder.root == runs["deterministic avx2"]


def test_the_table_of_sensitivity_has_a_cell_for_each(bench: Bench, runs: dict[str, Path]) -> None:
    rows = read_results(bench.options.runs.root, policy=TrustPolicy.load(bench.options.home)).rows
    design = design_of(row for row in rows if row.determinism == "deterministic")
    assert list(design.axes) == ["instructions"] and len(design.cells) == 2
    assert not design.repeats, "the same seed under other instructions is no repetition"
    assert {row.instructions for row in rows} >= {f"{LIMIT}=avx2 ONEDNN_MAX_CPU_ISA=AVX2", "ONEDNN_MAX_CPU_ISA=AVX2"}


def test_the_setting_limits_all_three_libraries_and_is_an_axis_of_its_own(bench: Bench) -> None:
    """Whatever the variables say here: the experiment has its own, so that a study's runs count anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LIMIT, "avx2")
        finished = bench.run(NAME, cpu_isa="sse41", **FEW)
    assert finished.outcome == "completed", finished.error
    manifest = manifest_of(finished.folder.root)
    assert CPU_ISAS["sse41"].items() <= manifest.variables.items()
    assert manifest.internal_parameters["determinism"]["end"]["cpu_capability"] == "DEFAULT"
    asked = StudyRun("main", bench.experiment(NAME, cpu_isa="sse41", **FEW))
    assert Survey(bench.options.runs, bench.options.home).status(asked).state == DONE
    rows = read_results(bench.options.runs.root, policy=TrustPolicy.load(bench.options.home)).rows
    (row,) = [row for row in rows if row.settings.get("cpu_isa") == "sse41"]
    assert row.instructions == ""


def test_instructions_that_the_processor_lacks_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment.from_name(NAME, {"cpu_isa": "avx512", "threads": "1"})
    monkeypatch.setattr(determinism, "_processor_flags", lambda: frozenset({"avx2", "fma"}))
    with pytest.raises(NdreproError, match="cpu_isa=avx512: this processor has no avx512bw, avx512dq"):
        determinism.apply(experiment)
