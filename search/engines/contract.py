"""What an engine is: the scheduler of a cluster, which starts workers, counts them and ends them.

An engine knows no study and no database. `search.engines.fleet` asks it; `tests/engines/test_engine_contract.py` holds
every engine to what stands here. Another package brings its own by an entry point of the group
`pairsearch.engines`, whose name is what `--on` takes.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import ClassVar, NamedTuple

from pairsearch.search.common.errors import InputError, WorkError

GROUP = "pairsearch.engines"
"""The group of entry points that name engines."""


class EngineError(WorkError):
    """The engine refused, or did not answer; the message has its own words, whole."""


@dataclass(frozen=True, slots=True)
class Order:
    """Workers to start, all alike. There is no secret in it: engines show it to others.

    Args:
        words: what follows `pairsearch` on their command line.
        environment: the variables that they need beside those of their machine.
        folder: their working directory, for engines whose workers see the files of this machine.
        files: contents of the definitions that `words` name and of the files of their problems, by path relative to
            `folder` with slashes, for other engines: the working directory of their workers is to have them.
        name: a name for the work of up to 40 letters, digits and hyphens.
    """

    words: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    files: Mapping[str, bytes] = field(default_factory=dict)
    name: str = "pairsearch"

    def write_files(self, folder: Path) -> None:
        """Write the files into a folder."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class Count(NamedTuple):
    """How many workers of a submission wait for their place, and how many run."""

    pending: int
    running: int

    @property
    def alive(self) -> int:
        """Those that have not ended."""
        return self.pending + self.running


class Engine(ABC):
    """An engine at an address.

    Args:
        address: where it is, as `--at` gave it; None for its usual place. Addresses are stored, and have no secrets.
        options: its own options, as `--option NAME=VALUE` gave them; empty where workers are only counted and ended.

    Raises:
        InputError: an option is unknown, or has no possible value.
    """

    name: ClassVar[str]
    lasting: ClassVar[bool] = True
    """Whether its workers go on when this process ends, so that ids are worth storing."""

    def __init__(self, address: str | None, options: Mapping[str, str]) -> None:
        self.address = address
        self.options = dict(options)

    @property
    def local(self) -> bool:
        """Whether all its workers run on this machine, and so reach a SQLite file and a server on loopback."""
        return False

    @property
    def storage_file(self) -> str | None:
        """The path at which its workers find the database's URL without our doing, for PAIRSEARCH_STORAGE_FILE."""
        return None

    @abstractmethod
    def check(self, order: Order, workers: int) -> None:
        """Ask whether `submit` would be refused, as far as the engine says so without starting anything.

        Raises:
            EngineError: it would, or the engine cannot be reached.
        """

    @abstractmethod
    def submit(self, order: Order, workers: int) -> dict[str, int]:
        """Have workers started, and return how many belong to each native id, which add up to `workers`.

        A worker gets SIGTERM, or the end of its standard input, some time before it is killed, where the engine can do
        that. The engine does not start one again that ended by itself.

        Raises:
            EngineError: it was refused, and nothing runs.
        """

    @abstractmethod
    def count(self, ids: Collection[str]) -> dict[str, Count]:
        """Count the workers of each id that have not ended; ids that the engine has forgotten have none.

        Raises:
            EngineError: the engine did not answer.
        """

    @abstractmethod
    def stop(self, ids: Collection[str]) -> None:
        """End the workers of ids: those that wait at once, and those that run so that they can hand back.

        It returns before they have ended. Ids that have ended, or are forgotten, are no error.

        Raises:
            EngineError: the engine did not answer.
        """

    def last_line(self, ids: Collection[str]) -> str:
        """Return the last line that an ended worker of these ids has printed; empty where the engine does not know."""
        return ""


def engine_named(name: str, address: str | None = None, options: Mapping[str, str] | None = None) -> Engine:
    """Return the engine of a name; raises InputError where it cannot be imported or refuses options."""
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in known:
        raise InputError(f"--on {name!a}: no such engine: expected one of {', '.join(sorted(known))}")
    try:
        made: type[Engine] = known[name].load()
    except (ImportError, AttributeError) as error:
        ours = known[name].value.startswith("pairsearch.") and isinstance(error, ModuleNotFoundError)
        if ours and error.name:
            advice = f"needs the package {error.name}: `pip install 'pairsearch[{name}]'` brings it"
        else:
            advice = f"cannot be imported ({error}): install what {known[name].value} needs"
        raise InputError(f"--on {name} {advice}") from None
    return made(address, options or {})


def take(options: Mapping[str, str], *known: str, engine: str) -> dict[str, str]:
    """Return options of an engine that has only these; raises InputError for any other."""
    if others := sorted(options.keys() - set(known)):
        raise InputError(
            f"--option {others[0]}: {engine} has no such option: expected one of {', '.join(known)}"
        )
    return dict(options)


def amounts(options: Mapping[str, str], name: str) -> dict[str, float]:
    """Return an option NAME:AMOUNT,...; raises InputError for an amount that is none."""
    found = {}
    for text in filter(None, options.get(name, "").split(",")):
        what, _, amount = text.rpartition(":")
        found[what] = number(f"{name}={options[name]}", amount)
    return found


def number(option: str, text: str) -> float:
    """Return a number that is not negative; raises InputError for anything else, naming the option."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise InputError(f"--option {option}: {text!a} is no amount")
    return found


def is_here(host: str) -> bool:
    """Tell whether a host's address is one of this machine's: only to those can a socket be bound."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
