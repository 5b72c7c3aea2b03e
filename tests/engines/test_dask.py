"""Tasks of Dask, on a real scheduler with two workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed import Client, Scheduler
from gathered import PASSWORD, Started
from whole import Whole, in_peace

from pairsearch.search.common.errors import InputError
from pairsearch.search.engines import dask_futures
from pairsearch.search.engines.contract import EngineError, Order, engine_named


def test_what_cannot_be_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:2")
    monkeypatch.setattr(dask_futures, "PATIENCE_SECONDS", 0.5)
    assert engine_named("dask").address == "tcp://127.0.0.1:2"
    for options, message in [
        ({"resources": "GPU"}, "--option resources=GPU: 'GPU' is no amount"),
        ({"cpus": "1"}, "dask has no such option: expected one of resources"),
    ]:
        with pytest.raises(InputError, match=message):
            engine_named("dask", None, options)
    with pytest.raises(
        EngineError, match=r"dask at tcp://127\.0\.0\.1:1: Timed out trying to connect"
    ) as caught:
        engine_named("dask", "tcp://127.0.0.1:1").count(["task"])
    assert "\n" not in str(caught.value)


def test_workers_without_our_version_are_refused(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    order = Order(words=("worker",), environment={}, folder=Path("/"))
    started("dask")().check(order, 1)
    monkeypatch.setattr(dask_futures, "OURS", "0.0")
    with pytest.raises(
        EngineError, match=r"worker tcp://.* has pairsearch .*: expected pairsearch 0\.0, as here"
    ):
        started("dask")().check(order, 1)
    monkeypatch.setattr(dask_futures, "DISTRIBUTION", "no-such-distribution")
    with pytest.raises(EngineError, match=r"has no pairsearch: expected pairsearch 0\.0, as here"):
        started("dask")().check(order, 1)


def test_a_task_without_a_place_waits_and_can_be_taken_back(started: Started) -> None:
    engine = started("dask")(resources="GPU:1")
    ids = engine.submit(Order(words=("worker", "none"), environment={}, folder=Path("/")), 2)
    assert [tuple(count) for count in engine.count(ids).values()] == [(1, 0)] * 2
    engine.stop(ids)
    assert [count.alive for count in engine.count(ids).values()] == [0, 0]


@pytest.mark.soak
def test_a_study_is_searched_and_evaluated_and_its_password_shown_nowhere(
    started: Started, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, postgresql_url: str
) -> None:
    engine = started("dask")()
    whole = Whole(tmp_path, postgresql_url, engine)
    whole.search_and_evaluate([tmp_path_factory.getbasetemp() / "dask0", tmp_path])

    def all_of(dask_scheduler: Scheduler) -> str:
        tasks = [vars(task.run_spec) for task in dask_scheduler.tasks.values()]
        return repr([tasks, vars(dask_scheduler)])

    with Client(engine.address, set_as_default=False) as client:
        shown = client.run_on_scheduler(all_of)
    assert PASSWORD not in shown
    whole.assert_whole(in_peace())
