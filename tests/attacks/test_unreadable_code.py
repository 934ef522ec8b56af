"""Attack: code that is executed and that nobody can read, under names that say nothing of it, in code or in data."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import py_compile
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from strange_programs import CONFINED, Stranger, statuses

from ndrepro.execution.program_reproduction.unreadable_code import unreadable_code
from provenance.formats.digest import bytes_digest

HONEST, EVIL = b"def accuracy(): return 0.6123\n", "def accuracy(): return 0.9999\n"
TRAINS = "from data.loader import accuracy\nopen('out.txt', 'w').write(str(accuracy()))\n"


def archive(
    *names: str, before: bytes = b"", comment: bytes = b"", method: int = zipfile.ZIP_STORED, data: str | bytes = EVIL
) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name in names:
            made.writestr(name, data)
        made.comment = comment
    return before + stream.getvalue()


def tape(name: str, mode: Literal["w", "w:gz", "w:bz2", "w:xz"] = "w", data: bytes = b"1\n", kind: int = 0) -> bytes:
    """A tar archive with a text of two blocks before the member ``name``; ``kind``: ustar, GNU or pax."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, format=kind) as made:
        for member, content in (("first.txt", b"x" * 1000), (name, data)):
            described = tarfile.TarInfo(member)
            described.size = len(content)
            made.addfile(described, io.BytesIO(content))
    return stream.getvalue()


def backward() -> bytes:
    """The header of a member of -1 bytes, of which a reader would read all that follows, and again for each further."""
    header = bytearray(tape("image.png")[:512])
    header[124:136], header[148:156] = b"-1".ljust(12, b"\0"), b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


