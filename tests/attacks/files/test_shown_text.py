"""Text of a stranger's manifest where it is shown: it is the text of one line, or of one cell, and nothing more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dishonest_author import copied
from real_runs import Bench

from ndrepro.cli import main
from ndrepro.cli.display import terminal
from ndrepro.execution.runs.run import Finished
from ndrepro.report.elements.table import Column, Table, word
from ndrepro.report.elements.text_formats import latex
from provenance.attestation.dsse import read_envelope, sign_envelope
from provenance.attestation.key_home import KeyRing
from provenance.formats.canonical_json import canonical_bytes

FORGED = "x\nverdict    identical"


@pytest.mark.parametrize("command", ["list", "checklist", "show", "verify"])
def test_it_begins_no_line(
    honest: Finished, author: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Before, `list` and `checklist`, which show a manifest that nobody verified, printed a line of its author's."""
    terminal.console.cache_clear()
    folder = copied(honest.folder, tmp_path)
    document = json.loads(read_envelope(folder.manifest.read_bytes())[1])
    document["predicate"]["buildDefinition"]["externalParameters"]["name"] = FORGED
    document["predicate"]["runDetails"]["ledger"][FORGED] = FORGED
    signed = sign_envelope(canonical_bytes(document), KeyRing(author.options.home).signer())
    folder.manifest.write_bytes(signed)
    main([command, *(["--runs", str(tmp_path / "runs")] if command == "list" else [str(folder.root)])])
    shown = "".join(capsys.readouterr())
    terminal.console.cache_clear()
    assert shown and not [line for line in shown.splitlines() if line.startswith("verdict")], shown


def test_a_first_cell_is_no_argument_of_the_row_before() -> None:
    r"""After ``\\``, LaTeX takes ``[…]`` for a length and ``*`` for a kind of line end, also on the next line."""
    rows = tuple((word(text), word("1")) for text in ("a", "[2pt]b", "*c", "d]"))
    table = latex(Table("key", "Title", "Caption.", (Column("one"), Column("two")), rows))
    assert "{[}2pt{]}b & 1 \\\\\n{*}c & 1 \\\\\nd{]} & 1 \\\\\n" in table
