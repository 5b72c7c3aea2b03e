"""Whether a folder of compiled kernels may be trusted.

Numba keeps them as pickles: loading one runs what it says, so whoever can write to the folder can run code as the
user who trains. A folder is trusted where only that user and the administrator can write, down to it from the
root of the file system. The one beside the kernels' own source is trusted as far as that source: who can change
one can change the other.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def trusted(folder: Path, source: Path) -> bool:
    """Whether nobody but this user and the administrator can have put anything into `folder`.

    Args:
        folder: the cache, which is there.
        source: folder of the kernels' source.

    Known limit: POSIX owners and modes alone count, not access control lists; on Windows every folder is trusted,
    as Numba's own choice there lies in the user's profile.
    """
    if os.name != "posix":
        return True
    folder, source = folder.absolute(), source.absolute()
    try:
        if folder.parent == source:
            return _writers(folder) <= _writers(source)
        kept = [folder, *folder.iterdir()]
        own = {("user", 0), ("user", os.getuid())}
        # Nobody can replace what another owns in a folder with the sticky bit, such as /tmp.
        return all(_writers(path) <= own for path in kept) and all(
            _writers(path) <= own or _sticky(path) for path in folder.resolve().parents
        )
    except OSError:
        return False


def _writers(path: Path) -> set[tuple[str, int]]:
    """Who may write: the owner (who can always let himself), a group with further members, everybody."""
    status = path.lstat()
    found = {("user", status.st_uid)}
    if stat.S_ISLNK(status.st_mode):
        # Its own mode says nothing; what it leads to could be anywhere.
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
    """Whether this is the user's own group: many systems give each user one, and let it write by default."""
    import grp  # noqa: PLC0415 - not on Windows
    import pwd  # noqa: PLC0415

    try:
        user = pwd.getpwuid(os.getuid())
        return user.pw_gid == group and set(grp.getgrgid(group).gr_mem) <= {user.pw_name}
    except KeyError:
        return False
