"""Shells complete commands, runs, experiments, settings, studies and cells: asked of a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recorded_runs import ROOT, begin_run

from ndrepro.cli import completion, main
from ndrepro.protocol.experiment.experiment import SETTINGS
from ndrepro.protocol.layout import RunsFolder

_SCRIPT = """
eval "$(_NDREPRO_COMPLETE=source_bash ndrepro)"
complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _ndrepro_completion ndrepro; }
complete_words ndrepro settings learning_r; printf '%s\\n' "${COMPREPLY[@]}"
complete_words ndrepro show lenet_bn; printf '%s\\n' "${COMPREPLY[@]}"
complete -p ndrepro
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_what_was_begun(runs: RunsFolder, tmp_path: Path) -> None:
    begin_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    program = tmp_path / "bin" / "ndrepro"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ndrepro "$@"\n')
    program.chmod(0o755)
    variables = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", _SCRIPT], env=variables, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "learning_rate",
        "lenet_bn_2_digits",
        "complete -o default -F _ndrepro_completion ndrepro",
    ], done.stderr


def test_what_is_offered_begins_with_what_was_typed(runs: RunsFolder) -> None:
    begin_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    begin_run(runs, "lenet_bn_2_digits", "20261122T100000Z-bbbbbb")
    assert completion.runs("") == [
        *("latest", "lenet_bn_2_digits"),
        *("20261122T100000Z-bbbbbb", "20261121T100000Z-aaaaaa"),
    ]
    assert completion.runs("20261121") == ["20261121T100000Z-aaaaaa"]
    for name in ("20261121T100000Z-$(touch x)", "20261121T100000Z-\\$(touch x)", "20261121T100000Z-`x`"):
        begin_run(runs, "lenet_bn_2_digits", name)
    assert completion.runs("20261121") == ["20261121T100000Z-aaaaaa"], "which a shell would evaluate"
    assert completion.settings("lea") == ["learning_rate="]
    assert set(SETTINGS) < set(completion.setting_names("")) and "deconv" in completion.setting_names("dec")
    assert completion.experiments("vgg16_nd_1")[:3] == ["vgg16_nd_1", "vgg16_nd_100", "vgg16_nd_1_digits"]
    assert "smoke" in completion.studies("sm") and "torch-1.13.1" in completion.cells("torch-1.13")
    assert completion.outcomes("no") == ["no end"]


def test_nothing_is_offered_where_something_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ndrepro.protocol.layout.RunsFolder", None)
    assert completion.runs("l") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_NDREPRO_COMPLETE", f"source_{shell}")
    with pytest.raises(SystemExit):
        main([])
    assert f"_NDREPRO_COMPLETE=complete_{shell}" in capsys.readouterr().out
