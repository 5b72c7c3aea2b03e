"""Which program and machine computed a result, in a form small enough to be stored with every trial."""

from __future__ import annotations

import functools
import os
import platform
import re
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

COMMIT_VARIABLE = "PAIRSEARCH_COMMIT"
"""The commit to store with results where there is no git, as in the container image."""

PACKAGES = ("pairsearch", "torch", "numpy", "numba", "scipy", "scikit-learn", "optuna", "sqlalchemy")


def package_version(name: str) -> str:
    """Return the installed version of a distribution, or `absent`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def processor() -> str:
    """Return the processor's name, a first clue where results differ that should be equal."""
    try:
        found = re.search(
            r"^model name.*?:\s*(.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE
        )
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def git_commit() -> str:
    """Return the commit of the program's checkout, with `+` if it has local changes, else the installed version.

    PAIRSEARCH_COMMIT takes precedence. Git is believed only if it tracks this file, in a repository whose top folder is
    the parent of `search/`: an installation may lie inside a repository of the user's.
    """
    commit = os.environ.get(COMMIT_VARIABLE, "")
    if commit not in ("", "unknown"):
        return commit
    here = Path(__file__).resolve()
    top = _git(here.parent, "rev-parse", "--show-toplevel")
    if top and Path(top).resolve() == here.parents[2] and _git(here.parent, "ls-files", here.name):
        described = _git(here.parent, "describe", "--always", "--dirty=+", "--abbrev=12")
        if described:
            return described
    return f"pairsearch {package_version('pairsearch')}"


def _git(folder: Path, *words: str) -> str:
    """Run git in a folder and return what it prints, or an empty text where it fails."""
    # GIT_DIR and similar variables, which are set inside a hook, would name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *words]
    try:
        # The arguments are constants, and the folder is the program's own.
        done = subprocess.run(  # noqa: S603 - above
            command, env=environment, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: the path cannot be encoded
        return ""
    return done.stdout.strip()


@functools.cache
def _constant() -> dict[str, str]:
    packages = " ".join(f"{name} {package_version(name)}" for name in PACKAGES)
    return {
        "versions": f"python {platform.python_version()} {packages}",
        "git_commit": git_commit(),
        "host": socket.gethostname(),
        "processor": processor(),
    }


def provenance(backend: str, device: str) -> dict[str, str]:
    """Return versions, git commit, host and processor, with the backend and the device that trained."""
    return _constant() | {"backend": backend, "device": device}
