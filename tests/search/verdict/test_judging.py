"""The verdict of a stored study, from the rows that workers write, and how `best` tells it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import programs
import pytest
import tiny
from sqlalchemy import text

from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import OPEN, State
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.fold_figures import read_unjudged
from pairsearch.search.results.ranking import read_best
from pairsearch.search.verdict.judging import judge
from pairsearch.search.verdict.sentences import LOST, verdict_json, verdict_lines
from pairsearch.search.verdict.study_verdict import StudyVerdict, verdict_on
from pairsearch.studies.configuration import Configuration, describe
from pairsearch.studies.intervals import FloatArray

# Where the kind of database makes no difference: both read the same figures, as the first test shows.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

MakeStudy = Callable[..., StoredStudy]

FOLDS = 6
Losses = Callable[[Configuration], FloatArray]


def decay_hurts(configuration: Configuration) -> FloatArray:
    """Losses of the folds: a weight decay costs a whole unit, everything else is lost in the noise."""
    place = tiny.definition().grid.configurations().index(configuration)
    noise = 0.02 * np.random.default_rng(place).standard_normal(FOLDS)
    return np.linspace(0.3, 0.6, FOLDS) + 10 * configuration.params["weight_decay"] + noise


def outcome(configuration: Configuration, losses: FloatArray, metric: str = "val_loss") -> Outcome:
    """A finished outcome with these last losses, and errors that are lower where a loss is higher."""
    errors = 0.5 - losses / 10
    return tiny.outcome_of(
        losses[:, None] / 3,
        losses[:, None],
        errors[:, None],
        value=float((losses if metric == "val_loss" else errors).mean()),
        seconds=configuration.params["batch_size"] + 1e4 * configuration.params["learning_rate"],
        provenance={"host": "here"},
    )


def fill(
    database: Database, study: StoredStudy, losses: Losses = decay_hurts, count: int | None = None
) -> None:
    """Finish so many configurations of the study, all if not said."""
    ledger, metric = Ledger(database, study), study.definition.metric
    for _ in range(count or tiny.count(ledger, *OPEN)):
        claim = ledger.claim("ann")
        assert claim is not None
        assert tiny.finish(ledger, claim, outcome(claim.configuration, losses(claim.configuration), metric))


def judge_study(database: Database, study: StoredStudy) -> StudyVerdict:
    """The verdict on what the study has so far."""
    with database.snapshot() as connection:
        return verdict_on(read_unjudged(connection, study))


def change(database: Database, statement: str) -> None:
    with database.write() as connection:
        connection.execute(text(statement))


def keys(found: StudyVerdict) -> list[str]:
    assert found.verdict is not None
    return [member.key for member in found.verdict.members]


def test_the_verdict_is_that_of_the_stored_figures(database: Database, make_study: MakeStudy) -> None:
    study = make_study(folds=FOLDS)
    fill(database, study)
    found = judge_study(database, study)
    ranked = [entry.configuration for entry in read_best(database, study, 8)]
    assert found.verdict.alpha == 0.05
    assert found.verdict == judge(
        np.array([decay_hurts(configuration) for configuration in ranked]),
        [configuration.key for configuration in ranked],
        np.array([outcome(c, decay_hurts(c)).seconds for c in ranked]),
        overlap=0.0,
        seed=study.definition.seed,
    )
    assert found.verdict is not None
    assert found.verdict.winner == ranked[0].key
    assert set(keys(found)) == {c.key for c in ranked if c.params["weight_decay"] == 0.0}
    assert found.verdict.cheapest == tiny.point(10, 1e-4, 0.0).key
    assert set(found.configurations) == {configuration.key for configuration in ranked}
    assert (found.metric, found.open, found.provisional) == ("val_loss", 0, False)
    assert judge_study(database, study) == found


@ON_SQLITE
def test_the_mean_of_a_share_is_expected_to_be_one(database: Database, make_study: MakeStudy) -> None:
    """The errors of two folds are 0: their t interval reaches below."""
    study = make_study(folds=FOLDS, metric="val_error")
    fill(database, study, lambda configuration: 5.0 - np.arange(FOLDS) % 2 - decay_hurts(configuration) / 100)
    low, high = judge_study(database, study).verdict.interval
    assert low == 0.0
    assert 0.0 < high < 1.0


@ON_SQLITE
def test_the_verdict_is_by_the_metric_and_either_winner_is_named(
    database: Database, make_study: MakeStudy
) -> None:
    study = make_study(folds=FOLDS, metric="val_error")
    fill(database, study)
    found = judge_study(database, study)
    by_loss, by_error = found.winners["val_loss"], found.winners["val_error"]
    assert by_loss.configuration.params["weight_decay"] == 0.0
    assert by_error.configuration.params["weight_decay"] == 0.1
    assert keys(found)[0] == by_error.configuration.key
    assert by_loss.figures["val_loss"] == pytest.approx(decay_hurts(by_loss.configuration).mean())
    lines = verdict_lines(found)
    [line] = [line for line in lines if line.startswith("By val_loss another is best")]
    assert f"val_loss {by_loss.figures['val_loss']:.4f}" in line
    assert f"val_error {100 * by_loss.figures['val_error']:.2f} %" in line
    assert not [line for line in lines if line.startswith("By train_loss")], (
        "nothing is chosen by training figures"
    )


@ON_SQLITE
@pytest.mark.parametrize("folds", [FOLDS, 12])
def test_the_verdict_of_a_maximised_metric_is_the_mirror_image_of_the_minimised_one(
    database: Database, make_study: MakeStudy, folds: int
) -> None:
    def losses(configuration: Configuration) -> FloatArray:
        return np.concatenate([decay_hurts(configuration), decay_hurts(configuration) ** 2])[:folds]

    low = make_study(folds=folds)
    high = make_study(name="high", folds=folds, metrics={"val_loss": {"maximise": True}})
    fill(database, low, losses)
    fill(database, high, lambda configuration: -losses(configuration))
    one, other = judge_study(database, low), judge_study(database, high)
    assert one.verdict is not None
    assert other.verdict == one.verdict
    assert other.configurations == one.configurations
    assert other.value(one.verdict.mean) == -one.value(one.verdict.mean)
    ranked = [[entry.configuration for entry in read_best(database, study, 8)] for study in (low, high)]
    assert ranked[0] == ranked[1]
    assert other.winners["val_loss"].configuration == one.winners["val_loss"].configuration == ranked[0][0]
    told, turned = verdict_json(one), verdict_json(other)
    assert told is not None
    assert turned is not None
    assert [entry["mean"] for entry in turned["members"]] == [-entry["mean"] for entry in told["members"]]
    assert turned["interval"] == [-value for value in reversed(told["interval"])]
    same = ("test", "alpha", "optimism", "regret", "others", "winner", "cheapest", "considered", "excluded")
    assert [turned[name] for name in same] == [told[name] for name in same]
    assert [entry["difference"] for entry in turned["members"]] == [
        entry["difference"] for entry in told["members"]
    ]
    line = next(line for line in verdict_lines(other) if line.startswith("On fresh folds"))
    best, optimism = ranked_value(database, high), one.verdict.optimism
    assert optimism is not None
    low, high = turned["interval"]
    assert (
        f"about {best - optimism:.4f} instead of {best:.4f}; between {low:.4f} and {high:.4f} (95 %)." in line
    )


@ON_SQLITE
def test_the_cheapest_are_named_with_their_seconds(database: Database, make_study: MakeStudy) -> None:
    study = make_study(folds=FOLDS)
    fill(database, study)
    found = judge_study(database, study)
    assert found.verdict is not None
    members = keys(found)
    for winner, cheapest, within, said in (
        (members[0], members[0], members[0], "the best itself, 1.5 s. Cheapest {}: the same."),
        (members[0], members[1], members[1], f"{named(found, members[1])}, 2.5 s. Cheapest {{}}: the same."),
        (
            members[0],
            members[1],
            members[0],
            f"{named(found, members[1])}, 2.5 s. Cheapest {{}}: the best itself, 1.5 s.",
        ),
    ):
        verdict = replace(found.verdict, winner=winner, cheapest=cheapest, cheapest_within_one_error=within)
        seconds = dict(found.seconds) | {members[0]: 1.5, members[1]: 2.5}
        line = verdict_lines(replace(found, verdict=verdict, seconds=seconds))[1]
        assert line.endswith(": " + said.format("with a mean within one standard error of the best"))


def named(found: StudyVerdict, key: str) -> str:
    return describe(found.configurations[key].params)


def ranked_value(database: Database, study: StoredStudy) -> float:
    """The value of the best."""
    return read_best(database, study, 1)[0].value


@ON_SQLITE
def test_folds_of_one_sample_are_judged_as_overlapping(database: Database, make_study: MakeStudy) -> None:
    study = make_study(folds=FOLDS, protocol="kfold", validation_size=None)
    assert study.traits.overlap == pytest.approx(1 / 5)
    fill(database, study)
    found = judge_study(database, study)
    assert found.verdict is not None
    assert "the variance corrected for overlapping folds (Nadeau & Bengio 2003)" in found.verdict.test
    told = verdict_json(found)
    assert told is not None
    assert told["overlap"] == found.overlap == study.traits.overlap


def test_what_has_no_result_is_counted_and_not_judged(database: Database, make_study: MakeStudy) -> None:
    study = make_study(folds=FOLDS)
    fill(database, study, count=6)
    # The best ones, so that they would be in the set if their figures were read.
    ids = tiny.rows(database, "configurations", "id", "where state = 'finished' order by value")
    for (row,), state in zip(ids, (State.PRUNED, State.DIVERGED, State.FAILED), strict=False):
        statement = f"update pairsearch_configurations set state = '{state}', value = null where id = {row}"  # noqa: S608
        change(database, statement)
    found = judge_study(database, study)
    assert found.verdict is not None
    assert (found.verdict.considered, found.verdict.excluded, found.open) == (3, 3, 2)
    assert len(found.configurations) == 3
    lines = verdict_lines(found)
    assert "Left out: 3 without a figure in every fold (diverged, pruned or failed)." in lines
    assert "Provisional: 2 configurations are still to be trained." in lines
    told = verdict_json(found)
    assert told is not None
    assert (told["provisional"], told["open"], told["excluded"]) == (True, 2, 3)


@pytest.mark.parametrize(
    "damage", ["delete from pairsearch_runs", "update pairsearch_runs set figures = '{}'"]
)
def test_a_finished_configuration_that_lacks_a_fold_is_left_out(
    database: Database, make_study: MakeStudy, damage: str
) -> None:
    study = make_study(folds=FOLDS)
    fill(database, study)
    [(best,)] = tiny.rows(database, "configurations", "id", "order by value limit 1")
    mine = f"key = (select key from pairsearch_configurations where id = {best})"  # noqa: S608 - as above
    change(database, f"{damage} where run = 3 and {mine}")
    found = judge_study(database, study)
    assert found.verdict is not None
    assert (found.verdict.considered, found.verdict.excluded) == (7, 1)
    change(database, f"{damage} where run = 3")
    assert judge_study(database, study).verdict is None


@ON_SQLITE
def test_nothing_finished_gives_no_verdict(database: Database, study: StoredStudy) -> None:
    found = judge_study(database, study)
    assert (found.verdict, found.winners, found.open) == (None, {}, 8)
    assert verdict_lines(found) == []
    assert verdict_json(found) is None


@ON_SQLITE
def test_one_configuration_has_nothing_to_be_compared_with(database: Database, make_study: MakeStudy) -> None:
    study = make_study(folds=FOLDS)
    fill(database, study, count=1)
    lines = verdict_lines(judge_study(database, study))
    assert lines[0] == "Verdict: there is one configuration to judge, and nothing to compare it with."


@ON_SQLITE
@pytest.mark.parametrize(("folds", "said"), [(1, "1 fold can"), (3, "3 folds can")])
def test_few_folds_are_said_to_tell_nothing(
    database: Database, make_study: MakeStudy, folds: int, said: str
) -> None:
    study = make_study(folds=folds)
    fill(database, study, lambda configuration: decay_hurts(configuration)[:folds])
    found = judge_study(database, study)
    assert len(keys(found)) == 8
    assert verdict_lines(found)[0].startswith(f"Verdict: {said} tell nothing at the 5 % level")
    json.dumps(verdict_json(found), allow_nan=False)


@ON_SQLITE
@pytest.mark.parametrize("last_bits", [0.0, 1e-15])
def test_equal_figures_rank_and_win_in_the_same_order(
    database: Database, make_study: MakeStudy, last_bits: float
) -> None:
    study = make_study(folds=FOLDS)
    places = iter(range(8))
    fill(database, study, lambda _: np.full(FOLDS, 0.3 + next(places) * last_bits))
    found = judge_study(database, study)
    assert keys(found) == [entry.configuration.key for entry in read_best(database, study, 8)]
    assert found.winners["val_loss"] == found.winners["val_error"]
    assert verdict_lines(found)[0].startswith(
        "Verdict by val_loss: each of the 8 configurations may be the best"
    )


@ON_SQLITE
@pytest.mark.parametrize("pruner", ["median", "race"])
def test_a_verdict_covers_what_was_not_pruned_unless_the_race_stopped_it(
    database: Database, make_study: MakeStudy, pruner: str
) -> None:
    study = make_study(folds=FOLDS, pruner="median")
    fill(database, study, count=7)
    ledger = Ledger(database, study)
    claim = ledger.claim("ann")
    whole = outcome(claim.configuration, decay_hurts(claim.configuration))
    assert tiny.finish(ledger, claim, replace(whole, state=State.PRUNED, value=None, reason="pruned"))
    # The race takes folds in turn, and this study's train together: what is there is read as its own.
    race = study.definition.model_copy(update={"pruner": pruner})
    found = judge_study(database, replace(study, definition=race))
    first, second, *_ = verdict_lines(found)
    told = verdict_json(found)
    assert told["excluded"] == 1
    if pruner == "race":
        assert first.startswith("Verdict by val_loss: 3 of 7 may be")
        assert (told["uncovered"], "cover" in second) == (0, False)
        return
    assert first.startswith("Verdict by val_loss among those that were not pruned: 3 of 7 may be the best")
    assert second == (
        "It does not cover the 1 configuration that was pruned, among which the best may be. Pruner median lost the "
        "best in 88 to 96 % of orders on three of the paper's four studies."
    )
    assert (told["uncovered"], told["pruner"]) == (1, "median")
    unknown = replace(found, pruner="none", uncovered=2)
    assert verdict_lines(unknown)[1] == (
        "It does not cover the 2 configurations that were pruned, among which the best may be."
    )


def test_what_is_said_of_pruners_is_what_the_page_on_early_stopping_measured() -> None:
    page = (programs.ROOT / "docs" / "explanation" / "early-stopping.md").read_text()
    table = re.findall(r"^\| (?:B1|B2|WS|WSAL) \|(.*, .*)\|$", page, re.MULTILINE)[-4:]
    for place, pruner in enumerate(("median", "hyperband", "wilcoxon")):
        lost = sorted(int(re.findall(r"(\d+) %", row.split("|")[place])[1]) for row in table)
        # Those that are far above the others' rate.
        often = [share for share in lost if share > max(lost) / 2]
        low, high = min(often), max(often)
        share = f"{low} %" if low == high else f"{low} to {high} %"
        count = {1: "one", 3: "three"}[len(often)]
        assert LOST[pruner] == f"{share} of orders on {count} of the paper's four studies"


@ON_SQLITE
def test_the_json_has_every_figure_of_the_verdict(database: Database, make_study: MakeStudy) -> None:
    study = make_study(folds=FOLDS)
    fill(database, study)
    found = judge_study(database, study)
    told = json.loads(json.dumps(verdict_json(found), allow_nan=False))
    assert found.verdict is not None
    for name in ("test", "alpha", "folds", "considered", "excluded", "optimism", "regret", "mean"):
        assert told[name] == getattr(found.verdict, name)
    assert [Configuration(member["params"]).key for member in told["members"]] == keys(found)
    assert [member["p"] for member in told["members"]] == [member.p for member in found.verdict.members]
    assert Configuration(told["winner"]).key == found.verdict.winner
    assert Configuration(told["cheapest"]).key == found.verdict.cheapest
    assert Configuration(told["cheapest_within_one_error"]).key == found.verdict.cheapest_within_one_error
    assert told["interval"] == list(found.verdict.interval or ())
    assert found.verdict.others is not None
    assert told["others"]["count"] == found.verdict.others.count == 4
    assert told["winners"]["val_loss"]["params"] == told["winner"]


def test_best_tells_the_verdict_below_its_table_and_needs_no_scipy(
    database: Database, make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study(folds=FOLDS)
    fill(database, study, count=7)
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pairsearch", "best", study.name],
        cwd=tmp_path,
        env=programs.environment(PAIRSEARCH_STORAGE=database.url.render_as_string(hide_password=False)),
        capture_output=True,
        text=True,
        timeout=programs.PATIENCE,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in ended.stderr.splitlines()}
    assert "numpy" in imported
    assert imported & {"scipy", "sklearn", "torch", "optuna", "numba"} == set()
    lines = verdict_lines(judge_study(database, study))
    assert ended.stdout.splitlines()[-len(lines) :] == lines
    assert ended.stdout.startswith(f"{study.name}: best by val_loss")
    assert "Provisional: 1 configuration is still to be trained." in ended.stdout
