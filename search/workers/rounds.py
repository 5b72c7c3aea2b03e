"""Trains rounds of the final evaluation, each on new data with new initial weights, and stores them.

Round r of a study draws the same data, weights and order for every configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairsearch.search.common.errors import WorkError
from pairsearch.search.common.machine import ONE_CORE, Machine
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Finish, Ledger
from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.workers.objective import origin
from pairsearch.search.workers.recorder import Keeper, Recorder, train
from pairsearch.search.workers.run_files import RunFiles, file_name, remove
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.loading import Loaded
from pairsearch.studies.model_card import ModelCard, as_bytes
from pairsearch.studies.problem import Weights

# What the figures of a round may depend on beside the study. Where all of these agree, the figures do bit for bit.
ORIGIN = ("versions", "processor", "backend", "device")

OnEpoch = Callable[[Recorder], bool]
"""Called after each epoch; it stops the training by returning False."""


@dataclass(frozen=True, slots=True)
class TrainedRound:
    """One trained round.

    Args:
        weights: None if there are none to keep; the error that says why they cannot be kept.
        about: the problem's description of the weights (`studies.problem.Problem.card`).
    """

    result: RunResult
    weights: Weights | ProblemError | None
    about: Mapping[str, object]
    provenance: Mapping[str, str]

    @property
    def index(self) -> int:
        """The number of the round, from 0."""
        return self.result.index


@dataclass(frozen=True, slots=True)
class Rounds:
    """Trains rounds of a study."""

    loaded: Loaded
    machine: Machine = ONE_CORE

    def __call__(
        self,
        configuration: Configuration,
        numbers: Sequence[int],
        on_epoch: OnEpoch = lambda _: True,
        keeper: Keeper | None = None,
    ) -> list[TrainedRound]:
        """Train rounds of a configuration, and return them; none if `on_epoch` stopped the training.

        A round that diverged is a result too. It raises what the problem raises.
        """
        loaded, params, machine = self.loaded, configuration.params, self.machine
        runs = loaded.definition.runs("round", numbers, None, machine.device, machine.threads)
        trained = train(loaded, params, runs, on_epoch, keeper=keeper)
        if trained.stopped:
            return []
        provenance = origin(loaded, machine.device)
        return [
            TrainedRound(
                result=result,
                weights=weights,
                about={} if weights is None else loaded.restored().card(dict(params), run),
                provenance=provenance,
            )
            for result, weights, run in zip(trained.runs, trained.weights, runs, strict=True)
        ]


def model_identity(study: StoredStudy, configuration: Configuration, index: int) -> dict[str, Any]:
    """Return what the card of a round's model says of where the model comes from."""
    definition = study.definition
    return {
        "study": study.name,
        "round": index,
        "problem": definition.problem,
        "settings": definition.settings,
        "params": dict(configuration.params),
        "epochs": definition.evaluation_epochs,
        "seed": definition.seed,
        "version": study.traits.version,
        "data": study.traits.fingerprint,
        "files": dict(study.traits.files),
    }


def model_content(study: StoredStudy, configuration: Configuration, trained: TrainedRound) -> bytes | None:
    """Return the file of a round's model; None if the round diverged or returned no weights.

    The content has neither time nor host, so that training a round again gives the same bytes.

    Raises:
        ProblemError: the weights cannot be stored.
    """
    if isinstance(trained.weights, ProblemError):
        raise trained.weights  # found in the process of the run
    if trained.result.diverged is not None or trained.weights is None:
        return None
    card = model_identity(study, configuration, trained.index) | {
        "figures": trained.result.final,
        "about": dict(trained.about),
        "provenance": {name: trained.provenance[name] for name in (*ORIGIN, "git_commit")},
    }
    return as_bytes(trained.weights, ModelCard.model_validate(card))


class NewRounds:
    """Trained rounds of a claim. Small models go into the database, in the transaction that stores the figures.

    Larger ones are written to hidden files of a folder that workers share, and get their names once the figures are
    stored. Whoever loses the race to store a round leaves no file, so that a file always has the stored figures.

    Attributes:
        refused: why models cannot be kept.
        too_large: which models are not kept because the worker has no folder.
    """

    def __init__(
        self, ledger: Ledger, claim: Claim, trained: Sequence[TrainedRound], files: RunFiles
    ) -> None:
        self.refused: list[ProblemError | WorkError] = []
        self.too_large: list[int] = []
        self._ledger, self._claim, self._trained, self._files = ledger, claim, trained, files
        self._contents: dict[int, bytes] = {}
        self._aside: dict[int, Path] = {}
        for one in trained:
            try:
                self._take(one)
            except (ProblemError, WorkError) as error:
                self.refused.append(error)

    def __len__(self) -> int:
        return len(self._trained)

    def __str__(self) -> str:
        """Say what was trained."""
        left = f", {len(self.too_large)} models too large for the database (--models FOLDER keeps them)"
        return f"{len(self)} rounds trained{left if self.too_large else ''}"

    def _take(self, one: TrainedRound) -> None:
        study = self._ledger.study
        content = model_content(study, self._claim.configuration, one)
        if content is None:
            return
        if len(content) <= 1e6 * study.definition.evaluation.model_megabytes:
            self._contents[one.index] = content
        elif self._files.folder is not None:
            self._aside[one.index] = self._files.write_aside(self._claim, one.index, content)
        else:
            self.too_large.append(one.index)

    def store(self, patiently: Callable[[Callable[[], Any]], Any]) -> Finish:
        """Store the rounds, and settle what becomes of the files."""
        results, first = [one.result for one in self._trained], self._trained[0]
        counted: Finish = Finish.SUPERSEDED
        try:
            counted = patiently(
                lambda: self._ledger.finish_rounds(self._claim, results, first.provenance, self._contents)
            )
        finally:
            if counted:
                self._name_files()
            else:
                remove(self._aside.values())
        return counted

    def _name_files(self) -> None:
        for index, aside in self._aside.items():
            place = aside.with_name(file_name(self._ledger.study, self._claim.configuration.key, index))
            try:
                aside.replace(place)
            except OSError as error:
                self.refused.append(WorkError(f"cannot write {place}: {error.strerror or error}"))
        # Those of workers that are late, or were killed.
        self._files.clear(self._claim, self._aside)
