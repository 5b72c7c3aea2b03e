"""Runs tests in processes forked from one that has imported the heavy packages, but nothing of `pairsearch`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import site
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage, CoverageData
from coverage.exceptions import DataError

SETTINGS = """
[run]
parallel = true
data_file = {folder}/programs/data
include = {folder}/pairsearch/search/*
patch = _exit, fork
disable_warnings = no-data-collected, module-not-measured, module-not-imported, already-imported
"""
"""Measures programs that tests start: each process leaves a file of data when it ends."""
STARTUP = (
    "import os; os.environ['COVERAGE_PROCESS_START'] = {settings!r}; import coverage; coverage.process_startup(); "
    "del os.environ['COVERAGE_PROCESS_START']"
)


class Measure:
    """Notes which lines each test runs, and for how long; tests that do not pass are left out."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.programs = tree.parent / "programs"
        self.coverage = Coverage(data_file=None, config_file=False, include=[f"{tree}/search/*"])
        self.tests: dict[str, dict[str, Any]] = {}
        self.fixtures: dict[str, set[str]] = {}
        self.contexts: list[str] = []
        self.bad: set[str] = set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.fixtures[item.nodeid] = set()
        begun = time.perf_counter()
        with self._within(item.nodeid):
            yield
        lines: dict[str, set[int]] = {}
        for file in self.programs.iterdir():
            # What is still being written is read after the next test.
            with contextlib.suppress(DataError):
                data = CoverageData(str(file))
                data.read()
                self._add(lines, {name: data.lines(name) or [] for name in data.measured_files()})
                file.unlink()
        self.tests[item.nodeid] = {
            "seconds": round(time.perf_counter() - begun, 3),
            "programs": bool(lines),
            "lines": lines,
        }

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: pytest.FixtureRequest) -> Iterator[None]:
        """What a fixture of several tests runs belongs to each of them."""
        if fixturedef.scope == "function":
            yield
            return
        with self._within(_context(fixturedef)):
            yield

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_call(self, item: pytest.Function) -> None:
        used = (found[-1] for found in item._fixtureinfo.name2fixturedefs.values())
        self.fixtures[item.nodeid] = {_context(one) for one in used if one.scope != "function"}

    @contextlib.contextmanager
    def _within(self, context: str) -> Iterator[None]:
        self.contexts.append(context)
        self.coverage.switch_context(context)
        try:
            yield
        finally:
            self.contexts.pop()
            self.coverage.switch_context(self.contexts[-1] if self.contexts else "")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self.bad.add(report.nodeid)

    def _add(self, lines: dict[str, set[int]], more: Mapping[str, Sequence[int]]) -> None:
        for name, found in more.items():
            lines.setdefault(str(Path(name).relative_to(self.tree)), set()).update(found)

    def result(self) -> dict[str, Any]:
        """By test that passed: its seconds, whether it starts programs, and its lines by file."""
        data = self.coverage.get_data()
        by_context: dict[str, dict[str, list[int]]] = {}
        for file in data.measured_files():
            for line, contexts in data.contexts_by_lineno(file).items():
                for context in contexts:
                    by_context.setdefault(context, {}).setdefault(file, []).append(line)
        for name, test in self.tests.items():
            for context in (name, *self.fixtures[name]):
                self._add(test["lines"], by_context.get(context, {}))
        return {
            name: test | {"lines": {file: sorted(lines) for file, lines in test["lines"].items()}}
            for name, test in self.tests.items()
            if name not in self.bad
        }


def _context(fixture: Any) -> str:
    return f"fixture {fixture.argname} of {fixture.baseid}"


class Ask:
    """Runs the chosen tests in their order, and says which one it begins and which one fails."""

    def __init__(self, chosen: Sequence[str], say: Callable[[str], None]) -> None:
        self.rank = {name: place for place, name in enumerate(chosen)}
        self.say = say

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (one for one in items if one.nodeid in self.rank), key=lambda one: self.rank[one.nodeid]
        )

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.say(f"begins {nodeid}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.say(f"failed {report.nodeid}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.say(f"failed {report.nodeid} while it was collected")


def fork(tree: Path, work: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """Call `work` in a process that imports `pairsearch` from `tree`; its id, and the pipe of what it says."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    try:
        os.setsid()
        os.chdir(tree)
        output = os.open(tree.parent / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        temporary = tree.parent / "tmp"
        temporary.mkdir(exist_ok=True)
        os.environ["TMPDIR"] = str(temporary)
        work(lambda line: os.write(writing, f"{line}\n".encode()) and None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


def run_pytest(files: Sequence[str], plugin: object, *options: str) -> int:
    return pytest.main(
        ["-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", *options, *files], plugins=[plugin]
    )


def measured(tree: Path, files: Sequence[str]) -> dict[str, Any]:
    """Run files of tests; what `Measure.result` returns."""
    folder = tree.parent
    settings, result = folder / "coveragerc", folder / "measured.json"
    settings.write_text(SETTINGS.format(folder=folder))
    (folder / "programs").mkdir()
    # Its name comes after that of the file that finds the packages.
    startup = Path(site.getsitepackages()[0]) / "zz-measured.pth"
    startup.write_text(STARTUP.format(settings=str(settings)))

    def work(say: Callable[[str], None]) -> None:
        measure = Measure(tree)
        measure.coverage.start()
        run_pytest(files, measure)
        measure.coverage.stop()
        result.write_text(json.dumps(measure.result()))

    child, pipe = fork(tree, work)
    os.waitpid(child, 0)
    os.close(pipe)
    startup.unlink()
    _clear(tree)
    found: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {}
    if not found:
        raise SystemExit((folder / "output").read_text())
    return found


def noticed(tree: Path, chosen: Mapping[str, float], budget: float) -> str | None:
    """Run tests, given with the seconds that they take, until one fails.

    Returns:
        What noticed the mutant: the test that failed, or hung, or ended its process; None if all passed, or as many as
        began within `budget` seconds.
    """
    files = list(dict.fromkeys(name.split("::")[0] for name in chosen))

    def work(say: Callable[[str], None]) -> None:
        # Ctrl-C, as a test may get it from a mutant, is no failure to pytest, but its exit code says so.
        code = run_pytest(files, Ask(list(chosen), say), "-x")
        passed = code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        say("end" if passed else f"failed with pytest's exit code {code}")

    child, pipe = fork(tree, work)
    begun, patience, current, rest = time.monotonic(), 60.0, "collection", b""
    try:
        while True:
            ready, _, _ = select.select([pipe], [], [], patience)
            if not ready:
                return f"{current} hung"
            said = os.read(pipe, 65536)
            if not said:
                return f"{current} ended the process"
            *lines, rest = (rest + said).split(b"\n")
            for what, _, name in (line.decode().partition(" ") for line in lines):
                if what == "failed":
                    return name
                if what == "end":
                    return None
                if time.monotonic() - begun > budget:
                    return None
                current, patience = name, 20.0 + 10.0 * chosen[name]
    finally:
        os.close(pipe)
        _end(child)
        _clear(tree)


def _end(child: int) -> None:
    """Let pytest tear down, so that its database server stops; end what does not."""
    os.kill(child, signal.SIGINT)
    end = time.monotonic() + 10.0
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


def _clear(tree: Path) -> None:
    """Stop a database server that was left, and remove temporary files."""
    for file in (tree.parent / "tmp").glob("postgresql-*/data/postmaster.pid"):
        with contextlib.suppress(ProcessLookupError, OSError, ValueError):
            os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)
    shutil.rmtree(tree.parent / "tmp", ignore_errors=True)
