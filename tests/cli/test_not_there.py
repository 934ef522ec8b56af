"""What is not there has one exit code in every command: 2 for a name that should be known, 3 for what is looked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_runs import Answer, process, sign_run
from signed_runs import SignedRuns, rows

from ndrepro.cli.app import PATH_OPTIONS, command_tree
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunsFolder
from provenance.attestation.key_home import KeyRing

SMALL = "lenet_bn_1_digits"
UNKNOWN_NAMES = {
    "command": ["nope", "study nope", "env nope", "keys nope", "ledger nope"],
    "option": ["run --nope", "verify --nope x"],
    "experiment": ["run nope", "bisect nope torch-2.13.0 torch-1.13.1"],
    "setting": [f"run {SMALL} --set nope=1", f"bisect {SMALL} torch-2.13.0 torch-1.13.1 --set nope=1"],
    "study": [f"study {verb} nope" for verb in ("plan", "run", "status", "resume", "cancel", "search")]
    + ["report nope"],
    "grid": [f"study {verb} smoke --grid nope" for verb in ("plan", "run", "status", "resume")],
    "environment": [f"env {verb} nope" for verb in ("create", "verify", "remove")]
    + [f"run {SMALL} --env nope", f"bisect {SMALL} nope torch-1.13.1", f"bisect {SMALL} torch-1.13.1 nope"],
    "engine": [f"run {SMALL} --in nope", "study plan smoke --in nope"],
    "form": ["checklist . --form nope"],
    "metric": ["sensitivity runs --metric nope"],
}
NOT_THERE = {
    "run": ["verify nope", "show nope", "reproduce nope", "diff nope nope", "checklist nope", "run --resume nope"],
    "run in no folder of runs": [f"{command} latest --runs nowhere" for command in ("verify", "show", "reproduce")],
    "completed run": [f"{command} lenet_nd_1_digits" for command in ("verify", "show", "reproduce", "checklist")],
    "folder of runs": [
        "report --runs nowhere",
        "sensitivity --runs nowhere",
        "sensitivity nowhere",
        "audit --runs nowhere",
    ],
    "study file": [f"study {verb} no.toml" for verb in ("plan", "run", "status", "resume", "cancel", "search")]
    + ["report no.toml", "report no/where"],
    "claims file": ["audit no.toml", "audit nowhere"],
    "key": ["keys remove nope"],
    "key file": [
        "keys trust no.pub --name A",
        "verify aaaaaa --key no.pub",
        "report --key no.pub",
        "checklist aaaaaa --key no.pub",
        "audit --runs runs --key no.pub",
        "sensitivity --key no.pub",
        "import . --key no.pub",
    ],
    "ledger": ["verify aaaaaa --ledger no.jsonl", "ledger verify --ledger no.jsonl", "ledger head --runs nowhere"],
    "witness": ["verify aaaaaa --witness no.jsonl", "ledger verify --witness no.jsonl"],
    "proof": ["ledger check-proof no.jsonl"],
    "archive": ["import no.tar", "import no/where"],
    "code": ["report --code nowhere"],
    "data": [
        f"run {SMALL} --data nowhere",
        f"bisect {SMALL} torch-2.13.0 torch-1.13.1 --data nowhere",
        "study run smoke --data nowhere",
    ],
}


@pytest.fixture
def some_runs(runs: RunsFolder) -> None:
    sign_run(runs, SMALL, "20261121T100000Z-aaaaaa")
    sign_run(runs, "lenet_nd_1_digits", "20261121T110000Z-bbbbbb", outcome="failed")


@pytest.mark.parametrize(
    ("code", "command"),
    [
        pytest.param(code, command, id=f"{kind}: {command}")
        for code, kinds in ((2, UNKNOWN_NAMES), (3, NOT_THERE))
        for kind, commands in kinds.items()
        for command in commands
    ],
)
def test_what_is_not_there_has_one_exit_code_in_every_command(
    code: int, command: str, ndrepro: Callable[..., Answer], some_runs: None
) -> None:
    before = sorted(Path().rglob("*"))
    answer = ndrepro(*command.split())
    assert answer.code == code, answer.err
    what, cure = answer.err.splitlines()
    assert what.startswith("error: ") and cure.startswith("  hint: ")
    assert sorted(Path().rglob("*")) == before, "nothing is made"


# bytes that are no UTF-8, as they reach a program
ODD = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    "words",
    [
        (ODD,),
        ("verify", ODD),
        ("show", ODD),
        ("reproduce", "aaaaaa", "--spot", "1", "--challenge", ODD),
        ("diff", "aaaaaa", ODD),
        ("checklist", ".", "--form", ODD),
        ("run", ODD),
        ("run", SMALL, f"--{ODD}"),
        ("run", SMALL, "--set", ODD),
        ("run", SMALL, "--set", f"device={ODD}"),
        ("run", SMALL, f"--seed={ODD}"),
        ("run", SMALL, "--env", ODD),
        ("run", SMALL, "--in", "podman", "--image", ODD),
        ("run", "--resume", ODD),
        ("study", "plan", ODD),
        ("study", "run", "smoke", "--grid", ODD),
        ("study", "run", "smoke", "--on", "slurm", "--account", ODD),
        ("study", "run", f"{ODD}.toml"),
        ("study", "search", "generalization", "--network", ODD),
        ("report", ODD),
        ("sensitivity", "--reference", ODD),
        ("bisect", SMALL, ODD, "torch-1.13.1"),
        ("env", "create", ODD),
        ("env", "add", "own", f"{ODD}=1"),
        ("keys", "trust", "author.pub", "--name", ODD),
        ("keys", "remove", ODD),
        ("import", "runs", "--name", ODD),
    ],
    ids=ascii,
)
def test_a_word_that_is_no_text_is_refused_before_anything_is_made(
    words: tuple[str, ...], ndrepro: Callable[..., Answer], some_runs: None
) -> None:
    before = sorted(Path().rglob("*"))
    answer = ndrepro(*words)
    assert answer.code == 2
    what, cure = answer.err.splitlines()
    assert "\\xe9" in what and ": not UTF-8 text" in what and "LANG=C.UTF-8" in cure
    assert sorted(Path().rglob("*")) == before


def test_a_path_that_is_no_text_works(ndrepro: Callable[..., Answer], some_runs: None) -> None:
    """Keys, reports and ledgers, written to and read from names that are bytes."""
    odd = Path(ODD)
    assert ndrepro("keys", "export", "--out", f"{ODD}.pub", "--json").code == 0
    words = ("--key", f"{ODD}.pub", "--manifest-only")
    assert ndrepro("verify", "aaaaaa", *words, "--ledger", "runs/ledger.jsonl", "--json").code == 0
    Path("runs").rename(odd)
    for command in ("verify", "show", "checklist"):
        answer = ndrepro(command, f"{ODD}/{SMALL}/20261121T100000Z-aaaaaa", "--json")
        assert answer.json and not answer.err, command


def test_a_report_on_a_folder_whose_name_is_no_text(ndrepro: Callable[..., Answer], tmp_path: Path) -> None:
    signed = SignedRuns(tmp_path / ODD)
    signed.add(Experiment.from_name(SMALL), rows(1, 0.7))
    signed.close()
    Path(f"{ODD}.pub").write_text(KeyRing(signed.home).public_key().pem, encoding="ascii")
    for command, made in (("report", "index.html"), ("sensitivity", "sensitivity.md")):
        answer = ndrepro(command, str(signed.runs), "-o", f"{ODD}.{command}", "--key", f"{ODD}.pub", "--json")
        assert answer.err == "" and (Path(f"{ODD}.{command}") / made).is_file(), answer


def test_an_ascii_terminal_shows_what_is_no_text(tmp_path: Path) -> None:
    locale = {"LANG": "C", "LC_ALL": None, "PYTHONIOENCODING": "ascii"}
    for words in (("keys", "remove", ODD), ("verify", ODD), ("verify", ODD, "--json")):
        answer = process(*words, **locale)
        assert answer.code == 2
        assert "caf\\xe9" in answer.err and (answer.out + answer.err).isascii()


def test_every_option_that_takes_a_path_is_known_as_one() -> None:
    """Else a path that is no text would be refused, or a name that is none be let through."""
    commands = [command_tree(whole=True)]
    found = set()
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        for option in command.params:
            if option.param_type_name == "option" and option.type.name in ("path", "file"):
                found |= set(option.opts)
    assert found | {"--data"} == PATH_OPTIONS
