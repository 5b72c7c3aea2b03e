"""Decides for each claim, by weighing its evidence, whether it holds, does not hold, or is undecided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pairsearch.search.claims.findings import Decision, Finding, Weighed
from pairsearch.search.claims.material import Material
from pairsearch.search.claims.weighing import weigh
from pairsearch.search.common.errors import StudyError
from pairsearch.studies.claims_file import Claim, Claims
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


def combined(decisions: Sequence[Decision], corrected: Sequence[Decision]) -> Decision:
    """Combine the decisions about pieces of evidence for a claim that holds only if all of them do.

    Deciding that all hold needs no correction for their number: where one part of the claim is false, the error rate is
    at most that of this part (intersection-union test: Berger, Technometrics 24, 1982). A single failure decides
    against the claim, so that there the level is corrected for their number (Bonferroni): `decisions` are made at
    `LEVEL`, `corrected` ones at `corrected_level`.
    """
    if Decision.FAILS in corrected:
        return Decision.FAILS
    holds = all(decision is Decision.HOLDS for decision in decisions)
    return Decision.HOLDS if holds else Decision.UNDECIDED


def corrected_level(pieces: int) -> float:
    """Return the level at which one of `pieces` pieces of evidence decides against a claim."""
    return 1 - (1 - LEVEL) / max(1, pieces)


def decide(claims: Claims, material: Material, first: int = 1) -> list[Decided]:
    """Decide each claim by the results that exist, numbered from `first`; raises what `weigh` raises."""
    decided = []
    for number, claim in enumerate(claims.claim, start=first):
        rounds = claims.rounds_of(claim)
        try:
            weighed = tuple(weigh(one, material, rounds) for one in claim.evidence)
            decisions = _decisions(weighed)
            level = corrected_level(len(decisions))
            corrected = _decisions([weigh(one, material, rounds, level) for one in claim.evidence])
        except StudyError as error:
            raise StudyError(f"claim {number}: {error}") from None
        decided.append(Decided(number, claim, rounds, weighed, combined(decisions, corrected)))
    return decided


def _decisions(weighed: Sequence[Weighed]) -> list[Decision]:
    return [finding.decision for one in weighed for finding in one.findings if finding.decides]
