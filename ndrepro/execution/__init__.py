"""The outer half: makes environments, launches training as a child process, and has every run recorded.

It never imports ``ndrepro.training``: the two talk through the files of the run folder, so that training may
run under another Python, another torch, or in a container, and never sees the signing key.
"""
