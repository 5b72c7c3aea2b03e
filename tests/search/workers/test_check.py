"""`pairsearch check` trains a few points, stores nothing, and says what the promise and the whole grid come to."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from math import nextafter, sqrt
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import cast

import programs
import pytest
import tiny
from scipy import stats

from pairsearch.search.common.errors import WorkError
from pairsearch.search.common.machine import Machine
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.setup.arguments import StudyArgument
from pairsearch.search.workers import program, rehearsal
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.search.workers.rehearsal import Measured, Rehearsal, digest
from pairsearch.studies.configuration import Configuration

MIB = 2**20
WORDS = ["check", "mine", "--points", "7", "--measure", "--device", "cuda", "--set", "data=digits"]


@pytest.fixture
def rehearsed() -> Rehearsal:
    return Rehearsal(tiny.loaded(epochs=6), points=3)


def text(rehearsed: Rehearsal, elsewhere: Measured, name: str, workers: int = 2) -> tuple[bool | None, str]:
    checks = [*rehearsed.promises(elsewhere), *rehearsed.costs(elsewhere, workers)]
    (found,) = [finding for finding in checks if finding.name == name]
    return found.good, found.finding


def with_curve(outcome: Outcome, fold: int, name: str, curve: Sequence[float]) -> Outcome:
    """The outcome with another curve of a figure in one fold."""
    folds = list(outcome.folds)
    folds[fold] = replace(folds[fold], curves={**folds[fold].curves, name: curve})
    return replace(outcome, folds=tuple(folds))


def test_it_holds_a_study_to_the_promise_and_stores_nothing(tmp_path: Path) -> None:
    tiny.write_toml(tmp_path / "tiny.toml")
    ended = programs.run(tmp_path, "check", "tiny.toml", "--data", "digits", "--points", "2", "--json")
    assert (ended.code, ended.err) == (0, "")
    found = {finding["check"]: finding for finding in json.loads(ended.out)}
    assert list(found) == ["definition", "training", "same bits", "contract", "time", "memory", "database"]
    data = f"digits {tiny.loaded().traits.fingerprint[:12]}"
    assert found["definition"]["finding"] == f"8 configurations, 2 folds, 2 epochs, data {data}"
    assert "2 epochs each" in found["training"]["finding"]
    assert found["same bits"]["good"]
    assert found["contract"]["good"]
    assert "from 2 points and 2 of 2 epochs" in found["time"]["finding"]
    assert found["database"]["finding"] == "some 0.0 MB when all is done"
    assert list(tmp_path.glob("*.db*")) == []


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    assert "unknown study 'absent'" in programs.run(tmp_path, "check", "absent", "--data", "digits").complaint
    tiny.write_toml(tmp_path / "tiny.toml", architecture="ws")
    complaint = programs.run(tmp_path, "check", "tiny.toml", "--data", "digits").complaint
    assert "grid.hidden_units: architecture 'ws' needs it" in complaint


def test_figures_that_are_not_the_same_are_named_with_what_they_cost(
    rehearsed: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = rehearsed.measure()
    assert text(rehearsed, measured, "same bits")[0] is True
    good, said = text(rehearsed, replace(measured, digest="other"), "same bits")
    assert not good
    assert "gives other figures trained in this process and in another: results will depend on which" in said
    train, calls = CrossValidation.__call__, iter(range(100))

    def another_each_time(self: CrossValidation, configuration: Configuration) -> Outcome:
        outcome = train(self, configuration)
        assert outcome is not None
        return with_curve(outcome, 0, "val_loss", [0.5, float(next(calls))])

    monkeypatch.setattr(CrossValidation, "__call__", another_each_time)
    _, said = text(rehearsed, measured, "same bits")
    for what in ("trained twice in one process", "its first fold beside the others and alone"):
        assert what in said


def test_the_estimate_is_student_s_and_scales_with_epochs_points_and_workers(rehearsed: Rehearsal) -> None:
    seconds = [1.0, 2.0, 6.0]
    # Three of eight points: the error of the mean is smaller by what was seen of the grid (Cochran, section 2.6).
    error = stats.sem([3.0, 6.0, 18.0]) * sqrt((8 - 3) / 8)
    low, high = stats.t.interval(0.95, 2, loc=9.0, scale=error)
    elsewhere = Measured(rehearsed.measure().digest, seconds, 100 * MIB)
    _, said = text(rehearsed, elsewhere, "time", workers=4)
    assert fmean(seconds) * 6 / 2 == 9.0
    assert f"9.00 s a configuration ({max(0, low):.2f} to {high:.2f}, a 95 % interval from 3 points" in said
    assert f"all 8 by 4 workers, a core each: {8 * 9 / 4:.2f} seconds" in said


def test_memory_that_does_not_hold_the_workers_is_a_warning(
    rehearsed: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Measured(rehearsed.measure().digest, [1.0] * 3, 600 * MIB)
    monkeypatch.setattr(rehearsal, "available_memory", lambda: 2**30)
    assert text(rehearsed, elsewhere, "memory", workers=1)[0] is True
    assert text(rehearsed, elsewhere, "memory") == (False, "600 MiB a worker; 1.0 GiB are free here")
    monkeypatch.setattr(rehearsal, "available_memory", lambda: None)
    assert text(rehearsed, elsewhere, "memory") == (None, "600 MiB a worker")


def test_training_that_raises_names_the_point_and_the_reason(
    rehearsed: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(CrossValidation, "__call__", fail)
    with pytest.raises(WorkError, match=r"^batch_size \d+, learning_rate .*: MemoryError: no room$"):
        rehearsed.measure()


def test_a_digest_is_of_every_curve_in_whatever_order_they_were_reported() -> None:
    outcome = tiny.outcome(tiny.point(10, 1e-3, 0.0))
    for name in ("train_loss", "val_loss", "val_error"):
        first, *others = outcome.folds[1].curves[name]
        other = with_curve(outcome, 1, name, [nextafter(first, 1), *others])
        assert digest(other) != digest(outcome), name
    reported = [replace(fold, curves=dict(reversed(fold.curves.items()))) for fold in outcome.folds]
    assert digest(replace(outcome, folds=tuple(reported))) == digest(outcome)


@pytest.mark.parametrize(
    ("seconds", "shared"),
    [
        # Six of eight points at a third of the epochs; all of them take eight times three times as long.
        (1.0, "3.00 s a configuration (3.00 to 3.00, a 95 % interval from 3 points and 2 of 6 epochs); all 8 by 2 "
         "workers, a core each: 12.00 seconds (12.00 to 12.00)"),
        (5.0, "1.00 minutes (1.00 to 1.00)"),
        (4.99, "59.88 seconds"),
        (300.0, "1.00 hours (1.00 to 1.00)"),
        (299.9, "59.98 minutes"),
    ],
)  # fmt: skip
def test_times_have_the_largest_unit_that_fits(rehearsed: Rehearsal, seconds: float, shared: str) -> None:
    said = {check.name: check for check in rehearsed.costs(Measured("", [seconds] * 3, 2**20), 2)}
    assert shared in said["time"].finding
    assert said["time"].good is None


def test_costs_know_what_is_impossible_a_single_point_and_the_room_in_the_database() -> None:
    rehearsed = Rehearsal(tiny.loaded(epochs=1000, folds=50), points=1)
    elsewhere = Measured("", [4.0], 2**20)
    time, _, database = rehearsed.costs(elsewhere, 1)
    assert time.finding.startswith(
        "2000.00 s a configuration (2000.00 to 2000.00, a 95 % interval from 1 points"
    )
    # 4,000 bytes for a configuration, 400 for a run, 22 for each of three numbers an epoch.
    assert (
        database.finding == f"some {8 * (4000 + 50 * (400 + 3 * 1000 * 22)) / 1e6:,.1f} MB when all is done"
    )
    assert database.finding == "some 26.6 MB when all is done"
    pair = Rehearsal(tiny.loaded(), points=2)
    half = next(pair.costs(Measured("", [4.0], 2**20, impossible=["x: no"]), 1))
    assert half.finding.startswith("2.00 s a configuration (0.00 to ")


def test_a_fresh_process_that_fails_or_takes_too_long_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = cast(StudyArgument, SimpleNamespace(text="mine", here=tmp_path))
    measured = Measured("ab", [1.0, 2.0], 5, "cd", 1, ["x: no"])
    code = (
        "import json, os, sys\nprint(os.getcwd(), file=sys.stderr)\n"
        f"print({json.dumps(asdict(measured))!r}) if sys.argv[1:] == {WORDS} else print(sys.argv[1:])"
    )

    def runs(code: str) -> None:
        monkeypatch.setattr(
            program, "command", lambda *words: [sys.executable, "-I", "-S", "-c", code, *words]
        )

    runs(code)
    machine = Machine(device="cuda", settings={"data": "digits"})
    assert rehearsal.measure_elsewhere(given, machine, 7) == measured
    for code, said in {
        "import os, sys; print('error: ' + os.getcwd(), file=sys.stderr); sys.exit(1)": str(tmp_path),
        "raise SystemExit(3)": "it ended with exit code 3",
    }.items():
        runs(code)
        with pytest.raises(WorkError) as raised:
            rehearsal.measure_elsewhere(given, machine, 7)
        assert str(raised.value) == f"a fresh process cannot train it: {said}"
    monkeypatch.setattr(rehearsal, "PATIENCE_SECONDS", 0.1)
    runs("import time; time.sleep(100)")
    with pytest.raises(WorkError, match=r"^7 points took more than 0 s: try fewer --points$"):
        rehearsal.measure_elsewhere(given, machine, 7)
