"""Captured packages become dependencies of a manifest, and what puts them in doubt becomes sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from compared_runs import manifest, put

from provenance.attestation.packages import distributions, machine, resources, warnings

INSTALLED: list[dict[str, Any]] = [
    {"name": "numpy", "version": "2.4.6", "record_sha256": "01" * 32},
    {
        "name": "torch",
        "version": {"unavailable": "the module states none"},
        "record_sha256": {"unavailable": "imported from a folder"},
        "imported_from": "/builds/torch",
    },
    {
        "name": "mine",
        "version": "0.1",
        "record_sha256": "02" * 32,
        "origin": {"url": "file:///some/folder/mine", "dir_info": {"editable": True}},
        "source": {"commit": "ab" * 20, "dirty": True, "differing": ["x.py"], "count": 1},
    },
]
ENVIRONMENT = {"distributions": {"count": 3, "installed": INSTALLED, "leftovers": []}, "interpreter": {}}


def test_what_was_captured_comes_back_out_of_a_manifest() -> None:
    found = distributions(replace(manifest(), dependencies=tuple(resources(ENVIRONMENT))))
    assert found == {
        "numpy": {"version": "2.4.6", "record": "01" * 32},
        "torch": {"version": INSTALLED[1]["version"], "record": INSTALLED[1]["record_sha256"]},
        "mine": {
            "version": "0.1",
            "record": "02" * 32,
            # its path on this machine is no difference between two runs
            "origin": {"dir_info": {"editable": True}},
            "source": INSTALLED[2]["source"],
        },
    }
    assert resources({"unavailable": "killed"})[0].annotations == {"unavailable": "killed"}


def test_beside_them_stay_the_oddities_and_the_files_edited_at_either_moment() -> None:
    start = {**ENVIRONMENT, "imported_files": {"checked": 1, "edited": {"a": {}}}}
    end = {**ENVIRONMENT, "imported_files": {"checked": 2, "edited": {"b": {}}}}
    found = machine(start, end)
    assert found["distributions"] == {"count": 3, "leftovers": []}
    assert found["imported_files"] == {"checked": 2, "edited": {"a": {}, "b": {}}}
    lost = {"unavailable": "the training process did not live to its end"}
    assert machine(start, lost)["imported_files"] == start["imported_files"]
    assert machine(lost, lost) == lost


def test_a_sound_run_and_one_from_before_give_no_warning() -> None:
    assert warnings(manifest()) == ()
    assert warnings(manifest(put("machine.imported_files", {"imported": [], "checked": 0, "edited": {}}))) == ()


def test_every_doubt_is_a_sentence_and_no_form_of_a_manifest_hides_it() -> None:
    odd = {
        "leftovers": [{"name": "numpy", "metadata": "-umpy-1.25.0.dist-info", "reason": "left"}],
        "disagreements": [{"name": "torch", "reason": "imported from elsewhere"}],
    }
    files = {"edited": {"a.py": 7}, "unlisted": {"count": 2, "first": ["numpy/added.py"]}}
    found = warnings(manifest(put("machine.distributions", odd), put("machine.imported_files", files)))
    assert [sentence for sentence in found if "EDITED AFTER INSTALLATION" in sentence] == [found[0]]
    assert found[1] == "imported files that NO RECORD lists: 2 (numpy/added.py)"
    assert found[2] == "torch: metadata DISAGREE: imported from elsewhere"
    assert found[3] == "numpy: LEFTOVER metadata -umpy-1.25.0.dist-info: left"
    for other in ({"unavailable": "no /proc"}, [], {"edited": []}):
        (sentence,) = warnings(manifest(put("machine.imported_files", other)))
        assert "NOT COMPARED" in sentence
