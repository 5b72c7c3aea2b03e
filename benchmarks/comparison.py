"""Searches one grid by Optuna, scikit-learn, Ray Tune and pairsearch, undisturbed and with processes killed.

Each point keeps a core busy for 0.2 s, and two are trained at a time, on two cores. Undisturbed, the overhead of a
point is measured: twice the seconds from the start of the search to its end, divided by the points, less the point's
own time. In a second part processes are killed by `kill -9` at the same moments for each system: twice one that is at
work on a point, and then all that belong to the search. Whatever has ended with an error is started again at once, with
the same command. A log that the points themselves write, and the system's own table, say what became of each point.

The section `comparison` is added to `bench.json`, and `--page` puts the tables into a page. A system that is not
installed is left out, with a line. Example:

    python benchmarks/comparison.py --page docs/explanation/comparison.md
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import compared
import optuna
import psutil
from benchfile import describe_machine, say, write
from service import postgresql_url
from sqlalchemy import create_engine, make_url, text

from pairsearch.search.common import threads
from pairsearch.search.workers import program

WORKERS = 2
KILLS = (1.5, 3.0, 4.5)
"""Seconds after the first point of the search has begun: one process is killed, another, all."""
MOST_STARTS = 12
PATIENCE = 600.0
LOOK_SECONDS = 0.01
BEGIN, END = "<!-- measured by benchmarks/comparison.py -->", "<!-- end of what was measured -->"


@dataclass(frozen=True)
class System:
    """One that searches the grid.

    Args:
        title: its name in tables.
        module: which has to be installed for it.
        commands: the command lines that search, all to be started at once, given a folder and a database's URL.
        database: `sqlite`, `postgresql`, or empty for none.
        prepare: what has to be done with the URL before; its time does not count.
    """

    title: str
    module: str
    commands: Callable[[Path, str], list[list[str]]]
    database: str = ""
    prepare: Callable[[str], object] = str


def _peer(name: str, processes: int = 1) -> Callable[[Path, str], list[list[str]]]:
    line = [sys.executable, compared.__file__, name]
    return lambda folder, url: [[*line, str(folder), url]] * processes


def _pairsearch(folder: Path, url: str) -> list[list[str]]:
    shutil.copy(compared.__file__, folder)
    file = folder / f"{compared.NAME}.toml"
    lines = (f'name = "{compared.NAME}"', 'problem = "compared.py:fit"', 'metric = "loss"', "folds = 1")
    file.write_text(
        "\n".join((*lines, "[grid]", *(f"{name} = {compared.values()}" for name in "xy"))), "utf-8"
    )
    words = ("--workers", str(WORKERS), "--storage", url, "--lease", str(compared.DEAD), "--quiet")
    return [program.command("run", str(file), *words)]


def _create(url: str) -> None:
    """Create Optuna's study, which its processes share."""
    optuna.create_study(storage=url, study_name=compared.NAME)


SYSTEMS = {
    "pairsearch-sqlite": System("pairsearch, SQLite", "pairsearch", _pairsearch, "sqlite"),
    "pairsearch-postgresql": System("pairsearch, PostgreSQL", "pairsearch", _pairsearch, "postgresql"),
    "optuna-sqlite": System("Optuna, SQLite", "optuna", _peer("optuna", WORKERS), "sqlite", _create),
    "optuna-postgresql": System(
        "Optuna, PostgreSQL", "optuna", _peer("optuna", WORKERS), "postgresql", _create
    ),
    "grid-search": System("GridSearchCV, joblib", "sklearn", _peer("grid-search")),
    "ray": System("Ray Tune", "ray.tune", _peer("ray")),
}


