"""Measures rules that stop configurations after some of their folds: how often they lose the best, what they save.

    python benchmarks/racing.py --runs 1000

On the published tables, the best is that of all folds, and a run is a random order of configurations and of folds. On
synthetic studies (`calibration.py`) it is the truly best, and a run is a study. The rules, at `--alpha`:

    race        `studies.racing`: one configuration at a time, compared with those finished before
    rounds      the same test; all remaining configurations train fold by fold together, each compared with the others
    one look    the same after half of the folds only, at the whole of alpha
    F-race      Friedman's test after each fold from the third, then each against the best (Birattari et al. 2002)
    Hoeffding   Hoeffding races (Maron & Moore 1994), with the range of the figure from the whole table
    wilcoxon    Optuna's pruner with its own threshold of 0.1
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Sequence

import numpy as np
from benchfile import say
from calibration import LAYOUTS, NOISES, Scenario, synthetic
from scipy import stats

from pairsearch.search.database.connection import open_database
from pairsearch.search.ledger.studies import get_study
from pairsearch.search.replay import stopping
from pairsearch.search.replay.searches import BoolArray, IntArray
from pairsearch.search.results.study_table import StudyTable, read_table
from pairsearch.search.setup.load import load
from pairsearch.search.verdict.judging import judge
from pairsearch.studies import racing
from pairsearch.studies.intervals import FloatArray
from pairsearch.studies.reproduction import study_names

Kept = tuple[BoolArray, float]
"""(configurations,) whether each was trained to its end, and the share of folds that were saved."""
Rule = Callable[[FloatArray, IntArray, float], Kept]


def one_at_a_time(rule: stopping.Rule) -> Rule:
    """Adapt a rule of `search.replay.stopping`."""

    def kept(values_CK: FloatArray, order: IntArray, alpha: float) -> Kept:
        after = rule(stopping.Reports("", values_CK, (1,), values_CK[:, :0]), order, alpha)
        whole = np.zeros(len(order), dtype=np.bool_)
        whole[order] = after == 0
        return whole, 1.0 - float(np.where(after > 0, after / values_CK.shape[1], 1.0).mean())

    return kept


def together(passes: Callable[[FloatArray, float], BoolArray], looks: Callable[[int], Sequence[int]]) -> Rule:
    """Make a rule that trains all remaining configurations fold by fold, and drops those that fail a test.

    Args:
        passes: the test; it takes values (configurations, folds so far) and a level, and returns (configurations,)
            whether each may be the best.
        looks: returns the numbers of folds after which to test, given the number of folds.
    """

    def kept(values_CK: FloatArray, _: IntArray, alpha: float) -> Kept:
        folds = values_CK.shape[1]
        left, trained, done = np.arange(len(values_CK)), 0, 0
        for look in looks(folds):
            trained, done = trained + len(left) * (look - done), look
            if len(left) > 1:
                left = left[passes(values_CK[left, :look], alpha / len(looks(folds)))]
        trained += len(left) * (folds - done)
        return np.isin(np.arange(len(values_CK)), left), 1.0 - trained / values_CK.size

    return kept


def softmin(values_CK: FloatArray, alpha: float) -> BoolArray:
    """Whether each may be the best, by the test of `studies.racing` against all others."""
    folds = values_CK.shape[1]
    others_CK = (values_CK.sum(axis=1, keepdims=True) - values_CK) / (folds - 1)
    scale = max(float(np.median(values_CK.std(axis=1, ddof=1))), 1e-300)
    weights_CK = np.exp(-racing.sharpness(folds) / scale * (others_CK - others_CK.min(axis=0)))
    # Each is compared with the others; the bound is for a configuration that has all the weight.
    rest_CK = np.maximum(weights_CK.sum(axis=0) - weights_CK, 1e-12)
    mean_CK = ((weights_CK * values_CK).sum(axis=0) - weights_CK * values_CK) / rest_CK
    passed: BoolArray = ~(racing.statistics(values_CK - mean_CK)[:, -1] > stats.t.isf(alpha, folds - 1))
    return passed


def friedman(values_CK: FloatArray, alpha: float) -> BoolArray:
    """Whether each is not worse than the one of the best rank; all are, unless Friedman's test finds differences."""
    count, folds = values_CK.shape
    everything: BoolArray = np.ones(count, dtype=np.bool_)
    if count == 2:
        worse = int(values_CK.mean(axis=1).argmax())
        p = stats.wilcoxon(values_CK[worse] - values_CK[1 - worse], alternative="greater").pvalue
        everything[worse] = p > alpha
        return everything
    ranks_CK = stats.rankdata(values_CK, axis=0)
    sums_C, squares = ranks_CK.sum(axis=1), float((ranks_CK**2).sum())
    constant = folds * count * (count + 1) ** 2 / 4
    statistic = (count - 1) * (float((sums_C**2).sum()) - folds * constant) / max(squares - constant, 1e-300)
    if statistic < stats.chi2.isf(alpha, count - 1):
        return everything
    # Conover, "Practical nonparametric statistics" (1999), which F-race uses.
    width = stats.t.isf(alpha / 2, (folds - 1) * (count - 1)) * np.sqrt(
        2
        * folds
        * max(1 - statistic / (folds * (count - 1)), 0.0)
        * (squares - constant)
        / ((folds - 1) * (count - 1))
    )
    passed: BoolArray = sums_C - sums_C.min() <= width
    return passed


