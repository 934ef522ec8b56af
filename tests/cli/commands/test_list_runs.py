"""Every run that was started is in the list, whatever became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import pytest
from recorded_runs import Answer, begin_run, open_run, sign_run

import provenance
from ndrepro.execution.runs.run_lookup import RunSummary
from ndrepro.protocol.experiment.catalogue import ARCHITECTURES, DATASETS, METHODS
from ndrepro.protocol.layout import RunsFolder


def test_signed_running_and_vanished_runs_are_told_apart(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    dead = begin_run(runs, "lenet_nd_2_digits", "20261121T110000Z-bbbbbb", epochs=1)
    open_run(runs, dead).release()
    alive = open_run(runs, begin_run(runs, "lenet_bn_2_digits", "20261121T120000Z-cccccc", epochs=0))
    lines = ndrepro("list").out.splitlines()
    alive.release()
    assert lines == [
        "run                      outcome     seed  epochs train %  test %    time signed",
        "lenet_nd_2_digits",
        " 20261121T110000Z-bbbbbb no end         0     1/2   30.00   25.00       - no",
        "    started, never ended, and no process runs it",
        "lenet_bn_2_digits",
        " 20261121T100000Z-aaaaaa completed      0     2/2   60.00   50.00    1:12 yes",
        " 20261121T120000Z-cccccc running        0     0/2       -       -       - no",
    ]
    assert max(map(len, lines)) <= 80


def test_repetitions_and_segments_are_marked(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    first = "20261121T100000Z-aaaaaa"
    sign_run(runs, "lenet_bn_2_digits", first)
    sign_run(runs, "lenet_bn_2_digits", "20261121T110000Z-bbbbbb", repeats=first)
    sign_run(runs, "lenet_bn_2_digits", "20261121T120000Z-cccccc", repeats=first, segment_epochs=1)
    sign_run(runs, "lenet_bn_2_digits", "20261121T130000Z-dddddd", segment_epochs=1)
    lines = ndrepro("list").out.splitlines()
    remarks = {line.split()[0]: after.strip() for line, after in zip(lines, [*lines[1:], ""], strict=True)}
    assert remarks["20261121T110000Z-bbbbbb"] == f"repetition of {first}"
    assert remarks["20261121T120000Z-cccccc"] == f"segment of {first}"
    assert remarks["20261121T130000Z-dddddd"] == "segment"
    assert not remarks[first].startswith(("repetition", "segment"))
    kinds = [run["kind"] for run in ndrepro("list", "--json").json["runs"]]
    assert kinds == ["original", "repetition", "segment", "segment"]


def test_seed_and_changed_settings_are_shown(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa", seed="3", learning_rate="0.05", augment="false")
    *_, line, remark = ndrepro("list").out.splitlines()
    assert line == " 20261121T100000Z-aaaaaa completed      3     2/2   60.00   50.00    1:12 yes"
    assert remark == "    learning_rate=0.05, augment=false"


@pytest.mark.parametrize(
    ("words", "selected"),
    [
        ((), "abc"),
        (("--experiment", "lenet_bn_2_digits"), "ab"),
        (("--experiment", "*_nd_*"), "c"),
        (("--outcome", "interrupted"), "b"),
        (("--since", "2026-11-22"), "bc"),
        (("--since", "2026-11-21T23:00+02:00"), "bc"),
        (("--since", "900000h"), "abc"),
        (("--where", "learning_rate=0.050"), "a"),
        (("--where", "augment=False", "--where", "seed=3"), "a"),
        (("--where", "learning_rate=0.1"), "bc"),
        (("--where", "method=nd"), "c"),
        (("--where", "deconv.block=word"), ""),
    ],
)
def test_filters_select(
    words: tuple[str, ...], selected: str, ndrepro: Callable[..., Answer], runs: RunsFolder
) -> None:
    sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa", seed="3", learning_rate="0.05", augment="false")
    sign_run(runs, "lenet_bn_2_digits", "20261122T100000Z-bbbbbb", outcome="interrupted")
    sign_run(runs, "lenet_nd_2_digits", "20261123T100000Z-cccccc")
    found = "".join(run["run"][-1] for run in ndrepro("list", *words, "--json").json["runs"])
    assert found == selected
    if not selected:
        assert ndrepro("list", *words).out == "none of 3 runs in runs is selected by these options\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--outcome", "complete"), "did you mean completed?"),
        (("--since", "yesterday"), "--since 2026-11-28"),
        (("--where", "lr=0.1"), "did you mean learning_rate?"),
        (("--where", "lr"), "--where learning_rate=0.05"),
    ],
)
def test_a_wrong_filter_gets_the_nearest(words: tuple[str, ...], hint: str, ndrepro: Callable[..., Answer]) -> None:
    answer = ndrepro("list", *words)
    assert answer.code == 2 and hint in answer.err


def test_a_script_is_listed_and_selected_by_its_parameters(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    with provenance.record(name="fit", parameters={"lr": 0.1, "depth": 3}, seeds={"numpy": 7}) as run:
        run.log(step=1, loss=1.0)
    lines = ndrepro("list", "--where", "lr=0.1", "--where", "seed=7").out.splitlines()
    assert lines[1] == "fit" and lines[2].split()[1:4] == ["completed", "7", "script"]
    assert lines[3] == "    depth=3, lr=0.1"
    assert ndrepro("list", "--where", "lr=0.2", "--json").json == {"runs": []}


def test_a_run_whose_files_were_changed_is_not_called_signed(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    folder = sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    assert ndrepro("list").out.splitlines()[-1].endswith("50.00    1:12 yes"), "the control"
    # the same length: 50 % becomes 90 %
    folder.metrics.write_text(folder.metrics.read_text().replace("0.5", "0.9"))
    lines = ndrepro("list").out.splitlines()
    assert lines[-2].endswith("completed      0     0/2       -       -    1:12 no")
    assert lines[-1] == "    metrics.jsonl changed after signing: `ndrepro verify` has details"


def test_json_has_every_field_of_every_run(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    folder = sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    (entry,) = ndrepro("list", "--json").json["runs"]
    assert set(entry) == {field.name for field in fields(RunSummary)}
    assert (entry["outcome"], entry["test_accuracy"], entry["folder"]) == (
        "completed",
        0.5,
        str(folder.root.absolute()),
    )


def test_an_empty_folder_of_runs_says_so(ndrepro: Callable[..., Answer]) -> None:
    answer = ndrepro("list")
    assert answer.code == 0 and answer.out.startswith("no runs in runs; ")
    assert ndrepro("list", "--json").json == {"runs": []}


def test_names_are_those_of_the_catalogue(ndrepro: Callable[..., Answer]) -> None:
    text = ndrepro("list", "--names").out
    assert all(name in text for name in (*ARCHITECTURES, *METHODS, *DATASETS))
    names = ndrepro("list", "--names", "--json").json
    assert (tuple(names["architectures"]), names["methods"]) == (ARCHITECTURES, METHODS)


def test_the_source_of_a_network_is_shown_where_two_differ(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    first, second = "20261121T100000Z-aaaaaa", "20261122T100000Z-bbbbbb"
    sign_run(runs, "nets:Net_bn_2_digits", first, network_source="a" * 64)
    assert "network_source" not in ndrepro("list").out
    sign_run(runs, "nets:Net_bn_2_digits", second, network_source="b" * 64)
    assert [line for line in ndrepro("list").out.splitlines() if "source" in line] == [
        "    network_source=aaaaaaaa",
        "    network_source=bbbbbbbb",
    ]
    assert ndrepro("list", "--json").json["runs"][0]["settings"]["network_source"] == "a" * 64, "whole"
