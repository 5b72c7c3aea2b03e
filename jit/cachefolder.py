"""Decides whether a folder of compiled kernels may be trusted.

Numba keeps them as pickles, and loading a pickle can run any code: whoever can write to the folder can run code as the
user who trains. A folder is trusted where only that user and the administrator can write to it and to all folders above
it. A folder beside the kernels' source is trusted as far as the source is, since changing either runs code.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def trusted(folder: Path, source: Path) -> bool:
    """Whether only this user and the administrator can have written to `folder`.

    Only POSIX owners and modes are looked at, not access control lists. On Windows every folder is trusted, as Numba's
    own choice there lies in the user's profile.
    """
    if os.name != "posix":
        return True
    folder, source = folder.absolute(), source.absolute()
    try:
        if folder.parent == source:
            return _writers(folder) <= _writers(source)
        kept = [folder, *folder.iterdir()]
        own = {("user", 0), ("user", os.getuid())}
        # In a folder with the sticky bit, such as /tmp, nobody can replace what another user owns.
        return all(_writers(path) <= own for path in kept) and all(
            _writers(path) <= own or _sticky(path) for path in folder.resolve().parents
        )
    except OSError:
        return False


def _writers(path: Path) -> set[tuple[str, int]]:
    """Who can write to a path: its owner, who can change the mode, a group with further members, everybody."""
    status = path.lstat()
    found = {("user", status.st_uid)}
    if stat.S_ISLNK(status.st_mode):
        # The mode of a link says nothing about where it leads.
        return found | {("everybody", 0)}
    if status.st_mode & stat.S_IWGRP and not _private(status.st_gid):
        found.add(("group", status.st_gid))
    if status.st_mode & stat.S_IWOTH:
        found.add(("everybody", 0))
    return found


def _sticky(path: Path) -> bool:
    status = path.lstat()
    return bool(status.st_mode & stat.S_ISVTX) and status.st_uid in (0, os.getuid())


def _private(group: int) -> bool:
    """Whether a group has no other member: many systems give each user such a group, with the right to write."""
    import grp  # noqa: PLC0415 - not on Windows
    import pwd  # noqa: PLC0415

    try:
        user = pwd.getpwuid(os.getuid())
        return user.pw_gid == group and set(grp.getgrgid(group).gr_mem) <= {user.pw_name}
    except KeyError:
        return False