def hoeffding(span: float) -> Callable[[FloatArray, float], BoolArray]:
    """Test whether the interval of each, for figures within a span, reaches below the lowest upper end of any."""

    def passes(values_CK: FloatArray, alpha: float) -> BoolArray:
        count, folds = values_CK.shape
        width = span * np.sqrt(np.log(2 * count / alpha) / (2 * folds))
        mean_C = values_CK.mean(axis=1)
        passed: BoolArray = mean_C - width <= (mean_C + width).min()
        return passed

    return passes


def rules(span: float) -> dict[str, Rule]:
    """Return the rules by name; `span` is the range of the figure."""
    return {
        "race": one_at_a_time(stopping.race),
        "rounds": together(softmin, racing.looks),
        "one look": together(softmin, lambda folds: [folds // 2]),
        "F-race": together(friedman, racing.looks),
        "Hoeffding": together(hoeffding(span), racing.looks),
        "wilcoxon": one_at_a_time(lambda reports, order, _: stopping.wilcoxon(reports, order, 0.1)),
    }


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000, help="runs on each table, and synthetic studies")
    parser.add_argument("--alpha", type=float, default=racing.ALPHA, help="error rate that is promised")
    parser.add_argument("--configurations", type=int, default=192, help="of a synthetic study")
    options = parser.parse_args()
    names = list(rules(1.0))
    sets: list[str] = []
    say("| study | " + " | ".join(f"{name}: lost, saved" for name in names) + " |")
    say("|---" * (len(names) + 1) + "|")
    for table in paper_tables():
        values_CK = stopping.reports_of(table).folds
        best = np.array([values_CK.mean(axis=1).argmin()])
        random = np.random.default_rng(0)
        runs = [(values_CK[:, random.permutation(values_CK.shape[1])], best) for _ in range(options.runs)]
        say(f"| {table.name} | {line(runs, options.alpha)} |")
        members = may_be_best(table, values_CK, options.alpha)
        lost = line([(given, members) for given, _ in runs], options.alpha, ["race"]).partition(",")[0]
        sets.append(f"{table.name} {lost} of {len(members)}")
    say(f"Of the verdict's set on all folds, a race loses: {', '.join(sets)}.\n")
    say("| synthetic | " + " | ".join(f"{name}: lost, saved" for name in names) + " |")
    say("|---" * (len(names) + 1) + "|")
    for layout, noise in itertools.product(LAYOUTS, NOISES):
        random = np.random.default_rng(0)
        scenario = Scenario(layout, noise, configurations=options.configurations)
        runs = []
        for _ in range(options.runs):
            truth, values_CK = synthetic(scenario, random)
            runs.append((values_CK, np.flatnonzero(truth == 0.0)))
        say(f"| {layout}, {noise} | {line(runs, options.alpha)} |")


def paper_tables() -> list[StudyTable]:
    """Read the paper's four studies from the shipped results."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/paper.db"
        names = study_names()
        load(url, "paper", names)
        database = open_database(url)
        try:
            return [read_table(database, get_study(database, name)) for name in names]
        finally:
            database.close()


def may_be_best(table: StudyTable, values_CK: FloatArray, alpha: float) -> IntArray:
    """Return the indices of the configurations in the verdict's set."""
    keys = [one.key for one in table.configurations]
    verdict = judge(values_CK, keys, table.seconds, overlap=table.traits.overlap, alpha=alpha)
    return np.array([keys.index(member.key) for member in verdict.members])


def line(
    runs: Sequence[tuple[FloatArray, IntArray]], alpha: float, names: Sequence[str] | None = None
) -> str:
    """Return a row of the table: for each rule the mean share of the best that was lost, and of folds that were saved.

    Args:
        runs: values (configurations, folds) with the indices of the best configurations.
        alpha: the error rate.
        names: names of the rules; None for all.
    """
    cells = []
    for name in names or rules(1.0):
        random = np.random.default_rng(1)
        lost, saved = [], []
        for values_CK, best in runs:
            rule = rules(float(np.ptp(values_CK)))[name]
            whole, spared = rule(values_CK, random.permutation(len(values_CK)), alpha)
            lost.append(1.0 - whole[best].mean())
            saved.append(spared)
        cells.append(f"{np.mean(lost):.3f}, {np.mean(saved):.2f}")
    return " | ".join(cells)


if __name__ == "__main__":
    main()
