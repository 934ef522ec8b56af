"""A study for other engines: run by Snakemake; Kubernetes' schemas and Nextflow's grammar take what is written."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import validators
from real_runs import Bench
from small_studies import write_study

TWO = '[grids.main]\ntitle = "two"\naxes.method = ["bn", "nd"]\n[[resources]]\nwhen = { method = "nd" }\nmemory_gib = 2'
# each document against Kubernetes' own schemas, where no key may be there that they do not have
KUBERNETES = """
import json, sys
from kubernetes_validate import validate
documents = json.load(sys.stdin)["items"]
for each in documents:
    validate(each, "1.37", strict=True)
print(*(each["kind"] for each in documents))
"""
# the grammar of Nextflow, and what its one process asks for
NEXTFLOW = """
import sys
from reftrace import Module, ParseError
found = Module.from_file(sys.argv[1])
if isinstance(found, ParseError): sys.exit(found.error)
(process,), (_,) = found.processes, found.workflows
print(found.dsl_version, process.name, *(each.name for each in process.dynamics), process.first_error_strategy.strategy)
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def study(bench: Bench) -> Path:
    return write_study(bench.root, TWO)


def ndrepro(bench: Bench, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "NDREPRO_HOME": str(bench.options.home), **more}
    command = [sys.executable, "-m", "ndrepro", *words]
    return subprocess.run(command, cwd=bench.root, env=variables, capture_output=True, text=True)


def exported(bench: Bench, study: Path, form: str, *more: str) -> str:
    out = bench.root / f"{form}.out"
    done = ndrepro(bench, "study", "export", study.name, f"--format={form}", f"--out={out}", "--runs=runs", *more)
    assert done.returncode == 0, done.stderr
    return out.read_text(encoding="utf-8")


