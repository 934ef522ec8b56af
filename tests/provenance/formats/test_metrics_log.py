"""The log of scalars: whole lines at once, NaN and all, torn lines reported, resumed where it was."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provenance.errors import StorageError, UsageError
from provenance.formats.metrics_log import ScalarLog, read_scalars

scalars = (
    st.integers()
    | st.floats()
    | st.none()
    | st.text(max_size=8).filter(lambda text: text not in ("nan", "inf", "-inf"))
)
rows = st.lists(st.dictionaries(st.text(max_size=8), scalars, max_size=4), max_size=6)


def same(one: object, other: object) -> bool:
    """Equality that holds for NaN and tells 1 from 1.0."""
    return repr(one) == repr(other)


@given(rows)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_reading_gives_the_rows_that_were_logged(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    path = tmp_path / "metrics.jsonl"
    path.unlink(missing_ok=True)
    with ScalarLog(path) as log:
        for row in rows:
            log.append(row)  # type: ignore[arg-type]
    assert same(list(read_scalars(path)), rows)


def test_what_is_not_finite_is_valid_json_and_comes_back_as_a_float(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with ScalarLog(path) as log:
        log.append({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.5, "e": 3, "f": None, "g": "text"})

    def refuse(text: str) -> float:
        raise AssertionError(text)

    assert json.loads(path.read_text(), parse_constant=refuse)["c"] == "-inf"
    (row,) = read_scalars(path)
    assert math.isnan(row["a"])  # type: ignore[arg-type]
    assert list(row.values())[1:] == [math.inf, -math.inf, 1.5, 3, None, "text"]


def run_child(script: str, path: Path) -> int:
    return subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode


def test_every_row_is_there_as_soon_as_it_is_logged_and_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    script = """
import os, signal, sys
from provenance.formats.metrics_log import ScalarLog
log = ScalarLog(sys.argv[1])
for step in range(100):
    log.append({"step": step})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_child(script, path) == -signal.SIGKILL
    assert [row["step"] for row in read_scalars(path)] == list(range(100))


@pytest.mark.parametrize("value", [object(), [1], {"a": 1}, b"x", 1j])
def test_a_value_that_is_no_scalar_is_named(tmp_path: Path, value: object) -> None:
    with ScalarLog(tmp_path / "m") as log, pytest.raises(UsageError, match="'loss' is a " + type(value).__name__):
        log.append({"step": 1, "loss": value})  # type: ignore[dict-item]
    assert read_scalars(tmp_path / "m") == []


def test_the_words_that_stand_for_floats_are_refused_as_text(tmp_path: Path) -> None:
    with ScalarLog(tmp_path / "m") as log, pytest.raises(UsageError, match="'note' is the string 'nan'"):
        log.append({"note": "nan"})


def test_a_torn_last_line_is_an_error_unless_tolerated_and_then_reported(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    with pytest.raises(StorageError, match="line 3: torn"):
        read_scalars(path)
    found = read_scalars(path, tolerate_torn=True)
    assert found == [{"step": 1}, {"step": 2}]
    assert found.torn == b'{"st'
    path.write_text('{"step": 1}\n')
    assert read_scalars(path, tolerate_torn=True).torn is None


@pytest.mark.parametrize("line", ["", "[1]", "{"])
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(StorageError, match="line 2"):
        read_scalars(path, tolerate_torn=True)


def test_resuming_keeps_the_first_rows_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    with pytest.raises(StorageError, match="torn"):
        ScalarLog(path)  # the control: without keep_rows nothing is glued to a torn line
    with ScalarLog(path, keep_rows=2) as log:
        log.append({"step": 30})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 30}\n'
    with pytest.raises(StorageError, match="3 whole rows, expected at least 4"):
        ScalarLog(path, keep_rows=4)
    with ScalarLog(path, keep_rows=0):
        assert path.read_bytes() == b""


def test_a_full_disk_leaves_no_torn_line(tmp_path: Path) -> None:
    """A real limit of the kernel stands for the full disk: the write that crosses it is cut short."""
    script = """
import resource, signal, sys
from provenance.errors import StorageError
from provenance.formats.metrics_log import ScalarLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1001, resource.RLIM_INFINITY))
with ScalarLog(sys.argv[1]) as log:
    try:
        for step in range(1000):
            log.append({"step": step})
    except StorageError as error:
        sys.exit(0 if sys.argv[1] in error.message else 2)
sys.exit(3)
"""
    assert run_child(script, tmp_path / "metrics.jsonl") == 0
    assert 10 < len(read_scalars(tmp_path / "metrics.jsonl")) < 1000


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        ScalarLog(tmp_path / "missing" / "m")
