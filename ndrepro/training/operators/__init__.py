"""The operations that networks are made of, on fixed inputs: what an environment computes, forward and backward.

``cases`` are of the networks of the studies and of transformers; ``python -m ndrepro.training.operators FOLDER`` runs
them in any environment of the version matrix and writes every output and gradient into the folder.
"""
