"""What every engine keeps: workers are submitted, counted and ended, and a refusal leaves nothing."""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import programs
import psutil
import pytest
from gathered import BEHIND, THERE, MakeEngine, Started

from pairsearch.search.common.errors import ExitCode, InputError
from pairsearch.search.engines.contract import GROUP, Engine, EngineError, Order, engine_named
from pairsearch.search.engines.executor import Executed
from pairsearch.search.workers.program import MAIN

CONTENT = b"a definition\n"


@pytest.fixture
def order(tmp_path: Path) -> Iterator[Order]:
    """Workers that wait for a database that does not answer, until they are ended."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        words = ("worker", "b1", "--patience", "600")
        # `connect_timeout` ends a try; the port is listened on, and nobody answers.
        url = f"postgresql://nobody@127.0.0.1:{port}/nowhere?connect_timeout=2"
        (tmp_path / "mine.toml").write_bytes(CONTENT)
        files = {"mine.toml": CONTENT}
        yield Order(words, {"PAIRSEARCH_STORAGE": url}, tmp_path, files, name="pairsearch-contract")


def workers_of(order: Order) -> list[psutil.Process]:
    """The processes that work on an order, on this machine."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if "python" in Path(words[0]).name and {MAIN, "worker"} <= set(words):
            try:
                environment = process.environ()
            except psutil.Error:  # it ended
                continue
            if environment.get("PAIRSEARCH_STORAGE") == order.environment["PAIRSEARCH_STORAGE"]:
                found.append(process)
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait for what all processes of this machine are looked at for, or a scheduler is asked for."""
    programs.wait_for(condition, what, pause=0.3)


def end(engine: Engine, ids: Collection[str], order: Order) -> None:
    """End workers by the engine; those that it cannot end once they run, as the ledger would."""
    engine.stop(ids)
    if not engine.lasting:
        wait_for(lambda: bool(workers_of(order)), "workers that run")
        for process in workers_of(order):
            process.terminate()


def alive(engine: Engine, ids: Collection[str]) -> int:
    counts = engine.count(ids)
    assert set(counts) == set(ids)
    return sum(count.alive for count in counts.values())


def test_workers_are_submitted_counted_and_ended(make_engine: MakeEngine, order: Order) -> None:
    engine = make_engine()
    engine.check(order, 2)
    ids = engine.submit(order, 2)
    try:
        assert sum(ids.values()) == 2
        assert alive(engine, list(ids)) == 2
        if engine.local:
            wait_for(lambda: len(workers_of(order)) == 2, "two workers")
            assert alive(engine, list(ids)) == 2
            for process in workers_of(order):
                assert Path(process.cwd(), "mine.toml").read_bytes() == CONTENT
    finally:
        end(engine, list(ids), order)
    wait_for(lambda: alive(engine, list(ids)) == 0, "the end of all workers")
    wait_for(lambda: not workers_of(order), "the end of their processes")
    # Another process asks later, and for what has ended.
    engine.stop(list(ids))
    if engine.lasting:
        assert alive(make_engine(), list(ids)) == 0


def test_a_worker_that_ends_by_itself_is_not_started_again_and_leaves_its_last_line(
    make_engine: MakeEngine, order: Order
) -> None:
    engine = make_engine()
    words = ("worker", "b1", "--no-such")
    ids = engine.submit(replace(order, words=words), 1)
    wait_for(lambda: alive(engine, list(ids)) == 0, "the end of the worker")
    # Not all engines know it.
    assert "--no-such" in (engine.last_line(list(ids)) or "--no-such")


@pytest.mark.parametrize("name", THERE)
def test_ids_that_are_forgotten_are_no_error(name: str, started: Started) -> None:
    engine = started(name)()
    for ids in (["987654"], ["987654", "987655"], []):
        assert alive(engine, ids) == 0
        engine.stop(ids)
    assert engine.last_line(["987654"]) == ""


@pytest.mark.parametrize("name", THERE)
def test_a_refusal_has_the_engine_s_own_words_and_leaves_nothing(
    name: str, started: Started, order: Order
) -> None:
    refused = getattr(importlib.import_module(BEHIND[name]), "REFUSED", None)
    if refused is None:
        return
    options, words = refused
    engine = started(name)(**options)
    with pytest.raises(EngineError, match=words):
        engine.check(order, 2)
    with pytest.raises(EngineError, match=words):
        engine.submit(order, 2)
    assert workers_of(order) == []
    assert engine_named(name, engine.address).name == name


def test_an_executor_that_is_shut_down_refuses(order: Order) -> None:
    with ThreadPoolExecutor(1) as pool:
        engine = Executed(pool)
    with pytest.raises(EngineError, match="takes no more work: cannot schedule new futures"):
        engine.submit(order, 2)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_module_of_anyone", r"\(No module named 'no_such_module_of_anyone'\)"),
        ("from os import no_such_name", r"\(cannot import name 'no_such_name' from 'os' "),
        ("", r"\(module 'broken_engine' has no attribute 'Cloud'\)"),
    ],
)
def test_an_engine_of_another_package_that_cannot_be_imported_is_one_line(
    code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_engine.py").write_text(code)
    about = tmp_path / "broken_engine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-engine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\ncloud = broken_engine:Cloud\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_engine", raising=False)
    with pytest.raises(
        InputError, match=f"^--on cloud cannot be imported {words}.*: install what "
    ) as refused:
        engine_named("cloud")
    assert refused.value.exit_code is ExitCode.BAD_INPUT
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="expected one of cloud, dask, k8s, ray, slurm"):
        engine_named("clouds")
