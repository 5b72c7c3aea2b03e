"""Trade-offs: the front held to plain loops, and what `best` and the report tell of it from stored figures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import programs
import pytest
import reported
import tiny

from pairsearch.search.common.errors import InputError, StudyError
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import RunResult
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.report.content import Paragraph, Table
from pairsearch.search.report.document import compose_stored
from pairsearch.search.report.page import render
from pairsearch.search.results.chosen_figures import Chosen, ChosenFigure, choice, read_chosen
from pairsearch.search.results.fold_figures import read_unjudged
from pairsearch.search.verdict import trade
from pairsearch.search.verdict.judging import judge
from pairsearch.search.verdict.study_trade import StudyTrade, trade_on
from pairsearch.search.verdict.study_verdict import StudyVerdict, verdict_on
from pairsearch.search.verdict.trade import find_front, on_front
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.intervals import FloatArray, mean_interval
from pairsearch.studies.problem import Metric

# Where the kind of database makes no difference: both read the same figures, as the first test of a stored front shows.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

FOLDS = 6


def by_loops(points: Sequence[Sequence[float]]) -> set[int]:
    """Who is on the front: nobody is at least as good in all figures and better in one."""
    return {
        place
        for place, one in enumerate(points)
        if not any(all(a <= b for a, b in zip(other, one, strict=True)) and other != one for other in points)
    }


@pytest.mark.parametrize("figures", [2, 3, 4])
def test_the_front_is_that_of_plain_loops_with_equals_and_ties(figures: int) -> None:
    random = np.random.default_rng(figures)
    for levels, count in product((2, 4, 1000), (1, 2, 60)):
        points = random.integers(levels, size=(figures, count)).astype(float)
        assert set(on_front(points).tolist()) == by_loops(points.T.tolist())


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_the_front_of_means_has_equals_and_ties_at_any_scale(scale: float) -> None:
    random = np.random.default_rng(4)
    for folds, levels in product((1, 3, 4), (3, 1000)):
        whole = random.integers(-levels, levels, size=(2, 40, folds))
        # One that is far worse than the others changes nothing for them.
        worst = np.full((1, folds), 1e20)
        found = find_front([np.vstack([whole[0] * scale, worst]), np.vstack([whole[1], worst])], 0.0, 0)
        assert set(found.members) == by_loops(whole.sum(axis=2).T.tolist())
        assert not found.draws or all(found.stays)


@pytest.mark.parametrize(("folds", "overlap"), [(2, 0.0), (FOLDS, 0.0), (FOLDS, 0.2)])
def test_how_often_a_member_stays_is_that_of_plain_loops(folds: int, overlap: float) -> None:
    random = np.random.default_rng(3)
    error, size = random.random((40, folds)), random.integers(5, size=(40, 1)).astype(float)
    found = find_front([error, size], overlap, seed=9)
    assert found.draws == 500
    means = error.mean(axis=1)
    assert set(found.members) == by_loops(np.column_stack([means, size[:, 0]]).tolist())
    assert means[found.members].tolist() == sorted(means[found.members])
    # The widened deviations have the variance of the corrected resampled t-test.
    wide = means[:, None] + np.sqrt(1 + folds * overlap) * (error - means[:, None])
    draws = np.random.default_rng(9).multinomial(folds, [1 / folds] * folds, size=found.draws)
    fronts = [
        by_loops([[*pair] for pair in zip(wide @ draw / folds, size[:, 0], strict=True)]) for draw in draws
    ]
    assert found.stays == [np.mean([place in front for front in fronts]) for place in found.members]
    assert 0 < min(found.stays) < 1
    assert find_front([error, size], overlap, seed=9) == found


@pytest.mark.parametrize(
    ("ahead", "behind", "equal"),
    [
        ([0.6, 0.6], [0.6, 0.6 + 6e-13], True),
        ([0.6, 0.6], [0.6, 0.6 + 6e-12], False),
        ([1.0, -1.0, 0.0], [1.0, -1.0 + 1.5e-15, 0.0], True),
        ([1.0, -1.0, 0.0], [1.0, -1.0 + 4.5e-15, 0.0], False),
    ],
)
def test_means_are_equal_to_twelve_digits_or_next_to_none(
    ahead: list[float], behind: list[float], equal: bool
) -> None:
    found = find_front([np.array([ahead, behind]), np.zeros((2, 1))], 0.0, 0)
    assert found.members == ([0, 1] if equal else [0])


def test_without_folds_that_differ_nothing_is_drawn() -> None:
    cost, gain = np.array([[1.0], [2.0], [3.0]]), np.array([[3.0], [1.0], [2.0]])
    assert find_front([cost, gain], 0.0, 0) == trade.Front([0, 1], [None, None], 0)


@pytest.mark.parametrize(("work", "draws"), [(239, 0), (240, 20), (371, 30), (12 * 1000, 500)])
def test_draws_are_fewer_where_more_have_to_be_compared(
    monkeypatch: pytest.MonkeyPatch, work: int, draws: int
) -> None:
    monkeypatch.setattr(trade, "WORK", work)
    cost = np.array([1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 1.0])[:, None]
    loss = [[4, 4], [1, 1], [1, 1], [0.5, 3], [1, 2], [2, 2], [4, 9]]
    # Three are on the front, and are compared with each other and the fourth, which is better than all in one fold.
    found = find_front([cost, np.array(loss, float)], 0.0, 0)
    assert (found.members, found.draws) == ([0, 1, 2], draws)


def test_ten_thousand_configurations_take_a_second() -> None:
    random = np.random.default_rng(0)
    error = random.standard_normal((10_000, 1)) + random.standard_normal((10_000, 10))
    start = time.process_time()
    figures = [error, random.random((10_000, 1)), error + random.standard_normal(error.shape)]
    found = find_front(figures, 0.0, 0)
    assert found.draws > 100
    # Half a second on an idle machine.
    assert time.process_time() - start < 4


ACCURACY = [[1.0, 1.0, 1.0, 0.9], [0.8, 0.9, 0.7, 0.9], [0.9, 0.9, 0.8, 1.0], [0.5, 0.6, 0.4, 0.5], [1.0] * 4]
LOSS = [
    [0.4, 0.3, 0.5, 0.2],
    [0.1, 0.2, 0.4, 0.1],
    [0.3, 0.1, 0.4, 0.3],
    [0.5, 0.6, 0.5, 0.6],
    [0.2, 0.2, np.nan, 0.2],
]
SIZE = [[12345.0], [10.0], [20.0], [np.nan], [1.0]]


@pytest.fixture
def front() -> StudyTrade:
    """The trade-off between three figures of five configurations, of which the last two lack one."""
    loaded = tiny.anything(folds=4, seed=3, grid={"x": [1, 2, 3, 4, 5], "batch_size": [8]})
    given = loaded.definition
    study = StoredStudy(1, "tiny", 0, given, given.grid.choices, loaded.traits)
    configurations = tuple(given.grid.configurations())
    figures = (
        ChosenFigure("accuracy", Metric(percent=True, maximise=True), np.array(ACCURACY), declared=True),
        ChosenFigure("loss", Metric(), np.array(LOSS), declared=True),
        ChosenFigure("size", Metric(), np.array(SIZE), declared=False),
    )
    keys = [one.key for one in configurations]
    verdict = judge(1 - np.array(ACCURACY), keys, np.ones(5), alpha=0.0)
    # The second is on the front and is not among those that may be the best.
    verdict = replace(
        verdict, winner=keys[0], members=tuple(one for one in verdict.members if one.key != keys[1])
    )
    judged = StudyVerdict("tiny", "accuracy", {}, 0.2, verdict, {}, {}, {}, 0, "none", 0)
    found = trade_on(Chosen(study, configurations, figures), judged)
    assert found is not None
    return found


def test_a_trade_off_has_means_intervals_and_standings_of_those_that_lack_nothing(front: StudyTrade) -> None:
    assert (front.lacking, front.draws) == ({"loss": 1, "size": 1}, 500)
    means = np.column_stack([np.mean(one[:3], axis=1) for one in (ACCURACY, LOSS, SIZE)])
    assert front.means == pytest.approx(means)
    whole = [np.array(one[:3]) for one in (ACCURACY, LOSS, SIZE)]
    expected = find_front([-whole[0], whole[1], whole[2]], 0.2, 3)
    assert expected.members == [0, 2, 1]
    assert [one.configuration.params["x"] for one in front.members] == [1, 3, 2]
    assert [one.stays for one in front.members] == expected.stays
    assert [one.standing for one in front.members] == ["the best", "may be the best", ""]
    for place, one in zip(expected.members, front.members, strict=True):
        assert one.means == pytest.approx(means[place])
        assert one.intervals == (
            mean_interval(ACCURACY[place], overlap=0.2, shares=True),
            mean_interval(LOSS[place], overlap=0.2),
            None,
        )


def test_a_trade_off_is_shown_in_a_table_and_explained(front: StudyTrade) -> None:
    fields = front.fields()
    assert [(one.name, one.right, one.prose) for one in fields] == [
        ("configuration", False, True),
        ("verdict", False, True),
        *[(name, True, False) for name in ("accuracy, %", "loss", "size", "stays, %")],
    ]
    first = front.members[0]
    of_accuracy, of_loss, _ = first.intervals
    assert of_accuracy is not None
    assert of_loss is not None
    assert [one.cell(first) for one in fields] == [
        "x 1 BS 8",
        "the best",
        f"97.50 ({100 * of_accuracy.low:.2f} to 100.00)",
        f"0.3500 ({of_loss.low:.4f} to {of_loss.high:.4f})",
        "12,345",
        f"{100 * (first.stays or 0):.0f}",
    ]
    assert fields[-1].cell(replace(first, stays=None)) == "–"
    assert (
        front.title
        == "Trade-off between accuracy (more is better), loss and size: 3 of 3 configurations are on the front"
    )
    meaning, stays, *left_out = front.lines()
    assert "Figures are means over folds, with their 95 % intervals. BS batch size." in meaning
    assert stays.startswith("Stays: in which share of 500 bootstrap samples of the folds")
    assert left_out == ["Left out: 1 finished without loss.", "Left out: 1 finished without size."]
    assert (
        replace(front, draws=0).lines()[1].startswith("How far the front depends on the folds is not known")
    )
    plain = replace(front.chosen.study, choices={"x": (1, 2)})
    assert replace(front, chosen=replace(front.chosen, study=plain)).lines()[0].endswith("95 % intervals.")


def test_a_trade_off_is_written_with_figures_as_they_are_stored(front: StudyTrade) -> None:
    told = front.to_json()
    first, of_front = front.members[0], told.pop("front")
    assert told == {
        "figures": {"accuracy": "max", "loss": "min", "size": "min"},
        "considered": 3,
        "lacking": {"loss": 1, "size": 1},
        "draws": 500,
    }
    of_accuracy, of_loss, _ = first.intervals
    assert of_accuracy is not None
    assert of_loss is not None
    assert len(of_front) == 3
    assert of_front[0] == {
        "params": {"x": 1, "batch_size": 8},
        "figures": dict(zip(("accuracy", "loss", "size"), first.means, strict=True)),
        "intervals": {
            "accuracy": [of_accuracy.low, 1.0], "loss": [of_loss.low, of_loss.high], "size": None,
        },
        "stays": first.stays,
        "verdict": "the best",
    }  # fmt: skip


@pytest.mark.parametrize(("members", "shown"), [(1, 1), (2, 2), (40, 40), (41, 21), (80, 40), (81, 27)])
def test_of_a_large_front_some_are_shown_evenly(front: StudyTrade, members: int, shown: int) -> None:
    many = replace(front, members=front.members[:1] * members)
    assert len(many.shown) == shown
    said = f"Shown are {shown} of the {members}, evenly by the first figure."
    assert (said in many.lines()) == (shown < members)
    assert not [line for line in many.lines() if line.startswith("Shown") and line != said]
    are = "configuration is" if members == 1 else "configurations are"
    assert many.title.endswith(f"{members} of 3 {are} on the front")


def of_folds(configuration: Configuration) -> tuple[FloatArray, FloatArray]:
    """Losses and errors of the folds. Small batches have lower losses, but for noise, and take longer."""
    place = tiny.definition().grid.configurations().index(configuration)
    noise = 0.02 * np.random.default_rng(place).standard_normal(FOLDS)
    losses = np.linspace(0.3, 0.6, FOLDS) + configuration.params["batch_size"] / 100 + noise
    return losses + 10 * configuration.params["weight_decay"], 0.5 - losses / 10


@pytest.fixture
def mixed(database: Database, make_study: Callable[..., StoredStudy]) -> StoredStudy:
    """A study with five finished configurations, two of them evaluated, and three that ended otherwise."""
    made = make_study(folds=FOLDS)
    ledger = Ledger(database, made)
    for _ in range(5):
        claim = ledger.claim("ann")
        losses, errors = of_folds(claim.configuration)
        seconds = 100.0 / claim.configuration.params["batch_size"]
        done = tiny.outcome_of(
            losses[:, None] / 3,
            losses[:, None],
            errors[:, None],
            seconds=seconds,
            provenance={"host": "here"},
        )
        assert tiny.finish(ledger, claim, done)
    for state in (State.DIVERGED, State.PRUNED, State.FAILED):
        reported.end(database, made, state, "for a test")
    return made


def traded(database: Database, study: StoredStudy, text: str) -> StudyTrade | None:
    with database.snapshot() as connection:
        judged = verdict_on(read_unjudged(connection, study))
        return trade_on(read_chosen(connection, study, choice(text)), judged)


def test_a_stored_front_has_means_intervals_and_what_the_verdict_says(
    database: Database, mixed: StoredStudy
) -> None:
    found = traded(database, mixed, "val_loss,seconds")
    assert len(found.means) == 5
    assert found.lacking == {}
    points = {}
    with database.snapshot() as connection:
        judged = verdict_on(read_unjudged(connection, mixed))
    for configuration in judged.configurations.values():
        losses, _ = of_folds(configuration)
        points[configuration.key] = [losses.mean(), 100.0 / configuration.params["batch_size"]]
    keys = list(points)
    assert {one.configuration.key for one in found.members} == {keys[i] for i in by_loops([*points.values()])}
    first = found.members[0]
    assert (first.configuration.key, first.standing) == (judged.verdict.winner, "the best")
    interval = mean_interval(of_folds(first.configuration)[0].tolist())
    assert first.intervals == (interval, None)
    standings = {one.key: "may be the best" for one in judged.verdict.members[1:]}
    assert all(one.standing == standings.get(one.configuration.key, "") for one in found.members[1:])
    assert traded(database, mixed, "val_loss,seconds").to_json() == found.to_json()


@ON_SQLITE
def test_more_is_better_where_a_metric_or_the_choice_says_so(database: Database, mixed: StoredStudy) -> None:
    def keys(text: str) -> list[str]:
        return [one.configuration.key for one in traded(database, mixed, text).members]

    # The error falls where the loss rises, but for weight decay.
    assert len(keys("val_loss,val_error")) > len(keys("val_loss,val_error:max")) >= 1
    metrics = mixed.traits.metrics | {"val_error": Metric(percent=True, maximise=True)}
    turned = replace(mixed, traits=replace(mixed.traits, metrics=metrics))
    assert [one.configuration.key for one in traded(database, turned, "val_loss,val_error").members] == keys(
        "val_loss,val_error:max"
    )
    assert keys("val_loss:min,val_error:min") == keys("val_loss,val_error")
    assert "val_error (more is better)" in traded(database, mixed, "val_loss,val_error:max").title


@ON_SQLITE
def test_seconds_vary_by_fold_where_folds_were_trained_one_by_one(
    database: Database, mixed: StoredStudy
) -> None:
    tiny.execute(database, "update pairsearch_runs set seconds = 1 + run")
    assert {one.intervals[1] for one in traded(database, mixed, "val_loss,seconds").members} == {None}
    apart = replace(mixed, traits=replace(mixed.traits, together=False))
    found = traded(database, apart, "val_loss,seconds")
    assert set(found.means[:, 1]) == {1 + 2 + 3 + 4 + 5 + 6}
    interval = mean_interval([6.0 * fold for fold in range(1, FOLDS + 1)])
    assert found.members[0].intervals[1] == interval
    # A fold that was loaded has none of its own: then these are the stored sums.
    tiny.execute(database, "update pairsearch_runs set seconds = null where run = 0")
    found = traded(database, apart, "val_loss,seconds")
    assert set(found.means[:, 1]) <= {10.0, 4.0}
    assert found.members[0].intervals[1] is None


@ON_SQLITE
def test_facts_that_are_numbers_count_for_configurations_that_have_them(
    database: Database, mixed: StoredStudy
) -> None:
    small, large = [one.configuration for one in traded(database, mixed, "val_loss,val_error").members][:2]
    result = RunResult(0, {"test_error": [0.1], "test_loss": [0.3]})
    reported.store_round(database, mixed, small, result, {"parameters": "1,250", "net": "a", "depth": "2.5"})
    reported.store_round(
        database, mixed, large, result, {"parameters": "12,500", "depth": "nan", "seed": "3"}
    )
    found = traded(database, mixed, "parameters,val_loss")
    assert found.means[:, 0].tolist() in ([1250, 12500], [12500, 1250])
    assert found.lacking == {"parameters": 3}
    assert "Left out: 3 finished without parameters." in found.lines()
    cells = [[field.cell(one) for field in found.fields()] for one in found.members]
    assert "1,250" in cells[0]
    assert traded(database, mixed, "depth,val_loss").lacking == {"depth": 4}
    with pytest.raises(
        StudyError, match="'net' to trade: expected some of val_loss, val_error, depth, parameters, se"
    ):
        traded(database, mixed, "val_loss,net")
    with pytest.raises(StudyError, match="no figure 'train_loss'"):
        traded(database, mixed, "val_loss,train_loss")
    with pytest.raises(StudyError, match="no finished configuration has all of depth, seed: choose"):
        traded(database, mixed, "depth,seed")
    # Neither varies by fold.
    assert traded(database, mixed, "parameters,depth").draws == 0


@pytest.mark.parametrize("text", ["val_loss", "", ",", "val_loss,val_loss:max"])
def test_a_choice_has_two_figures_or_more(text: str) -> None:
    with pytest.raises(InputError, match=r"--trade .*(two figures or more|named twice)"):
        choice(text)


@ON_SQLITE
def test_nothing_is_traded_while_nothing_is_finished(
    database: Database, make_study: Callable[..., StoredStudy]
) -> None:
    assert traded(database, make_study(), "val_loss,seconds") is None


@ON_SQLITE
def test_the_report_has_a_section_that_is_the_same_each_time(database: Database, mixed: StoredStudy) -> None:
    pages = [compose_stored(database, [mixed], trade=choice("val_loss,val_error,seconds")) for _ in range(2)]
    (section,) = [one for one in pages[0].parts[1].sections if one.title == "Trade-offs"]
    assert section in pages[1].parts[1].sections
    found = traded(database, mixed, "val_loss,val_error,seconds")
    assert [one.text for one in section.blocks if isinstance(one, Paragraph)] == found.lines()
    (table,) = [one for one in section.blocks if isinstance(one, Table)]
    assert len(table.rows) == len(found.members)
    assert table.caption.startswith("Trade-off between val_loss, val_error and seconds: ")
    assert "tiny-trade-off" in [one.name for one in pages[0].figures]
    assert "Trade-offs" in render(pages[0])
    assert "Trade-offs" not in render(compose_stored(database, [mixed]))


@ON_SQLITE
def test_best_prints_the_front_below_the_verdict(
    database: Database, mixed: StoredStudy, tmp_path: Path
) -> None:
    storage = {"PAIRSEARCH_STORAGE": database.url.render_as_string(hide_password=False)}
    found = traded(database, mixed, "val_loss,seconds")
    ended = programs.run(tmp_path, "best", "tiny", "--trade", "val_loss,seconds", **storage)
    assert found.title in ended.out
    assert ended.out.splitlines()[-2:] == found.lines()
    told = json.loads(
        programs.run(tmp_path, "best", "tiny", "--trade", "val_loss,seconds", "--json", **storage).out
    )
    assert told["trade"] == json.loads(json.dumps(found.to_json()))
    wrong = programs.run(tmp_path, "best", "tiny", "--trade", "val_loss,speed", **storage)
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.startswith(
        "error: tiny has no figure 'speed' to trade: expected some of val_loss, val_error, "
    )
