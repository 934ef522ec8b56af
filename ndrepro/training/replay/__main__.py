"""``python -m ndrepro.training.replay FOLDER``: see ``ndrepro.training.replay.replay``."""

import sys

from ndrepro.training.replay.replay import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
