"""Network deconvolution, reproduced: experiments that are trained, recorded, signed, and run again.

``ndrepro.protocol``        what an experiment is, and the files through which the halves talk; stdlib only
``ndrepro.training``    the inner half: trains. Its only door is ``python -m ndrepro.training RUN_DIR``
``ndrepro.execution``   the outer half: makes environments, launches training, has every run recorded
``ndrepro.cli``         the command line: parses, calls one function, prints

The recorder is a package of its own, ``provenance``, which knows nothing of training.
"""

__version__ = "0.1.0"
