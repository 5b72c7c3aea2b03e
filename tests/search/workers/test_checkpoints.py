"""A long run survives its worker: it goes on from its last checkpoint, with the bits of an undisturbed one."""

from __future__ import annotations

import dataclasses
import math
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from sqlalchemy import text

from pairsearch.search.common.machine import Machine
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.checkpoints import Kept
from pairsearch.search.ledger.claims import Claim
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome
from pairsearch.search.ledger.rows import read_runs
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.mirror.trials import open_view
from pairsearch.search.setup.creation import create_study
from pairsearch.search.setup.opening import open_ledger
from pairsearch.search.workers.attempts import ClaimKeeper
from pairsearch.search.workers.failure import TimeLimitError
from pairsearch.search.workers.objective import CrossValidation, Progress
from pairsearch.search.workers.rounds import Rounds
from pairsearch.search.workers.run_files import RunFiles
from pairsearch.search.workers.worker import Worker
from pairsearch.studies.checkpoint_file import pack, unpack
from pairsearch.studies.definition import parse
from pairsearch.studies.errors import ProblemError, ReportError
from pairsearch.studies.loading import Loaded, load
from pairsearch.studies.model_card import as_tensors
from pairsearch.studies.problem import Run

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
EPOCHS = 6
PROBLEM = """
import random
from pairsearch import Metric, OneByOne

class Walk(OneByOne):
    metrics = {"place": Metric()}
    trained = []
    then = {}
    saves_each = 1

    def fit(self, params, run, report):
        chance = random.Random(run.stream("steps"))
        place, done = 0.0, 0
        if (found := run.checkpoint.load()) is not None:
            done, state = found
            place = state["place"]
            chance.setstate(state["chance"])
        for epoch in range(done + 1, run.epochs + 1):
            place += params["x"] * chance.gauss(0.0, 1.0)
            self.trained.append((run.kind, run.index, epoch))
            self.then.get(len(self.trained), int)()
            report(epoch, place=float("nan") if params["x"] < 0 and epoch == 4 else place)
            if epoch % self.saves_each == 0 or run.checkpoint.wanted:
                run.checkpoint.save(epoch, {"place": place, "chance": chance.getstate()})
"""


@pytest.mark.parametrize(
    "state",
    [
        {"none": None, "yes": True, 3: [1, 2.5, "text", b"\0bytes"], "nested": {"tuple": (1, (2, ()), {})}},
        {"large": 2**80, "not a number": [math.inf, -0.0, 1e-320], (1, "a"): "a key of several"},
        {"chance": random.Random(3).getstate(), "numpy": np.random.default_rng(3).bit_generator.state},  # noqa: S311
    ],
)
def test_a_state_comes_back_as_it_was(state: dict[Any, Any]) -> None:
    back = unpack(pack(state))
    assert repr(back) == repr(state)
    assert pack(back) == pack(state)


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "int64", "uint32", "uint8", "bool", ">f8"]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_arrays_come_back_with_type_and_shape(dtype: str, shape: tuple[int, ...]) -> None:
    given = np.arange(math.prod(shape), dtype=np.float64).reshape(shape).astype(dtype)
    back = unpack(pack({"array": given, "turned": given.T, "number": given.dtype.type(1)}))
    np.testing.assert_array_equal(back["array"], given, strict=dtype != ">f8")
    np.testing.assert_array_equal(back["turned"], given.T)
    assert (type(back["number"]), back["number"]) == (given.dtype.type, 1)


def test_what_a_training_with_pytorch_depends_on_comes_back() -> None:
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.ones(3)).sum().backward()
    optimiser.step()
    shared = torch.arange(4.0, dtype=torch.bfloat16)
    state = {
        "net": net.state_dict(),
        "optimiser": optimiser.state_dict(),
        "chance": torch.get_rng_state(),
        "same memory": [shared, shared[1:3]],
    }
    back = unpack(pack(state))
    torch.testing.assert_close(back, state, rtol=0, atol=0)
    other = torch.optim.Adam(net.parameters())
    other.load_state_dict(back["optimiser"])
    torch.testing.assert_close(other.state_dict(), optimiser.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "object"), ({1, 2}, "set"), (print, "builtin_function_or_method"),
        (np.array(["text"]), "ndarray"), (np.array(1j), "ndarray"), (np.array([None]), "ndarray"), (1j, "complex"),
    ],
)  # fmt: skip
def test_what_cannot_be_stored_is_named_with_its_place(value: object, named: str) -> None:
    with pytest.raises(
        ReportError, match=rf"checkpoint: state\['inner'\]\[1\] is {named}: expected mappings"
    ):
        pack({"inner": [0, value]})


