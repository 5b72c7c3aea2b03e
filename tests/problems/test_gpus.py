"""Each worker gets a GPU of its own by the variable that CUDA reads; no GPU is needed to see that."""

from __future__ import annotations

import os
from pathlib import Path

import programs
import pytest
import tiny
import torch
from project import Project, values

import pairsearch
from pairsearch.search.common import gpus
from pairsearch.search.common.errors import InputError
from pairsearch.search.common.machine import Machine
from pairsearch.search.interface import study as study_module
from pairsearch.search.setup.opening import check
from pairsearch.search.workers.searching import search, usual_workers


@pytest.fixture(autouse=True)
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has three GPUs."""
    monkeypatch.delenv(gpus.VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)


def test_each_visible_gpu_has_one_worker_unless_others_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus.places("cuda", None, None) == ("0", "1", "2")
    assert gpus.places("cuda", ["2", "0"], 2) == ("2", "0", "2", "0")
    assert gpus.places("cuda", ["GPU-8932f937", "MIG-22f"], None) == ("GPU-8932f937", "MIG-22f")
    monkeypatch.setenv(gpus.VARIABLE, "5, GPU-1,-1")
    assert gpus.places("cuda", None, None) == ("5", "GPU-1")
    assert gpus.places("cuda", ["5"], None) == ("5",)
    assert gpus.places("cpu", None, None) == gpus.places("cuda:1", None, None) == ()


@pytest.mark.parametrize(
    ("device", "given", "per_gpu", "message"),
    [
        ("cuda", ["0", "3"], None, "--gpus 3: there is no such GPU here: expected some of 0, 1, 2, or UUIDs"),
        ("cuda", ["-1"], None, "--gpus -1: there is no such GPU here"),
        ("cuda", ["cuda:0"], None, "--gpus cuda:0: there is no such GPU here"),
        ("cuda", ["1", "1"], None, "--gpus 1,1: expected each GPU once; --per-gpu N has N workers share it"),
        ("cuda", ["0", ""], None, "--gpus 0,: expected each GPU once"),
        ("cpu", ["0"], None, "the device is cpu: give --device cuda"),
        ("cuda:1", None, 2, "the device is cuda:1: give --device cuda"),
    ],
)
def test_what_does_not_exist_or_cannot_be_meant_is_refused(
    device: str, given: list[str] | None, per_gpu: int | None, message: str
) -> None:
    with pytest.raises(InputError) as raised:
        gpus.places(device, given, per_gpu)
    assert message in str(raised.value)


def test_where_there_is_none_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert gpus.places("cuda", None, None) == ()
    with pytest.raises(InputError, match="CUDA finds none"):
        gpus.places("cuda", ["0"], None)


def test_there_are_as_many_workers_as_places() -> None:
    assert usual_workers(Machine("cuda", gpus=("0", "1", "0", "1"))) == 4
    assert usual_workers(Machine("cuda")) == 1


def test_the_command_refuses_before_anything_starts(tmp_path: Path) -> None:
    tiny.write_toml(tmp_path / "tiny.toml")
    ended = programs.run(tmp_path, "run", "tiny.toml", "--gpus", "0")
    assert ended.complaint == "error: --gpus and --per-gpu: the device is cpu: give --device cuda"
    ended = programs.run(
        tmp_path, "run", "tiny.toml", "--device", "cuda", "--gpus", "7", CUDA_VISIBLE_DEVICES="0,1"
    )
    assert ended.complaint == "error: --gpus 7: there is no such GPU here: expected some of 0, 1, or UUIDs"
    ended = programs.run(tmp_path, "run", "tiny.toml", "--checkpoints", "")
    assert ended.complaint.startswith(
        "error: --checkpoints: expected a folder, got an empty path: give . for"
    )
    assert not (tmp_path / "pairsearch.db").exists()


def test_python_refuses_the_same(project: Project) -> None:
    with pairsearch.create(project.write(), storage=project.url) as study:
        with pytest.raises(InputError, match="--gpus 3: there is no such GPU here"):
            study.run(device="cuda", gpus=[0, 3])
        with pytest.raises(InputError, match="the device is cpu: give --device cuda"):
            study.run(per_gpu=2)
        with pytest.raises(InputError, match="--gpus 3: there is no such GPU here"):
            study.evaluate(device="cuda", gpus=[0, 3])
        with pytest.raises(InputError, match="the device is cpu: give --device cuda"):
            study.evaluate(per_gpu=2)
        with pytest.raises(InputError, match="expected a folder, got an empty path"):
            study.run(checkpoints="")


def test_this_process_takes_the_first_until_cuda_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (gpus.VARIABLE, *gpus.ORDER):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(gpus, "_before", [])
    gpus.take_first(())
    assert gpus.VARIABLE not in os.environ
    gpus.take_first(("1", "2"))
    assert (os.environ[gpus.VARIABLE], os.environ["CUDA_DEVICE_ORDER"]) == ("1", "PCI_BUS_ID")
    assert gpus.places("cuda", ["0", "2"], None) == ("0", "2"), "workers may have the others"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    gpus.take_first(("1",))
    with pytest.raises(InputError, match="--gpus 2: CUDA has started in this process with other GPUs"):
        gpus.take_first(("2", "1"))
    assert os.environ[gpus.VARIABLE] == "1"


def test_python_evaluates_on_the_named_gpus(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        study_module, "choose", lambda _, __, machine, *___, **____: seen.append(machine.gpus)
    )
    monkeypatch.setattr(study_module, "evaluate", lambda *_: [])
    monkeypatch.setattr(study_module, "take_first", seen.append)
    with pairsearch.create(project.write(), storage=project.url) as study:
        study.evaluate(device="cuda", gpus=[2, 0], per_gpu=2)
        assert seen == [("2", "0", "2", "0")] * 2
        study.evaluate(device="cuda")
        assert seen[2:] == [("0", "1", "2")], "where none is named, this process uses those that it sees"
        study.evaluate()
        assert seen[3:] == [()]


SEES = """
import os, signal, time
from pathlib import Path

def fit(params, run, report):
    gpu = os.environ["CUDA_VISIBLE_DEVICES"]
    if gpu == "GPU-b" and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    Path(f"{gpu}.{os.getpid()}").touch()
    while len(list(Path().glob("GPU-*.*"))) < 3:
        time.sleep(0.01)
    report(1, loss=1.0, order=float(os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"))
"""


def test_each_worker_sees_its_gpu_and_a_successor_that_of_the_dead(
    on_sqlite: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their device is the CPU, on which workers are placed in the same way."""
    monkeypatch.chdir(on_sqlite.folder)
    toml = on_sqlite.write(
        SEES, epochs=1, folds=1, grid={"x": [*range(6)]}, metrics={"loss": {}, "order": {}}
    )
    machine = Machine(gpus=("GPU-a", "GPU-b", "GPU-a"), lease=2.0)
    made = check(on_sqlite.url, [str(toml)], machine)
    [creation] = made.create()
    said: list[str] = []
    [progress] = search(made.database, [creation.study], made.given, machine, 3, complain=said.append)
    made.database.close()
    assert progress.open == 0
    assert [line.rpartition("; ")[2] for line in said] == ["another takes its place"]
    seen = [file.name.partition(".")[0] for file in on_sqlite.folder.glob("GPU-*.*")]
    assert sorted(seen) == ["GPU-a", "GPU-a", "GPU-b"]
    assert set(values(on_sqlite.rows("configurations", "value"))) == {1.0}
