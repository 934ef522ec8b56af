"""Errors: two lines on standard error, the right exit code, JSON where asked, a traceback only where asked."""

from __future__ import annotations

import errno
import json
import math
import sys

import pytest

from ndrepro.cli import main
from ndrepro.cli.display import output
from ndrepro.protocol.errors import DataError, RunNotFound
from provenance.errors import ProvenanceError, UsageError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("a"), 2),
        (ProvenanceError("a"), 3),
        (RunNotFound("a"), 3),
        (OSError(errno.ENOSPC, "No space left on device", "/full/x"), 3),
        (ZeroDivisionError("a"), 3),
        (KeyboardInterrupt(), 3),
    ],
)
def test_every_error_has_an_exit_code_a_line_and_a_cure(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert output.report(error, as_json=False, debug=False) == code
    captured = capsys.readouterr()
    what, cure = captured.err.splitlines()
    assert what.startswith("error: ") and len(what) > len("error: ")
    assert cure.startswith("  hint: ") and len(cure) > len("  hint: ")
    assert captured.out == ""


def test_an_error_s_own_cure_is_kept_and_lines_are_joined(capsys: pytest.CaptureFixture[str]) -> None:
    output.report(DataError("cut\n  short", "copy it\nagain"), as_json=False, debug=False)
    assert capsys.readouterr().err == "error: cut short\n  hint: copy it again\n"


def test_a_full_disk_names_the_path_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    output.report(OSError(errno.ENOSPC, "No space left on device", "/full/x"), as_json=False, debug=False)
    assert capsys.readouterr().err == (
        "error: /full/x: No space left on device\n  hint: free space there, or choose another folder (--runs DIR)\n"
    )


def test_json_goes_to_standard_output_and_the_lines_still_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.report(UsageError("what", "do"), as_json=True, debug=False)
    captured = capsys.readouterr()
    expected = {"type": "UsageError", "message": "what", "cure": "do", "exit_code": 2}
    assert json.loads(captured.out) == {"json_version": 1, "error": expected}
    assert captured.err == "error: what\n  hint: do\n"


def test_a_traceback_only_with_debug(capsys: pytest.CaptureFixture[str]) -> None:
    for debug in (False, True):
        try:
            raise UsageError("what")
        except UsageError as error:
            output.report(error, as_json=False, debug=debug)
        assert ("Traceback" in capsys.readouterr().err) is debug


def test_json_is_ascii_and_strict(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"loss": [math.nan, math.inf, -math.inf, 1.5], "name": "é \udcff"})
    text = capsys.readouterr().out
    assert text.isascii() and "NaN" not in text
    document = json.loads(text)
    assert document.pop("json_version") == 1
    assert document == {"loss": ["nan", "inf", "-inf", 1.5], "name": "é \udcff"}


class Impatient:
    """Presses Ctrl-C when a module is looked for."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "ndrepro.cli.app":
            raise KeyboardInterrupt


def test_ctrl_c_before_anything_is_imported_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--version"]) == 0, "the control"
    capsys.readouterr()
    monkeypatch.delitem(sys.modules, "ndrepro.cli.app")
    monkeypatch.setattr(sys, "meta_path", [Impatient(), *sys.meta_path])
    assert main(["--version"]) == 3
    assert capsys.readouterr() == ("", "error: interrupted\n  hint: type the command again\n")
