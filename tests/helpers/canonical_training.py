"""``python canonical_training.py FOLDER…``: digests of all operations as JSON, then the training each folder asks for.

``FOLDER=STEPS`` stops a training after so many steps, and prints no digests. Runs in any environment of the version
matrix, under the canonical level's variables; one process, so that torch is loaded once.
"""

import itertools
import sys
from pathlib import Path

import operation_bits

from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.training.__main__ import main
from ndrepro.training.train_run import train


def first_steps(folder: RunFolder, steps: int) -> int:
    """Train ``steps`` steps of what the folder asks for; 0 where that stopped it, as asked."""
    after = itertools.count(1)
    outcome = train(Request.from_json(read_json(folder.request)), folder, lambda: next(after) >= steps, {})
    return int(outcome != "interrupted")


if __name__ == "__main__":
    asked = [word.partition("=") for word in sys.argv[1:]]
    if not all(steps for _, _, steps in asked):
        operation_bits.main()
    sys.exit(max(first_steps(RunFolder(Path(name)), int(steps)) if steps else main([name]) for name, _, steps in asked))
