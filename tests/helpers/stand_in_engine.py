"""An `apptainer` that contains nothing: it runs the command that it is given, outside, with the variables it is given.

For what is decided around an engine, without one: which image was asked for, found, recorded, counted. What happens in
a real container, tests/engines asks.
"""

import stat
import sys
from pathlib import Path

from ndrepro.protocol.image_reference import PinnedImage
from provenance.formats.digest import file_digest

_PROGRAM = """#!{python}
import json, os, sys
if sys.argv[1:] == ["--version"]:
    sys.exit(print("apptainer version 1.4.5"))
inside = {{name.removeprefix("APPTAINERENV_"): value for name, value in os.environ.items()}}
image = next(place for place, word in enumerate(sys.argv) if word.endswith(".sif"))
if sys.argv[image + 1 :] == ["cat", "/.singularity.d/labels.json"]:
    label = open(sys.argv[image]).read().partition("label ")[2]
    sys.exit(print(json.dumps({{"ndrepro.image.identifier": label}} if label else {{}})))
assert sys.argv[image + 1] == "python3"
os.execve({inside!r}, [{inside!r}, *sys.argv[image + 2 :]], inside)
"""


def write_engine(folder: Path, python3: Path | str = sys.executable) -> Path:
    """The program in a folder of its own, which is to be put on PATH; ``python3`` is what images have by that name."""
    folder.mkdir()
    program = folder / "apptainer"
    program.write_text(_PROGRAM.format(python=sys.executable, inside=str(python3)), encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def write_image(path: Path, content: str = "an image") -> PinnedImage:
    """A file that stands for an image, pinned; what follows "label " in it is its label of an image's identifier."""
    path.write_text(content, encoding="utf-8")
    return PinnedImage("apptainer", str(path), f"sha256:{file_digest(path).sha256}")
