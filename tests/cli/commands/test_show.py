"""A run on one screen: train beside test, and what is dirty or changed in words that cannot be overlooked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
from recorded_runs import Answer, begin_run, open_run, sign_run

from ndrepro.cli.display import facts
from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.messages import Scores
from provenance.attestation.manifest import Artifact, Resource
from provenance.capture.unavailable import at, none, unavailable


def rows(answer: Answer) -> dict[str, str]:
    lines = [line for line in answer.out.splitlines() if not line.startswith(" ")]
    return {line[:12].strip(): line[13:] for line in lines}


def test_everything_of_a_signed_run(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa", **{"seed": "3", "seeds.init": "7", "threads": "1"})
    answer = ndrepro("show", "lenet_bn_2_digits")
    assert answer.code == 0
    found = rows(answer)
    assert found["run"] == "lenet_bn_2_digits 20261121T100000Z-aaaaaa"
    assert found["outcome"] == "completed"
    assert found["accuracy"] == "train 60.00 %, test 50.00 %; best test 50.00 %, epoch 2"
    assert "                 2    60.00 %    50.00 %       1.0000       0.9500" in answer.out
    assert found["settings"] == "threads=1"
    assert found["seeds"] == "3, but for init 7"
    assert found["source"] == "commit 0123456789ab WITH UNCOMMITTED CHANGES"
    assert found["determinism"].startswith(
        "deterministic; FLAGS CHANGED UNDER WAY: cudnn_benchmark False -> True; at the start: cudnn_benchmark False"
    )
    assert found["gpu"] == "NOT KNOWN (not recorded)"
    assert found["network"] == "61,706 parameters; layers: 2 conv2d"
    assert found["artifacts"].startswith("3 files, ") and "weights.safetensors 7 B" in found["artifacts"]
    assert "as the manifest claims" in found["signed by"]
    assert len(answer.out.splitlines()) <= 24


def test_the_top_5_are_shown_where_they_were_recorded(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    folder = begin_run(runs, "lenet_bn_1_digits", "20261121T100000Z-aaaaaa")
    assert "top 5" not in rows(ndrepro("show", "aaaaaa")), "a run from before they were"
    scores = Scores(1, 12, 2.0, 0.3, 1.9, 0.25, 0.1, 0.75, 0.7)
    folder.metrics.write_text(json.dumps(asdict(scores)) + "\n", encoding="utf-8")
    assert rows(ndrepro("show", "aaaaaa"))["top 5"] == "train 75.00 %, test 70.00 %"


def test_of_many_epochs_the_last_are_shown(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    begin_run(runs, "lenet_bn_9_digits", "20261121T100000Z-aaaaaa", epochs=9)
    text = ndrepro("show", "aaaaaa").out
    assert "the last 5 of 9" in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith("             ")][1:6] == list("56789")


def test_a_run_without_a_manifest_says_so(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    folder = begin_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa", epochs=0)
    open_run(runs, folder).release()
    found = rows(ndrepro("show", "aaaaaa"))
    assert found["outcome"] == "no end: started, never ended, and no process runs it"
    assert found["accuracy"] == "no epoch was finished"
    assert found["signed by"] == "nobody: there is no manifest"
    assert ndrepro("show", "aaaaaa", "--json").json["manifest"] is None


def test_json_holds_the_whole_predicate(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    document = ndrepro("show", "lenet_bn_2_digits", "--json").json
    assert document["manifest"]["buildDefinition"]["externalParameters"]["name"] == "lenet_bn_2_digits"
    assert [row["epoch"] for row in document["scores"]] == [1, 2]


def test_a_source_in_doubt_never_looks_clean() -> None:
    commit = "0123456789abcdef"

    def said(**found: object) -> str:
        return facts.source(Resource("source", annotations={"commit": commit, **found}))

    assert said(dirty=False) == "commit 0123456789ab, clean"
    assert said(dirty=unavailable("git is not installed")).endswith(
        "MAY DIFFER FROM IT: NOT KNOWN (git is not installed)"
    )
    assert said() == "commit 0123456789ab; MAY DIFFER FROM IT: NOT KNOWN (not recorded)"
    untracked = {"copied": [{"path": "a"}], "left_out": [{"path": "b"}]}
    patch = {"left_out": {"bytes": 10**9, "reason": "too large"}}
    assert said(dirty=True, changed={"count": 1}, untracked=untracked, patch=patch) == (
        "commit 0123456789ab WITH UNCOMMITTED CHANGES: 1 file changed, 2 untracked files, 1 of them NOT KEPT, "
        "the patch was NOT KEPT"
    )
    counted = {**untracked, "left_out_too": {"files": 58000}}
    some = {"file": "source.patch", "omitted": {"count": 2}}
    assert said(dirty=True, changed={"count": 3}, untracked=counted, patch=some, submodules={"changed": [{}]}) == (
        "commit 0123456789ab WITH UNCOMMITTED CHANGES: 3 files changed, 58,002 untracked files, "
        "58,001 of them NOT KEPT, "
        "2 changed files NOT KEPT, 1 submodule changed"
    )
    assert said(dirty=True, changed={"count": 0}, untracked={"copied": [{"path": "a"}], "left_out": []}) == (
        "commit 0123456789ab WITH UNCOMMITTED CHANGES: 1 untracked file"
    )
    assert facts.source(Resource("source")) == "NO COMMIT: not recorded"
    nowhere = unavailable("/tmp/work: not a git repository")
    assert facts.source(Resource("source", annotations={"commit": nowhere, "dirty": nowhere})) == (
        "NO COMMIT: /tmp/work: not a git repository"
    )


def test_data_that_is_not_the_official_says_so() -> None:
    described = {"tree_sha256": "ab" * 32, "train_images": 5, "test_images": 2, "reader": "image folder"}
    for canonical, words in ((True, ", the official files"), (False, "NOT the official files"), (None, "no official")):
        resource = Resource("dataset:cifar10", annotations={**described, "canonical": canonical})
        assert words in facts.dataset(resource)


def test_what_is_missing_is_said_with_its_reason() -> None:
    assert facts.word(none("no GPU")) == "none (no GPU)"
    assert facts.word(unavailable("no /proc")) == "NOT KNOWN (no /proc)"
    assert facts.word(at({"a": {"b": 1}}, "a", "b")) == "1"
    assert facts.word(at({"a": unavailable("why")}, "a", "b")) == "NOT KNOWN (why)"


def test_flags_that_stayed_are_told_from_flags_that_were_not_read() -> None:
    start = {"threads": 2}
    assert facts.determinism({"level": "free", "start": start, "end": start}).startswith(
        "free; the same at start and end"
    )
    unread = facts.determinism({"level": "free", "start": start, "end": unavailable("it was killed")})
    assert unread == "free; flags at the end NOT KNOWN (it was killed); at the start: threads 2"


STRANGE = (None, True, -1, "x", [], {}, [[]], {"unavailable": 3}, {"a": {"b": [1]}})


@pytest.mark.parametrize("strange", STRANGE)
def test_what_was_recorded_in_another_form_hides_no_other_row(runs: RunsFolder, strange: object) -> None:
    manifest = read_recorded(sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")).manifest
    labels = [label for label, _ in facts.manifest_rows(manifest)]
    assert "another form" not in str(facts.manifest_rows(manifest)), "the control"
    for key in ("determinism", "usage", "libraries", "threads", "device"):
        other = replace(manifest, internal_parameters={**manifest.internal_parameters, key: strange})
        assert [label for label, _ in facts.manifest_rows(other)] == labels
    for key in ("machine", "container", "gpus", "interpreter"):
        other = replace(manifest, machine={**manifest.machine, key: strange})
        assert [label for label, _ in facts.manifest_rows(other)] == labels


def test_files_in_folders_are_summed_up() -> None:
    listed = [Artifact(f"checkpoints/{n}", 1000, "ab" * 32) for n in range(3)]
    listed.append(Artifact("log.txt", 5, "ab" * 32))
    assert facts.artifacts(tuple(listed)) == "4 files, 3.0 kB: checkpoints/ 3.0 kB (3 files), log.txt 5 B"