@pytest.mark.parametrize(
    ("tensor", "named"),
    [
        (torch.zeros(2, dtype=torch.complex128), "torch.strided tensor of torch.complex128 on cpu"),
        (torch.eye(2).to_sparse(), "torch.sparse_coo tensor of torch.float32 on cpu"),
        (torch.zeros(2, device="meta"), "torch.strided tensor of torch.float32 on meta"),
    ],
)
def test_a_tensor_that_cannot_be_stored_is_named(tensor: torch.Tensor, named: str) -> None:
    complaint = f"a {named}: expected a dense one, with content, of real numbers"
    with pytest.raises(ReportError) as refused:
        pack({"weights": tensor})
    assert str(refused.value) == f"checkpoint: state['weights'] is {complaint}"
    with pytest.raises(ProblemError) as refused_weights:
        as_tensors({"fc": tensor})
    assert str(refused_weights.value) == f"weights: 'fc': {complaint}"


def make(
    database: Database, folder: Path, folds: int = 2, **changes: Any
) -> tuple[StoredStudy, Loaded, Ledger]:
    """A study of a problem with checkpoints."""
    (folder / "walk.py").write_text(PROBLEM, encoding="utf-8")
    fields = {"name": "walk", "problem": "walk.py:Walk", "metric": "place", "epochs": EPOCHS, "folds": folds}
    loaded = load(parse(fields | {"grid": {"x": [1.0]}} | changes, "walk"), folder)
    study = create_study(database, loaded).study
    loaded.problem.trained.clear()  # type: ignore[attr-defined]
    return study, loaded, Ledger(database, study, view=open_view(database, study))


def trained(loaded: Loaded) -> list[tuple[str, int, int]]:
    """The epochs that were trained: kind and number of the run, and the epoch."""
    found: list[tuple[str, int, int]] = loaded.problem.trained  # type: ignore[attr-defined]
    return found


def at_once(call: Callable[[], Any]) -> Any:
    return call()


def until(epoch: int) -> Callable[[Any], State | None]:
    """Ask for the end after so many reports, as a worker does on SIGTERM."""
    reports = iter(range(1, 100))
    return lambda _: None if next(reports) < epoch else State.PENDING


