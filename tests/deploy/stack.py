"""The compose file as an engine reads it, and its command lines run without one."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import programs
import yaml

ROOT = Path(__file__).parents[2]
# What quoting, URLs, shells and compose's own interpolation would each trip over.
PITFALLS = r"""p@ss:w/rd #%40?&'"\ $HOME ${x} ü"""
ROLES = {"owner": "pairsearch", "worker": "pairsearch_worker", "reader": "pairsearch_reader"}
# Of a server that lives for one test session.
PASSWORDS = {secret: f"{PITFALLS} {secret}" for secret in ROLES}

TINY = """
name = "tiny"
problem = "pairs"
metric = "val_loss"
epochs = 2
folds = 2
[settings]
architecture = "b1"
sample_size = 40
validation_size = 8
train_pairs = 40
test_pairs = 40
[grid]
batch_size = [10, 20]
learning_rate = [1e-3]
weight_decay = [0.0]
[evaluation]
rounds = 2
epochs = 1
"""


VARIABLE = r"\$\{(?P<name>\w+)(?P<mode>:?[-?])(?P<rest>[^}]*)\}"


class Override(list[Any]):
    """A list that replaces the one of an earlier file, to which others are appended."""


class Loader(yaml.SafeLoader):
    """YAML with compose's tag `!override`."""


Loader.add_constructor("!override", lambda loader, node: Override(loader.construct_sequence(node)))


def parsed(text: str) -> dict[str, Any]:
    """A compose file, its variables not filled in."""
    found: dict[str, Any] = yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    return found


def merged(first: Any, second: Any) -> Any:
    """What compose makes of a part of two files."""
    if isinstance(first, dict) and isinstance(second, dict):
        both = {key: merged(first[key], second[key]) for key in first.keys() & second.keys()}
        return first | second | both
    if isinstance(first, list) and isinstance(second, list) and not isinstance(second, Override):
        return first + second
    return second


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Compose's `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}` and `$$`.

    With the colon an empty variable counts as missing. A missing required variable is a ValueError.
    """

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        found = variables.get(match["name"])
        if found or (found == "" and not match["mode"].startswith(":")):
            return found
        if match["mode"].endswith("?"):
            raise ValueError(f"{match['name']} {match['rest']}")
        return match["rest"]

    return re.sub(rf"\$\$|{VARIABLE}", value, text)


def resolved(part: Any, variables: Mapping[str, str]) -> Any:
    """A parsed compose file with its variables filled in."""
    if isinstance(part, dict):
        return {key: resolved(value, variables) for key, value in part.items()}
    if isinstance(part, list):
        return type(part)(resolved(value, variables) for value in part)
    return interpolated(part, variables) if isinstance(part, str) else part


def let_in() -> set[str]:
    """What of a checkout reaches the build of the image."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    return {rule.removeprefix("!") for rule in rules if rule.startswith("!")}


def write_secrets(folder: Path) -> None:
    """The files that `studies/deploy/secrets.sh` makes for the database, with passwords of the worst kind."""
    folder.mkdir()
    for secret, role in ROLES.items():
        password = PASSWORDS[secret]
        (folder / f"{secret}_password").write_text(f"{password}\n", encoding="utf-8")
        url = f"postgresql://{role}:{quote(password, safe='')}@postgres/pairsearch\n"
        # No network has the name `postgres` here: the server is found by its socket, which PGHOST names.
        (folder / f"{secret}_storage").write_text(url.replace("@postgres/", "@/"), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Stack:
    """Runs services' command lines on this machine, against a PostgreSQL that asks for the passwords."""

    compose: dict[str, Any]
    socket_folder: str
    scratch: Path

    def secret(self, service: str) -> Path:
        """The file that is mounted as the service's `/run/secrets/storage`."""
        (mounted,) = self.compose["services"][service]["secrets"]
        stated = self.compose["services"][service]["environment"]["PAIRSEARCH_STORAGE_FILE"]
        assert stated == f"/run/secrets/{mounted['target']}"
        return self.scratch / self.compose["secrets"][mounted["source"]]["file"]

    def environment(self, service: str) -> dict[str, str]:
        """What the container has."""
        stated: dict[str, str] = self.compose["services"][service]["environment"]
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("PG", "PAIRSEARCH"))
        }
        return inherited | {
            **stated,
            "PAIRSEARCH_STORAGE_FILE": str(self.secret(service)),
            "PGHOST": self.socket_folder,
            "PAIRSEARCH_DATA": str(self.scratch),
            # Nothing can be created below a device: Numba has to find another place, as it has to in a service
            # without the folder, and takes what earlier tests compiled.
            "NUMBA_CACHE_DIR": "/dev/null/cache",
        }

    def start(self, command: str) -> ForkServerProcess:
        """Start a command in the dashboard's container."""
        streams = ("dashboard.out", "dashboard.err")
        return programs.start_forked(
            self.scratch, *shlex.split(command), streams=streams, **self.environment("dashboard")
        )

    def run(self, service: str, *more: str, command: str | None = None, **changed: str) -> programs.Ended:
        """Run the service's command, or another in its container, to its end, in a forked process (`programs.run`).

        Args:
            more: appended to the command.
            changed: environment variables to set otherwise.
        """
        words = shlex.split(command or self.compose["services"][service]["command"])
        return programs.run(self.scratch, *words, *more, **self.environment(service) | changed)

    def login(self, secret: str, database: str = "pairsearch") -> dict[str, str]:
        """What psycopg connects with to be one of the roles."""
        return {
            "host": self.socket_folder,
            "user": ROLES[secret],
            "password": PASSWORDS[secret],
            "dbname": database,
        }
