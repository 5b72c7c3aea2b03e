"""A user's folder: a file with a problem, a definition beside it, and a database."""

from __future__ import annotations

import json
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import programs
import tiny

from pairsearch.search.common.machine import LEASE_SECONDS, Machine
from pairsearch.search.database.connection import Database, open_database
from pairsearch.search.ledger.studies import StoredStudy, get_study
from pairsearch.search.setup.opening import check, open_to_work
from pairsearch.search.workers import working
from pairsearch.search.workers.tally import Tally

RAW: dict[str, Any] = {
    "name": "mine",
    "problem": "mine.py:fit",
    "metric": "loss",
    "folds": 3,
    "epochs": 2,
    "grid": {"x": [1, 2]},
    "evaluation": {"rounds": 2},
}
FIT = """
def fit(params, run, report):
    for epoch in range(1, run.epochs + 1):
        report(epoch, loss=(params["x"] + run.stream("noise") / 2**32) / epoch)
"""
"""A problem without any framework, whose figure differs for every point, fold and epoch."""


class Project:
    """A folder with `mine.py` and `mine.toml`, searched in this process or by the program.

    Args:
        said: the lines that the last worker of this process printed.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.said: list[str] = []
        self._opened: list[Database] = []

    def write(self, code: str = FIT, name: str = "mine.py", **changes: object) -> Path:
        """Write the problem's file and the definition, without fields that are None in `changes`; returns its path."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(code), encoding="utf-8")
        fields = {field: value for field, value in {**RAW, **changes}.items() if value is not None}
        toml = self.folder / f"{fields['name']}.toml"
        toml.write_text(tiny.as_toml(fields), encoding="utf-8")
        return toml

    @property
    def database(self) -> Database:
        """Opened once."""
        if not self._opened:
            self._opened.append(open_database(self.url))
        return self._opened[0]

    def close(self) -> None:
        """Close what was opened."""
        for database in self._opened:
            database.close()

    def create(self, *texts: str | Path) -> StoredStudy:
        """Create studies, by default the definition's, and return the last of them."""
        checked = check(self.url, [str(text) for text in texts or (self.folder / "mine.toml",)], Machine())
        creations = checked.create()
        checked.database.close()
        return creations[-1].study

    def search(self, toml: Path | None = None, **options: Any) -> Tally:
        """Create a study and run one worker of it in this process."""
        path = toml or self.folder / "mine.toml"
        self.create(path)
        return self.work(path, **options)

    def work(self, toml: Path, *, lease: float = LEASE_SECONDS, **options: Any) -> Tally:
        """Run one worker in this process."""
        self.said = []
        queue = open_to_work(self.database, [str(toml)], Machine(), self.said.append)
        machine = Machine(patience=0.0, lease=lease)
        return working.work(self.database, queue, machine, threading.Event(), self.said.append, **options)

    def study(self, name: str = "mine") -> StoredStudy:
        """Return the study as the database has it."""
        return get_study(self.database, name)

    def rows(self, table: str, columns: str, rest: str = "") -> list[tuple[Any, ...]]:
        """Return the rows of one of pairsearch's tables."""
        return tiny.rows(self.database, table, columns, rest)

    def states(self) -> dict[str, int]:
        """Count the configurations in each state."""
        return dict(tiny.states(self.database))

    def run(self, *arguments: str, **variables: str) -> programs.Ended:
        """Run the program to its end."""
        return programs.run(self.folder, *arguments, PAIRSEARCH_STORAGE=self.url, **variables)

    def told(self, *arguments: str) -> Any:
        """Return what a command prints with `--json`."""
        ended = self.run(*arguments, "--json")
        assert ended.code == 0, ended.err
        return json.loads(ended.out)


def values(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the only column of rows."""
    return [value for (value,) in rows]
