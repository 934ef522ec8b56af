"""Who else may put something in the place of a file or folder: by the rights on it, and on all that is above it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ndrepro.execution.sandbox.confinement import link_steps


def others_on_the_way(path: Path) -> str:
    """Who may exchange a folder or what leads to it, links included, in words; "" for nobody but this user and root.

    Raises SandboxError where there is nothing.
    """
    for step, _ in link_steps(path):
        if who := who_may_exchange(step):
            return who
    return who_may_write(path.resolve())


def who_may_exchange(step: Path) -> str:
    """Who may put something in the place of one step of a path, which is no link or is not followed; "" for nobody."""
    owner = step.lstat().st_uid
    if owner not in trusted_users():
        return f"{step} belongs to {user_name(owner)}"
    return next((who for above in step.parents if (who := who_may_write(above, kept_apart=True))), "")


def who_may_write(folder: Path, *, kept_apart: bool = False) -> str:
    """Which other user may write into a folder; "" for none.

    ``kept_apart``: only what others do not own matters there, which the sticky bit of ``/tmp`` keeps from them.
    """
    status = folder.stat()
    mode = status.st_mode
    if status.st_uid not in trusted_users():
        who = user_name(status.st_uid)
    elif kept_apart and mode & stat.S_ISVTX:
        return ""
    elif mode & stat.S_IWOTH:
        who = "everybody"
    elif mode & stat.S_IWGRP and not _is_own_group(status.st_gid):
        who = f"the group {status.st_gid}"
    else:
        return ""
    return f"{who} may write in {folder}"


def trusted_users() -> tuple[int, int]:
    """Root, and who runs this process."""
    return 0, os.geteuid()


def _is_own_group(group: int) -> bool:
    """Whether a group is this user's alone, as many systems make one for every user."""
    import grp
    import pwd

    try:
        name, entry = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return group == os.getegid() and entry.gr_name == name and set(entry.gr_mem) <= {name}


def user_name(number: int) -> str:
    """A user in words."""
    import pwd

    try:
        return f"the user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"the user {number}"
