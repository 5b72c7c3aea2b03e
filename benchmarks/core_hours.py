"""Measures whole trials of a random sample of the paper's grid, and estimates the core-hours of the whole grid.

It uses one core, one thread, and the real MNIST where it is present. The grid is divided into strata, one for each
architecture and batch size, and each stratum into three parts that may differ in speed: without weight decay, with it
at the highest learning rate, and with it at the other rates. Some trials of each part are drawn at random and trained
with all folds and epochs, in random order. The result is the core-hours of the whole grid with an interval, their ratio
to the dense arithmetic at the machine's own sgemm rate, and the ratio of each stratum's slowest trial to its median. It
is added to `bench.json` as the section `grid`. Example:

    python benchmarks/core_hours.py --quick --output bench.json
"""

from __future__ import annotations

# Thread pools are limited before the imports that create them.
from pairsearch.search.common import threads

threads.limit()

import argparse
import contextlib
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from benchfile import describe_machine, say, write
from training import FLOP_PER_PAIR, sgemm_gflops

from pairsearch.data.sources import resolve
from pairsearch.search.common.errors import InputError
from pairsearch.studies.configuration import Configuration, Value
from pairsearch.studies.definition import Definition, read, shipped
from pairsearch.studies.intervals import LEVEL, total_interval
from pairsearch.studies.pairs.problem import DATA_VARIABLE, Pairs
from pairsearch.studies.pairs.settings import Settings
from pairsearch.studies.problem import Figures, Run, Stopped

