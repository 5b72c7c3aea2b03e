"""Tiny studies that take milliseconds, outcomes that nobody computed, and objectives that answer at once."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from pairsearch.data.sources import Source, resolve
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Finish, Ledger
from pairsearch.search.ledger.outcome import Outcome, RunResult, mean_of
from pairsearch.search.results.progress import read_progress
from pairsearch.search.workers.objective import Progress, Step
from pairsearch.studies import loading
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition, parse
from pairsearch.studies.loading import Loaded
from pairsearch.studies.pairs import problem as pairs
from pairsearch.studies.problem import Problem, Traits

RAW: dict[str, Any] = {
    "name": "tiny",
    "problem": "pairs",
    "metric": "val_loss",
    "seed": 7,
    "epochs": 2,
    "folds": 2,
    "settings": {
        "architecture": "b1",
        "sample_size": 20,
        "validation_size": 5,
        "train_pairs": 20,
        "test_pairs": 20,
    },
    "grid": {"batch_size": [10, 25], "learning_rate": [1e-4, 1e-3], "weight_decay": [0.0, 0.1]},
    "evaluation": {"rounds": 2},
}
"""A grid of eight points."""

PAPER = {
    "params": {"batch_size": 25, "learning_rate": 1e-4, "weight_decay": 0.1},
    "facts": {"parameters": "48,730"},
    "figures": {"train_error": {"mean": 0.01, "std": 0.01}, "test_error": {"mean": 0.2, "std": 0.01}},
}

Answer = Callable[[Configuration], Outcome]
Curve = Sequence[Sequence[float]]
"""A figure by fold and epoch."""


def raw(base: Mapping[str, Any], **changes: object) -> dict[str, Any]:
    """A raw definition with some fields replaced; settings of the problem by their own names; None leaves one out."""
    own = {name: value for name, value in changes.items() if name in {*pairs.Settings.model_fields, "data"}}
    fields = {**base, **{name: value for name, value in changes.items() if name not in own}}
    settings = {**fields.get("settings", {}), **own}
    fields["settings"] = {name: value for name, value in settings.items() if value is not None}
    return {name: value for name, value in fields.items() if value is not None}


def definition(**changes: object) -> Definition:
    """The tiny definition with some fields replaced."""
    return parse(raw(RAW, **changes), "tiny")


def loaded(given: Definition | None = None, source: Source | None = None, **changes: object) -> Loaded:
    """A definition, the tiny one with some fields replaced unless one is given, with its problem on a source.

    The source, scikit-learn's images unless another is given, is not read again.
    """
    images = source or _digits()
    root = os.environ.get(pairs.DATA_VARIABLE)
    pairs._SOURCES[images.name, None if root is None else Path(root).absolute()] = images
    return loading.load(given or definition(**changes), None, {"data": images.name})


def anything(*, together: bool = True, **changes: object) -> Loaded:
    """A study of a problem that takes any parameters and has the paper's figures; nobody can train it."""
    fields = {
        "name": "tiny",
        "problem": "mine.py:Mine",
        "metric": "val_loss",
        "seed": 7,
        "folds": 2,
        "epochs": 2,
    }
    given = parse(fields | changes, "tiny")
    metrics = dict(pairs.Pairs.metrics) | given.metrics
    traits = Traits(1, "", metrics, validated=pairs.Pairs.validated, together=together)
    return Loaded(given, Problem(), traits)


def without_an_image(source: Source) -> Source:
    """A source of the same name with other data."""
    return replace(source, train_images=source.train_images[1:], train_labels=source.train_labels[1:])


_held: list[Source] = []


def _digits() -> Source:
    if not _held:
        _held.append(resolve("digits")[0])
    return _held[0]


def write_toml(path: Path, **changes: object) -> Path:
    """The tiny definition as a file; a field changed to None is left out."""
    path.write_text(as_toml(raw(RAW, **changes)), encoding="utf-8")
    return path


