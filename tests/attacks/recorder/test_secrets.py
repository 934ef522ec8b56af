"""Secrets of 57 kinds in nine places do not reach what is signed; code stays code, and patches apply.

The table on docs/explanation/security.md is what ``found_where`` finds: change one, and the test shows the other.
"""

from __future__ import annotations

import ast
import json
import sysconfig
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from captured_source import capture, git
from hypothesis import given, settings
from hypothesis import strategies as st
from real_runs import Bench
from recorded_runs import ROOT
from secret_kinds import BY_LOOKS, BY_NAME, NOT_FOUND, SecretKind

from provenance.redaction import gitleaks_rules, written_files
from provenance.redaction.documents import redact_file
from provenance.redaction.patterns import redact_shapes
from provenance.redaction.redact import redact_arguments, redact_text, redact_tree
from provenance.redaction.variables import redact_variables
from provenance.redaction.written_files import redact_json, redact_log

KINDS = (*BY_LOOKS, *BY_NAME)
PLACES = ("variable", "command line", "settings", "patch", "untracked file", "log", "request.json", "notebook", "zip")


def in_memory(kind: SecretKind) -> dict[str, str]:
    """What is written of a secret in a variable, a command line, and settings."""
    value, line = kind.made()
    written = value if kind.name else line
    option = [f"--{kind.name}", value] if kind.name else [line]
    return {
        "variable": str(redact_variables({kind.name or "NDREPRO_EXTRA": written})),
        "command line": str(redact_arguments(["train.py", "--epochs", "3", *option])),
        "settings": str(redact_tree({"lr": 0.1, kind.name or "note": written})),
    }


