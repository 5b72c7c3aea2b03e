"""Checks that a problem keeps its contract (`studies.problem`), on which the promises of the service depend.

`pairsearch check` prints the findings. `pairsearch.check_contract` raises them, in tests of the problem's author.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pairsearch.search.ledger.outcome import Outcome, RunResult
from pairsearch.search.workers.failure import failure
from pairsearch.search.workers.given import of_each
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.search.workers.recorder import Keeper, Recorder
from pairsearch.studies.checks import Check
from pairsearch.studies.configuration import Configuration, describe
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.loading import Loaded
from pairsearch.studies.model_card import as_tensors
from pairsearch.studies.problem import Figures, Run, Stopped

COST = (
    "results will depend on which worker computes them, and a configuration that is trained again may get "
    "another figure"
)


def same_bits(objective: CrossValidation, point: Configuration, elsewhere: str) -> Check:
    """Check that a point gives the same figures each time and in each process, by the `digest` of a new one."""
    here, again = _outcome(objective, point), _outcome(objective, point)
    alone = _outcome(objective.on([0]), point)
    differing = []
    if found := _difference(here.folds, again.folds):
        differing.append(f"trained twice in one process ({found})")
    if found := _difference(again.folds[:1], alone.folds):
        differing.append(f"its first fold beside the others and alone ({found})")
    if digest(here) != elsewhere:
        differing.append("trained in this process and in another")
    good = "twice, alone and beside others, in this process and in another"
    said = (
        f"{describe(point.params)} gives other figures {'; and '.join(differing)}: {COST}"
        if differing
        else good
    )
    return Check("same bits", not differing, said)


def resumed(objective: CrossValidation, point: Configuration, epoch: int, keeper: Keeper) -> Check:
    """Check that a fold that goes on from a checkpoint of another process has the figures of an uninterrupted one."""
    whole = _outcome(objective, point)
    found = _difference(_outcome(objective.on([0], keeper), point).folds, whole.folds)
    said = f"interrupted after epoch {epoch} and resumed in another process"
    if not found:
        return Check("checkpoint", True, f"{said}, a fold has the same bits")
    return Check(
        "checkpoint",
        False,
        f"{describe(point.params)}, {said}, gives other figures ({found} uninterrupted): save and load all that the "
        "next epoch depends on, also the optimiser's state and that of generators of random numbers",
    )


def contract(loaded: Loaded, point: Configuration, device: str, epochs: int) -> Iterator[Check]:
    """Check all of the contract but what `same_bits` does: a failed check for each breach, or one good one."""
    definition = loaded.definition
    together = loaded.traits.together
    folds = definition.runs("fold", None if together else [0], epochs, device)
    rounds = definition.runs("round", range(2) if together else [0], epochs, device)
    broken = [*_stopping(loaded, point, folds), *_round(loaded, point, rounds), *_words(loaded, point)]
    for line in broken:
        yield Check("contract", False, line)
    if not broken:
        yield Check(
            "contract",
            True,
            "ends when it is stopped, trains a round, gives facts and data that stay the same",
        )


def digest(outcome: Outcome) -> str:
    """Return the SHA-256 (hex) of the curves of all folds."""
    sha256 = hashlib.sha256()
    for fold in outcome.folds:
        for name, curve in sorted(fold.curves.items()):
            sha256.update(name.encode() + struct.pack(f"<{len(curve)}d", *curve))
    return sha256.hexdigest()


def _outcome(objective: CrossValidation, point: Configuration) -> Outcome:
    outcome = objective(point)
    assert outcome is not None, "nobody asked to hand it back"  # noqa: S101
    return outcome


def _difference(one: Sequence[RunResult], other: Sequence[RunResult]) -> str:
    """Describe the first figure that differs; empty if none does."""
    for here, there in zip(one, other, strict=True):
        for name in sorted(here.curves.keys() | there.curves.keys()):
            first, second = here.curves.get(name, ()), there.curves.get(name, ())
            if np.array_equal(first, second, equal_nan=True):
                continue
            for epoch, (left, right) in enumerate(zip(first, second, strict=False), start=1):
                if left != right:
                    return f"{name} of fold {here.index} after epoch {epoch}: {left!r} and {right!r}"
            return f"{name} of fold {here.index}: {len(first)} and {len(second)} epochs"
    return ""


class _Counting(Recorder):
    """A recorder that counts its calls."""

    calls = 0

    def __call__(self, epoch: int, figures: Sequence[Figures], diverged: Sequence[int] = ()) -> None:
        self.calls += 1
        super().__call__(epoch, figures, diverged)


def _stopping(loaded: Loaded, point: Configuration, runs: list[Run]) -> Iterator[str]:
    """Check that training ends at once when `report` raises `Stopped`."""
    definition = loaded.definition
    recorder = _Counting(runs, list(loaded.traits.of_folds), definition.metric, lambda _: False)
    try:
        loaded.train(point.params, runs, recorder)
    except Stopped:
        pass
    except Exception as error:
        yield f"stopped by `report`, it raises {failure(error)}: let Stopped pass"
        return
    if recorder.calls > 1:
        yield (
            f"it goes on after `report` raised Stopped ({recorder.calls - 1} more reports): let Stopped pass, or "
            "pruning, time limits and SIGTERM end nothing: no bare `except:`, no `except BaseException:` without "
            "`raise`"
        )


def _round(loaded: Loaded, point: Configuration, runs: list[Run]) -> Iterator[str]:
    """Check that a round of the final evaluation reports the figures that tables show, and that weights can be kept."""
    recorder = Recorder(runs, list(loaded.traits.metrics), None, lambda _: True)
    try:
        weights = of_each(loaded.train(point.params, runs, recorder), len(runs))
        results = recorder.results()
    except Exception as error:
        yield f"a round of the final evaluation (run.kind 'round') raises {failure(error)}"
        return
    if absent := set(loaded.traits.evaluated) - {name for result in results for name in result.curves}:
        yield f"a round does not report {', '.join(sorted(absent))}, which the problem says are evaluated"
    for one, run in zip(weights, runs, strict=True):
        if one is None:
            continue
        try:
            as_tensors(one)
        except ProblemError as error:
            yield str(error)
            return
        try:
            json.dumps(dict(loaded.restored().card(dict(point.params), run)), allow_nan=False)
        except Exception as error:
            yield f"card gives no JSON: {failure(error)}"
            return


def _words(loaded: Loaded, point: Configuration) -> Iterator[str]:
    """Check that facts are texts, and that the data's fingerprint stays the same."""
    try:
        facts = loaded.restored().describe(dict(point.params))
        bad = not isinstance(facts, Mapping) or not all(
            isinstance(text, str) for fact in facts.items() for text in fact
        )
    except Exception as error:
        yield f"describe raises {failure(error)}"
    else:
        if bad:
            yield f"describe gives {facts!r}: expected texts by name"
    if (now := loaded.problem.fingerprint()) != loaded.traits.fingerprint:
        yield f"fingerprint gives {loaded.traits.fingerprint!r} and then {now!r}: expected the same for the same data"
