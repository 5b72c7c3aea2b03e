"""Which program and machine computed a result; small enough to be kept with every trial."""

from __future__ import annotations

import functools
import os
import platform
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

COMMIT_VARIABLE = "PAIRSEARCH_COMMIT"
"""The commit that results name where there is no git, as in the container image."""

PACKAGES = ("pairsearch", "torch", "numpy", "numba", "scipy", "scikit-learn", "optuna", "sqlalchemy")


def package_version(name: str) -> str:
    """The installed version of a distribution, or `absent`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def processor() -> str:
    """The processor's name, by which results that should agree and do not can be told apart."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git_commit() -> str:
    """Which source this program is: the commit of its checkout, `+` where that has changes, else the installed version.

    What PAIRSEARCH_COMMIT says goes first. A commit is ours only where git holds this very file, in a repository whose
    top folder is the parent of our packages: an installation may lie anywhere, also inside a repository of the user's.
    """
    stated = os.environ.get(COMMIT_VARIABLE, "")
    if stated not in ("", "unknown"):
        return stated
    here = Path(__file__).resolve()
    top = _git(here.parent, "rev-parse", "--show-toplevel")
    if top and Path(top).resolve() == here.parents[1] and _git(here.parent, "ls-files", here.name):
        described = _git(here.parent, "describe", "--always", "--dirty=+", "--abbrev=12")
        if described:
            return described
    return f"pairsearch {package_version('pairsearch')}"


def _git(folder: Path, *words: str) -> str:
    """What git says of a folder, nothing where it does not."""
    # GIT_DIR and its like name another repository, as inside a hook.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *words]
    try:
        # Fixed words and our own folder.
        done = subprocess.run(  # noqa: S603 - above
            command, env=environment, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: a path that is no text
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
    """Versions, git commit, host, processor, and what the training core ran on."""
    return _constant() | {"backend": backend, "device": device}
