"""Whether a data set can be read: ``python -m ndrepro.training.data NAME PATH``, before any run on it is started.

The very reader that a training process would use reads all of it, so that whatever would end a run there is
reported here. The last line of standard output is one JSON document,

    {"train_images": N, "test_images": N, "left_out": "...", "folders": [...]}   and exit code 0, or
    {"error": {"type", "message", "cure"}}                                        and exit code 1

Before it come lines {"read": [WHAT, DONE, TOTAL]}, a few a second, while images are read.

where ``left_out`` says what an image folder holds besides ("": nothing), and ``folders`` are all that were looked
into: while nothing in them changes, the answer stays the same; of a data set of the user's own ``own`` holds the
settings that describe its images (``ndrepro.protocol.experiment.own.OwnImages``). What is missing is downloaded, as the
training process would. It dies with its parent (NDREPRO_PARENT_PID).
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ndrepro.protocol.errors import to_record
from ndrepro.protocol.experiment.own import OWN_DATASET
from ndrepro.training.__main__ import die_with_parent
from ndrepro.training.data import DATASETS
from ndrepro.training.data.own_data.own_images import images_of
from ndrepro.training.data.readers.class_folders import LeftOut
from ndrepro.training.data.readers.images import IMAGES_READ, Images
from provenance.formats.digest_cache import cache_folder

# between two lines of how many images were read
_SECONDS = 0.2
# of the system and of this program, not of the data
_NOT_DATA = ("/proc", "/sys", "/dev", sys.prefix, sys.base_prefix)


def main(arguments: list[str]) -> int:
    """Read the data set named on the command line, and say how it went."""
    name, path = arguments
    die_with_parent()
    looked = Looked()
    sys.addaudithook(looked)
    try:
        data = DATASETS[name](Path(path))
    except Exception as error:
        print(f"\n{json.dumps({'error': to_record(error)})}")
        return 1
    answer = {
        "train_images": len(data.train.labels),
        "test_images": len(data.test.labels),
        "left_out": (data.left_out or LeftOut()).summary(),
        "folders": looked.folders(),
        **({"own": asdict(images_of(data))} if name == OWN_DATASET and isinstance(data, Images) else {}),
    }
    print(f"\n{json.dumps(answer)}")
    return 0


class Looked:
    """An audit hook (``sys.addaudithook``) that keeps the folders that were listed, and those of files opened.

    It prints how many images were read.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._printed = time.monotonic()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called by the interpreter for every event that it reports."""
        if event == IMAGES_READ and (now := time.monotonic()) - self._printed > _SECONDS:
            self._printed = now
            print(json.dumps({"read": arguments}), flush=True)
        if event not in ("open", "os.listdir", "os.scandir") or not isinstance(arguments[0], (str, os.PathLike)):
            return
        place = os.fspath(arguments[0])
        if isinstance(place, str):
            self._seen.add(os.path.dirname(place) if event == "open" else place)

    def folders(self) -> list[str]:
        """The folders of the data, sorted: neither this program's own, nor those of remembered digests."""
        own = {os.path.abspath(entry) for entry in sys.path}
        excluded = (*_NOT_DATA, str(cache_folder()))
        places = {os.path.abspath(place) for place in self._seen if os.path.isdir(place)} - own
        return sorted(place for place in places if not any(f"{place}/".startswith(f"{top}/") for top in excluded))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
