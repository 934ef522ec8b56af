"""The claim that the environment which a training run is repeated in has what its distributions list, and no more."""

from __future__ import annotations

from pathlib import Path

from ndrepro.execution.program_reproduction import environment_files
from ndrepro.execution.program_reproduction.asked_python import ask_python
from ndrepro.execution.runs.child_process import child_python
from ndrepro.protocol.messages import Request
from ndrepro.protocol.verdicts import ClaimCheck, claim
from ndrepro.text.plurals import in_room
from provenance.capture.distributions import search

_AS_LISTED = "what is installed is as the RECORDs list it"


def installed_claim(request: Request) -> tuple[ClaimCheck, ...]:
    """Equal RECORDs, as the record and the repetition have them, do not say that their files are there, nor whose are
    executed when Python starts; () for a container, whose image is another claim's.

    Raises StorageError for folders that are nested too deeply.
    """
    if request.container is not None:
        return ()
    python = Path(child_python(request))
    answer = ask_python(python)
    folders = [Path(place) for place in answer.searched if Path(place).is_dir()]
    found = environment_files.look(folders, search(answer.searched), (answer.executable or python,))
    words = in_room(["; ".join(found.concerns) or _AS_LISTED, *found.notes])
    return (claim("environment", None if found.concerns else True, words),)
