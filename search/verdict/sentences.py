"""Puts a verdict into sentences, and into a dictionary for `--json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pairsearch.search.results.formatting import with_unit
from pairsearch.search.verdict.study_verdict import StudyVerdict
from pairsearch.studies.configuration import Params, describe

if TYPE_CHECKING:  # it would import NumPy
    from pairsearch.search.verdict.judging import Verdict

LOST = {
    "median": "88 to 96 % of orders on three of the paper's four studies",
    "hyperband": "76 to 85 % of orders on three of the paper's four studies",
    "wilcoxon": "15 % of orders on one of the paper's four studies",
}
"""How often a pruner lost the best, in the words of the table in docs/explanation/early-stopping.md."""


def verdict_lines(found: StudyVerdict) -> list[str]:
    """Put the verdict into sentences; an empty list while nothing is finished."""
    verdict = found.verdict
    if verdict is None:
        return []
    lines = [_set_line(found, verdict), *_uncovered_line(found)]
    # Results of other programs may have been loaded without times.
    if len(verdict.members) > 1 and any(found.seconds.values()):
        lines.append(_cheapest_line(found, verdict))
    lines += _mean_lines(found, verdict)
    lines += _winners_line(found)
    if verdict.excluded:
        why = "without a figure in every fold (diverged, pruned or failed)"
        lines.append(f"Left out: {verdict.excluded} {why}.")
    if found.provisional:
        are = "configuration is" if found.open == 1 else "configurations are"
        lines.append(f"Provisional: {found.open} {are} still to be trained.")
    return lines


def verdict_json(found: StudyVerdict) -> dict[str, Any] | None:
    """Return the verdict as `best --json` prints it.

    Figures have the sign in which they are stored; differences say how much worse a configuration is.
    """
    verdict = found.verdict
    if verdict is None:
        return None

    def params(key: str) -> Params:
        return found.configurations[key].params

    winners = {
        name: {"params": winner.configuration.params, "figures": winner.figures}
        for name, winner in found.winners.items()
    }
    return {
        "metric": found.metric,
        "overlap": found.overlap,
        "provisional": found.provisional,
        "open": found.open,
        "pruner": found.pruner,
        "uncovered": found.uncovered,
        "decisive": verdict.decisive,
        **asdict(verdict),
        "winner": params(verdict.winner),
        "mean": found.value(verdict.mean),
        "interval": None if verdict.interval is None else sorted(map(found.value, verdict.interval)),
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
        "cheapest_within_one_error": params(verdict.cheapest_within_one_error),
        "winners": winners,
    }


def _set_line(found: StudyVerdict, verdict: Verdict) -> str:
    level = f"at the {100 * verdict.alpha:g} % level"
    among = " among those that were not pruned" if found.uncovered else ""
    if verdict.considered == 1:
        return f"Verdict{among}: there is one configuration to judge, and nothing to compare it with."
    if not verdict.decisive:
        plural = "" if verdict.folds == 1 else "s"
        return (
            f"Verdict{among}: {verdict.folds} fold{plural} can tell nothing {level}; all {verdict.considered} "
            "configurations may be the best."
        )
    if verdict.others is None:
        said = f"each of the {verdict.considered} configurations may be the best {level}"
    else:
        count, least = verdict.others.count, with_unit(found.metrics[found.metric], verdict.others.at_least)
        worse = f"worse, {'half of them ' if count > 1 else ''}by at least {least},"
        others = f"the other {count} are" if count > 1 else "the other is"
        members = len(verdict.members)
        best = "the first is" if members == 1 else f"{members} of {verdict.considered} may be"
        said = f"{best} the best; {others} {worse} {level}"
    return f"Verdict by {found.metric}{among}: {said}. Test: {verdict.test}."


def _uncovered_line(found: StudyVerdict) -> list[str]:
    """Say that the verdict is not about what was pruned, and how often such a pruner loses the best."""
    if not found.uncovered:
        return []
    known = LOST.get(found.pruner)
    were = "configuration that was" if found.uncovered == 1 else "configurations that were"
    lost = "" if known is None else f" Pruner {found.pruner} lost the best in {known}."
    return [f"It does not cover the {found.uncovered} {were} pruned, among which the best may be.{lost}"]


def _cheapest_line(found: StudyVerdict, verdict: Verdict) -> str:
    def named(key: str) -> str:
        what = "the best itself" if key == verdict.winner else describe(found.configurations[key].params)
        return f"{what}, {found.seconds[key]:.1f} s"

    within = verdict.cheapest_within_one_error
    same = "the same" if within == verdict.cheapest else named(within)
    return (
        f"Cheapest of these, by seconds of training (all folds together): {named(verdict.cheapest)}. Cheapest with a "
        f"mean within one standard error of the best: {same}."
    )


def _mean_lines(found: StudyVerdict, verdict: Verdict) -> list[str]:
    """Say how good the winner is after correction for its selection, and what choosing it may cost."""
    if verdict.interval is None:
        return []
    assert verdict.optimism is not None, "there are folds enough for an interval"  # noqa: S101
    assert verdict.regret is not None, "it comes with the interval"  # noqa: S101
    metric, sure = found.metrics[found.metric], f"{100 * (1 - verdict.alpha):g} %"
    low, high = sorted(map(found.value, verdict.interval))
    chosen = f"chosen among {verdict.considered}, " if verdict.considered > 1 else ""
    lines = [
        f"On fresh folds the best, {chosen}is expected to have about "
        f"{with_unit(metric, found.value(verdict.mean + verdict.optimism))} instead of "
        f"{with_unit(metric, found.value(verdict.mean))}; between {with_unit(metric, low)} and "
        f"{with_unit(metric, high)} ({sure})."
    ]
    if len(verdict.members) > 1:
        lines.append(
            f"If another is truly the best, taking this one costs at most {with_unit(metric, verdict.regret)} ({sure})."
        )
    return lines


def _winners_line(found: StudyVerdict) -> list[str]:
    best = found.winners.get(found.metric)
    lines = []
    for name, winner in found.winners.items():
        configuration, training = winner.configuration, found.metrics[name].training
        if best is not None and configuration != best.configuration and not training:
            known = {label: value for label, value in winner.figures.items() if value is not None}
            shown = (f"{label} {with_unit(found.metrics[label], value)}" for label, value in known.items())
            lines.append(f"By {name} another is best: {describe(configuration.params)} ({', '.join(shown)}).")
    return lines
