"""The verdict as lines and as JSON, and whose keys count; what the checks find is tested where they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_runs import Answer, sign_run

from ndrepro.protocol.layout import RunFolder, RunsFolder
from provenance.attestation.key_home import KeyRing, default_home


@pytest.fixture
def folder(runs: RunsFolder) -> RunFolder:
    return sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")


def test_a_manifest_alone_verifies_with_exit_0(ndrepro: Callable[..., Answer], folder: RunFolder) -> None:
    answer = ndrepro("verify", "lenet_bn_2_digits", "--manifest-only")
    assert answer.code == 0, answer.out
    assert "  2 ok   signature: by this machine's key" in answer.out
    assert "verified: 5 checks passed, 3 skipped; signed by this machine's key" in answer.out
    document = ndrepro("verify", "lenet_bn_2_digits", "--manifest-only", "--json").json
    assert document["ok"] is True and [check["number"] for check in document["checks"]] == list(range(1, 9))


def test_a_library_file_edited_by_hand_is_a_warning_and_the_run_still_verifies(
    ndrepro: Callable[..., Answer], runs: RunsFolder
) -> None:
    found = {"distribution": "numpy", "recorded": "01" * 32, "actual": "02" * 32}
    sign_run(
        runs,
        "lenet_bn_2_digits",
        "20261121T100000Z-aaaaaa",
        machine={"imported_files": {"imported": ["numpy"], "checked": 1, "edited": {"numpy/linalg.py": found}}},
    )
    answer = ndrepro("verify", "latest", "--manifest-only")
    assert answer.code == 0
    warning = "numpy: numpy/linalg.py EDITED AFTER INSTALLATION: 010101010101... in RECORD, 020202020202... on disk"
    assert f"    warn {warning}" in answer.out
    assert "verified: 5 checks passed, 3 skipped, 1 warning; signed" in answer.out
    assert ndrepro("verify", "latest", "--manifest-only", "--json").json["warnings"] == [warning]
    assert f"packages     {warning}" in ndrepro("show", "latest").out


def test_what_was_passed_over_for_the_run_is_reported(
    ndrepro: Callable[..., Answer], folder: RunFolder, runs: RunsFolder
) -> None:
    first, second = folder.root.name, "20261121T110000Z-bbbbbb"
    sign_run(runs, "lenet_bn_2_digits", second, repeats=first)
    for words in (("lenet_bn_2_digits",), ()):
        answer = ndrepro("verify", *words, "--manifest-only", "--json")
        assert answer.json["run"].endswith(first)
        asked = words[0] if words else "latest"
        assert answer.err == f"note: {asked} is {first}; passed over: {second} (repetition of {first})\n"
    assert ndrepro("verify", second, "--manifest-only", "--json").err == ""


def test_a_changed_file_exits_1_and_is_named(ndrepro: Callable[..., Answer], folder: RunFolder) -> None:
    folder.weights.write_bytes(b"WEIGHTS")
    answer = ndrepro("verify", str(folder.root))
    assert answer.code == 1 and answer.err == ""
    assert "  6 FAIL digests: weights.safetensors was changed\n         hint: " in answer.out
    assert "NOT verified: 1 failed" in answer.out
    assert ndrepro("verify", str(folder.root), "--json").json["ok"] is False


def test_the_ledger_beside_the_run_is_used_and_another_can_be_named(
    ndrepro: Callable[..., Answer], folder: RunFolder, runs: RunsFolder, tmp_path: Path
) -> None:
    words = ("verify", str(folder.root), "--manifest-only")
    whole = runs.ledger.read_bytes()
    runs.ledger.write_bytes(whole.replace(b"begun", b"Begun"))
    assert "  8 FAIL ledger" in ndrepro(*words).out
    (tmp_path / "kept.jsonl").write_bytes(whole)
    assert "  8 ok   ledger" in ndrepro(*words, "--ledger", str(tmp_path / "kept.jsonl")).out


def test_a_run_moved_elsewhere_has_no_ledger_and_still_verifies(
    ndrepro: Callable[..., Answer], folder: RunFolder, tmp_path: Path
) -> None:
    moved = shutil.move(folder.root, tmp_path / "moved here")
    answer = ndrepro("verify", str(moved), "--manifest-only")
    assert answer.code == 0 and "  8 skip ledger" in answer.out


def test_a_manifest_under_another_name_can_be_verified_alone(
    ndrepro: Callable[..., Answer], folder: RunFolder, tmp_path: Path
) -> None:
    copy = tmp_path / "mine.json"
    copy.write_bytes(folder.manifest.read_bytes())
    assert ndrepro("verify", str(copy), "--manifest-only").code == 0
    assert ndrepro("verify", str(copy)).code == 3  # a file that is no run


def test_the_keys_given_count_and_no_others(
    ndrepro: Callable[..., Answer], folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    author, stranger = tmp_path / "author.pub", tmp_path / "stranger.pub"
    author.write_text(KeyRing(default_home()).public_key().pem)
    stranger.write_text(KeyRing(tmp_path / "elsewhere").public_key().pem)
    words = ("verify", str(folder.root), "--manifest-only")
    assert ndrepro(*words, "--key", str(stranger)).code == 1  # although the key home would trust it
    monkeypatch.setenv("NDREPRO_HOME", str(tmp_path / "elsewhere"))
    assert ndrepro(*words).code == 1  # the control: this home does not trust the author
    answer = ndrepro(*words, "--key", str(stranger), "--key", str(author))
    assert answer.code == 0 and f"signed by {author}" in answer.out


@pytest.mark.parametrize("content", [b"no key", b""])
def test_a_key_file_that_is_none_exits_3(
    content: bytes, ndrepro: Callable[..., Answer], folder: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "x.pub").write_bytes(content)
    answer = ndrepro("verify", str(folder.root), "--key", str(tmp_path / "x.pub"))
    assert answer.code == 3 and "not a public key" in answer.err
