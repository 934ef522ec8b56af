"""The inner half: builds a network, trains it, and writes what happened into the run folder.

It runs in a process of its own, in whatever environment the run asks for (down to Python 3.10 with torch
1.13.1), and never sees a signing key. Nothing imports it: its only door is ``python -m ndrepro.training
RUN_DIR``, and only files cross that boundary.

``layers``       network deconvolution: the layers, and how to put them into a network
``models``       the networks of the studies, plain, and ``build``, which gives them their normalisation
``data``         the data sets
``randomness``   named random streams, so that nothing random depends on the device or the library
"""
