"""The variables that an engine's own command gets: what it does for an image of somebody else's, it does with them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

from provenance.git.helper_programs import helper_variables

# who asks, where files are, how to reach a registry, and which GPUs and job a scheduler gave, without its token
_KEPT = re.compile(
    r"PATH|LD_LIBRARY_PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TERM|TMPDIR|XDG_\w+|DBUS_SESSION_BUS_ADDRESS|"
    r"(?i:(https?|ftp|all|no)_proxy)|SSL_CERT_(FILE|DIR)|CUDA_VISIBLE_DEVICES|SLURM_(?!JWT)\w+"
)
# where podman keeps its files
OF_PODMAN = (
    *("CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF"),
    *("STORAGE_DRIVER", "STORAGE_OPTS"),
)


def engine_variables(own: Collection[str] = ()) -> dict[str, str]:
    """Those of this process that are no secrets of other programs, and its ``own``, the engine's."""
    given = helper_variables(os.environ)
    return {name: value for name, value in given.items() if name in own or _KEPT.fullmatch(name)}
