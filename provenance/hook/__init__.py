"""The start-up hook: observes one Python process of a recorded program from inside, and changes nothing of it.

A copy of this folder lies, under the name ``ndrepro_hook``, beside ``sitecustomize.py`` in a folder that is first on
PYTHONPATH (``provenance.observation.preparation`` makes it). So it runs in every Python process that the program
starts, under any Python from 3.8 on; older ones only run their own ``sitecustomize``. It imports nothing of this
project but what is copied with it, and of the standard library only what every interpreter has loaded already; more
once the program has imported torch. A program that has a ``json.py`` or ``random.py`` of its own still imports that.

In: two environment variables.

    NDREPRO_HOOK_OUT     an existing folder for what follows; without it nothing happens
    NDREPRO_HOOK_TRAIL   ``auto`` (also where it is missing), ``off`` or ``every=K``: the numerical trail of torch

Out, in that folder, each name with the process's number and start in nanoseconds:

    process-PID-NS.json      the process, written when it starts, at its first optimizer step, and when it ends
    opened-PID-NS.jsonl      the files that it opened, each once for each way of opening, a line each
    trail-PID-NS-K.bin       the numerical trail (``provenance.formats.trail``); one for each set of tensors followed

A process that ends by ``os._exit``, a signal or a crash leaves what was written so far, without an end. A forked
process has files of its own; where ``multiprocessing`` forked it, its end is written too. Not observed: processes
started with -I, -E or -S or without these variables, what libraries open without Python, code in a subinterpreter.

No exception of this code reaches the program: the first one of each part is noted in the process file, and that part
stops. Nothing is printed, and no random generator is asked for a number.
"""
