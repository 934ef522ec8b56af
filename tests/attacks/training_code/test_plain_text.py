"""Attack: files whose reader sees something else, or less, than what is executed. Whatever is not plain text counts."""

from __future__ import annotations

import bz2
import io
import json
import os
import pickle
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from ndrepro.text.plain_text import reading_obstacles

HONEST = b"def accuracy(): return 0.6123\n"
CELLS = {"cells": [{"cell_type": "code", "source": "1", "metadata": {}, "outputs": []}], "nbformat": 4}


def archive(before: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("__main__.py", "def accuracy(): return 0.9999\n")
    return before + stream.getvalue()


def tape() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        made.addfile(tarfile.TarInfo("evil.py"), io.BytesIO())
    return stream.getvalue()


NOT_PLAIN: dict[str, tuple[bytes, str]] = {
    "data.csv": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n",
        "a pointer of Git LFS in the place of a file",
    ),
    "run.md": (b"python evaluate.py \\  \n  --clean\n", "a blank at the end in line 1"),
    "train.py": (archive(HONEST), "not text"),
    "labels.bin": (archive(), "not text"),
    "code.tar": (tape(), "not text"),
    "weights.bin": (pickle.dumps(Path("a"), protocol=2), "not text"),
    "behind.txt": (HONEST + pickle.dumps(Path("a"), protocol=1), "not text"),
    "weights.bz2": (bz2.compress(b"1"), "not text"),
    "small.txt": (zlib.compress(b"1", wbits=9), "not text"),
    "module.wasm": (b"\0asm\1\0\0\0", "not text"),
    "module.bc": (b"BC\xc0\xde", "not text"),
    "run.sh": (b"exit 0\0\n", "not text"),
    "late.txt": (HONEST * 200 + b"\0", "a control character in line 201"),
    "latin.py": ("# é\n".encode("latin-1"), "not text"),
    "great.csv": (b"1,2\n" * (1 << 18) + b"3", "larger than 1 MiB"),
    "lines.py": (HONEST + b"# nothing here\revil()\n", "a carriage return in line 2"),
    "statement.py": (b"correct = count \\\r\r\n    - wrong\r\n", "a carriage return in line 1"),
    "ended.py": (b"correct = count \\ \n    - wrong\n", "a blank at the end in line 1"),
    "string.py": (b'"""0.9999    \n"""\n', "a blank at the end in line 1"),
    "mixed.py": (b"a = 1\r\nb = 2\n", "a carriage return in line 1"),
    "named.py": (b"#!/usr/bin/env -S bash # not python3\r\n", "a carriage return in line 1"),
    "continued.sh": (b"python train.py \\ \n  --epochs 90\n", "a blank at the end in line 1"),
    "shell.py": (b"#!/bin/sh\nexit\r\n", "a carriage return in line 2"),
    "document.sh": (b"cat <<EOF\n1\nEOF \npython train.py\n", "a blank at the end in line 3"),
    "document.txt": (b"cat <<-EOF\n\t1\n        EOF\n\tEOF", "tabs among blanks in line 3"),
    "mode.py": (b"if mode == 'full\trun': pass\n", "tabs among blanks in line 1"),
    "exit.sh": (b"exit\r\nevil\r\n", "a carriage return in line 1"),
    "indented.py": (b"if False:\n    pass\n    \fevil()\n", "a control character in line 3"),
    "escape.py": (b"a = 1 # \x1b[8m\n", "a control character in line 1"),
    "turned.py": ("# \u202e nothing\n".encode(), "letters or invisible characters beyond ASCII in line 1"),
    "filler.py": ("\u3164 = 0.9999\n".encode(), "letters or invisible characters beyond ASCII in line 1"),
    "selected.py": ("accuracy\ufe00 = 0.9999\n".encode(), "letters or invisible characters beyond ASCII in line 1"),
    "vowel.py": ("accuracy\u17b4 = 0.9999\n".encode(), "letters or invisible characters beyond ASCII in line 1"),
    "space.py": ('a = "\u200b"\n'.encode(), "letters or invisible characters beyond ASCII in line 1"),
    "mark.py": ("\ufeffa = 1\n".encode(), "letters or invisible characters beyond ASCII in line 1"),
    "cyrillic.py": ("\n\u0430ccuracy = 0.9999\n".encode(), "letters or invisible characters beyond ASCII in line 2"),
    "combined.py": ("e\u0301 = 0.9999\n".encode(), "letters or invisible characters beyond ASCII in line 1"),
    "ordinal.py": ("ª = 0.9999\n".encode(), "letters or invisible characters beyond ASCII in line 1"),
    "dash.py": ("x = 'a\u2013b'\n".encode(), "signs beyond ASCII in line 1"),
    "coded.py": (b"#!/usr/bin/env python3\n# -*- coding: utf-7 -*-\n# +AAo-evil()\n", "another encoding in line 1"),
    "coded.txt": (b"# coding: utf-7\n# +AAo-evil()\n", "another encoding in line 1"),
    "own.py": (b"# coding=utf8_evil\n", "another encoding in line 1"),
    "wide.py": (HONEST + b"#" + b"x" * 200 + b"\n", "more than 200 columns in line 2"),
    "tabs.py": (b"\t" * 25 + b"b\n", "more than 200 columns in line 1"),
    "gap.py": (b"a = 1" + b" " * 60 + b"; a = 2\n", "a wide gap in line 1"),
    "far.sh": (b"python train.py\n" + b" " * 80 + b"cp best.json results.json\n", "a wide gap in line 2"),
    "tall.py": (b"a = 1" + b"\n" * 42 + b"a = 2\n", "a wide gap in line 2"),
    "gaps.py": (b"a = [0.4," + b" " * 50 + b"0.6]" + b" " * 50 + b"; a = 2\n", "a wide gap in line 1"),
    "signs.py": (b"a = 1\n" + (b"\n" * 20 + b"#\n") * 2 + b"a = 2\n", "a wide gap in line 2"),
    "executed.ipynb": (json.dumps(CELLS).encode(), "a notebook, whose metadata are not shown"),
    "great.ipynb": (b" " * (2 << 20), "a notebook, whose metadata are not shown"),
    "any.IPYNB": (b"{}", "a notebook, whose metadata are not shown"),
    "notebook.json": (json.dumps(CELLS).encode(), "a notebook, whose metadata are not shown"),
    "escaped.txt": (rb' {"\u0063ells": []}', "a notebook, whose metadata are not shown"),
    "earlier.json": (b'{"worksheets": []}', "a notebook, whose metadata are not shown"),
    "nested.json": (b'{"a":\n' * 100_000, "a notebook, whose metadata are not shown"),
}
PLAIN: dict[str, bytes] = {
    "empty": b"",
    "train.py": HONEST,
    "windows.py": HONEST.replace(b"\n", b"\r\n") * 3,
    "started.py": b"#!/usr/bin/env python3\r\na = 1\r\n",
    "options.py": b"#!/usr/bin/python3.11 -IS\r\n",
    "Makefile": b"all:\n\tpython train.py\n",
    "coded.py": b"#!/usr/bin/env python3\n# -*- coding: utf-8 -*-\n",
    "README.md": b"A line  \nand another\n",
    "vim.py": b"# vim: set fileencoding=US-ASCII :\n",
    "third.py": b"\n\n# coding: latin-1\n",
    "named.py": "# Müller & Šimek: ±1 → §2\n".replace("Š", "S").encode(),
    "broad.py": b"#" * 200 + b"\n\tpass",
    "table.csv": b"a,b\n1,2\n",
    "results.json": b'{"accuracy": {"cells": 1}}',
    "list.json": b'["cells"]',
    "broken.json": b'{"cells":',
    "pickled.txt": pickle.dumps([1, 2.5, "a"], protocol=0),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_is_not_seen_whole_is_known(tmp_path: Path, name: str) -> None:
    content, words = NOT_PLAIN[name]
    (tmp_path / name).write_bytes(content)
    assert words in [*map(str, reading_obstacles(tmp_path / name))]


@pytest.mark.parametrize("name", PLAIN)
def test_plain_text_is_seen_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PLAIN[name])
    assert reading_obstacles(tmp_path / name) == ()


def test_a_link_counts_by_where_it_leads_and_nothing_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_bytes(archive())
    (tmp_path / "link.py").symlink_to("code.py")
    os.mkfifo(tmp_path / "pipe")
    assert [*map(str, reading_obstacles(tmp_path / "link.py"))] == ["not text"]
    for name in ("pipe", "missing"):
        assert [*map(str, reading_obstacles(tmp_path / name))] == ["cannot be read"]
