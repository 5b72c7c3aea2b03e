"""Claims decided from tables of studies: effects, intervals, decisions, and what is said where evidence is missing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pairsearch.search.claims.deciding import Decided, combined, corrected_level, decide
from pairsearch.search.claims.findings import Decision
from pairsearch.search.claims.material import Material, wanted_rounds
from pairsearch.search.claims.sentences import claim_json, lines_of, row, status
from pairsearch.search.common.errors import StudyError
from pairsearch.search.results.study_table import StudyTable
from pairsearch.studies.claims_file import parse as parse_claims
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import parse
from pairsearch.studies.intervals import Interval
from pairsearch.studies.problem import Metric, Traits

HOLDS, FAILS, UNDECIDED = Decision
FOLDS = 10
METRICS = {"loss": Metric("log loss"), "error": Metric("error", percent=True), "score": Metric(maximise=True)}
X1, X2, X3 = (Configuration({"x": x, "y": "a"}) for x in (1, 2, 3))
RANDOM = np.random.default_rng(7)
NOISE = RANDOM.normal(size=30)
"""Noise of the rounds, common to all configurations."""


def study(
    name: str = "mine",
    rounds: Mapping[Configuration, Mapping[str, Sequence[float | None]]] | None = None,
    folds: Mapping[Configuration, Sequence[float]] | None = None,
    **changes: Any,
) -> StudyTable:
    """A study over x and y; figures of rounds by configuration, and the losses of folds."""
    raw = {
        "name": name, "problem": "mine.py:fit", "metric": "loss", "folds": FOLDS, "seed": 3,
        "grid": {"x": [1, 2, 3], "y": ["a", "b"]},
        "paper": {"params": {"x": 1, "y": "a"}, "figures": {}},
    }  # fmt: skip
    definition = parse(raw | changes, name)
    values = {one: np.asarray(row, dtype=float) for one, row in (folds or {}).items()}
    table = np.array([*values.values()]).reshape(-1, FOLDS)
    return StudyTable(
        name=name,
        definition=definition,
        traits=Traits(1, "", METRICS, validated=("loss", "score")),
        configurations=tuple(values),
        excluded=0,
        values={"loss": table, "score": -table},
        curves={},
        seconds=np.ones(len(table)),
        rounds={
            one.key: {
                index: {figure: found[index] for figure, found in figures.items() if found[index] is not None}
                for index in range(len(next(iter(figures.values()))))
            }
            for one, figures in (rounds or {}).items()
        },
    )


def decided(*evidence: dict[str, Any], rounds: int = 30, **tables: StudyTable) -> Decided:
    """One claim, by the tables of studies by name."""
    raw = {"statement": "So it is.", "source": "ours", "evidence": list(evidence)}
    claims = parse_claims({"rounds": rounds, "claim": [raw]}, "claims")
    lacking = {name: f"study {name} is not there" for name in claims.studies() if name not in tables}
    (found,) = decide(claims, Material(tables, lacking))
    return found


def compare(first: Configuration = X1, second: Configuration = X2, **more: Any) -> dict[str, Any]:
    sides = {
        side: {"study": "mine", "params": dict(one.params)}
        for side, one in (("first", first), ("second", second))
    }
    return {"kind": "compare", "figure": "error"} | sides | more


def pair(difference: float, own: float = 0.01) -> StudyTable:
    """Two configurations whose error differs by so much, with noise of their own, and much that they share."""
    drawn = RANDOM.normal(size=30)
    own_noise = own * (drawn - drawn.mean()) / drawn.std(ddof=1)
    return study(
        rounds={X1: {"error": NOISE.tolist()}, X2: {"error": (NOISE + difference + own_noise).tolist()}}
    )


@pytest.mark.parametrize(
    ("difference", "more", "decision"),
    [
        (0.1, {}, HOLDS),
        (-0.1, {}, FAILS),
        (0.0005, {}, UNDECIDED),
        (0.1, {"margin": 0.09}, HOLDS),
        (0.1, {"margin": 0.11}, FAILS),
        (0.1, {"margin": 0.1}, UNDECIDED),
        (-0.1, {"reads": "no worse", "margin": 0.11}, HOLDS),
        (-0.1, {"reads": "no worse", "margin": 0.09}, FAILS),
        (-0.1, {"reads": "no worse", "margin": 0.1}, UNDECIDED),
        (0.1, {"reads": "no worse"}, HOLDS),
    ],
)
def test_a_comparison_is_decided_by_its_interval_against_the_margin(
    difference: float, more: dict[str, Any], decision: Decision
) -> None:
    found = decided(compare(**more), mine=pair(difference))
    assert (found.decision, found.findings[0].n) == (decision, 30)
    effect = found.findings[0].effect
    assert effect is not None
    assert effect.estimate == pytest.approx(difference)
    # t(29) · 0.01 / √30: the noise that both share, a hundred times as large, has cancelled.
    assert effect.high - effect.low == pytest.approx(2 * 2.0452 * 0.01 / np.sqrt(30), rel=1e-4)


def test_pairs_are_of_equal_number_and_what_has_no_partner_is_left_out() -> None:
    table = pair(0.1)
    second = dict(table.rounds[X2.key])
    second[3] = {}  # diverged
    del second[5]
    shifted = {index: second[(index + 1) % 30] for index in range(30) if (index + 1) % 30 in second}
    found = decided(compare(), mine=study_with(table, second))
    (finding,) = found.findings
    assert (finding.n, finding.decision) == (28, HOLDS)
    assert "left out: 1 rounds in which one of the two diverged" in finding.sentence
    assert finding.missing == ("29 of 30 rounds of MINE (x 2, y a) are there",)
    assert status(found) == "holds (provisional)"
    assert decided(compare(), mine=study_with(table, shifted)).decision is UNDECIDED


def study_with(table: StudyTable, second: Mapping[int, Mapping[str, float | None]]) -> StudyTable:
    from dataclasses import replace  # noqa: PLC0415

    return replace(table, rounds=dict(table.rounds) | {X2.key: second})


def test_more_is_better_of_a_figure_that_is_maximised() -> None:
    table = study(rounds={X1: {"score": [2.0, 2.1, 2.0]}, X2: {"score": [1.0, 1.0, 1.1]}})
    assert decided(compare(figure="score"), rounds=3, mine=table).decision is HOLDS
    assert decided(compare(X2, X1, figure="score"), rounds=3, mine=table).decision is FAILS


def test_only_the_first_so_many_rounds_count() -> None:
    table = study(rounds={X1: {"error": [0.1, 0.2, 0.9]}, X2: {"error": [0.3, 0.41, 0.0]}})
    (finding,) = decided(compare(), rounds=2, mine=table).findings
    assert finding.effect is not None
    assert (finding.n, finding.effect.estimate) == (2, pytest.approx(0.205))


def test_equal_configurations_are_not_better_than_each_other_but_no_worse() -> None:
    table = study(rounds={X1: {"error": [0.1, 0.2, 0.3]}})
    better = decided(compare(X1, X1), rounds=3, mine=table)
    assert better.decision is FAILS
    assert "both are the same configuration" in better.findings[0].sentence
    assert decided(compare(X1, X1, reads="no worse"), rounds=3, mine=table).decision is HOLDS


def test_an_undecided_comparison_says_how_many_rounds_would_narrow_it() -> None:
    (finding,) = decided(compare(), mine=pair(0.001)).findings
    # (2 · 1.96 · 0.01 / 0.001)² = 1,536.6
    assert "some 1,537 rounds would make the interval as narrow as the effect" in finding.sentence
    (finding,) = decided(compare(), mine=pair(0.0001)).findings
    assert "more than 10,000 rounds would" in finding.sentence


def test_what_rounds_share_is_said() -> None:
    both = compare()
    both["second"] = {"study": "other", "params": {"x": 2, "y": "a"}}
    for seed, words in ((3, "draw the same data for both"), (4, "nothing in common")):
        other = study("other", seed=seed, rounds={X2: {"error": [0.2, 0.3]}})
        found = decided(both, rounds=2, mine=study(rounds={X1: {"error": [0.1, 0.2]}}), other=other)
        assert any(words in line for line in lines_of(found))


def test_evidence_within_several_studies_may_be_pooled() -> None:
    better, worse = (
        {X1: {"error": [a, a]}, X2: {"error": [b, b + 0.01]}} for a, b in ((0.1, 0.4), (0.2, 0.1))
    )
    sides = {side: {"params": dict(one.params)} for side, one in (("first", X1), ("second", X2))}
    both = {"kind": "compare", "figure": "error", "studies": ["a", "b"], **sides}
    tables = {"a": study("a", better), "b": study("b", worse)}
    assert [one.decision for one in decided(both, rounds=2, **tables).findings] == [HOLDS, FAILS]
    found = decided(both | {"pooled": True}, rounds=2, **tables)
    assert [(one.decision, one.decides) for one in found.findings] == [
        (HOLDS, False),
        (FAILS, False),
        (HOLDS, True),
    ]
    # (0.3 − 0.1) / 2 and (0.31 − 0.09) / 2
    effect = found.findings[-1].effect
    assert effect is not None
    assert effect.estimate == pytest.approx(0.105)
    assert found.decision is HOLDS
    missing = decided(both | {"pooled": True}, rounds=2, a=tables["a"])
    assert (missing.decision, missing.missing) == (UNDECIDED, ["study b is not there"])


def test_all_that_decides_must_hold_and_one_against_is_corrected_for_their_number() -> None:
    assert combined([HOLDS, HOLDS], [HOLDS, UNDECIDED]) is HOLDS
    assert combined([HOLDS, UNDECIDED], [HOLDS, UNDECIDED]) is UNDECIDED
    assert combined([HOLDS, FAILS], [HOLDS, UNDECIDED]) is UNDECIDED
    assert combined([UNDECIDED, FAILS], [UNDECIDED, FAILS]) is FAILS
    assert corrected_level(4) == pytest.approx(0.9875)
    # t = 2.2 with 29 degrees: p = 0.036 is enough alone and not as one of two.
    weak, strong = pair(-2.2 * 0.01 / np.sqrt(30)), pair(0.1)
    other = compare()
    other["first"], other["second"] = ({**other[side], "study": "other"} for side in ("first", "second"))
    assert decided(compare(), mine=weak).decision is FAILS
    assert decided(compare(), other, mine=weak, other=strong).decision is UNDECIDED
    assert decided(compare(), other | {"decides": False}, mine=strong, other=weak).decision is HOLDS


FIRST_BEST = {"study": "mine", "best": "loss"}
GRID = {
    Configuration({"x": x, "y": y}): [level + shift + noise for noise in np.linspace(0, 1, FOLDS)]
    for (x, level), (y, shift) in itertools.product([(1, 0.2), (2, 0.1), (3, 0.3)], [("a", 0.0), ("b", 0.5)])
}
"""x = 2 is best, and each y is shifted; folds differ by far more."""


def effect(*values: int, **more: Any) -> dict[str, Any]:
    return {
        "kind": "effect", "figure": "loss", "studies": ["mine"], "parameter": "x", "values": list(values),
    } | more  # fmt: skip


def test_the_effect_of_a_parameter_is_over_configurations_that_differ_in_nothing_else() -> None:
    noise = RANDOM.normal(scale=0.001, size=(len(GRID), FOLDS))
    folds = {one: np.add(row, own) for (one, row), own in zip(GRID.items(), noise, strict=True)}
    # Without a partner: it would turn the effect round.
    del folds[Configuration({"x": 1, "y": "b"})]
    found = decided(effect(1, 2, 3), mine=study(folds=folds))
    assert [one.what for one in found.findings] == ["MINE (grid): x 1 → 2", "MINE (grid): x 2 → 3"]
    assert [one.decision for one in found.findings] == [HOLDS, FAILS]
    assert found.decision is FAILS
    first, second = (one.effect for one in found.findings)
    assert first is not None
    assert second is not None
    theirs = stats.ttest_rel(folds[X1], folds[X2]).confidence_interval(0.95)
    assert (first.low, first.high) == pytest.approx((theirs.low, theirs.high))
    assert second.estimate == pytest.approx(-0.2, abs=0.002)
    said = lines_of(found)
    assert any("over 1 settings" in line for line in said)
    assert any("over 2 settings" in line for line in said)
    assert "Told apart: better at x 1 → 2, worse at x 2 → 3." in said
    assert decided(effect(1, 2, where={"y": "a"}), mine=study(folds=folds)).decision is HOLDS
    assert decided(effect(1, 2, figure="score"), mine=study(folds=folds)).decision is HOLDS
    assert decided(effect(1, 2, margin=0.2), mine=study(folds=folds)).decision is FAILS


def test_an_effect_goes_beyond_a_grid_by_a_second_study() -> None:
    four = {Configuration({"x": 4, "y": "a"}): [0.05 + noise for noise in np.linspace(0, 1.001, FOLDS)]}
    beyond = study("beyond", folds=four, grid={"x": [4], "y": ["a"]}, paper=None)
    found = decided(effect(2, 4, studies=["mine", "beyond"]), mine=study(folds=GRID), beyond=beyond)
    assert found.decision is HOLDS
    with pytest.raises(StudyError, match="claim 1: mine: no finished configurations differ in x 2 → 4 alone"):
        decided(effect(2, 4), mine=study(folds=GRID))


def test_an_effect_at_one_configuration_is_by_its_rounds() -> None:
    rounds = {one: {"error": (NOISE[:3] - shift).tolist()} for one, shift in ((X1, 0), (X2, 0.2), (X3, 0.1))}
    found = decided(effect(1, 2, 3, figure="error", at={"paper": True}), rounds=3, mine=study(rounds=rounds))
    assert [(one.what, one.decision, one.unit) for one in found.findings] == [
        ("MINE (paper): x 1 → 2", HOLDS, "rounds"),
        ("MINE (paper): x 2 → 3", FAILS, "rounds"),
    ]


@pytest.mark.parametrize(
    ("reached", "share", "decision"), [(30, 0.8, HOLDS), (30, 0.9, UNDECIDED), (10, 0.8, FAILS)]
)
def test_a_bound_is_reached_by_a_share_of_the_rounds(reached: int, share: float, decision: Decision) -> None:
    errors = [0.0] * reached + [0.01] * (29 - reached) + ([None] if reached < 30 else [])
    evidence = {
        "kind": "reaches", "figure": "error", "bound": 0.0, "share": share,
        "configuration": {"study": "mine", "paper": True},
    }  # fmt: skip
    found = decided(evidence, mine=study(rounds={X1: {"error": errors}}))
    (finding,) = found.findings
    assert (finding.decision, finding.n) == (decision, 30)
    assert finding.sentence.startswith(f"error at most 0.00 % in {reached} of 30 rounds, ")
    assert ("1 diverged" in finding.sentence) is (reached < 30)


def test_membership_is_the_verdict_s() -> None:
    noise = RANDOM.normal(scale=0.01, size=(len(GRID), FOLDS))
    folds = {one: np.add(row, own) for (one, row), own in zip(GRID.items(), noise, strict=True)}
    evidence = {"kind": "in_set", "configuration": {"study": "mine", "paper": True, "changed": {"x": 2}}}
    found = decided(evidence, mine=study(folds=folds))
    assert found.decision is HOLDS
    assert found.findings[0].sentence.startswith(
        "rank 1 of 6 by log loss; in the set of 1 that may be the best"
    )
    evidence["configuration"] = {"study": "mine", "paper": True}
    found = decided(evidence, mine=study(folds=folds))
    assert found.decision is FAILS
    assert "rank 2 of 6 by log loss; not in the set of 1" in found.findings[0].sentence
    effect_of = found.findings[0].effect
    assert effect_of is not None
    assert effect_of.estimate == pytest.approx(-0.1, abs=0.02)
    del folds[X1]
    with pytest.raises(StudyError, match="study mine has no finished configuration x=1 y='a'"):
        decided(evidence, mine=study(folds=folds))


def test_the_best_is_by_the_mean_over_folds_among_those_with_the_values() -> None:
    material = Material({"mine": study(folds=GRID)})
    for more, best in (({}, X2), ({"where": {"x": 3}}, X3)):
        sides = {"first": FIRST_BEST | more, "second": {"study": "mine", "paper": True}}
        claim = {"statement": "s", "source": "o", "evidence": [compare() | sides]}
        claims = parse_claims({"claim": [claim]}, "claims")
        assert wanted_rounds(claims, material) == {("mine", best): 30, ("mine", X1): 30}


def by_loss(**where: object) -> dict[str, Any]:
    return compare() | {"first": FIRST_BEST | {"where": where}}


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (compare() | {"first": FIRST_BEST | {"best": "depth"}}, "folds report no 'depth': expected one of"),
        (compare(figure="depth"), "its problem reports no 'depth': expected one of loss, error, score"),
        (by_loss(z=1), "has no parameter z: expected some of x, y"),
        (by_loss(x=1.0), "has no finished configuration with x 1.0 and a loss in every fold"),
        (compare() | {"first": {"study": "bare", "paper": True}}, "its definition has no [paper] table"),
        (effect(1, 2, parameter="z"), "has no parameter z: expected some of x, y"),
    ],
)
def test_what_a_claim_means_and_is_not_there_is_refused(evidence: dict[str, Any], words: str) -> None:
    tables = {"mine": study(folds=GRID), "bare": study("bare", paper=None)}
    with pytest.raises(StudyError) as raised:
        decided(evidence, **tables)
    assert str(raised.value).startswith("claim 1: study ")
    assert words in str(raised.value)


def test_claims_read_as_rows_and_as_json() -> None:
    found = decided(compare(margin=0.05), mine=pair(0.1))
    what, figure, effect_cell, *rest = row(found.findings[0])
    assert (what, figure) == ("MINE (x 1, y a) – MINE (x 2, y a)", "error, %")
    assert effect_cell.startswith("10.00 (9.6")
    assert rest == ["> 5.00", "30 rounds", "holds"]
    told = claim_json(found)
    assert (told["decision"], told["provisional"], told["missing"]) == ("holds", False, [])
    assert told["findings"][0]["effect"] == pytest.approx(0.1)
    assert (
        Interval(*[told["findings"][0]["effect"], *told["findings"][0]["interval"]])
        == found.findings[0].effect
    )