def test_every_run_is_a_job_with_its_number_and_needs(bench: Bench, study: Path) -> None:
    first, second = exported(bench, study, "joblines", "--apart").splitlines()
    assert first.endswith(f"study run {bench.root}/mini.toml --only 1 --runs {bench.root}/runs/1")
    assert second.endswith(f"--only 2 --runs {bench.root}/runs/2")
    jobs = [
        item for item in json.loads(exported(bench, study, "kubernetes", "--gpus=1"))["items"] if item["kind"] == "Job"
    ]
    assert [job["spec"]["completions"] for job in jobs] == [1, 1], "two resource classes"
    amounts = jobs[1]["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert amounts == {"cpu": "1", "memory": "2048Mi", "nvidia.com/gpu": "1"}
    assert "[2, 1, 2048, 10]" in exported(bench, study, "nextflow")
    for words, complaint in (
        (["--format=make"], "--format make: not a format"),
        (["--grid=other"], "no grid 'other'"),
    ):
        done = ndrepro(bench, "study", "export", study.name, *words)
        assert (done.returncode, complaint in done.stderr) == (2, True), done.stderr
    odd = study.rename(study.with_name('q"+open("X").toml'))
    done = ndrepro(bench, "study", "export", odd.name, "--format=snakemake")
    assert done.returncode == 2 and "no name for a workflow" in done.stderr, done.stderr
    odd.rename(study)
    done = ndrepro(bench, "study", "run", study.name, "--only=1-x")
    assert (done.returncode, "'1-x' is no run's number" in done.stderr) == (2, True), done.stderr


def test_what_nodes_signed_is_checked_and_signed_again_where_it_is_collected(bench: Bench, study: Path) -> None:
    """The nodes have a key of their own; that of the login node is seen by nothing that trains."""
    node = {"NDREPRO_HOME": str(bench.root / "node")}
    done = ndrepro(bench, "study", "run", study.name, "--only=1", "--runs=runs/1", **node)
    assert done.returncode == 0, done.stderr
    collected = ["study", "collect", study.name, "runs/1", "--sign", "--json"]
    stranger = ndrepro(bench, *collected, "--into=stranger")
    refused = json.loads(stranger.stdout)
    assert (stranger.returncode, refused["done"], refused["signed"]) == (1, [], []), "nobody trusts that key yet"
    assert refused["missing"] == ["lenet_bn_1_digits", "lenet_nd_1_digits"], "though no folder of runs was made"
    assert [(each["source"], "signature" in each["problem"]) for each in refused["refused"]] == [("runs/1", True)]
    assert ndrepro(bench, "keys", "export", "--out=node.pub", **node).returncode == 0
    assert ndrepro(bench, "keys", "trust", "node.pub", "--name=node").returncode == 0
    unsigned = ndrepro(bench, *collected[:-2], "--into=imported")
    assert "collected  1 of 2 runs" in unsigned.stdout, unsigned.stderr
    (metrics,) = bench.root.glob("imported/mini/1/*/*/metrics.jsonl")
    right = metrics.read_bytes()
    metrics.write_bytes(right + b" ")
    changed = ndrepro(bench, *collected, "--into=imported")
    assert changed.returncode == 2 and "changed since it was imported" in changed.stdout + changed.stderr
    metrics.write_bytes(right)
    assert json.loads(ndrepro(bench, *collected, "--into=imported").stdout)["signed"] == [str(metrics.parent)]
    assert json.loads(ndrepro(bench, *collected, "--into=imported").stdout)["signed"] == [], "once"
    verified = ndrepro(bench, "verify", str(metrics.parent))
    assert verified.returncode == 0 and "node" in verified.stdout, verified.stdout + verified.stderr


@pytest.mark.slow
def test_snakemake_runs_it_and_what_its_jobs_made_is_collected(
    bench: Bench, study: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tools = validators.environment("workflows", tmp_path_factory.mktemp("tools"))
    exported(bench, study, "snakemake", "--apart")

    def snakemake(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(tools / "bin" / "snakemake"), "--snakefile=snakemake.out", "--cores=1", *words]
        # the rest of the environment stays: a run counts under the limits of instruction sets that it was made under
        mine = {"PATH": f"{tools}/bin:/usr/bin:/bin", "HOME": str(bench.root)}
        variables = {**os.environ, **mine, "NDREPRO_HOME": str(bench.options.home)}
        return subprocess.run(command, cwd=bench.root, env=variables, capture_output=True, text=True)

    planned = snakemake("--dry-run")
    assert planned.returncode == 0 and "This was a dry-run" in planned.stdout + planned.stderr, planned.stderr
    collected = ["study", "collect", study.name, "--json", "--into=imported"]
    done = snakemake("mini.done/1")
    assert done.returncode == 0, done.stderr
    partly = ndrepro(bench, *collected, "runs/1")
    found: dict[str, Any] = json.loads(partly.stdout)
    assert (partly.returncode, found["done"], found["missing"]) == (1, ["lenet_bn_1_digits"], ["lenet_nd_1_digits"]), (
        found
    )
    done = snakemake()
    assert done.returncode == 0, done.stderr
    wholly = ndrepro(bench, *collected, "runs/1", "runs/2")
    assert (wholly.returncode, json.loads(wholly.stdout)["missing"]) == (0, []), wholly.stderr


@pytest.mark.slow
def test_kubernetes_schemas_and_nextflows_grammar_take_what_is_written(
    bench: Bench, study: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    python = validators.environment("workflows", tmp_path_factory.mktemp("tools")) / "bin" / "python"

    def ask(script: str, text: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(python), "-c", script, *words]
        return subprocess.run(command, input=text, text=True, capture_output=True)

    text = exported(bench, study, "kubernetes", "--gpus=1")
    done = ask(KUBERNETES, text)
    assert done.stdout.split() == ["ConfigMap", "Job", "Job"], done.stderr
    for right, wrong in (
        ('"completionMode"', '"completionsMode"'),
        ('"completions": 1', '"completions": "1"'),
        ('"claimName"', '"claim"'),
    ):
        done = ask(KUBERNETES, text.replace(right, wrong))
        assert (right in text, done.returncode, "ValidationError" in done.stderr) == (True, 1, True), "the control"

    if platform.machine() != "x86_64":
        pytest.skip("reftrace, which reads Nextflow's files, has no wheel for this processor")
    text = exported(bench, study, "nextflow", "--gpus=1")
    done = ask(NEXTFLOW, "", str(bench.root / "nextflow.out"))
    assert done.stdout.split() == ["2", "run", "cpus", "memory", "time", "retry"], done.stderr
    wrong_file = bench.root / "wrong.nf"
    wrong_file.write_text(text.replace("workflow {", "workflow ("), encoding="utf-8")
    done = ask(NEXTFLOW, "", str(wrong_file))
    assert (done.returncode, "parsing failed" in done.stderr) == (1, True), "the control"
