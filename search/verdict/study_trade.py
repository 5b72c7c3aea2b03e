"""The trade-off between figures of a study: its Pareto front in tables and sentences, and for `--json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pairsearch.search.common.errors import StudyError
from pairsearch.search.results.chosen_figures import Chosen
from pairsearch.search.results.fields import Field
from pairsearch.search.results.formatting import DASH, abbreviations, compact, legend
from pairsearch.search.verdict.study_verdict import StudyVerdict
from pairsearch.search.verdict.trade import find_front
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.intervals import LEVEL, FloatArray, Interval, mean_interval

SHOWN = 40
"""The largest number of members in a table."""


@dataclass(frozen=True, slots=True)
class Member:
    """A configuration on the front."""

    configuration: Configuration
    means: tuple[float, ...]
    """Of each figure, as it is stored."""
    intervals: tuple[Interval | None, ...]
    """Of each mean over folds; None for a figure that does not vary by fold."""
    stays: float | None
    """In which share of bootstrap samples of the folds it is on the front again; None without samples."""
    standing: str
    """What the verdict says of it: `the best`, `may be the best`, or nothing."""


@dataclass(frozen=True, slots=True)
class StudyTrade:
    """The trade-off between some figures of a study."""

    chosen: Chosen
    means: FloatArray
    """(configurations, figures): means of those that have all figures in every fold."""
    members: tuple[Member, ...]
    """Those on the front, the best by the first figure first."""
    draws: int
    """Number of bootstrap samples."""
    lacking: dict[str, int]
    """How many finished configurations lack a figure, by its name."""

    @property
    def title(self) -> str:
        """The title of its table."""
        *most, last = (
            f"{one.name}{' (more is better)' * one.metric.maximise}" for one in self.chosen.figures
        )
        are = "configuration is" if len(self.members) == 1 else "configurations are"
        count = f"{len(self.members)} of {len(self.means)} {are} on the front"
        return f"Trade-off between {', '.join(most)} and {last}: {count}"

    @property
    def shown(self) -> tuple[Member, ...]:
        """Members for a table, evenly chosen where there are many."""
        return self.members[:: -(-len(self.members) // SHOWN)]

    def fields(self) -> list[Field[Member]]:
        """Return the columns of a table of members."""
        short = abbreviations(self.chosen.study.choices)

        def column(place: int) -> Field[Member]:
            one = self.chosen.figures[place]

            def cell(member: Member) -> str:
                mean, interval = one.text(member.means[place]), member.intervals[place]
                return mean + (
                    f" ({one.text(interval.low)} to {one.text(interval.high)})" if interval else ""
                )

            return Field(one.header, cell)

        return [
            Field(
                "configuration", lambda one: compact(one.configuration.params, short), right=False, prose=True
            ),
            Field("verdict", lambda one: one.standing, right=False, prose=True),
            *map(column, range(len(self.chosen.figures))),
            Field("stays, %", lambda one: DASH if one.stays is None else f"{100 * one.stays:.0f}"),
        ]

    def lines(self) -> list[str]:
        """Say what the table means, and what is left out."""
        meant = legend(abbreviations(self.chosen.study.choices))
        lines = [
            "For none on the front is another configuration better in one figure and no worse in the others. Figures "
            f"are means over folds, with their {100 * LEVEL:g} % intervals.{f' {meant}.' if meant else ''}",
            f"Stays: in which share of {self.draws} bootstrap samples of the folds, the same for all, it is "
            "on the front again. This is how far the front depends on these folds, and no probability that it is on "
            "the true front."
            if self.draws
            else "How far the front depends on the folds is not known: no figure varies by fold, or it is too large.",
        ]
        if len(self.shown) < len(self.members):
            lines.append(
                f"Shown are {len(self.shown)} of the {len(self.members)}, evenly by the first figure."
            )
        lines += [f"Left out: {count} finished without {name}." for name, count in self.lacking.items()]
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the trade-off as `best --json` prints it, with figures as they are stored."""
        names = [one.name for one in self.chosen.figures]
        return {
            "figures": {one.name: "max" if one.metric.maximise else "min" for one in self.chosen.figures},
            "considered": len(self.means),
            "lacking": self.lacking,
            "draws": self.draws,
            "front": [
                {
                    "params": one.configuration.params,
                    "figures": dict(zip(names, one.means, strict=True)),
                    "intervals": {
                        name: [within.low, within.high] if within else None
                        for name, within in zip(names, one.intervals, strict=True)
                    },
                    "stays": one.stays,
                    "verdict": one.standing,
                }
                for one in self.members
            ],
        }


def trade_on(chosen: Chosen, judged: StudyVerdict) -> StudyTrade | None:
    """Find the front among the finished configurations that have all figures in every fold; None if none is finished.

    Raises:
        StudyError: none of the finished ones has all figures.
    """
    if not chosen.figures:
        return None
    known = {one.name: np.isfinite(one.values).all(axis=1) for one in chosen.figures}
    whole_C = np.flatnonzero(np.all([*known.values()], axis=0))
    if not len(whole_C):
        raise StudyError(
            f"{chosen.study.name}: no finished configuration has all of {', '.join(known)}: choose other figures"
        )
    values = [one.values[whole_C] for one in chosen.figures]
    signed = [one.metric.sign * of for one, of in zip(chosen.figures, values, strict=True)]
    front = find_front(signed, judged.overlap, chosen.study.definition.seed)
    means = np.column_stack([of.mean(axis=1) for of in values])
    standings = {}
    if judged.verdict is not None:
        standings = dict.fromkeys((one.key for one in judged.verdict.members), "may be the best")
        standings[judged.verdict.winner] = "the best"

    def member(place: int, stays: float | None) -> Member:
        of = chosen.configurations[whole_C[place]]
        intervals = [
            mean_interval(of[place].tolist(), overlap=judged.overlap, shares=one.metric.percent)
            for one, of in zip(chosen.figures, values, strict=True)
        ]
        return Member(of, tuple(means[place].tolist()), tuple(intervals), stays, standings.get(of.key, ""))

    return StudyTrade(
        chosen=chosen,
        means=means,
        members=tuple(map(member, front.members, front.stays)),
        draws=front.draws,
        lacking={name: int(count) for name, of in known.items() if (count := (~of).sum())},
    )