@dataclass
class Search:
    """A search that runs: its processes, and how often they were started.

    Args:
        commands: see `System`.
    """

    commands: Sequence[Sequence[str]]
    log: Path
    output: Path
    starts: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start all commands."""
        self.processes = [self._started(command) for command in self.commands]

    def _started(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        self.starts += 1
        with self.output.open("ab") as output:
            return subprocess.Popen(
                command, cwd=self.log.parent, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def running(self) -> bool:
        """Start again what has ended with an error, and say whether anything runs."""
        for place, process in enumerate(self.processes):
            if process.poll():
                if self.starts >= MOST_STARTS:
                    raise SystemExit(f"started {self.starts} times: {self.output.read_text('utf-8')[-2000:]}")
                self.processes[place] = self._started(self.commands[place])
        return any(process.poll() is None for process in self.processes)

    def kill_one(self) -> bool:
        """Kill the process that is at work on the point that began last; say whether there was one."""
        pid = compared.Log(self.log).at_work()
        if pid is not None:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        return pid is not None

    def kill_all(self) -> None:
        """Kill all processes of the search, and those that they have started."""
        family = []
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                main = psutil.Process(process.pid)
                family += [*main.children(recursive=True), main]
        for one in reversed(family):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        for process in self.processes:
            process.wait()
        psutil.wait_procs(family, timeout=10)


def search(system: System, folder: Path, url: str, kills: Sequence[float]) -> dict[str, Any]:
    """Search the grid once; return what it took, and what became of its points.

    Args:
        kills: when processes are killed, in seconds after the first point has begun; all are with the last.

    Raises:
        SystemExit: it did not end, or was started too often.
    """
    log, output = folder / "log", folder / "output"
    os.environ[compared.LOG] = str(log)
    running = Search(system.commands(folder, url), log, output)
    system.prepare(url)
    began, left = time.monotonic(), list(kills)
    running.start()
    try:
        while running.running():
            now = time.monotonic()
            if now - began > PATIENCE:
                raise SystemExit(f"{system.title} did not end: {output.read_text('utf-8')[-2000:]}")
            begun = compared.Log(log).begun if left else []
            if begun and now >= begun[0][0] + left[0]:
                if len(left) == 1:
                    running.kill_all()
                    left.clear()
                elif running.kill_one():
                    left.pop(0)
            time.sleep(LOOK_SECONDS)
        wall = time.monotonic() - began
    finally:
        running.kill_all()
    return figures(system, folder, url, wall) | {
        "kills": len(kills) - len(left),
        # What had ended with an error, or was killed with all, was started again.
        "started_again": running.starts - len(running.commands),
    }


def figures(system: System, folder: Path, url: str, wall: float) -> dict[str, Any]:
    """Return the times of a search that took so many seconds, and what the log and the system's table say of points."""
    log, points = compared.Log(folder / "log"), len(compared.values()) ** 2
    own = float(os.environ[compared.SECONDS])
    first, last = log.begun[0][0], max(at for at, _, _ in log.ended)
    if system.database:
        # Both keep Optuna's tables, and what is read there is what their users see.
        trials = optuna.load_study(study_name=compared.NAME, storage=sqlalchemy_url(url)).trials
        known = {
            (trial.params["x"], trial.params["y"])
            for trial in trials
            if trial.state is optuna.trial.TrialState.COMPLETE
        }
        left: int | None = sum(trial.state is optuna.trial.TrialState.RUNNING for trial in trials)
    else:
        kept = json.loads((folder / "results.json").read_text("utf-8"))
        known, left = {(x, y) for x, y in kept["points"]}, kept["running"]
    return {
        "seconds": round(wall, 3),
        "overhead": round(WORKERS * wall / points - own, 4),
        "overhead_between": round(WORKERS * (last - first) / points - own, 4),
        "lost": points - len(known),
        "trained_twice": log.trained_twice(),
        # Of these trainings nothing came: they were cut by a kill.
        "cut": len(log.begun) - len(log.ended),
        "running": left,
    }


def sqlalchemy_url(url: str) -> str:
    """Return a URL that names the driver, which Optuna needs for psycopg 3."""
    return url.replace("postgresql:", "postgresql+psycopg:", 1)


@contextmanager
def place(system: System, server: str | None, number: int) -> Iterator[tuple[Path, str]]:
    """Yield a folder and the URL of a new database, empty if the system has none."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        url = f"sqlite:///{name}/compared.db" if system.database == "sqlite" else ""
        if system.database == "postgresql" and server is not None:
            engine = create_engine(sqlalchemy_url(server), isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text(f"create database compared_{number}"))
            engine.dispose()
            url = make_url(server).set(database=f"compared_{number}").render_as_string(hide_password=False)
        yield Path(name), url if "pairsearch" in system.title else sqlalchemy_url(url)


def summary(undisturbed: Sequence[dict[str, Any]], killed: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of the times of undisturbed searches, and what became of points in each killed one."""
    times = ("seconds", "overhead", "overhead_between")
    return {
        **{name: round(median(one[name] for one in undisturbed), 4) for name in times if undisturbed},
        "undisturbed": undisturbed,
        # Where processes are killed, and started again, there is no overhead of a point.
        "killed": [{name: one[name] for name in one if name not in times[1:]} for one in killed],
    }


