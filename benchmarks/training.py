"""Measures the core and its fallback beside the plain eager loop and a vmap ensemble.

It uses one core, one thread and synthetic digits, and writes `bench.json`. Example:

    python benchmarks/training.py --quick --output bench.json
"""

from __future__ import annotations

# Thread pools are limited before the imports that create them.
from pairsearch.search.common import threads

threads.limit()

import argparse
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from benchfile import describe_machine, say, write

from pairsearch.models import batched, fused, single
from pairsearch.models.compiled import Trainee, trainees_of
from pairsearch.models.nets import DIGITS, build_seeded, uses_aux_loss
from pairsearch.models.optim import optimiser
from pairsearch.models.trainer import Member, Pairs, TrainingJob, pair_losses

# Dense floating-point operations for one training pair, by model: forward pass and both gradients of every layer.
FLOP_PER_PAIR = {"b1": 1.2e6, "b2": 1.2e6, "ws": 2.2e6, "wsal": 2.2e6}
BATCH_SIZES = (1, 10, 25, 50)
METHODS = ("eager", "vmap", "fallback", "core")
MODELS = 10  # folds of a trial, and models of the vmap ensemble
EPOCHS = 30
TRAIN_PAIRS, VALIDATION_PAIRS = 800, 200
STEPS = 200  # most optimisation steps in one timed call


def digit_like_pairs(count: int, seed: int) -> Pairs:
    """Make pairs of images that are mostly black with a few soft strokes, as MNIST's are, placed by the class.

    The share of black pixels matters: it decides how many maxima survive ReLU, and so how long the backward pass takes.
    """
    random = np.random.default_rng(seed)
    strokes = np.random.default_rng(0).uniform(3, 11, (DIGITS, 6, 2))
    classes = random.integers(0, DIGITS, (count, 2))
    centres = strokes[classes] + random.normal(0, 0.5, (count, 2, 6, 2))
    grid = np.arange(14)
    across = np.exp(-((grid - centres[..., :1]) ** 2) / 1.5)
    down = np.exp(-((grid - centres[..., 1:]) ** 2) / 1.5)
    images = np.clip(1.2 * np.einsum("npsy,npsx->npyx", down, across) - 0.15, 0, 1) * 255
    target = classes[:, 0] <= classes[:, 1]
    return Pairs(
        torch.from_numpy(images.astype(np.float32)),
        torch.from_numpy(target.astype(np.int64)),
        torch.from_numpy(classes),
    )


def trial_job(architecture: str, batch_size: int, epochs: int, pairs: int = TRAIN_PAIRS) -> TrainingJob:
    """Make the job of a trial: ten folds of `pairs` training pairs and 200 validation pairs."""
    members = tuple(
        Member(
            train=digit_like_pairs(pairs, number),
            evaluation={"validation": digit_like_pairs(VALIDATION_PAIRS, 100 + number)},
            init_seed=number,
            order_seed=number,
            learning_rate=1e-3 if batch_size > 1 else 1e-4,
            aux_loss_weight=1.0,
        )
        for number in range(MODELS)
    )
    return TrainingJob(architecture, members, batch_size, epochs)


def eager_epoch(job: TrainingJob) -> Callable[[], None]:
    """Return one epoch of the plain PyTorch loop: one model, with the pairs put in order before the loop."""
    member = job.members[0]
    net = build_seeded(job.architecture, job.arguments, member.init_seed)
    adam = optimiser("adam").plain(net.parameters(), member.learning_rate, member.weight_decay)
    weight = member.aux_loss_weight if uses_aux_loss(net) else None

    def run() -> None:
        order = torch.randperm(len(member.train.target))
        images, target, classes = (torch.split(values[order], job.batch_size) for values in member.train)
        for x, y, c in zip(images, target, classes, strict=True):
            adam.zero_grad()
            _, total = pair_losses(net(x), y, c, weight)
            total.mean().backward()  # type: ignore[no-untyped-call]
            adam.step()

    return run


def vmap_epoch(job: TrainingJob) -> Callable[[], None]:
    """Return one epoch of ten models in batched PyTorch operations."""
    stack = batched.Stack(job, torch.device("cpu"))

    def run() -> None:
        stack.train_epoch(0)

    return run


def fallback_epoch(job: TrainingJob) -> Callable[[], None]:
    """Return one epoch of one model in the fallback, for architectures and optimisers that the kernels do not know."""
    model = single.SingleModel(job, job.members[0])

    def run() -> None:
        model.train_epoch(0)

    return run