def as_toml(fields: Mapping[str, Any]) -> str:
    """A raw definition as the text of a file."""
    tables = {name: value for name, value in fields.items() if isinstance(value, Mapping)}
    lines = [f"{name} = {_written(value)}" for name, value in fields.items() if name not in tables]
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{name} = {_written(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_written(one)}" for name, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    return json.dumps(value)


def point(
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    hidden_units: int | None = None,
    aux_loss_weight: float | None = None,
) -> Configuration:
    """A configuration of the paper's hyperparameters, without those that are None."""
    params = {
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "hidden_units": hidden_units,
        "aux_loss_weight": aux_loss_weight,
    }
    return Configuration({name: value for name, value in params.items() if value is not None})


def value_of(configuration: Configuration) -> float:
    """A value that no two configurations of the tiny grid share."""
    params = configuration.params
    return params["batch_size"] / 100 + 10 * params["learning_rate"] + params.get("weight_decay", 0.0)


def outcome_of(
    train_loss: Curve,
    val_loss: Curve,
    val_error: Curve,
    *,
    state: State = State.FINISHED,
    diverged: Sequence[int | None] = (),
    **more: Any,
) -> Outcome:
    """An outcome of the paper's three figures, each by fold and epoch."""
    curves = {"train_loss": train_loss, "val_loss": val_loss, "val_error": val_error}
    ended = list(diverged) or [None] * len(val_loss)
    folds = tuple(
        RunResult(fold, {name: list(map(float, curve[fold])) for name, curve in curves.items()}, ended[fold])
        for fold in range(len(val_loss))
    )
    figures = {name: mean_of([fold.curves[name][-1] for fold in folds]) for name in curves}
    if state == State.DIVERGED:
        figures = dict.fromkeys(figures)
    fields = {"value": figures["val_loss"] if state == State.FINISHED else None, "seconds": 0.25} | more
    return Outcome(state=state, figures=figures, folds=folds, **fields)


def outcome(configuration: Configuration, *, folds: int = 2, epochs: int = 2) -> Outcome:
    """A finished outcome whose last validation losses have `value_of` the configuration as their mean."""
    value = value_of(configuration)
    spread = [-0.01 + 0.02 * fold / max(1, folds - 1) for fold in range(folds)]
    val_loss = [[value + (epochs - 1 - epoch) + one for epoch in range(epochs)] for one in spread]
    thirds, sevenths = ([[one / part for one in curve] for curve in val_loss] for part in (3, 7))
    return outcome_of(thirds, val_loss, sevenths, value=value, provenance={"host": "here"})


def diverged(configuration: Configuration) -> Outcome:
    """An outcome whose second fold diverged in the second epoch."""
    return outcome_of(
        [[0.7, 0.6], [0.8, math.nan]],
        [[0.7, 0.6], [0.8, math.inf]],
        [[0.5, 0.4], [0.5, math.nan]],
        state=State.DIVERGED,
        diverged=(None, 2),
        reason="fold 1 diverged in epoch 2: a figure became NaN or infinite",
        provenance={"host": "here"},
    )


def cut(full: Outcome, epochs: int, **changes: Any) -> Outcome:
    """An outcome's first epochs, as of a configuration that was ended there."""
    folds = tuple(
        replace(fold, curves={name: curve[:epochs] for name, curve in fold.curves.items()})
        for fold in full.folds
    )
    return replace(full, folds=folds, **changes)


class Answering:
    """An objective that answers at once and counts how often it was asked for each configuration."""

    def __init__(self, answer: Answer = outcome) -> None:
        self.answer = answer
        self.asked: Counter[str] = Counter()

    def provenance(self) -> dict[str, str]:
        """Where the answers come from."""
        return {"host": "here"}

    def on(self, folds: Iterable[int], keeper: object = None) -> Answering:
        """Folds train together here, so that they are always all of them."""
        return self

    def __call__(self, configuration: Configuration, progress: Progress | None = None) -> Outcome | None:
        """The answer, cut off in the epoch in which `progress` says so."""
        self.asked[configuration.key] += 1
        full = self.answer(configuration)
        epochs = full.folds[0].epochs
        for epoch in range(1, epochs + 1):
            mean = mean_of([fold.curves["val_loss"][epoch - 1] for fold in full.folds])
            step = Step(epoch, mean)
            ended = progress(step) if progress is not None and mean is not None else None
            if ended == State.PENDING:
                return None
            if ended is not None:
                return cut(full, epoch, state=ended, value=None, reason=f"pruned after epoch {epoch}")
        return full


def rows(database: Database, table: str, columns: str = "*", rest: str = "") -> list[tuple[Any, ...]]:
    """Rows of one of our tables."""
    with database.read() as connection:
        found = connection.execute(text(f"select {columns} from pairsearch_{table} {rest}"))  # noqa: S608 - tests' own words
        return [tuple(row) for row in found]


def execute(database: Database, *statements: str) -> None:
    """Do what somebody else may do to a database."""
    with database.write() as connection:
        for words in statements:
            connection.execute(text(words))


def states(database: Database) -> Counter[str]:
    """How many configurations are in each state."""
    return Counter(state for (state,) in rows(database, "configurations", "state"))


def count(ledger: Ledger, *states: State) -> int:
    """How many configurations of a study are in some states."""
    return read_progress(ledger.database, ledger.study).count(*states)


def let_leases_run_out(database: Database) -> None:
    """What time does to a worker that fell silent."""
    with database.write() as connection:
        connection.execute(text("update pairsearch_jobs set lease_expires = 0 where state = 'running'"))


def finish(ledger: Ledger, claim: Claim, outcome: Outcome) -> Finish:
    """Store the outcome of a job, and claim nothing with it."""
    return ledger.finish_and_claim(claim, outcome, None, 1)[0]