def tables(section: dict[str, Any]) -> str:
    """Return the measured part of the page as Markdown."""
    points, systems = section["points"], section["systems"]
    named = {SYSTEMS[name].title: found for name, found in systems.items()}
    lines = [
        f"{section['hardware']['processor']}, {WORKERS} cores; "
        + ", ".join(f"{name} {number}" for name, number in section["versions"].items())
        + f". {points} points of {section['point_seconds']} s, medians; searches by each: {section['repeats']}.",
        "",
        "| | search, s | overhead a point, ms | of it while points are trained, ms | trained twice, in all |",
        "|---|---|---|---|---|",
        *(
            f"| {title} | {found['seconds']:.1f} | {1e3 * found['overhead']:.0f} "
            f"| {1e3 * found['overhead_between']:.0f} "
            f"| {sum(one['trained_twice'] for one in found['undisturbed'])} |"
            for title, found in named.items()
            if found["undisturbed"]
        ),
        "",
        f"With processes killed, sums over so many searches of {points} points each: {section['killed_repeats']}. "
        "Seconds are their median:",
        "",
        "| | points lost | trained twice | cut and begun again | left RUNNING | started again | search, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for title, found in named.items():
        if runs := found["killed"]:
            total = {
                name: "no table" if runs[0][name] is None else sum(one[name] for one in runs)
                for name in ("lost", "trained_twice", "cut", "running", "started_again")
            }
            cells = " | ".join(map(str, total.values()))
            lines.append(f"| {title} | {cells} | {median(one['seconds'] for one in runs):.1f} |")
    return "\n".join(lines)


def put(page: Path, measured: str) -> None:
    """Put the tables between the two lines of the page that mark their place.

    Raises:
        SystemExit: it does not have these lines.
    """
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page}: expected the lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{measured}\n\n{END}{after}", "utf-8")


def installed(system: System) -> bool:
    """Say whether the system's package is there."""
    try:
        return find_spec(system.module) is not None
    except ImportError:  # of a package above it
        return False


def number_of(package: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def settle(side: int, seconds: float) -> None:
    """Keep this process and all that it starts to two cores, one thread each, and tell points how long they take."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:WORKERS])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    quiet = {"RAY_USAGE_STATS_ENABLED": "0"}
    own = {compared.SIDE: str(side), compared.SECONDS: str(seconds)}
    os.environ.update(dict.fromkeys(threads.VARIABLES, "1") | quiet | own)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the file, and the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="file to write or to add to")
    parser.add_argument("--page", type=Path, help="page to put the tables into")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="only these")
    parser.add_argument("--repeats", type=int, default=3, help="undisturbed searches by each (3)")
    parser.add_argument("--killed", type=int, default=1, help="searches by each with processes killed (1)")
    parser.add_argument("--side", type=int, default=8, help="values of each of the two parameters (8)")
    parser.add_argument("--seconds", type=float, default=0.2, help="processor time of a point (0.2)")
    given = parser.parse_args(arguments)
    settle(given.side, given.seconds)
    machine = describe_machine()
    say(machine["hardware"]["processor"])
    packages = ("pairsearch", "optuna", "scikit-learn", "joblib", "ray")
    section: dict[str, Any] = {
        "hardware": machine["hardware"],
        "versions": {one: number for one in packages if (number := number_of(one)) is not None},
        "points": given.side**2,
        "point_seconds": given.seconds,
        "repeats": given.repeats,
        "killed_repeats": given.killed,
        "kills": KILLS,
    }
    found: dict[str, tuple[list[Any], list[Any]]] = {}
    with ExitStack() as stack:
        needed = any(SYSTEMS[name].database == "postgresql" for name in given.systems)
        server = stack.enter_context(postgresql_url()) if needed else None
        for name in given.systems:
            if not installed(SYSTEMS[name]):
                say(f"{name}: left out: {SYSTEMS[name].module} is not installed")
            elif SYSTEMS[name].database == "postgresql" and server is None:
                say(f"{name}: left out: pip install 'pairsearch[test]' brings a server")
            else:
                found[name] = [], []
        # One after the other, so that whatever else the machine does falls on all alike.
        for repeat in range(given.repeats + given.killed):
            killed = repeat >= given.repeats
            for count, name in enumerate(found):
                with place(SYSTEMS[name], server, repeat * len(SYSTEMS) + count) as (folder, url):
                    one = search(SYSTEMS[name], folder, url, KILLS if killed else ())
                found[name][killed].append(one)
                say(f"{name}{', killed' if killed else ''}: {one}")
    section["systems"] = {name: summary(*both) for name, both in found.items()}
    write(given.output, [], {"comparison": section})
    say(tables(section))
    say(f"written: {given.output}")
    if given.page:
        put(given.page, tables(section))


if __name__ == "__main__":
    main()
