"""``python canonical_training.py FOLDER…``: digests of all operations as JSON, then the training each folder asks for.

Runs in any environment of the version matrix, under the canonical level's variables; one process, so that torch is
loaded once.
"""

import sys

import operation_bits

from ndrepro.training.__main__ import main

if __name__ == "__main__":
    operation_bits.main()
    sys.exit(max(main([folder]) for folder in sys.argv[1:]))
