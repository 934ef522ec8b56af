"""What runs cost: of every run that a manifest is there of, and nothing invented where it does not say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from real_runs import Bench

from ndrepro.analysis.results.examine import Examined
from ndrepro.analysis.results.results import read_results
from ndrepro.analysis.run_cost import RunCost, cost_of, total
from ndrepro.report.sections.own_summary import cost_sentence
from provenance.attestation.dsse import read_envelope
from provenance.attestation.manifest import ENERGY, Attempt, Resource
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("cost"))


def test_a_real_run_has_its_time_and_says_why_it_has_no_energy_or_how_much(bench: Bench) -> None:
    finished = bench.run("lenet_bn_1_digits", train_images="32", test_images="16", batch_size="16")
    assert finished.manifest is not None
    manifest = Statement.from_bytes(read_envelope(finished.manifest.read_bytes())[1]).manifest
    said = manifest.byproduct(ENERGY)
    assert said is not None and said.annotations is not None and said.annotations.keys() == {"cpu_packages", "gpus"}
    cost = cost_of(manifest)
    assert cost.cpu_seconds is not None and cost.cpu_seconds > 0 and cost.gpu_seconds == 0
    results = read_results(bench.options.runs.root, policy=TrustPolicy.load(bench.options.home))
    assert results.rows[0].cost == cost and results.cost().runs == 1
    assert results.account()["cost"]["wall_hours"] == pytest.approx(cost.wall_seconds / 3600)
    examined = Examined(finished.manifest, results.rows[0], None)
    assert "cost" in examined.to_json()["fields"]

    attempts = (Attempt("2026-11-29T01:00:00Z", "2026-11-29T02:00:00Z", "interrupted"), Attempt("x", None, "killed"))
    energy = Resource(ENERGY, annotations={"cpu_packages": {"intel-rapl:0": 3.6e6}, "gpus": {"none": "no counter"}})
    other = replace(manifest, attempts=attempts, byproducts=(energy,))
    assert (cost_of(other).wall_seconds, cost_of(other).joules) == (3600, 3.6e6)


def test_the_sum_says_of_how_many_runs_it_does_not_know() -> None:
    cost = total([RunCost(3600, 7200, 1800, 3.6e6), RunCost(1800)])
    assert cost_sentence(cost) == (
        "All 2 training runs, also repeated and unfinished ones, took 1.50 hours of wall time, 30.0 minutes of CPU "
        "time (unknown of 1) and 2.00 hours of GPU time; the machines' counters recorded 1.000 kWh (none available in "
        "1 run)."
    )
    assert "no machine had a readable counter" in cost_sentence(total([RunCost(1)]))
