"""Every run that was started is in the list, whatever became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from recorded_runs import Answer, begin_run, open_run, sign_run

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
        "run                       outcome      epochs    train     test     time  signed",
        "lenet_nd_2_digits",
        "  20261121T110000Z-bbbbbb no end          1/2  30.00 %  25.00 %        -  no",
        "    started, never ended, and no process runs it",
        "lenet_bn_2_digits",
        "  20261121T100000Z-aaaaaa completed       2/2  60.00 %  50.00 %     1:12  yes",
        "  20261121T120000Z-cccccc running         0/2        -        -        -  no",
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


def test_a_run_whose_files_were_changed_is_not_called_signed(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    folder = sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    assert ndrepro("list").out.splitlines()[-1].endswith("50.00 %     1:12  yes"), "the control"
    # the same length: 50 % becomes 90 %
    folder.metrics.write_text(folder.metrics.read_text().replace("0.5", "0.9"))
    lines = ndrepro("list").out.splitlines()
    assert lines[-2].endswith("completed       0/2        -        -     1:12  no")
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