def core_epoch(job: TrainingJob) -> Callable[[], None]:
    """Return one epoch of one model in the compiled kernels."""
    trainees = trainees_of(replace(job, members=job.members[:1]))
    trainee: Trainee = trainees[0]
    workspace = trainee.layout.workspace()

    def run() -> None:
        trainee.train_epoch(0, workspace)

    return run


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(architecture: str, batch_size: int, rounds: int) -> dict[str, float]:
    """Measure milliseconds per model and step by method, as medians over rounds that take the methods in turn."""
    pairs = min(TRAIN_PAIRS, STEPS * batch_size)
    job = trial_job(architecture, batch_size, 1, pairs)
    runs = {
        "eager": eager_epoch(job),
        "vmap": vmap_epoch(job),
        "fallback": fallback_epoch(job),
        "core": core_epoch(job),
    }
    models = {"vmap": MODELS}
    repeats = {"core": 5}
    steps = -(-pairs // batch_size)
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    runs["core"]()
    for _ in range(rounds):
        for method, run in runs.items():
            for _ in range(repeats.get(method, 1)):
                seconds[method].append(timed(run))
    return {m: 1e3 * median(values) / steps / models.get(m, 1) for m, values in seconds.items()}


def sgemm_gflops() -> dict[str, float]:
    """Measure dense float32 matrix multiplication on one thread, in GFLOP/s by library."""
    size = 1024
    left, right = (np.random.default_rng(n).random((size, size), np.float32) for n in (0, 1))
    result = {}
    for library, a, b in (
        ("numpy", left, right),
        ("torch", torch.from_numpy(left), torch.from_numpy(right)),
    ):
        seconds = median(timed(lambda a=a, b=b: a @ b) for _ in range(15))  # type: ignore[misc]
        result[library] = round(2 * size**3 / seconds / 1e9, 1)
    return result


def _work(gate: Barrier, seconds: Any) -> None:
    """Train a trial of one epoch several times, in one process of the scaling measurement."""
    job = trial_job("wsal", 25, 1)
    fused.train(job)
    gate.wait()
    seconds.put(timed(lambda: [fused.train(job) for _ in range(6)]))


def scaling(workers: int) -> float:
    """Measure the seconds of some short trials in each of `workers` processes at once; the slowest counts."""
    spawn = multiprocessing.get_context("spawn")
    gate, seconds = spawn.Barrier(workers), spawn.Queue()
    processes = [spawn.Process(target=_work, args=(gate, seconds)) for _ in range(workers)]
    for process in processes:
        process.start()
    slowest: float = max(seconds.get() for _ in processes)
    for process in processes:
        process.join()
    return slowest


def main() -> None:
    """Measure, print a table and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="file to write or to add to")
    parser.add_argument("--rounds", type=int, default=5, help="rounds whose median is taken")
    parser.add_argument("--quick", action="store_true", help="three rounds, batch sizes 1 and 25, no trials")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 3 if options.quick else options.rounds
    sgemm = sgemm_gflops()
    say(f"sgemm on one thread: numpy {sgemm['numpy']} GFLOP/s, torch {sgemm['torch']} GFLOP/s")
    say("                 ms per model and step                  times eager          GFLOP/s")
    say("model batch   eager     vmap fallback     core      vmap fallback     core       core")
    records = []
    for architecture, flop in FLOP_PER_PAIR.items():
        for batch_size in BATCH_SIZES if not options.quick else (1, 25):
            ms = measure(architecture, batch_size, rounds)
            rate = {m: flop * batch_size / value / 1e6 for m, value in ms.items()}
            say(
                f"{architecture:5} {batch_size:5} {ms['eager']:7.3f} {ms['vmap']:8.3f} {ms['fallback']:8.3f}"
                f" {ms['core']:8.4f} {ms['eager'] / ms['vmap']:9.2f} {ms['eager'] / ms['fallback']:8.2f}"
                f" {ms['eager'] / ms['core']:8.1f} {rate['core']:10.1f}"
            )
            records += [
                {
                    "architecture": architecture,
                    "batch_size": batch_size,
                    "method": method,
                    "ms_per_model_step": round(ms[method], 5),
                    "gflops": round(rate[method], 3),
                }
                for method in METHODS
            ]
    sections: dict[str, Any] = {**describe_machine(), "n": rounds, "sgemm_gflops": sgemm}
    if not options.quick:
        sections["trials"] = []
        for batch_size in (25, 1):
            job = trial_job("wsal", batch_size, EPOCHS)
            seconds = timed(lambda job=job: fused.train(job))  # type: ignore[misc]
            say(f"wsal, batch size {batch_size}: a trial of {MODELS} folds, {EPOCHS} epochs: {seconds:.2f} s")
            sections["trials"].append(
                {"architecture": "wsal", "batch_size": batch_size, "seconds": round(seconds, 2)}
            )
        one, two = median(scaling(1) for _ in range(3)), median(scaling(2) for _ in range(3))
        say(f"two workers do {2 * one / two:.2f} times the trials of one")
        sections["scaling"] = {"workers": 2, "times_one": round(2 * one / two, 3), "n": 3}
    write(options.output, records, sections)
    say(f"written: {options.output}")


if __name__ == "__main__":
    main()
