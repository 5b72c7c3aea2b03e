"""What a problem reports is recorded by run and epoch, and refused where it cannot be meant."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest

from pairsearch.search.ledger.checkpoints import Kept
from pairsearch.search.workers.given import of_each
from pairsearch.search.workers.recorder import Recorder
from pairsearch.studies.errors import ReportError
from pairsearch.studies.problem import Run, Stopped

RUNS = [Run("fold", index, 2, 4, seed=7) for index in range(2)]


def recorder(
    on_epoch: Callable[[Recorder], bool] = lambda _: True, required: str | None = "loss"
) -> Recorder:
    return Recorder(RUNS, ["loss", "error"], required, on_epoch)


def test_figures_are_kept_by_epoch_and_what_was_not_reported_is_no_number() -> None:
    report = recorder()
    report(1, [{"loss": 0.5}, {"loss": 0.6}])
    report(3, [{"loss": 0.3, "error": 1}, {"loss": 0.4}])
    assert report.epoch == 3
    assert (report.latest("loss"), report.names()) == ([0.3, 0.4], ["loss", "error"])
    assert report.latest("error") == pytest.approx([1.0, math.nan], nan_ok=True)
    first, second = report.results()
    assert (first.index, second.index, first.epochs, first.diverged) == (0, 1, 3, None)
    assert first.curves["loss"] == pytest.approx([0.5, math.nan, 0.3], nan_ok=True)
    assert first.curves["error"] == pytest.approx([math.nan, math.nan, 1.0], nan_ok=True)
    assert second.curves["loss"] == pytest.approx([0.6, math.nan, 0.4], nan_ok=True)


def test_a_time_limit_stops_at_a_report_and_lets_a_run_that_has_reported_its_last_epoch_count() -> None:
    report = Recorder(RUNS, ["loss"], "loss", lambda _: True, limit=0.0)
    with pytest.raises(Stopped):
        report(3, [{"loss": 0.5}] * 2)
    assert (report.late, report.stopped) == (True, True)
    last = Recorder(RUNS, ["loss"], "loss", lambda _: True, limit=0.0)
    last(4, [{"loss": 0.5}] * 2)
    assert (last.late, last.stopped) == (False, False)
    assert recorder().left is None


def test_the_time_of_a_training_counts_from_its_begin_with_what_was_before_a_checkpoint() -> None:
    report = Recorder(RUNS[:1], ["loss"], "loss", lambda _: True, limit=100.0)
    time.sleep(0.2)
    assert 0.2 <= report.seconds < 90.0
    assert report.left == pytest.approx(100.0 - report.seconds, abs=5.0)
    before = report.seconds
    report.begin()
    assert report.seconds < before
    report.restore(Kept(1, {"loss": [0.5]}, 60.0, b""))
    assert 60.0 <= report.seconds < 90.0
    report(2, [{"loss": 0.4}])
    report.poll()
    kept = report.kept(2, b"state")
    assert (kept.epoch, kept.curves, kept.content) == (2, {"loss": [0.5, 0.4]}, b"state")
    assert 60.0 <= kept.seconds < 90.0
    assert not report.late


def test_what_asks_between_reports_goes_on_as_long_as_the_worker_says_so() -> None:
    answers = iter([True, True, False, True])
    polled: list[bool] = []

    def on_epoch(recorder: Recorder) -> bool:
        polled.append(recorder.polled)
        return next(answers)

    report = recorder(on_epoch)
    report.poll()
    report(1, [{"loss": 0.5}] * 2)
    for _ in range(2):
        with pytest.raises(Stopped):
            report.poll()
    assert polled == [True, False, True]
    assert (report.stopped, report.late, report.polled) == (True, False, False)


@pytest.mark.parametrize(("value", "named"), [(math.inf, ()), (math.nan, ()), (0.9, (1,))])
def test_a_run_that_diverged_ends_with_the_epoch_in_which_it_did(
    value: float, named: tuple[int, ...]
) -> None:
    report = recorder()
    report(1, [{"loss": 0.5}, {"loss": value}], named)
    report(2, [{"loss": 0.4}, {"loss": 0.1}])
    assert report.diverged == [None, 1]
    first, second = report.results()
    assert (first.diverged, first.final) == (None, {"loss": 0.4})
    assert (second.diverged, second.final, second.epochs) == (1, {}, 1)


def test_a_report_after_the_stop_is_stopped_again_and_not_kept() -> None:
    report = recorder(lambda recorder: recorder.epoch < 2)
    report(1, [{"loss": 0.5}] * 2)
    for epoch in (2, 3):
        with pytest.raises(Stopped):
            report(epoch, [{"loss": 0.4}] * 2)
    assert (report.stopped, report.epoch) == (True, 2)
    assert [result.epochs for result in report.results()] == [2, 2]


@pytest.mark.parametrize(
    ("epoch", "figures", "complaint"),
    [
        (1, [{"loss": 0.1}] * 2, "an epoch as an integer above 1, got 1"),
        (2.0, [{"loss": 0.1}] * 2, "an epoch as an integer above 1, got 2.0"),
        (True, [{"loss": 0.1}] * 2, "an epoch as an integer above 1, got True"),
        (5, [{"loss": 0.1}] * 2, "an epoch of at most 4, got 5"),
        (2, [{"loss": 0.1}], "the figures of 2 runs, got 1"),
        (2, [{"loss": 0.1}] * 3, "the figures of 2 runs, got 3"),
        (2, [{"loss": 0.1}, {"los": 0.1}], "figure 'los' is not one of the problem's metrics: expected loss, error"),
        (2, [{"loss": 0.1}, {"error": 0.1}], "no 'loss' among error: it is the study's metric"),
        (2, [{"loss": 0.1}, {}], "no 'loss' among nothing"),
        (2, [{"loss": 0.1}, {"loss": True}], "figure 'loss' is no number: got bool True"),
        (2, [{"loss": 0.1}, {"loss": "x" * 99}], f"got str '{'x' * 59}..."),
        (2, [{"loss": 0.1}, {"loss": "x" * 58}], f"got str '{'x' * 58}'"),
        (2, [{"loss": 0.1}, {"loss": "x" * 59}], f"got str '{'x' * 59}..."),
        (2, [{"loss": 0.1}, {"loss": b"1"}], "got bytes b'1'"),
        (2, [{"loss": 0.1}, {"loss": None}], "got NoneType None"),
    ],
)  # fmt: skip
def test_a_report_that_cannot_be_meant_is_refused(
    epoch: int, figures: list[dict[str, float]], complaint: str
) -> None:
    report = recorder()
    report(1, [{"loss": 0.5}] * 2)
    with pytest.raises(ReportError) as refused:
        report(epoch, figures)
    assert complaint in str(refused.value)
    assert report.epoch == 1


def test_a_run_without_a_report_has_no_result() -> None:
    with pytest.raises(ReportError, match="fold 0 ended without a report"):
        recorder().results()
    # Rounds need not report the metric.
    free = recorder(required=None)
    free(4, [{"error": 0.1}, {"error": 0.2}])
    assert [result.final["error"] for result in free.results()] == [0.1, 0.2]


def test_weights_are_those_of_each_run_or_of_none() -> None:
    assert of_each(None, 2) == [None, None]
    assert of_each(({"a": 1}, None), 2) == [{"a": 1}, None]
    for wrong in ([None], [None] * 3, {"a": 1}, "ab"):
        with pytest.raises(ReportError, match="expected a list of the weights of 2 runs"):
            of_each(wrong, 2)
