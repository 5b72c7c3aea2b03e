"""The compose file as an engine reads it, and its command lines run without one."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# What quoting, URLs, shells and compose's own interpolation would each trip over.
PASSWORD = r"""p@ss:w/rd #%40?&'"\ $HOME ${x} ü"""  # noqa: S105 - of a server that lives for one test session

TINY = """
name = "tiny"
architecture = "b1"
epochs = 2
folds = 2
sample_size = 40
validation_size = 8
[grid]
batch_size = [10, 20]
learning_rate = [1e-3]
weight_decay = [0.0]
[evaluation]
rounds = 2
train_pairs = 40
test_pairs = 40
epochs = 1
"""


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Compose's `${NAME:-default}` and `${NAME:?message}`; a missing required variable is a ValueError."""

    def value(match: re.Match[str]) -> str:
        found = variables.get(match["name"])
        if found:
            return found
        if match["mode"] == "?":
            raise ValueError(f"{match['name']} {match['rest']}")
        return match["rest"]

    return re.sub(r"\$\{(?P<name>\w+):(?P<mode>[-?])(?P<rest>[^}]*)\}", value, text)


def resolved(part: Any, variables: Mapping[str, str]) -> Any:
    """A parsed compose file with its variables filled in."""
    if isinstance(part, dict):
        return {key: resolved(value, variables) for key, value in part.items()}
    if isinstance(part, list):
        return [resolved(value, variables) for value in part]
    return interpolated(part, variables) if isinstance(part, str) else part


@dataclass(frozen=True, slots=True)
class Stack:
    """Runs services' command lines on this machine, against a PostgreSQL that asks for the password."""

    compose: dict[str, Any]
    socket_folder: str
    scratch: Path

    def environment(self, service: str) -> dict[str, str]:
        """What the container has; the database is found by its socket, as no network has the name `postgres`."""
        stated: dict[str, str] = self.compose["services"][service]["environment"]
        url = stated["PAIRSEARCH_STORAGE"]
        assert "@postgres/" in url
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return inherited | {
            **stated,
            "PAIRSEARCH_STORAGE": url.replace("@postgres/", "@/"),
            "PGHOST": self.socket_folder,
            "PAIRSEARCH_DATA": str(self.scratch),
            # Nothing can be created below a device: Numba has to find another place, as it has to in a service
            # without the volume, and takes what earlier tests compiled.
            "NUMBA_CACHE_DIR": "/dev/null/cache",
        }

    def run(
        self, service: str, *more: str, command: str | None = None, **changed: str
    ) -> subprocess.CompletedProcess[str]:
        """The service's command, or another in its container, to its end.

        Args:
            more: appended to the command.
            changed: environment variables to set otherwise.
        """
        words = shlex.split(command or self.compose["services"][service]["command"])
        return subprocess.run(
            [sys.executable, "-m", "search", *words, *more],
            cwd=ROOT,
            env=self.environment(service) | changed,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
