"""Which program and machine computed a result; small enough to be kept with every trial."""

from __future__ import annotations

import functools
import os
import platform
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Set in the container image, where there is neither git nor a checkout.
COMMIT_VARIABLE = "PAIRSEARCH_COMMIT"

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
    """The commit of this program, `+` where it has changes, or `unknown`: what PAIRSEARCH_COMMIT says, else git."""
    if stated := os.environ.get(COMMIT_VARIABLE):
        return stated
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        # Fixed words and our own folder.
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603 - above
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"


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
