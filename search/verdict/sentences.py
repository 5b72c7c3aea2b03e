"""How a verdict reads: plain sentences for people, a dictionary for `--json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pairsearch.search.results.formatting import figure
from pairsearch.search.verdict.reading import StudyVerdict, Winner
from pairsearch.studies.configuration import Params, describe
from pairsearch.studies.problem import Metric

if TYPE_CHECKING:  # it would import NumPy
    from pairsearch.search.verdict.judging import Verdict


def verdict_lines(found: StudyVerdict) -> list[str]:
    """The verdict in sentences, none while nothing is finished."""
    verdict = found.verdict
    if verdict is None:
        return []
    lines = [_set_line(found, verdict)]
    if len(verdict.members) > 1:
        seconds = next(member.seconds for member in verdict.members if member.key == verdict.cheapest)
        what = "the best itself" if verdict.cheapest == verdict.winner else _name(found, verdict.cheapest)
        lines.append(
            f"Cheapest of these, by seconds of training (all folds together): {what}, {seconds:.1f} s."
        )
    if len(verdict.candidates) > 1:
        lines.append(_probability_line(verdict))
    if verdict.optimism is not None:
        lowest, metric = verdict.candidates[0].mean, found.metrics[found.metric]
        optimism, expected, shown = (
            with_unit(metric, value)
            for value in (verdict.optimism, found.value(lowest + verdict.optimism), found.value(lowest))
        )
        lines.append(
            f"Chosen among {verdict.considered}, the best is expected to be flattered by {optimism}: on fresh folds "
            f"about {expected} instead of {shown}."
        )
    lines += _winners_line(found)
    if verdict.excluded:
        lines.append(
            f"Left out: {verdict.excluded} without a figure in every fold (diverged, pruned or failed)."
        )
    if found.provisional:
        are = "configuration is" if found.open == 1 else "configurations are"
        lines.append(f"Provisional: {found.open} {are} still to be trained.")
    return lines


def verdict_json(found: StudyVerdict) -> dict[str, Any] | None:
    """What `best --json` prints as the verdict; figures as they are stored, differences in how much worse."""
    verdict = found.verdict
    if verdict is None:
        return None

    def params(key: str) -> Params:
        return found.configurations[key].params

    def winner_json(winner: Winner) -> dict[str, Any]:
        return {"params": winner.configuration.params, "figures": winner.figures}

    return {
        "metric": found.metric,
        "overlap": found.overlap,
        "provisional": found.provisional,
        "open": found.open,
        "folds": verdict.folds,
        "test": verdict.test,
        "alpha": verdict.alpha,
        "decisive": verdict.decisive,
        "considered": verdict.considered,
        "excluded": verdict.excluded,
        "winner": params(verdict.winner),
        "members": [
            {
                "params": params(member.key),
                "mean": found.value(member.mean),
                "difference": member.difference,
                "p": member.p,
                "seconds": member.seconds,
            }
            for member in verdict.members
        ],
        "cheapest": params(verdict.cheapest),
        "candidates": [
            {
                "params": params(candidate.key),
                "mean": found.value(candidate.mean),
                "probability_best": candidate.probability_best,
            }
            for candidate in verdict.candidates
        ],
        "optimism": verdict.optimism,
        "winners": {name: winner_json(winner) for name, winner in found.winners.items()},
    }


def _set_line(found: StudyVerdict, verdict: Verdict) -> str:
    level = f"at the {100 * verdict.alpha:g} % level"
    if verdict.considered == 1:
        return "Verdict: there is one configuration to judge, and nothing to compare it with."
    if not verdict.decisive:
        plural = "" if verdict.folds == 1 else "s"
        return (
            f"Verdict: {verdict.folds} fold{plural} can tell nothing {level}; all {verdict.considered} "
            "configurations may be the best."
        )
    others = verdict.considered - len(verdict.members)
    if others == 0:
        told = f"each of the {verdict.considered} configurations may be the best {level}"
    elif len(verdict.members) == 1:
        told = f"the first is the best; the other {others} are worse {level}"
    else:
        told = f"{len(verdict.members)} of {verdict.considered} may be the best; the others are worse {level}"
    return f"Verdict by {found.metric}: {told}. Test: {verdict.test}."


def _probability_line(verdict: Verdict) -> str:
    chances = [candidate.probability_best for candidate in verdict.candidates]
    stated = ", ".join(f"{100 * chance:.0f}" for chance in chances)
    rest = max(0.0, 1.0 - sum(chances))
    others = f"; any other {100 * rest:.0f}" if verdict.considered > len(chances) else ""
    return f"Probability in % of being truly the best, ranks 1 to {len(chances)}: {stated}{others}."


def _winners_line(found: StudyVerdict) -> list[str]:
    best = found.winners.get(found.metric)
    lines = []
    for name, winner in found.winners.items():
        if (
            best is not None
            and winner.configuration != best.configuration
            and not found.metrics[name].training
        ):
            shown = ", ".join(
                f"{label} {with_unit(found.metrics[label], value)}"
                for label, value in winner.figures.items()
                if value is not None
            )
            lines.append(f"By {name} another is best: {describe(winner.configuration.params)} ({shown}).")
    return lines


def _name(found: StudyVerdict, key: str) -> str:
    return describe(found.configurations[key].params)


def with_unit(metric: Metric, value: float) -> str:
    """A figure, with the sign of per cent where it is one."""
    return figure(metric, value) + (" %" if metric.percent else "")
