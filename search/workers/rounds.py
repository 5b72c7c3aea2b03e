"""Trains rounds of the final evaluation, each on new data with new initial weights.

Round r of a study draws the same data, weights and order for every configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pairsearch.search.common.machine import ONE_CORE, Machine
from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.workers.objective import origin
from pairsearch.search.workers.recorder import Keeper, Recorder, train
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.loading import Loaded
from pairsearch.studies.model_card import ModelCard, as_bytes
from pairsearch.studies.problem import Run, Weights

# What the figures of a round may depend on beside the study. Where all of these agree, the figures do bit for bit.
ORIGIN = ("versions", "processor", "backend", "device")

OnEpoch = Callable[[Recorder], bool]
"""Called after each epoch; it stops the training by returning False."""


@dataclass(frozen=True, slots=True)
class TrainedRound:
    """One trained round.

    Args:
        weights: the weights of the trained model, None if there are none to keep.
        about: the problem's description of the weights (`studies.problem.Problem.card`).
        facts: facts about the configuration (`studies.problem.Problem.describe`).
        provenance: program and machine that trained it.
    """

    result: RunResult
    weights: Weights | None
    about: Mapping[str, object]
    facts: Mapping[str, str]
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
        """Train rounds of a configuration. A round that diverged is a result too.

        Returns:
            The trained rounds; empty if `on_epoch` stopped the training.

        Raises:
            Exception: whatever the problem raises.
        """
        loaded, definition, params = self.loaded, self.loaded.definition, configuration.params
        count = max(definition.evaluation.rounds, *(number + 1 for number in numbers))
        runs = [
            Run(
                "round",
                number,
                count,
                definition.evaluation_epochs,
                definition.seed,
                self.machine.device,
                self.machine.threads,
            )
            for number in numbers
        ]
        trained = train(loaded, params, runs, on_epoch, keeper=keeper)
        if trained.stopped:
            return []
        facts, provenance = (
            dict(loaded.restored().describe(dict(params))),
            origin(loaded, self.machine.device),
        )
        return [
            TrainedRound(
                result=result,
                weights=weights,
                about={} if weights is None else loaded.restored().card(dict(params), run),
                facts=facts,
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
    if trained.result.diverged is not None or trained.weights is None:
        return None
    card = model_identity(study, configuration, trained.index) | {
        "figures": trained.result.final,
        "about": dict(trained.about),
        "provenance": {name: trained.provenance[name] for name in (*ORIGIN, "git_commit")},
    }
    return as_bytes(trained.weights, ModelCard.model_validate(card))
