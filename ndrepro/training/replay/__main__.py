"""The second process of this package: ``python -m ndrepro.training.replay FOLDER`` replays one step of a run, watched.

The parent has made FOLDER with ``replay.json`` in it (``ndrepro.protocol.replay_messages``) and has set every variable
that must precede the interpreter, as for a training. The process

1. dies with its parent, sets the determinism level, reads the data and builds the network, all as a training does;
2. resumes from the checkpoint that it was given, or from the start, by the same loop as a training that is resumed;
3. takes the step before the one that is asked for and keeps a checkpoint of its own there;
4. watches the step that is asked for, operation by operation, and writes ``record.json``;
5. waits for ``wanted.json``; where that names something, it goes back to its own checkpoint, takes the step again and
   writes the tensors to ``tensors.npz``.

Exit code 0 if all went well, 1 with ``error.json`` if not. It writes nowhere but in FOLDER.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from ndrepro.protocol.errors import to_record
from ndrepro.protocol.messages import EXIT_COMPLETED, EXIT_FAILED, read_json, write_json
from ndrepro.protocol.replay_messages import ReplayFolder, ReplayRequest
from ndrepro.training.__main__ import die_with_parent


def main(arguments: list[str]) -> int:
    """Replay what the folder named on the command line asks for; returns the exit code."""
    folder = ReplayFolder(Path(arguments[0]))
    die_with_parent()
    try:
        request = ReplayRequest.from_json(read_json(folder.request))
        # torch is loaded only here, after the parent's death would be noticed
        from ndrepro.training.replay.replay import replay

        replay(request, folder)
    except (Exception, KeyboardInterrupt) as failure:
        traceback.print_exc()
        write_json(folder.error, to_record(failure))
        return EXIT_FAILED
    return EXIT_COMPLETED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
