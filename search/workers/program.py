"""How this program starts itself again: as this installation, whatever lies in the working directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def command(*arguments: str) -> list[str]:
    """The command line of another process of this program.

    Python itself would look for modules in the working directory first, where a user's own `random.py` or `models.py`
    may lie. `-P` keeps it from that, and the package's own `__main__.py` takes the package that it lies in.
    """
    safe = "-I" if sys.flags.isolated else "-P"
    return [sys.executable, safe, str(Path(__file__).parents[2] / "__main__.py"), *arguments]


def environment() -> dict[str, str]:
    """The environment of another process of this program: ours, less the entries of PYTHONPATH that mean a working
    directory: an empty one, as an unset variable in it leaves, a relative one, and the directory itself.
    """
    here = Path(os.curdir)
    kept = [
        entry
        for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if Path(entry).is_absolute() and not _same(Path(entry), here)
    ]
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return others | ({"PYTHONPATH": os.pathsep.join(kept)} if kept else {})


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False
