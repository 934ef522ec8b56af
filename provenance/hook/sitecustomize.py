"""Starts the observation of this Python process, then runs the ``sitecustomize`` that this file stands in front of.

Any Python may meet it, since PYTHONPATH is inherited: it is written in what Python 2.7 and all later ones understand.
The folder leaves ``sys.path``, so the program finds the path that it would have without observation; what the program
starts inherits the environment variable. An exception of the other ``sitecustomize`` is reported by Python as usual.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"
# (Python 2.7 has no annotations)

import os
import sys


def start_observation(folder):
    """Start the hook that is in ``folder``, where this Python is new enough and somebody waits for the result."""
    if sys.version_info < (3, 8) or not os.environ.get("NDREPRO_HOOK_OUT"):
        return
    sys.path.insert(0, folder)
    try:
        from ndrepro_hook.hook import start  # type: ignore[import-not-found]

        start.start()
    except Exception:
        pass  # the program matters more than its observation; whoever reads the folder finds no process file
    finally:
        sys.path.remove(folder)


def run_the_next():
    """Execute the ``sitecustomize`` further along ``sys.path``, if there is one, as if it had been found first."""
    if hasattr(sys, "maxint"):  # Python 2
        imp = __import__("im" + "p")
        try:
            found = imp.find_module("sitecustomize", sys.path)
        except ImportError:
            return
        imp.load_module("sitecustomize", *found)
        return
    from _frozen_importlib import module_from_spec

    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        spec = find_spec("sitecustomize", None) if find_spec else None
        if spec is None:
            continue
        # a folder of that name is no module
        if spec.loader is not None and hasattr(spec.loader, "exec_module"):
            own = sys.modules.get("sitecustomize")
            sys.modules["sitecustomize"] = module = module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
            except BaseException:
                if own is not None:
                    sys.modules["sitecustomize"] = own  # the import system takes it away
                raise
        return


if __name__ == "sitecustomize":
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _here]
    start_observation(_here)
    run_the_next()