def in_written_files(kind: SecretKind, folder: Path) -> dict[str, str]:
    """What is left in a log and in request.json."""
    _, line = kind.made()
    log, request = folder / "log.txt", folder / "request.json"
    log.write_text(f"epoch 1\n{line}\nepoch 2\n")
    request.write_text(json.dumps({"schema": "urn:ndrepro:request:v1", "data": line}))
    redact_log(log)
    redact_json(request)
    assert log.read_text().startswith("epoch 1\n") and log.read_text().endswith("\nepoch 2\n")
    assert json.loads(request.read_text())["schema"] == "urn:ndrepro:request:v1"
    return {"log": log.read_text(), "request.json": request.read_text()}


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[SecretKind], dict[str, str]]:
    """What a run folder holds of a repository with a changed file, and three untracked ones, for each kind."""
    top, into = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("runs") / "run"
    git(top, "init", "-q")
    for number, _ in enumerate((*KINDS, *NOT_FOUND)):
        (top / f"{number}.txt").write_text("one\ntwo\n")
    git(top, "add", ".")
    git(top, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
    for number, kind in enumerate((*KINDS, *NOT_FOUND)):
        _, line = kind.made()
        (top / f"{number}.txt").write_text(f"one\n{line}\ntwo\n")
        (top / f"{number}.env").write_text(line + "\n")
        cell = {"cell_type": "code", "source": [f"{text}\n" for text in line.split("\n")]}
        (top / f"{number}.ipynb").write_text(json.dumps({"cells": [cell]}))
        with zipfile.ZipFile(top / f"{number}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inside/.env", line)
    capture(top, into)
    patches = (into / "source.patch").read_text().split("diff --git ")[1:]

    def written(kind: SecretKind) -> dict[str, str]:
        number = [*KINDS, *NOT_FOUND].index(kind)
        packed = into / "untracked" / f"{number}.zip"
        return {
            "patch": next(patch for patch in patches if patch.startswith(f"a/{number}.txt ")),
            "untracked file": (into / "untracked" / f"{number}.env").read_text(),
            "notebook": (into / "untracked" / f"{number}.ipynb").read_text(),
            "zip": zipfile.ZipFile(packed).read("inside/.env").decode() if packed.exists() else "",
        }

    return written


def found_where(kind: SecretKind, captured: Callable[[SecretKind], dict[str, str]], folder: Path) -> dict[str, bool]:
    """Whether a secret of this kind is gone from each place."""
    value, line = kind.made()
    assert value in line
    everywhere = {**in_memory(kind), **in_written_files(kind, folder), **captured(kind)}
    return {place: value not in everywhere[place] for place in PLACES}


def test_the_page_says_what_is_found_and_what_is_not(
    captured: Callable[[SecretKind], dict[str, str]], tmp_path: Path
) -> None:
    assert len(KINDS) >= 42 and len(PLACES) == 9
    rows = [f"| kind of secret | {' | '.join(PLACES)} |", f"| --- |{' --- |' * len(PLACES)}"]
    everywhere = []
    for kind in (*KINDS, *NOT_FOUND):
        found = found_where(kind, captured, tmp_path)
        if all(found.values()):
            everywhere.append(kind.label)
        else:
            rows.append(f"| {kind.label} | {' | '.join('yes' if found[place] else 'no' for place in PLACES)} |")
    rows.insert(2, f"| the {len(everywhere)} kinds named below |{' yes |' * len(PLACES)}")
    table = "\n".join(rows)
    print(f"\n{table}\n{', '.join(everywhere)}")
    assert len(everywhere) == len(KINDS), "a kind is not found everywhere"
    page = (ROOT / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
    assert table in page
    assert ", ".join(everywhere) in " ".join(page.split())


def test_a_real_run_signs_a_log_without_the_secret_that_its_process_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The OpenMP runtime prints its settings, one of them the user's own text."""
    value, _ = BY_LOOKS[1].made()
    monkeypatch.setenv("OMP_DISPLAY_ENV", "true")
    monkeypatch.setenv("OMP_AFFINITY_FORMAT", f"thread {value}")
    monkeypatch.setenv("TORCH_EXTRA", BY_NAME[2].made()[0])
    finished = Bench(tmp_path).run("lenet_bn_1_digits", train_images="32")
    assert finished.outcome == "completed" and finished.manifest is not None
    log = finished.folder.log.read_text()
    assert "AFFINITY_FORMAT" in log, "the control: it was printed"
    assert "[redacted:github-token]" in log
    signed = b"".join(path.read_bytes() for path in finished.folder.root.rglob("*") if path.is_file())
    assert value.encode() not in signed and BY_NAME[2].made()[0].encode() not in signed


def test_a_log_is_redacted_in_pieces_and_one_without_secrets_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, block = next(kind for kind in BY_LOOKS if kind.label == "private key").made()
    log = tmp_path / "log.txt"
    lines = [f"step {number}" for number in range(300)]
    for at in range(100, 130):
        log.write_bytes("\n".join([*lines[:at], block, *lines[at:]]).encode() + b"\r\xff\n")
        monkeypatch.setattr(written_files, "_PIECE", 16)
        assert redact_log(log) is True
        text = log.read_bytes()
        assert key.encode() not in text and text.count(b"\n") == 303 and text.endswith(b"step 299\r\xff\n")
    before = log.stat()
    assert redact_log(log) is False and log.stat() == before
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


def python_files(step: int) -> list[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    return sorted(path for path in library.rglob("*.py") if "site-packages" not in path.parts)[:1500:step]


@pytest.mark.parametrize("step", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_the_standard_library_stays_python(step: int) -> None:
    files = python_files(step)
    touched, left_out = [], 0
    for path in files:
        data = path.read_bytes()
        redacted = redact_file(path.name, data)
        left_out += bool(redacted.problem)
        if not redacted.problem and redacted.data != data:
            touched.append((data, redacted.data))
    for before, after in touched:
        assert is_python(after) or not is_python(before)
    print(f"\n{len(files)} files: {len(touched)} touched, {left_out} left out")
    assert touched and len(touched) + left_out < len(files) * 0.05


def is_python(data: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(data)
        except (SyntaxError, ValueError):
            return False
    return True


SOURCES = {
    'password = "{}"\n': True,
    "password: Optional[str] = (\n    '{}'\n)\n": True,
    'connect(user="ada", password="{}", port=1)\n': True,
    'settings = {{"password": "{}", "port": 1}}\n': True,
    'os.environ["DB_PASSWORD"] = "{}"\n': True,
    'if password == b"{}":\n    pass\n': True,
    'password = SecretStr("{}")\n': True,
    'url = f"postgres://ada:{}@{{host}}/x"\n': True,
    'text = "password={}\\" x"\n': True,
    'secrets = ["{}",\n  "other"]\n': True,
    "# password: {}\n": True,
    'password = """\n{}\n"""\n': True,
    'password = ask("{}")\n': False,
    'settings = {{"password": x, "note": "{}"}}\n': False,
    'f(password, "{}")\n': False,
}


@pytest.mark.parametrize("source", SOURCES)
def test_python_is_redacted_and_stays_python(source: str) -> None:
    value = "Tr0ub4dor"
    text = source.format(value)
    redacted = redact_file("a.py", text.encode())
    assert redacted.problem == "" and (value.encode() in redacted.data) is not SOURCES[source]
    ast.parse(redacted.data)
    assert redacted.data.count(b"\n") == text.count("\n")


CODE = st.sampled_from([*SOURCES, "x = 1\n", "def f(token=None):\n    return token\n", "password = get(token)[0]\n",
                        "token = 123456789\n", "x = '''a\n'''\n", "api_key = f'{{x!r}}' 'b'\n"])  # fmt: skip


@settings(max_examples=60)
@given(st.lists(st.tuples(CODE, st.text("Tr0ub4dor\\{}'\" \té", min_size=1, max_size=12)), max_size=5))
def test_redacted_python_always_parses(lines: list[tuple[str, str]]) -> None:
    text = "".join(line.format(value) for line, value in lines)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(text)
        except (SyntaxError, ValueError):
            return
        redacted = redact_file("a.py", text.encode())
        assert redacted.problem or ast.parse(redacted.data)
        assert redact_file("a.py", redacted.data).data in (redacted.data, b"") or redacted.problem


def changed_repository(top: Path, before: str, after: str) -> None:
    git(top, "init", "-q")
    for name in ("a.py", "b.py"):
        (top / name).write_text(before if name == "a.py" else "x = 1\n")
    git(top, "add", ".")
    git(top, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
    (top / "a.py").write_text(after)
    (top / "b.py").write_text("x = 2\n")


PATCHES = {
    "added": ("one = 1\n", 'one = 1\npassword = "Tr0ub4dor"\n', True),
    "beside code": ("token = get()\n", "token = get()\nother = 2\n", True),
    "unchanged line": ('password = "Tr0ub4dor"\n', 'password = "Tr0ub4dor"\nother = 2\n', False),
    "removed": ('password = "Tr0ub4dor"\n', "password = ask()\n", False),
    "in a string over lines": ("x = 1\n", 'x = 1\npassword = """\nTr0ub4dor\n"""\n', True),
}


@pytest.mark.parametrize("case", PATCHES)
def test_a_redacted_patch_applies_or_leaves_the_file_out(case: str, tmp_path: Path) -> None:
    before, after, kept = PATCHES[case]
    top, into = tmp_path / "repository", tmp_path / "run"
    top.mkdir()
    changed_repository(top, before, after)
    found = capture(top, into)
    patch = (into / "source.patch").read_text()
    assert "Tr0ub4dor" not in patch and "Tr0ub4dor" not in json.dumps(found)
    omitted = [entry["path"] for entry in found["patch"].get("omitted", {"files": []})["files"]]
    assert omitted == ([] if kept else ["a.py"])
    git(top, "checkout", "-q", ".")
    git(top, "apply", str(into / "source.patch"))
    assert (top / "b.py").read_text() == "x = 2\n"
    ast.parse((top / "a.py").read_text())
    assert ((top / "a.py").read_text() == before) is not kept


def test_what_is_packed_and_holds_a_secret_is_left_out_and_named(tmp_path: Path) -> None:
    import gzip
    import io
    import tarfile

    _, line = BY_NAME[0].made()
    harmless = io.BytesIO()
    with tarfile.open(fileobj=harmless, mode="w:xz") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    data = gzip.compress(line.encode())
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as packed:
        packed.writestr("inner.gz", data)
    assert redact_file("a.tar.xz", harmless.getvalue()).problem == ""
    for name, content in (("a.txt.gz", data), ("a.zip", twice.getvalue())):
        assert "looks like a secret" in redact_file(name, content).problem
    bomb = gzip.compress(bytes(64 << 20))
    assert "more than is searched" in redact_file("a.gz", bomb).problem
    assert "cannot be searched" in redact_file("a.gz", data[:-9]).problem
    token, _ = BY_LOOKS[0].made()
    assert "looks like a token" in redact_file("a.bin", b"\0\1" + token.encode() + b"\0").problem


def test_the_rules_name_their_source_and_licence() -> None:
    text = gitleaks_rules.__doc__ or ""
    assert "https://github.com/gitleaks/gitleaks" in text and "MIT License" in text
    assert len(gitleaks_rules.RULES) >= 200


@settings(max_examples=30)
@given(st.sampled_from(KINDS), st.sampled_from(["{}", '"{}"', "x={} ", "({})", "[{}]", "<b>{}</b>", "a,{},b", "{}\\n"]))
def test_markers_stay_markers(kind: SecretKind, around: str) -> None:
    redacted = redact_text(around.format(kind.made()[1]))
    assert redact_text(redacted) == redacted


def test_nothing_of_this_repository_looks_like_a_secret() -> None:
    """What the values are put together for at run time."""
    for path in (ROOT / "tests" / "helpers" / "secret_kinds.py", ROOT / "docs" / "explanation" / "security.md"):
        text = path.read_text(encoding="utf-8")
        assert redact_shapes(text) == text
