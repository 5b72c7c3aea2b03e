"""What the README says is what the program does."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import programs
import pytest
import tiny
import yaml
from program import COMMANDS, parse
from readme import CONTRIBUTING, README, ROOT, blocks, rows, section, shell_lines

from pairsearch.search.cli.terminal import DEFAULT_STORAGE
from pairsearch.search.errors import ExitCode
from pairsearch.search.results.export_columns import TABLES, ExportTable
from pairsearch.studies.definition import parse as definition_of

COMMAND_ROWS = rows(section("Commands"), "command")
OPTION_ROWS = rows(section("Commands"), "option")


def options(command: str) -> dict[str, str | None]:
    """Environment variable by option of a command."""
    return {
        name: parameter.envvar
        for parameter in COMMANDS[command].params
        for name in parameter.opts
        if name.startswith("--")
    }


def test_it_opens_with_the_name_and_the_two_commands() -> None:
    assert README.startswith("# pairsearch\n")
    assert shell_lines()[:2] == ["make run", "make test"]


def test_it_makes_the_promise_that_the_fault_tests_hold() -> None:
    promised = " ".join(section("What is promised").split())
    assert (
        "**Every configuration of a study is finished exactly once, its figures are the same bit for bit as those of "
        "one undisturbed worker, and no trial is left RUNNING, whatever happens to workers, "
        "machines or the database on the way.**"
    ) in promised


def test_its_table_has_every_command_and_no_other() -> None:
    assert [row[0].split()[1].rstrip("`") for row in COMMAND_ROWS] == list(COMMANDS)


@pytest.mark.parametrize("row", COMMAND_ROWS, ids=[row[0] for row in COMMAND_ROWS])
def test_the_example_of_a_command_in_its_table_is_the_one_that_its_help_ends_in(row: list[str]) -> None:
    name = row[0].strip("`").split()[1]
    assert f"Example: {row[2].strip('`')}" == COMMANDS[name].epilog


@pytest.mark.parametrize("line", [line for line in shell_lines() if line.startswith("pairsearch")])
def test_a_line_of_its_shell_blocks_parses(line: str) -> None:
    parse(line)


def test_every_pairsearch_command_that_it_mentions_exists() -> None:
    mentioned = re.findall(r"`pairsearch ([a-z]+)", README) + re.findall(
        r" pairsearch ([a-z]+)$", README, re.M
    )
    assert mentioned
    assert set(mentioned) <= set(COMMANDS)


def test_its_options_exist_with_the_environment_variables_that_it_names() -> None:
    known = {name: variable for command in COMMANDS for name, variable in options(command).items()}
    for option, variable, *_ in OPTION_ROWS:
        assert known[option.strip("`")] == (variable.strip("`") or None)


@pytest.mark.parametrize("option", ["--json", "--quiet"])
def test_the_commands_that_it_says_have_an_option_are_those_that_do(option: str) -> None:
    (row,) = [row for row in OPTION_ROWS if row[0] == f"`{option}`"]
    assert re.findall(r"`(\w+)`", row[2]) == [name for name in COMMANDS if option in options(name)]


def test_it_names_the_environment_variables_of_the_program_and_so_does_the_example_file() -> None:
    # Those of options, and those that modules read by themselves.
    program = {variable for command in COMMANDS for variable in options(command).values() if variable}
    for room in ("search", "studies"):
        for module in (ROOT / room).rglob("*.py"):
            program |= set(re.findall(r'"(PAIRSEARCH_\w+)"', module.read_text(encoding="utf-8")))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"PAIRSEARCH_\w+", README)) == program
    assert set(re.findall(r"PAIRSEARCH_\w+", example)) == program


def test_it_names_the_settings_of_the_compose_file() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    settings = set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    named = re.search(r"lists the settings \(([^)]*)\)", section("Containers"))
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) == settings


def test_the_default_storage_is_the_one_that_it_states() -> None:
    (row,) = [row for row in OPTION_ROWS if row[0] == "`--storage`"]
    assert row[3] == f"`{DEFAULT_STORAGE}`"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_its_tables_of_an_export_have_the_columns_and_units_of_the_program(table: ExportTable) -> None:
    heading = f"`STUDY-{table.name}`: a row is {table.row}.\n"
    assert heading in README
    described = [[f"`{column.name}`", column.kind, column.unit, column.meaning] for column in table.columns]
    assert rows(README.partition(heading)[2], "column") == described


def test_its_exit_codes_are_those_of_the_program() -> None:
    stated = {int(code): name for code, name, _ in rows(section("Commands"), "exit code")}
    assert stated == {code.value: code.name.lower().replace("_", " ") for code in ExitCode}


def test_its_make_targets_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    # Those that `make help` lists.
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    described = {row[0].strip("`").removeprefix("make ") for row in rows(CONTRIBUTING, "target")}
    assert described == targets - {"help"}
    assert set(re.findall(r"`make (\w+)", README + CONTRIBUTING)) <= targets


def test_every_relative_link_leads_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        links = re.findall(r"\]\((?!https?://|#)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
        assert links, page.name
        assert [link for link in links if not (page.parent / link).exists()] == [], page.name


def test_every_package_is_in_its_layout() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = [name.split(".")[1:] for name in project["tool"]["setuptools"]["packages"]]
    stated = {match[1] for match in re.finditer(r"^\| \[([\w/]+)/\]", CONTRIBUTING, re.MULTILINE)}
    tops = {parts[0] for parts in packages if parts}
    rooms = {"/".join(parts) for parts in packages if parts[:1] != ["models"] and len(parts) == 2}
    assert stated == tops | rooms | {"tests"}


def test_the_rooms_of_the_service_are_in_the_order_of_their_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = [
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["name"].startswith("inside search")
    ]
    stated = re.findall(r"^\| \[(search/[\w./]+?)/?\]", CONTRIBUTING, re.MULTILINE)
    held = [layer.removeprefix("pairsearch.").replace(".", "/") for layer in layers if "|" not in layer]
    assert [room.removesuffix(".py") for room in stated if room != "search"] == held[: len(held) - 1]


def test_the_hooks_before_a_commit_run_the_commands_of_make_lint() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0][
        "hooks"
    ]
    assert [hook["entry"] for hook in hooks] == commands


def test_its_problem_is_the_one_that_the_tests_search_judge_evaluate_and_report() -> None:
    (wine,) = [block for block in blocks("python") if "class Wine" in block]
    first, more = blocks("toml")[:2]
    assert wine == (ROOT / "tests/problems/wine.py").read_text(encoding="utf-8")
    assert first == (ROOT / "tests/problems/wine.toml").read_text(encoding="utf-8")
    # The other fields that it names are fields.
    fields = tomllib.loads(more) | {"grid": {"width": [4]}, "name": "more", "problem": "wine.py:Wine"}
    assert definition_of(fields | {"metric": "accuracy", "pruner": "wilcoxon"}, "README").time_limit == 600


def test_its_script_creates_searches_judges_evaluates_and_draws(tmp_path: Path) -> None:
    import pairsearch  # noqa: PLC0415

    (script,) = [block for block in blocks("python") if "pairsearch.create(" in block]
    tiny.write_toml(tmp_path / "ws-small.toml", name="ws-small")
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=programs.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "8 of 8" in ended.stdout
    assert re.search(r"^test error 0\.\d{4}$", ended.stdout, re.MULTILINE)
    assert {"val-loss.html", "report.html"} <= {path.name for path in tmp_path.iterdir()}
    named = {name for cell, _ in rows(section("Python"), "name") for name in re.findall(r"`(\w+)", cell)}
    assert named == set(pairsearch.__all__)
    ((methods,),) = ([row[1] for row in rows(section("Python"), "name") if row[0] == "`Study`"],)
    assert set(re.findall(r"`(\w+)`", methods)) == {name for name in dir(pairsearch.Study) if name[0] != "_"}


@pytest.mark.xdist_group("docs")
def test_programs_read_models_trials_and_figures_as_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pairsearch.search.database.connection import open_database  # noqa: PLC0415
    from pairsearch.search.evaluation.models import ModelFolder  # noqa: PLC0415
    from pairsearch.search.evaluation.rounds import Request, evaluate  # noqa: PLC0415
    from pairsearch.search.mirror.trials import open_storage  # noqa: PLC0415
    from pairsearch.search.setup.creation import create_study  # noqa: PLC0415
    from pairsearch.search.workers.objective import CrossValidation  # noqa: PLC0415
    from pairsearch.search.workers.worker import Worker  # noqa: PLC0415

    raw = {
        "name": "ws", "problem": "pairs", "metric": "val_loss", "folds": 1,
        "settings": {
            "architecture": "ws", "sample_size": 20, "validation_size": 4, "train_pairs": 20, "test_pairs": 20,
        },
        "grid": {"batch_size": [10], "learning_rate": [1e-3], "weight_decay": [0.0], "hidden_units": [10]},
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    # As in the activated environment, where a user types the lines.
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    database, loaded = open_database(DEFAULT_STORAGE, create=True), tiny.loaded(definition_of(raw, "test"))
    study = create_study(database, loaded).study
    storage = open_storage(database)
    objective = CrossValidation(loaded)
    assert Worker(database, storage, study, objective, stopping=threading.Event()).run().finished == 1
    configuration = study.definition.grid.configurations()[0]
    folder = ModelFolder(Path("models"))
    evaluate(
        database, study, loaded, Request(configuration, (0, 1), 2), worker="test",
        keep=lambda trained: folder.keep(study, configuration, trained),
    )  # fmt: skip
    storage.engine.dispose()
    database.close()

    names = {"path": folder.file(study, configuration, 0)}
    (reading,) = [block for block in blocks("python") if "load_state_dict" in block]
    exec(reading, names)  # noqa: S102 - our README
    assert type(names["module"]).__name__ == "WS"

    (asking,) = [block for block in blocks("python") if "optuna.load_study" in block]
    exec(asking, {})  # noqa: S102 - our README
    printed = capsys.readouterr().out
    assert "{'batch_size': 10, 'learning_rate': 0.001, " in printed
    assert "COMPLETE" in printed
    optuna_lines = [line for line in shell_lines() if line.startswith("optuna ")]
    assert [line.split()[1] for line in optuna_lines] == ["studies", "trials", "best-trial"]
    for line in optuna_lines:
        done = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, "ws" in done.stdout or "learning_rate" in done.stdout) == (0, True), done
    (sql,) = blocks("sql")
    connection = sqlite3.connect("pairsearch.db")
    found = [connection.execute(query).fetchall() for query in sql.split(";") if query.strip()]
    connection.close()
    key = configuration.key
    assert [len(lines) for lines in found] == [1, 1, 1]
    assert found[0][0][:3] == ("ws", key, "finished")
    assert found[1][0][:3] == (key, 0, 1)
    assert found[2][0][:3] == ("ws", key, 2)