def attempt(
    ledger: Ledger,
    loaded: Loaded,
    claim: Claim,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> Outcome | None:
    keeper = ClaimKeeper(ledger, claim, RunFiles(folder, ledger.study), at_once, at_once)
    return CrossValidation(loaded).on(claim.left, keeper)(claim.configuration, progress)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for checkpoints that workers share, where all are large."""
    monkeypatch.setattr("pairsearch.search.workers.attempts.LARGE_CHECKPOINT", 0)
    return tmp_path / "shared"


def epochs_of(folder: Path) -> list[str]:
    """The epochs of the files in a folder for checkpoints."""
    return sorted(file.name.split("-")[1] for file in folder.iterdir())


def claimed(ledger: Ledger, worker: str = "ann") -> Claim:
    claim = ledger.claim(worker)
    assert claim is not None
    return claim


def kept(database: Database) -> list[tuple[Any, ...]]:
    return tiny.rows(database, "checkpoints", "kind, run, epoch", "order by kind, run")


@pytest.mark.parametrize("large", [False, True])
def test_a_run_goes_on_after_the_last_checkpoint_with_the_bits_of_an_undisturbed_one(
    database: Database, tmp_path: Path, shared: Path, large: bool
) -> None:
    _, loaded, ledger = make(database, tmp_path)
    folder = shared if large else None
    claim = claimed(ledger)
    assert attempt(ledger, loaded, claim, until(4), folder) is None
    assert kept(database) == [("fold", 0, 4)]
    if large:
        [(name, content)] = tiny.rows(database, "checkpoints", "file, content")
        assert ([file.name for file in shared.iterdir()], content) == ([name], None)
    assert ledger.hand_back(claim)
    again = claimed(ledger, "bob")
    outcome = attempt(ledger, loaded, again, folder=folder)
    assert outcome is not None
    assert trained(loaded) == [("fold", 0, epoch) for epoch in range(1, EPOCHS + 1)]
    assert tiny.finish(ledger, again, outcome)
    assert kept(database) == []
    alone = CrossValidation(loaded)(again.configuration)
    assert alone is not None
    assert outcome.folds == alone.folds[:1]
    [(seconds,)] = tiny.rows(database, "runs", "seconds")
    assert seconds > 0


def test_a_worker_that_lost_its_lease_writes_no_checkpoint_and_ends(
    database: Database, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, loaded, ledger = make(database, tmp_path, folds=1)
    claim = claimed(ledger)
    assert attempt(ledger, loaded, claim, until(2), shared) is None
    files = list(shared.iterdir())
    tiny.let_leases_run_out(database)
    ledger.reap()
    again = claimed(ledger, "bob")
    assert (again.configuration, again.numbers) == (claim.configuration, claim.numbers)
    before = len(trained(loaded))
    assert attempt(ledger, loaded, claim, folder=shared) is None
    assert trained(loaded)[before:] == [("fold", 0, 3)]
    # It may also lose the lease while it writes.
    monkeypatch.setattr(Ledger, "renew", lambda *_: True)
    assert attempt(ledger, loaded, claim, folder=shared) is None
    assert kept(database) == [("fold", 0, 2)]
    assert list(shared.iterdir()) == files


@ON_SQLITE
def test_an_end_that_was_asked_for_waits_for_the_next_checkpoint_or_the_next_report(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, loaded, ledger = make(database, tmp_path)
    monkeypatch.setattr(type(loaded.problem), "saves_each", 100)
    claim = claimed(ledger)
    assert attempt(ledger, loaded, claim, until(3)) is None
    assert (len(trained(loaded)), kept(database)) == (3, [("fold", 0, 3)])
    # It asked at a time when the problem saves no more.
    monkeypatch.setattr("pairsearch.search.workers.recorder.RunCheckpoint.wanted", False)
    assert attempt(ledger, loaded, claim, until(1)) is None
    assert trained(loaded)[3:] == [("fold", 0, 4), ("fold", 0, 5)]
    assert kept(database) == [("fold", 0, 3)]
    # A time limit waits for nothing.
    hasty = replace(loaded, definition=loaded.definition.model_copy(update={"time_limit": 1e-9}))
    with pytest.raises(TimeLimitError, match="longer than the time limit of 1e-09 s, after 0 of 2 folds"):
        attempt(ledger, hasty, claim)
    assert trained(loaded)[5:] == [("fold", 0, 4)]


def work(
    database: Database, study: StoredStudy, loaded: Loaded, stop_at: int = 0, folder: Path | None = None
) -> None:
    """Be a worker that is asked to end in the training of an epoch, if a number of one is given."""
    stopping = threading.Event()
    loaded.problem.then[stop_at] = stopping.set  # type: ignore[attr-defined]
    machine = Machine(threads=1, checkpoints=folder)
    Worker(open_ledger(database, study), CrossValidation(loaded), machine, stopping=stopping).run()


def test_workers_that_are_asked_to_end_leave_folds_and_rounds_to_the_next_where_they_were(
    database: Database, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, loaded, ledger = make(database, tmp_path)
    monkeypatch.setattr(type(loaded.problem), "saves_each", 100)
    [configuration] = study.definition.grid.configurations()
    work(database, study, loaded, 4, shared)
    assert (kept(database), epochs_of(shared)) == ([("fold", 0, 4)], ["4"])
    # What a worker leaves that is killed while it writes.
    [file] = shared.iterdir()
    file.with_name(f".{file.name[:40]}.0123.part").touch()
    work(database, study, loaded, EPOCHS + 2, shared)
    assert (kept(database), epochs_of(shared)) == ([("fold", 1, 2)], ["2"])
    assert ledger.insert_rounds(configuration, 1) == 1
    work(database, study, loaded, EPOCHS + 5, shared)
    assert (kept(database), epochs_of(shared)) == ([("fold", 1, 2), ("round", 0, 3)], ["2", "3"])
    work(database, study, loaded, folder=shared)
    assert (kept(database), epochs_of(shared)) == ([], [])
    kinds = [
        ("fold", 0, range(1, 7)),
        ("fold", 1, range(1, 3)),
        ("round", 0, range(1, 7)),
        ("fold", 1, range(3, 7)),
    ]
    assert trained(loaded) == [(kind, run, epoch) for kind, run, epochs in kinds for epoch in epochs]
    alone, found = CrossValidation(loaded)(configuration), ledger.outcome(configuration.key)
    assert alone is not None
    assert found is not None
    assert found.folds == alone.folds
    [after] = Rounds(loaded)(configuration, [0])
    with database.read() as connection:
        [stored] = read_runs(connection, study.id, configuration.key, "round")
    assert stored == after.result


@ON_SQLITE
def test_a_time_limit_is_for_each_run_with_the_time_before_its_checkpoint(
    database: Database, tmp_path: Path
) -> None:
    study, loaded, ledger = make(database, tmp_path, time_limit=500.0)
    [configuration] = study.definition.grid.configurations()

    def interrupted(epoch: int, seconds: int) -> None:
        """It is as if a worker that was asked to end in the training of an epoch had taken so long."""
        work(database, study, loaded, stop_at=epoch)
        tiny.execute(database, f"update pairsearch_checkpoints set seconds = {seconds}")  # noqa: S608 - our own

    interrupted(4, 400)
    interrupted(EPOCHS + 2, 400)
    work(database, study, loaded)
    assert tiny.states(database) == {"finished": 1}
    ledger.insert_rounds(configuration, 1)
    interrupted(2 * EPOCHS + 3, 501)
    work(database, study, loaded)
    assert (
        ledger.failed_rounds(configuration.key) == "longer than the time limit of 500 s, after 4 of 6 epochs"
    )


@ON_SQLITE
def test_a_fold_s_time_before_its_checkpoint_counts(database: Database, tmp_path: Path) -> None:
    study, loaded, _ = make(database, tmp_path, time_limit=500.0)
    work(database, study, loaded, stop_at=4)
    tiny.execute(database, "update pairsearch_checkpoints set seconds = 501")
    work(database, study, loaded)
    assert tiny.rows(database, "configurations", "state, reason") == [
        ("failed", "longer than the time limit of 500 s, after 0 of 2 folds")
    ]


@ON_SQLITE
def test_nobody_goes_on_from_a_state_after_a_divergence(database: Database, tmp_path: Path) -> None:
    _, loaded, ledger = make(database, tmp_path, grid={"x": [-1.0]})
    claim = claimed(ledger)
    outcome = attempt(ledger, loaded, claim)
    assert outcome is not None
    assert (outcome.state, kept(database)) == (State.DIVERGED, [("fold", 0, 3)])
    again = attempt(ledger, loaded, claim)
    assert again is not None
    assert repr([fold.curves for fold in again.folds]) == repr([fold.curves for fold in outcome.folds])
    assert tiny.finish(ledger, claim, outcome)
    assert kept(database) == []


@ON_SQLITE
def test_a_damaged_checkpoint_is_named_and_the_run_begins_again(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, loaded, ledger = make(database, tmp_path)
    claim = claimed(ledger)
    assert attempt(ledger, loaded, claim, until(4)) is None
    tiny.execute(database, "update pairsearch_checkpoints set content = x'504b'")
    assert attempt(ledger, loaded, claim) is not None
    assert trained(loaded)[4:] == [("fold", 0, epoch) for epoch in range(1, EPOCHS + 1)]
    assert "checkpoint: it is damaged (BadZipFile): it is not used: the run begins again" in caplog.text


@ON_SQLITE
def test_a_file_that_is_not_here_is_named_and_the_run_begins_again(
    database: Database, tmp_path: Path, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, loaded, ledger = make(database, tmp_path)
    claim = claimed(ledger)
    assert attempt(ledger, loaded, claim, until(4), shared) is None
    [file] = shared.iterdir()
    # A study of the same name in another database does not remove it.
    RunFiles(shared, dataclasses.replace(ledger.study, created_at=1.0)).clear(claim, [0])
    elsewhere, outside = tmp_path / "elsewhere", f"../shared/{file.name}"
    for folder, name in ((None, file.name), (elsewhere, file.name), (shared, outside)):
        with database.write() as connection:
            connection.execute(text("update pairsearch_checkpoints set file = :name"), {"name": name})
        assert ClaimKeeper(ledger, claim, RunFiles(folder, ledger.study), at_once, at_once).find(0) is None
        where = folder or "any folder of this worker's"
        assert f"checkpoint of fold 0 of x=1.0: its file '{name}' is not in {where}: give" in caplog.text
    assert attempt(ledger, loaded, claim) is not None
    assert trained(loaded)[4:] == [("fold", 0, epoch) for epoch in range(1, EPOCHS + 1)]


@ON_SQLITE
def test_a_folder_that_cannot_be_written_to_costs_no_training(
    database: Database, tmp_path: Path, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, loaded, ledger = make(database, tmp_path)
    claim = claimed(ledger)
    files = RunFiles(shared, ledger.study)
    shared.write_text("a file")
    objective = CrossValidation(loaded).on([0], ClaimKeeper(ledger, claim, files, at_once, at_once))
    assert objective(claim.configuration) is not None
    assert "checkpoint of epoch 6 put off:" in caplog.text
    assert kept(database) == []


@ON_SQLITE
@pytest.mark.parametrize(
    ("size", "folder", "kept_in"),
    [
        (1_000_000, True, "database"),
        (1_000_001, True, "file"),
        (1_000_001, False, "database"),
        (64_000_000, False, "database"),
        (64_000_001, True, "file"),
        (
            90_000_000,
            False,
            "checkpoint: the state has 90 MB, expected at most 64: give --checkpoints FOLDER",
        ),
    ],
)
def test_a_checkpoint_goes_where_there_is_room_for_it(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, folder: bool, kept_in: str
) -> None:
    _, _, ledger = make(database, tmp_path)
    claim, saved = claimed(ledger), list[Kept]()
    monkeypatch.setattr(ledger, "save_checkpoint", lambda _claim, _run, kept: saved.append(kept) or True)
    shared = tmp_path / "shared" if folder else None
    keeper = ClaimKeeper(ledger, claim, RunFiles(shared, ledger.study), at_once, at_once)
    given = Kept(2, {"place": [1.0, 2.0]}, 3.0, bytes(size))
    if kept_in.startswith("checkpoint"):
        with pytest.raises(ReportError) as refused:
            keeper.keep(0, given)
        assert str(refused.value).startswith(kept_in)
        return
    assert keeper.keep(0, given)
    files = [file.name for file in shared.iterdir()] if shared is not None and shared.exists() else []
    assert saved == [given if kept_in == "database" else replace(given, file=files[0])]
    assert len(files) == (kept_in == "file")


@ON_SQLITE
def test_a_retry_begins_again(database: Database, tmp_path: Path) -> None:
    _, loaded, ledger = make(database, tmp_path)
    claim = claimed(ledger)
    assert attempt(ledger, loaded, claim, until(4)) is None
    tiny.execute(
        database,
        "update pairsearch_configurations set state = 'failed'",
        "update pairsearch_jobs set state = 'failed'",
    )
    assert ledger.retry() == [claim.configuration.key]
    assert kept(database) == []


@ON_SQLITE
@pytest.mark.parametrize(
    ("calls", "complaint"),
    [
        ("report(1, place=1.0); run.checkpoint.load()", "it is loaded after epoch 1 was reported: load it before"),
        ("report(1, place=1.0); run.checkpoint.save(2, {})", "expected the epoch that was reported last, 1, got 2"),
        ("report(1, place=1.0); run.checkpoint.save(1, {'a': open})", "state['a'] is builtin_function_or_method"),
        ("report(1, place=1.0); run.checkpoint.save(1, {'a': bytes(64_000_001)})", "at most 64: give --checkpoints"),
        ("run.checkpoint.load(); report(4, place=1.0)", "an epoch as an integer above 4, got 4"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_cannot_be_meant_is_refused(
    database: Database, tmp_path: Path, calls: str, complaint: str
) -> None:
    _, loaded, ledger = make(database, tmp_path)
    claim = claimed(ledger)
    assert attempt(ledger, loaded, claim, until(4)) is None

    def fit(_self: object, _params: object, run: Run, report: Any) -> None:
        exec(calls, {"run": run, "report": report})  # noqa: S102 - it is ours

    loaded.problem.fit = fit.__get__(loaded.problem)  # type: ignore[attr-defined]
    with pytest.raises(ReportError) as refused:
        attempt(ledger, loaded, claim)
    assert complaint in str(refused.value)
