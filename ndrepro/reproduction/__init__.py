"""A run that is run again: what is planned, what its repetitions show, and the signed verdict.

    verified_copy ──> Original ── training, program ──> Reproduction, attested

``ndrepro.api.reproduce`` chooses by the kind of run. Nothing is printed.
"""