EACH = 2  # trials of each part of a stratum, at least as many as a variance needs
TARGET = 1.3  # trials that take more than so many times the median of their stratum are named
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a stratum: its configurations, and those of them that are trained."""

    definition: Definition
    population: tuple[Configuration, ...]
    drawn: tuple[Configuration, ...]

    @property
    def stratum(self) -> tuple[str, int]:
        """Architecture and batch size."""
        return self.definition.settings["architecture"], int(self.population[0].params["batch_size"])


@dataclass(frozen=True, slots=True)
class Trial:
    """A trained configuration with the seconds of all its folds, processor time and wall-clock time."""

    part: Part
    configuration: Configuration
    cpu: float
    wall: float


def draw(definitions: Sequence[Definition], each: int, random: np.random.Generator) -> list[Part]:
    """Divide the grids into parts, and draw `each` configurations of every part, or all that it has."""
    drawn = []
    for definition in definitions:
        points = definition.grid.configurations()
        highest = max(float(one.params["learning_rate"]) for one in points)
        parts: dict[tuple[Value, bool, bool], list[Configuration]] = {}
        for one in points:
            decays = float(one.params["weight_decay"]) > 0
            kind = (one.params["batch_size"], decays, decays and one.params["learning_rate"] == highest)
            parts.setdefault(kind, []).append(one)
        for population in parts.values():
            chosen = random.permutation(len(population))[:each]
            drawn.append(Part(definition, tuple(population), tuple(population[index] for index in chosen)))
    return drawn


def until_divergence(epoch: int, figures: Sequence[Figures], diverged: Sequence[int] = ()) -> None:
    """End a trial when it diverges, as the search does; it is called as `studies.problem.Report`."""
    del epoch
    if diverged or not all(math.isfinite(figure) for one in figures for figure in one.values()):
        raise Stopped


def train(problem: Pairs, configuration: Configuration, runs: Sequence[Run]) -> None:
    """Train a configuration as the search does."""
    with contextlib.suppress(Stopped):
        problem.train(configuration.params, runs, until_divergence)


def measure(
    parts: Sequence[Part], problems: Mapping[str, Pairs], folds: int | None, random: np.random.Generator
) -> list[Trial]:
    """Train every configuration that was drawn, in random order.

    Args:
        parts: the parts with their configurations.
        problems: the problems by the name of the study.
        folds: how many folds of each trial to train, from whose time that of all is extrapolated; None for all.
        random: generator of the order.
    """
    runs: dict[str, list[Run]] = {}
    for part in parts:
        one = part.definition
        if one.name not in runs:
            every = [Run("fold", fold, one.folds, one.epochs, one.seed) for fold in range(one.folds)]
            runs[one.name] = every[:folds]
            # The first call compiles the kernels, so it is not timed.
            train(problems[one.name], part.drawn[0], [replace(run, epochs=1) for run in runs[one.name]])
    tasks = [(part, one) for part in parts for one in part.drawn]
    trials = []
    for done, place in enumerate(random.permutation(len(tasks)), start=1):
        part, configuration = tasks[place]
        name = part.definition.name
        times = part.definition.folds / len(runs[name])
        wall, cpu = time.perf_counter(), time.process_time()
        train(problems[name], configuration, runs[name])
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        trials.append(Trial(part, configuration, times * cpu, times * wall))
        if done % 16 == 0:
            say(f"  {done} of {len(tasks)} trials")
    return trials


def dense_flop(definition: Definition) -> float:
    """Count the floating-point operations of a trial's training as dense arithmetic, without validation."""
    settings = Settings.model_validate(definition.settings)
    train = settings.sample_size - (settings.validation_size or settings.sample_size // definition.folds)
    return FLOP_PER_PAIR[settings.architecture] * train * definition.epochs * definition.folds


def summary(parts: Sequence[Part], trials: Sequence[Trial], gflops: float) -> dict[str, Any]:
    """Return the section `grid` of the file: the estimate for the whole grid, and a row for each stratum."""
    seconds = [[trial.cpu for trial in trials if trial.part is part] for part in parts]
    sizes = [len(part.population) for part in parts]
    cpu = total_interval(sizes, seconds)
    flop = sum(size * dense_flop(part.definition) for size, part in zip(sizes, parts, strict=True))
    dense = flop / gflops / 1e9
    strata = []
    for stratum in dict.fromkeys(part.stratum for part in parts):
        own = [trial for trial in trials if trial.part.stratum == stratum]
        slowest, middle = max(own, key=lambda trial: trial.cpu), median(trial.cpu for trial in own)
        strata.append(
            {
                "architecture": stratum[0],
                "batch_size": stratum[1],
                "configurations": sum(len(part.population) for part in parts if part.stratum == stratum),
                "trials": len(own),
                "median_seconds": round(middle, 3),
                "slowest_over_median": round(slowest.cpu / middle, 3),
                "slowest": slowest.configuration.key,
                "wall_over_cpu": round(sum(t.wall for t in own) / sum(t.cpu for t in own), 3),
            }
        )
    return {
        "configurations": sum(sizes),
        "trials": len(trials),
        "core_hours": round(cpu.estimate / SECONDS_PER_HOUR, 4),
        "core_hours_95": [round(bound / SECONDS_PER_HOUR, 4) for bound in (cpu.low, cpu.high)],
        "dense_core_hours": round(dense / SECONDS_PER_HOUR, 4),
        "times_dense": round(cpu.estimate / dense, 3),
        "sgemm_gflops": round(gflops, 1),
        "wall_over_cpu": round(sum(t.wall for t in trials) / sum(t.cpu for t in trials), 3),
        "strata": strata,
    }


def report(section: dict[str, Any]) -> list[str]:
    """Format the section as lines for people."""
    lines = ["model batch configurations trials  median s  slowest/median  wall/CPU"]
    for row in section["strata"]:
        above = f"  above {TARGET}: {row['slowest']}" if row["slowest_over_median"] > TARGET else ""
        lines.append(
            f"{row['architecture']:5} {row['batch_size']:5} {row['configurations']:14} {row['trials']:6}"
            f" {row['median_seconds']:9.2f} {row['slowest_over_median']:15.2f} {row['wall_over_cpu']:9.2f}{above}"
        )
    low, high = section["core_hours_95"]
    lines.append(
        f"the whole grid, {section['configurations']} configurations: {section['core_hours']:.2f} core-hours "
        f"({100 * LEVEL:.0f} % interval {low:.2f} to {high:.2f}), from {section['trials']} trials"
    )
    lines.append(
        f"its dense arithmetic at sgemm's {section['sgemm_gflops']:.1f} GFLOP/s on one thread: "
        f"{section['dense_core_hours']:.2f} core-hours; the grid takes {section['times_dense']:.2f} times that"
    )
    if section["wall_over_cpu"] > 1.1:
        lines.append(
            "other programs were at work here: run it on an idle machine, for sgemm's rate is one of real time and "
            "that of the trials one of the processor's"
        )
    return lines


def studies_to_measure() -> list[Definition]:
    """Return the definitions of the paper's studies."""
    return [one for one in map(read, shipped().values()) if one.paper is not None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="file to write or to add to")
    parser.add_argument(
        "--each", type=int, default=EACH, help="trials of each third of a stratum, at least 2"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random sample")
    parser.add_argument(
        "--quick", action="store_true", help="one fold of each trial, whose time stands for all"
    )
    parser.add_argument(
        "--data-dir", type=Path, default=os.environ.get(DATA_VARIABLE), help="torchvision root of MNIST"
    )
    options = parser.parse_args(arguments)
    if options.each < EACH:
        parser.error(f"argument --each: {options.each} given; expected at least {EACH}")
    torch.set_num_threads(1)
    random = np.random.default_rng(options.seed)
    try:
        source, reason = resolve("auto", options.data_dir and Path(options.data_dir), download=False)
        studies = studies_to_measure()
        problems = {
            one.name: Pairs(data=source.name, data_dir=options.data_dir, **one.settings) for one in studies
        }
        # Refuse a file of another kind before anything is measured.
        write(options.output, [], describe_machine())
    except (ValueError, InputError) as error:
        parser.error(str(error))
    say(f"data: {reason}")
    parts = draw(studies, options.each, random)
    before = max(sgemm_gflops().values())
    trials = measure(parts, problems, 1 if options.quick else None, random)
    gflops = fmean([before, max(sgemm_gflops().values())])
    section = summary(parts, trials, gflops)
    for line in report(section):
        say(line)
    about = {"data": source.name, "seed": options.seed, "whole_trials": not options.quick}
    write(options.output, [], {"grid": about | section})
    say(f"written: {options.output}")


if __name__ == "__main__":
    main()
