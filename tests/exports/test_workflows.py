"""A study for other engines: run by Snakemake itself, its Kubernetes documents read by the client library's models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import validators
from real_runs import Bench
from small_studies import write_study

TWO = '[grids.main]\ntitle = "two"\naxes.method = ["bn", "nd"]\n[[resources]]\nwhen = { method = "nd" }\nmemory_gib = 2'
# every key of a document is one that the client library knows at this place
MODELS = """
import json, sys
from kubernetes import client
def walk(kind, value, place):
    if kind.startswith("list["):
        for each in value: walk(kind[5:-1], each, place)
    elif kind.startswith("dict(") or not hasattr(client, kind):
        return
    else:
        model = getattr(client, kind)
        names = {there: here for here, there in model.attribute_map.items()}
        for key, member in value.items():
            if key not in names: sys.exit(f"{place}: unknown {key}")
            walk(model.openapi_types[names[key]], member, f"{place}.{key}")
for item in json.load(sys.stdin)["items"]:
    walk("V1" + item["kind"], item, item["kind"])
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def study(bench: Bench) -> Path:
    return write_study(bench.root, TWO)


def ndrepro(bench: Bench, *words: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "NDREPRO_HOME": str(bench.options.home)}
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
    done = ndrepro(bench, "study", "run", study.name, "--only=1-x")
    assert (done.returncode, "'1-x' is no run's number" in done.stderr) == (2, True), done.stderr


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

    fresh = Bench(bench.root / "fresh")
    fresh.root.mkdir()
    write_study(fresh.root, TWO)
    text = exported(fresh, fresh.root / "mini.toml", "kubernetes")
    command = [str(tools / "bin" / "python"), "-c", MODELS]
    assert subprocess.run(command, input=text, text=True).returncode == 0
    wrong = text.replace('"completionMode"', '"completionsMode"')
    assert subprocess.run(command, input=wrong, text=True, capture_output=True).returncode == 1, "the control"
