"""The core chooses the right backend, trains on GPUs, and keeps its kernels in Numba's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from histories import history_of
from jobs import make_job, make_member
from test_trainers import assert_identical
from torch import nn

from pairsearch.models import compiled, fused
from pairsearch.models.kernels import epoch
from pairsearch.models.layout import Layout, plannable
from pairsearch.models.nets import WS, Phase
from pairsearch.models.optim import Adam, optimiser

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("architecture", ["b1", "b2", "ws", "WSAL", "pretrained"])
@pytest.mark.parametrize("optimiser", ["adam", "SGD"])
def test_every_registered_combination_is_compiled_on_the_cpu(architecture: str, optimiser: str) -> None:
    assert fused.backend_of(architecture, optimiser) == "compiled"


def test_other_devices_take_pytorch() -> None:
    assert fused.backend_of("wsal", "adam", "cuda") == "torch"


def test_the_core_trains_by_the_compiled_kernels() -> None:
    job = make_job("b1", batch_size=25, epochs=1)
    assert_identical(history_of(fused.train, job), history_of(compiled.train, job), [0, 1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("architecture", ["b1", "b2", "ws", "wsal", "pretrained"])
@pytest.mark.parametrize("batch_size", [1, 7, 25])
def test_cuda_agrees_with_the_reference(architecture: str, batch_size: int) -> None:
    # The tolerance is loose because cuDNN may multiply in TF32, with a mantissa of 10 bits.
    job = make_job(architecture, batch_size=batch_size, members=tuple(make_member(n) for n in range(3)))
    got, expected = history_of(fused.train, job, device="cuda"), history_of(reference.train, job)
    np.testing.assert_allclose(got.train_loss, expected.train_loss, rtol=2e-2)
    for name, curves in expected.evaluation.items():
        np.testing.assert_allclose(got.evaluation[name].loss, curves.loss, rtol=2e-2)


def test_kernels_are_loaded_from_the_cache_by_a_second_process() -> None:
    fused.train(make_job(epochs=1))
    program = """
from jobs import make_job
from pairsearch.models import compiled
from pairsearch.models.kernels.epoch import evaluate, train_epoch
compiled.train(make_job(epochs=1))
print(*(sum(entry.stats.cache_hits.values()) for entry in (train_epoch, evaluate)))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "models"), "OMP_NUM_THREADS": "1"}
    second = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    )
    assert second.stdout.split() == ["1", "1"]


# This kernel of the package compiles at once; those of the training take half a minute.
KERNEL = """
from pairsearch.jit.compiling import compiled_and_cached
add = compiled_and_cached(lambda one, other: one + other)
"""
PROGRAM = """
from pairsearch.models.kernels import adding
assert adding.add(1, 2) == 3
print(adding.__file__)
print(sum(adding.add.stats.cache_hits.values()))
"""


@pytest.mark.parametrize(("home", "hits"), [("writable", ["0", "1"]), ("read-only", ["0"])])
def test_a_read_only_installation_keeps_its_kernels_where_it_can(
    tmp_path: Path, home: str, hits: list[str]
) -> None:
    installed, cache = tmp_path / "installed", tmp_path / "home" / "cache"
    package = installed / "pairsearch"
    for room in ("models", "jit"):
        shutil.copytree(ROOT / room, package / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "__init__.py", package)
    (package / "models" / "kernels" / "adding.py").write_text(KERNEL)
    # Where a file stands in a directory's place, even an administrator cannot write.
    (package / "models" / "kernels" / "__pycache__").touch()
    if home == "read-only":
        cache.parent.touch()
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment |= {
        "PYTHONPATH": str(installed),
        "HOME": str(cache.parent),
        "XDG_CACHE_HOME": str(cache),
        "OMP_NUM_THREADS": "1",
    }
    found = []
    for _ in hits:
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM],
            cwd=tmp_path, env=environment, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert (run.returncode, run.stderr) == (0, "")
        origin, counted = run.stdout.splitlines()
        assert origin == str(package / "models" / "kernels" / "adding.py")
        found.append(counted)
    assert found == hits
    assert bool(list(cache.rglob("*.nbi"))) == (home == "writable")


def test_the_cache_key_holds_every_kernels_source() -> None:
    assert epoch.sources_fingerprint() in [
        cell.cell_contents for cell in epoch.train_epoch.py_func.__closure__
    ]


@pytest.mark.parametrize(
    "phase",
    [
        Phase(1, frozen=("clenet.fc2",)),
        Phase(1, frozen=("clenet.conv2",)),
        Phase(1, frozen=("head.fc2",)),
        Phase(1, digits_only=True),
    ],
)
def test_a_phase_that_the_kernels_cannot_train_is_refused(phase: Phase) -> None:
    layout = Layout(WS(50), Adam(), 1)
    with pytest.raises(
        ValueError, match=r"^no compiled kernels for Phase\(epochs=1, .*: use models\.single$"
    ):
        layout.phase(phase)


def test_a_known_flow_with_other_parts_is_left_to_pytorch() -> None:
    class LinearHead(WS):
        def __init__(self) -> None:
            super().__init__(50)
            self.head = nn.Linear(20, 2)  # type: ignore[assignment]

    assert plannable(WS(50), optimiser("adam"))
    assert not plannable(LinearHead(), optimiser("adam"))
