"""``python -m ndrepro.training.operators FOLDER``: see ``ndrepro.training.operators.measure``."""

import sys

from ndrepro.training.operators.measure import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
