"""Decides for each claim, by weighing its evidence, whether it holds, does not hold, or is undecided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pairsearch.search.claims import by_folds, by_rounds
from pairsearch.search.claims.decisions import Decision, combined, corrected_level
from pairsearch.search.claims.findings import Finding, Weighed, nothing
from pairsearch.search.claims.material import LackingError, Material
from pairsearch.search.errors import StudyError
from pairsearch.search.results.formatting import words
from pairsearch.studies.claims_file import AnyEvidence, Claim, Claims, Compare, Effect, Reaches
from pairsearch.studies.intervals import LEVEL


@dataclass(frozen=True, slots=True)
class Decided:
    """A claim with its weighed evidence and the decision."""

    number: int
    """Number of the claim in its file, from 1."""
    claim: Claim
    rounds: int
    """Number of rounds of each configuration that is compared."""
    weighed: tuple[Weighed, ...]
    decision: Decision

    @property
    def findings(self) -> list[Finding]:
        return [finding for one in self.weighed for finding in one.findings]

    @property
    def missing(self) -> list[str]:
        """Descriptions of results that are still missing."""
        return list(dict.fromkeys(reason for one in self.findings for reason in one.missing))

    @property
    def provisional(self) -> bool:
        """Whether results are missing that the decision depends on."""
        return any(one.missing for one in self.findings if one.decides)


def weigh(evidence: AnyEvidence, material: Material, rounds: int, level: float = LEVEL) -> Weighed:
    """Weigh a piece of evidence by the results that exist.

    Args:
        rounds: the number of rounds of each configuration; further rounds do not count.

    Raises:
        StudyError: the evidence names a configuration or a figure that does not exist.
    """
    try:
        if isinstance(evidence, Compare):
            return by_rounds.compare(evidence, material, rounds, level)
        if isinstance(evidence, Reaches):
            return by_rounds.reaches(evidence, material, rounds, level)
        if not isinstance(evidence, Effect):
            return by_folds.in_set(evidence, material, level)
        if evidence.at is not None:
            return by_rounds.effect_at(evidence, material, rounds, level)
        return by_folds.effect_on_grid(evidence, material, level)
    except LackingError as lacking:
        studies = dict.fromkeys([*evidence.grids(), *(study for study, _ in evidence.choices())])
        what = f"{words(getattr(evidence, 'parameter', evidence.kind))}: {', '.join(studies)}"
        return Weighed(evidence, (nothing(evidence, what, str(lacking)),))


def decide(claims: Claims, material: Material, first: int = 1) -> list[Decided]:
    """Decide each claim by the results that exist.

    Args:
        first: the number of the first claim.

    Raises:
        StudyError: a claim names a configuration or a figure that does not exist.
    """
    return [
        _decide(number, claim, material, claims.rounds_of(claim))
        for number, claim in enumerate(claims.claim, start=first)
    ]


def _decide(number: int, claim: Claim, material: Material, rounds: int) -> Decided:
    try:
        weighed = [weigh(one, material, rounds) for one in claim.evidence]
        decisions = _decisions(weighed)
        level = corrected_level(len(decisions))
        corrected = _decisions([weigh(one, material, rounds, level) for one in claim.evidence])
    except StudyError as error:
        raise StudyError(f"claim {number}: {error}") from None
    return Decided(number, claim, rounds, tuple(weighed), combined(decisions, corrected))


def _decisions(weighed: Sequence[Weighed]) -> list[Decision]:
    return [finding.decision for one in weighed for finding in one.findings if finding.decides]
