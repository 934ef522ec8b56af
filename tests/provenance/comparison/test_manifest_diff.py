"""Two manifests: every kind of difference is found, named and put in its group; doubt is no equality."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from compared_runs import Edit, account, manifest, put

from provenance.attestation.manifest import SCHEMA_V1, Artifact, Manifest, Resource
from provenance.comparison.groups import document, place
from provenance.comparison.manifest_diff import GROUPS, FieldChange, ManifestDiff, diff

RESULTS = ("trail.bin", "metrics.jsonl")


def between(*edits: Edit, **settings: str) -> ManifestDiff:
    return diff(manifest(), manifest(*edits, **settings), RESULTS)


def changes_of(found: ManifestDiff) -> dict[str, list[str]]:
    return {group.name: [change.name for change in group.changes] for group in found.groups if group.changes}


def test_a_manifest_does_not_differ_from_itself() -> None:
    found = between()
    assert found.changed == ()
    # the control: everything was compared
    same = {group.name: group.same for group in found.groups}
    assert [group.name for group in found.groups] == list(GROUPS)
    assert same["experiment"] > 20 and same["packages"] == 3 and same["source"] > 3 and same["flags"] > 5


ABSENT = {"none": "not there"}
XEON = {"model_name": "EPYC", "flags": ["avx", "amx"]}
CASES: dict[str, tuple[Edit, str, FieldChange]] = {
    "data": (put("data.tree_sha256", "db" * 32), "data", FieldChange("tree_sha256", "da" * 32, "db" * 32)),
    "code": (put("code", "c1" * 32), "source", FieldChange("code", "c0" * 32, "c1" * 32)),
    "flag": (
        put("internal.determinism.end", {"cudnn_benchmark": True}),
        "flags",
        FieldChange("cudnn_benchmark at end", False, True),
    ),
    "variable": (
        put("machine.variables.recorded.MKL_CBWR", "AVX2"),
        "variables",
        FieldChange("MKL_CBWR", ABSENT, "AVX2"),
    ),
    "threads": (
        put("machine.variables.recorded.OMP_NUM_THREADS", "2"),
        "threads",
        FieldChange("OMP_NUM_THREADS", "1", "2"),
    ),
    "device": (put("internal.device", "cuda:0"), "gpus", FieldChange("device", "cpu", "cuda:0")),
    "version": (
        put("machine.interpreter.version", "3.12.0"),
        "interpreter",
        FieldChange("version", "3.11.7", "3.12.0"),
    ),
    "processor": (put("machine.machine.cpu", XEON), "machine", FieldChange("cpu.flags", ["avx2"], ["amx"])),
    "container": (
        put("machine.container", {"engine": "docker"}),
        "container",
        FieldChange("engine", {"none": "no sign of docker"}, "docker"),
    ),
    "libraries": (put("internal.libraries.cuda", "12.8"), "libraries", FieldChange("cuda", "13.0", "12.8")),
    "host": (put("machine.machine.hostname", "two"), "circumstances", FieldChange("host name", "one", "two")),
    "outcome": (put("outcome", "killed"), "results", FieldChange("outcome", "completed", "killed")),
    "notes": (put("internal.notes", {"done": True}), "experiment", FieldChange("notes.done", ABSENT, True)),
}


@pytest.mark.parametrize(("edit", "group", "change"), CASES.values(), ids=CASES)
def test_a_difference_is_named_in_its_group(edit: Edit, group: str, change: FieldChange) -> None:
    found = between(edit)
    assert change in found[group].changes
    assert found[group].get(change.name) == change and found[group].get("no such name") is None


BUILD = """PyTorch built with:
  - GCC 13.3
  - Intel(R) MKL-DNN v3.12.0 (Git Hash 80afa71)
  - CPU capability usage: {0}
  - Build settings: BLAS_INFO=mkl, CXX_FLAGS= -O2 -fopenmp, TORCH_VERSION={1}, \n"""
PARALLEL = """ATen/Parallel:
\tat::get_num_threads() : {0}
\tat::get_num_interop_threads() : {0}
OpenMP 201511 (a.k.a. OpenMP 4.5)
\tomp_get_max_threads() : {0}
\tmkl_get_max_threads() : {0}
Intel(R) MKL-DNN v{1} (Git Hash 80afa71)
std::thread::hardware_concurrency() : {0}
Environment variables:
\tOMP_NUM_THREADS : {0}
\tMKL_NUM_THREADS : [not set]
"""


def test_what_a_process_uses_is_no_other_build() -> None:
    def libraries(*state: str, version: str = "2.13.0") -> Manifest:
        described = {"build": BUILD.format(state[0], version), "parallel": PARALLEL.format(state[1], version)}
        return manifest(put("internal.libraries", {"torch": version, **described}))

    used = changes_of(diff(libraries("AVX512", "1"), libraries("DEFAULT", "8"), RESULTS))
    assert used.keys() == {"flags", "threads", "machine"}
    assert used["flags"] == ["cpu_capability in use"] and used["machine"] == ["hardware_concurrency"]
    assert set(used["threads"]) == {
        f"{name} in use"
        for name in ("interop_threads", "at::get_num_threads()", "OMP_NUM_THREADS", "mkl_get_max_threads()")
    } | {"omp_get_max_threads() in use"}
    # the control: another build is still one
    built = changes_of(diff(libraries("AVX512", "1"), libraries("AVX512", "1", version="2.8.0"), RESULTS))
    assert built == {"libraries": ["build", "parallel", "torch"]}


def test_a_setting_is_told_by_its_key_and_a_seed_once() -> None:
    assert changes_of(between(learning_rate="0.2")) == {"experiment": ["learning_rate"]}
    assert changes_of(between(**{"seeds.augment": "1"})) == {"seeds": ["augment"]}
    assert set(changes_of(between(seed="7"))["seeds"]) == {
        "seed",
        "init",
        "order",
        "augment",
        "dropout",
        "corrupt",
        "split",
    }


def test_packages_are_compared_one_by_one_by_version_and_by_record() -> None:
    found = between(
        put(
            "distributions",
            {"torch": ("2.8.0", "71" * 32), "numpy": ("2.3.1", "81" * 32), "pillow": ("12.0.0", "82" * 32)},
        )
    )["packages"]
    assert [(change.name, change.first, change.second) for change in found.changes] == [
        ("numpy", "80" * 32, "81" * 32),
        ("pillow", {"none": "not there"}, "12.0.0"),
        ("pytest", "9.0.0", {"none": "not there"}),
        ("torch", "2.13.0", "2.8.0"),
    ]
    assert found.changes[0].note == "version 2.3.1 on both sides, but another RECORD: installed files differ"


def test_a_record_that_is_not_there_is_unknown_and_not_equal() -> None:
    lost = {"unavailable": "it has no RECORD"}
    found = diff(
        manifest(put("distributions", {"numpy": ("1", lost)})), manifest(put("distributions", {"numpy": ("1", lost)}))
    )
    assert found["packages"].changes == ()
    assert [item.name for item in found["packages"].unknown] == ["numpy: RECORD"]


def test_distributions_that_were_not_captured_are_unknown_and_not_all_absent() -> None:
    uncaptured = Resource("distributions", annotations={"unavailable": "killed before"})
    first = manifest()
    kept = tuple(item for item in first.dependencies if not item.name.startswith("distribution:"))
    second = Manifest(**{**first.__dict__, "dependencies": (*kept, uncaptured)})
    found = diff(first, second)["packages"]
    assert found.changes == ()
    assert [(item.name, item.first, item.second) for item in found.unknown] == [
        ("every distribution", "", "killed before")
    ]


def test_source_that_was_not_captured_is_unknown() -> None:
    found = between(put("source", {"unavailable": "failed before"}))["source"]
    assert [(item.name, item.second) for item in found.unknown] == [("repository", "failed before")]
    assert found.changes == () or {change.name for change in found.changes} <= {"commit", "dirty", "patch"}


def test_a_patch_counts_by_what_it_was_before_it_was_redacted() -> None:
    before = {"bytes": 8, "sha256": "02" * 32}
    redacted = {"file": "source.patch", "bytes": 9, "sha256": "01" * 32, "redacted": True, "unredacted": before}
    left_out = {"left_out": {**before, "reason": "too large"}}
    assert (
        diff(manifest(put("source.patch", redacted)), manifest(put("source.patch", left_out)))["source"].changes == ()
    )
    assert between(put("source.patch", redacted))["source"].get("patch") == FieldChange(
        "patch", {"none": "clean"}, "02" * 32
    )


def test_untracked_files_are_named() -> None:
    file = {"path": "new.py", "bytes": 3, "sha256": "03" * 32, "redacted": False}
    found = between(put("source.untracked", {"copied": [file], "left_out": []}))["source"]
    assert [change.name for change in found.changes] == ["untracked new.py"]


def test_other_data_sets_are_compared_with_each_other() -> None:
    first = manifest()
    other = [
        Resource("dataset:cifar10", digest=item.digest, annotations=item.annotations)
        if item.name == "dataset:digits"
        else item
        for item in first.dependencies
    ]
    found = diff(first, Manifest(**{**first.__dict__, "dependencies": tuple(other)}))["data"]
    assert found.changes == (FieldChange("name", "digits", "cifar10"),)


def test_only_named_artifacts_are_results_and_all_but_the_recorders_own_where_none_is_named() -> None:
    def files(digest: str) -> Manifest:
        names = ("trail.bin", "timing.jsonl", "environment.json", "untracked/x.py")
        return manifest(put("artifacts", [Artifact(name, 1, digest * 32) for name in names]))

    first, second = files("01"), files("02")
    assert [change.name for change in diff(first, second, RESULTS)["results"].changes] == ["trail.bin"]
    assert [change.name for change in diff(first, second)["results"].changes] == ["timing.jsonl", "trail.bin"]


def test_what_a_run_used_of_the_machine_is_no_difference() -> None:
    assert between(put("internal.usage", {"wall_seconds": 99.0})).changed == ()


def test_exchanged_sides_give_exchanged_values() -> None:
    other = manifest(put("code", "c1" * 32), put("machine.gpus", {"driver": "580"}), learning_rate="0.2")
    forwards, backwards = diff(manifest(), other), diff(other, manifest())
    assert forwards.changed == ("experiment", "source", "gpus")
    for one, two in zip(forwards.groups, backwards.groups, strict=True):
        assert [(c.name, c.first, c.second) for c in one.changes] == [(c.name, c.second, c.first) for c in two.changes]
        assert one.same == two.same


def test_every_leaf_of_a_manifest_has_a_place() -> None:
    laid_out = document(manifest(), None)
    from provenance.comparison.json_leaves import leaves

    for path, _, _ in leaves(laid_out, laid_out):
        group, name = place(path)
        assert (group in GROUPS and name) or (group, name) == ("", ""), path
    assert place("something.new") == ("experiment", "something.new")


def test_a_manifest_of_an_older_reader_is_compared_as_it_was_read() -> None:
    written = json.loads(json.dumps(manifest().to_predicate()))
    assert diff(Manifest.from_predicate(written, SCHEMA_V1), manifest()).changed == ()


def test_the_json_says_all_of_it() -> None:
    found = between(
        put("distributions", {"torch": ("2.8.0", "71" * 32)}), put("machine.gpus", {"unavailable": "no driver"})
    )
    written = {group["name"]: group for group in json.loads(json.dumps([*map(asdict, found.groups)]))}
    assert list(written) == list(GROUPS)
    assert {"name": "torch", "first": "2.13.0", "second": "2.8.0", "note": ""} in written["packages"]["changes"]
    assert written["gpus"]["unknown"] == [{"name": "gpus", "first": "", "second": "no driver"}]
    assert account()["internal"]["threads"] == 1  # the accounts of other tests are not touched by edits