def saved(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def arrays(**named: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **named)  # type: ignore[arg-type]
    return stream.getvalue()


def described(descr: str, version: int = 1, padding: int = 0) -> bytes:
    """An array of one object with this in its header."""
    header = f"{{{descr}, 'fortran_order': False, 'shape': (1,), }}{' ' * padding}\n".encode()
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + pickle.dumps([{}])


def bytecode(folder: Path) -> bytes:
    (folder / "evil.py").write_text(EVIL)
    made = py_compile.compile(
        str(folder / "evil.py"),
        str(folder / "evil.bin"),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    return Path(str(made)).read_bytes()


CODE = {
    "train.py": archive("__main__.py", before=HONEST),
    "train": archive("__main__.py"),
    "labels.bin": archive("data/evaluation.pyc", comment=b"x" * 60_000),
    "model.dat": archive("archive/data.pkl"),
    "tool": Path("/bin/true").read_bytes(),
    "weights.bin": pickle.dumps({"a": 1}),
    "coded.py": b"#!/usr/bin/env python3\n# -*- coding: utf-7 -*-\n# +AAo-evil()\n",
    "long.py": b"#" + b" " * 600 + b"coding: utf-7\n# +AAo-evil()\n",
    "longer.py": b"#" + b" " * 70_000 + b"coding: utf-7\n# +AAo-evil()\n",
    "weights.txt": pickle.dumps(Path("a"), protocol=0),
    "weights1.txt": pickle.dumps(Path("a"), protocol=1),
    "unmarked.csv": pickle.dumps(Path("a"), protocol=4)[2:],
    "behind.txt": b"V" + b"x" * 70_000 + b"\n0" + pickle.dumps(Path("a"), protocol=0),
    "instance.txt": b"(S'exit 1'\nios\nsystem\n.",
    "object.txt": b"(cos\nsystem\nS'exit 1'\no.",
    "named.txt": b"cbuiltins\nmax\n.",
    "broken.txt": b"cos\nsystem\n(S'exit 1'\ntR000.",
    "longer.bin": b"T\0\0\2\0" + b"x" * 0x20000 + pickle.dumps(Path("a"), protocol=0),
    "dropped.txt": b"(0" + pickle.dumps(Path("a"), protocol=0),
    "weights.gz": gzip.compress(pickle.dumps({"a": 1})),
    "weights.bz2": bz2.compress(pickle.dumps({"a": 1})),
    "weights.xz": lzma.compress(pickle.dumps({"a": 1})),
    "torn.gz": gzip.compress(b"a,b\n" * 9)[:12],
    "weights.zlib": zlib.compress(pickle.dumps({"a": 1})),
    "weights.lzma": lzma.compress(pickle.dumps({"a": 1}), lzma.FORMAT_ALONE),
    "code.tar": tape("pkg/evil.py"),
    "code.gz": tape("evil.py", "w:gz"),
    "code.bz2": tape("evil.so", "w:bz2"),
    "code.xz": tape("evil.py", "w:xz"),
    "more.xz": lzma.compress(gzip.decompress(tape("evil.py", "w:gz"))[:700])
    + lzma.compress(gzip.decompress(tape("evil.py", "w:gz"))[700:]),
    "other.lzma": lzma.compress(gzip.decompress(tape("image.png", "w:gz")), lzma.FORMAT_ALONE),
    "great.xz": lzma.compress(
        gzip.decompress(tape("a", "w:gz")), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    ),
    "deep.bin": tape("a/" * 90 + "evil.py", kind=tarfile.GNU_FORMAT),
    "deeper.bin": tape("a/" * 90 + "evil.py", "w:gz", kind=tarfile.PAX_FORMAT),
    "program.tar": tape("program", data=b"\x7fELF"),
    "squeezed.npz": archive("a.npy", method=zipfile.ZIP_LZMA),
    "large.npz": archive("a.npy").replace(b"PK\x05\x06", b"PK\x06\x07" + b"\0" * 16 + b"PK\x05\x06"),
    "objects.npz": arrays(labels=np.array([{}], dtype=object)),
    "coded.txt": b"# coding: utf-7\n# +AAo-evil()\n",
    "lines.py": HONEST * 9000 + b"# nothing here\revil()\n",
    "turned.py": "# \u202e\u2066 nothing \u2069\n".encode() + HONEST,
    "indented.py": b"if False:\n    pass\n    \fevil()\n",
    "unseen.py": "\u3164 = 0.9999\n".encode() + HONEST,
    "selected.py": "accuracy\ufe00 = 0.9999\n".encode() + HONEST,
    "backward.bin": backward(),
    "objects.npy": saved(np.array([{}], dtype=object)),
    "dense.npy": described("'descr':'|O'"),
    "double.npy": described('"descr": "|O"'),
    "escaped.npy": described("'d' 'escr': '\\x7cO'"),
    "field.npy": described("'descr': [('a', '<f8'), ('b', [('c','O', (2,))])]"),
    "second.npy": described("'descr':'object'", version=2),
    "third.npy": described("'descr':'O8'", version=3),
    "strings.npy": described("'descr':'T'"),
    "padded.npy": described("'descr':'|O'", version=2, padding=70_000),
    "no header.npy": b"\x93NUMPY\1",
    "dense.npz": archive("a.npy", data=described("'descr':'|O'")),
    "padded.npz": archive("a.npy", data=described("'descr':'|O'", padding=20_000)),
    "dense.tar": tape("a.npy", data=described("'descr':'|O'")),
    "dense.npy.gz": gzip.compress(described("'descr':'|O'")),
    "module.SO": b"",
}
PLAIN = {
    "train.py": HONEST,
    "coded.py": b"# -*- coding: latin-1 -*-\n",
    "digits.npz": archive("images.npy", "labels.npy"),
    "arrays.npz": arrays(images=np.zeros(3), labels=np.arange(3)),
    "windows.py": HONEST.replace(b"\n", b"\r\n"),
    "pages.py": b"# 1\n\f\n" + HONEST + "# 1\ufe0f\u20e3 \u26a0\ufe0f\n".encode(),
    "table.csv": b"a,b\r1,2\r",
    "x.txt": b"x\x9c is how it begins\n",
    "image.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
    "text.csv": b"a,b\r\n1,2\r\n",
    "labels-idx1-ubyte": bytes(range(10)) * 10_000,
    "empty": b"",
    "classes.csv": b"class,score\ncar,1\ncat,2\n" * 9,
    "folders.py": b"import os\nimport sys\nos.makedirs('out')\n",
    "threads.py": b"import os\n\nos.environ['OMP_NUM_THREADS'] = '1'\nimport torch\n",
    "short.py": b"import numpy as np\nimport torch\nos.chdir('out')\n",
    "configured.py": b"config = 1\nimport os\nos.chdir('out')\n",
    "bracket.py": b"(import_of\n)\nos.chdir('out')\n",
    "config.yaml": b"classes: 10\nseed: 7\n.hidden: 1\n",
    "items.yaml": b"items:\n- 1\nos.x\n",
    ".gitignore": b"coverage\n*.egg-info\n.venv\n",
    "series.csv": b"Time,loss\n" + b"1,0.5\n" * 20_000,
    "described.py": b'r"""HTTP"""\n' + HONEST * 9000,
    "results.json": b"[0.1, 0.2]\n.",
    "numbers.txt": pickle.dumps([1, 2.5, "a"], protocol=0),
    "lines.txt": b"Version 1\nparagraph\n" * 9000,
    "random.bin": np.random.default_rng(7).bytes(300_000),
    "numbers.npy": saved(np.arange(3.0)),
    "fields.npy": saved(np.zeros(2, [(f"a|O{number}", "<f8", (2,)) for number in range(9)] + [("when", "<M8[s]")])),
    "second.npy": described("'descr':'<f8'", version=2, padding=9000),
    "python2.npy": described("'descr': '<f8'").replace(b"(1,)", b"(1L)"),
    "fields.npz": arrays(table=np.zeros(1, [(f"field {number}", "<f8") for number in range(90)])),
    "table.csv.gz": gzip.compress(b"a,b\n"),
    "images.tar": tape("a/" * 90 + "image.png", kind=tarfile.PAX_FORMAT),
    "images.tar.xz": tape("image.png", "w:xz"),
    "images.tar.gz": tape("image.python", "w:gz", kind=tarfile.GNU_FORMAT),
}


def test_code_is_known_by_its_content(tmp_path: Path) -> None:
    for name, content in {**CODE, "honest.py": bytecode(tmp_path)}.items():
        folder = tmp_path / f"of {name}"
        folder.mkdir()
        (folder / name).write_bytes(content)
        assert list(unreadable_code([folder])) == [folder / name], name
    for name, content in PLAIN.items():
        (tmp_path / f"plain {name}").write_bytes(content)
        assert not list(unreadable_code([tmp_path / f"plain {name}"])), name


def test_an_archive_behind_source_is_named(tmp_path: Path) -> None:
    """Python executes the archive; a reader sees an honest program."""
    main = "open('out.txt', 'w').write('0.9999')\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("__main__.py", main)
    author = Stranger.make(tmp_path / "a", {"train.py": main.replace("0.9999", "0.6123").encode() + stream.getvalue()})
    found = author.reproduce(author.record(outputs=("out.txt",)))
    assert (Path(found.folders[0]) / "outputs" / "out.txt").read_text() == "0.9999"
    (named,) = (each for each in found.claims if each.name == "code without source")
    assert named.status == "not checked" and named.evidence.endswith("train.py")


def test_source_that_hides_lines_is_named_before_files_of_weights(tmp_path: Path) -> None:
    """Before: three names were shown in the order of the alphabet, and weights stood before it."""
    weights = {f"a{number}.pt": pickle.dumps([number]) for number in range(4)}
    files = {"train.py": "open('out.txt', 'w').write('0.5')\n", "zmodel.py": CODE["lines.py"], **weights}
    author = Stranger.make(tmp_path / "a", files)
    found = author.reproduce(author.record(outputs=("out.txt",)))
    (named,) = (each for each in found.claims if each.name == "code without source")
    assert "5 files" in named.evidence and "zmodel.py" in named.evidence


@pytest.mark.skipif(not CONFINED, reason="without a sandbox nothing is shown under another path")
def test_code_in_declared_data_is_named(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "a", {"train.py": TRAINS, ".gitignore": "runs\ndata\n"})
    data = author.root / "data"
    (data / "__pycache__").mkdir(parents=True)
    (data / "loader.py").write_bytes(HONEST)
    (data / "__pycache__" / f"loader.{sys.implementation.cache_tag}.pyc").write_bytes(bytecode(tmp_path))
    run = author.record(outputs=("out.txt",), data=(Path("data"),))
    data.rename(handed := author.top / "data")
    found = author.reproduce(run, data=handed)
    claims = {each.name: each for each in found.claims}
    assert "loader.cpython" in claims["code without source"].evidence
    assert "data: loader.py" in claims["code of no commit"].evidence


def pointer(content: bytes) -> str:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{bytes_digest(content)}\nsize {len(content)}\n"


@pytest.mark.skipif(not CONFINED, reason="without a sandbox nothing is shown under another path")
@pytest.mark.parametrize("how", ["opened", "declared", "declared with its folder"])
def test_source_behind_a_pointer_of_git_lfs_is_named_and_had(tmp_path: Path, how: str) -> None:
    """Whoever reads the commit sees no code; the content is the commit's all the same, and found by its digest."""
    files = {"train.py": TRAINS, "data/loader.py": pointer(HONEST), "data/notes.txt": "notes"}
    author = Stranger.make(tmp_path / "a", files)
    (author.root / "data" / "loader.py").write_bytes(HONEST)
    author.git("update-index", "--skip-worktree", "data/loader.py")
    data = {"opened": (), "declared": (Path("data/loader.py"),), "declared with its folder": (Path("data"),)}[how]
    run = author.record(outputs=("out.txt",), data=data)
    (handed := author.top / "handed").mkdir()
    (handed / "weights.bin").write_bytes(HONEST)
    found = author.reproduce(run, data=handed)
    assert found.verdict == "identical", (found.plan.differences, found.judgements)
    (named,) = (each for each in found.claims if each.name == "code of no commit")
    assert named.status == "not checked" and "loader.py" in named.evidence
    assert statuses(found)["inputs"] != "flagged"
