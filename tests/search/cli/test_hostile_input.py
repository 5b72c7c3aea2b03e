"""What others wrote, into a database, a file or a name, is shown and refused, never obeyed or run."""

from __future__ import annotations

import ast
import itertools
import json
import pickle
import re
import shutil
import sqlite3
from functools import cache
from pathlib import Path

import programs
import pytest
import tiny
from sqlalchemy import insert

from pairsearch.data.datasets import DATASETS
from pairsearch.data.errors import DataError
from pairsearch.data.sources import resolve
from pairsearch.search.common.errors import StudyError
from pairsearch.search.database.connection import Database
from pairsearch.search.database.tables import studies as study_rows
from pairsearch.search.ledger.studies import find_study, list_studies

PACKAGES = ("data", "jit", "models", "studies", "search")
ESCAPES = "\x1b[31m\x1b]0;title\x07\x9b1m\u202e\r[bold red]:boom:[/] {0} %s"
DIGITS = ("--data", "digits")
TRAITS = tiny.loaded().traits.to_json()

# One test process makes the study that they share.
pytestmark = pytest.mark.xdist_group("hostile input")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study whose database somebody wrote terminal codes and markup into."""
    folder = tmp_path_factory.mktemp("prepared")
    tiny.write_toml(folder / "tiny.toml", title=ESCAPES.replace("\r", ""))
    made = programs.run(folder, "create", "tiny.toml", *DIGITS)
    assert made.code == 0, made.err
    connection = sqlite3.connect(folder / "pairsearch.db")
    connection.execute(
        "update pairsearch_configurations set state = 'failed', reason = ? where rank = 0",
        (ESCAPES,),
    )
    connection.execute(
        "update pairsearch_configurations set state = 'running', worker = ? where rank > 0", (ESCAPES,)
    )
    connection.execute(
        "update pairsearch_jobs set state = 'running', worker = ?, claim = 'c', lease_expires = 0 "
        "where rank > 0",
        (ESCAPES,),
    )
    connection.commit()
    connection.close()
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    for file in prepared.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


def assert_harmless(text: str) -> None:
    """Nothing in it reaches a terminal as a code; lines and Rich's own frames may."""
    assert all(letter.isprintable() or letter == "\n" for letter in text), ascii(text)


def change(folder: Path, statement: str, *values: str) -> None:
    connection = sqlite3.connect(folder / "pairsearch.db")
    connection.execute(statement, values)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("command", ["studies", "status", "status --json", "best tiny"])
def test_looking_sends_nothing_from_the_database_to_the_terminal(folder: Path, command: str) -> None:
    ended = programs.run(folder, *command.split())
    assert ended.code == 0, ended.err
    assert_harmless(ended.out + ended.err)
    if command == "status":
        # Shown as it stands: neither a colour nor an emoji.
        assert r"\x1b[31m" in ended.out
        assert "[bold red]:boom:[/] {0} %s" in ended.out


def test_a_worker_says_what_it_found_harmlessly(folder: Path) -> None:
    ended = programs.run(folder, "worker", "tiny", "--max-trials", "1", *DIGITS)
    assert_harmless(ended.out + ended.err)
    assert r"lease of \x1b[31m" in ended.out


def test_a_live_table_on_a_terminal_sends_no_codes_but_its_own() -> None:
    import io  # noqa: PLC0415

    from rich.table import Table  # noqa: PLC0415

    from pairsearch.search.cli.terminal import console  # noqa: PLC0415

    screen, page = console(), io.StringIO()
    screen.file, screen._force_terminal, screen.width = page, True, 300
    table = Table(title=ESCAPES)
    table.add_column(ESCAPES)
    table.add_row(ESCAPES)
    screen.print(table, ESCAPES)
    text = page.getvalue()
    assert text.count(r"\x1b[31m") == 4
    assert text.count("[bold red]") == 4
    for code in ("\x1b[31m\x1b]", "\x1b]", "\x07", "\x9b", "\u202e"):
        assert code not in text


@pytest.mark.parametrize(
    "name",
    ["'; drop table pairsearch_studies; --", "a\nb", "../../etc", "Ünï", "\x1b[31m"],
)
def test_a_study_of_a_name_that_we_do_not_give_is_refused_wherever_it_is_listed(
    folder: Path, name: str
) -> None:
    change(folder, "update pairsearch_studies set name = ?", name)
    for command in (("studies",), ("status",)):
        complaint = programs.run(folder, *command).complaint
        assert complaint.isprintable()
        assert "which pairsearch cannot have written" in complaint


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("definition", "no JSON"),
        ("definition", "[]"),
        ("definition", "null"),
        ("definition", "[" * 100_000),
        ("definition", json.dumps(tiny.RAW | {"epochs": ESCAPES})),
        ("choices", "[1]"),
        ("choices", '{"batch_size": 1}'),
        ("choices", ESCAPES),
        ("problem", ESCAPES),
        ("problem", json.dumps(TRAITS | {"version": "one"})),
        ("problem", json.dumps(TRAITS | {"fingerprint": 1})),
        ("problem", json.dumps(TRAITS | {"metrics": {"val_loss": {"label": 1}}})),
        ("problem", json.dumps(TRAITS | {"remember": {"data": []}})),
    ],
)
def test_a_damaged_study_is_refused_in_one_line(folder: Path, column: str, value: str) -> None:
    change(folder, f"update pairsearch_studies set {column} = ?", value)  # noqa: S608 - one of the columns above
    for command in (("studies",), ("best", "tiny")):
        complaint = programs.run(folder, *command).complaint
        assert complaint.isprintable()
        assert "tiny" in complaint


def test_a_key_that_is_not_that_of_its_parameters_is_refused_harmlessly(folder: Path) -> None:
    change(folder, "update pairsearch_configurations set key = key || ? where rank = 1", ESCAPES)
    complaint = programs.run(folder, "best", "tiny").complaint
    assert complaint.isprintable()
    assert "has no parameters of its key as its params" in complaint


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("figures", ESCAPES, "JSON object of numbers"),
        ("figures", json.dumps({"val_error": ESCAPES}), "JSON object of numbers"),
    ],
)
def test_a_figure_that_is_no_number_is_refused_in_one_line(
    folder: Path, column: str, value: str, expected: str
) -> None:
    change(folder, "insert into pairsearch_provenances values (1, 'd', '{}')")
    change(
        folder,
        "insert into pairsearch_runs (study_id, key, kind, run, epochs, figures) "
        "select 1, key, 'fold', 0, 0, '{}' from pairsearch_configurations where rank = 1",
    )
    change(
        folder,
        "update pairsearch_configurations set state = 'finished', value = 0.5, seconds = 1, provenance_id = 1, "
        """figures = '{"val_loss": 0.5, "val_error": 0.1}' where rank = 1""",
    )
    assert programs.run(folder, "status", "tiny").code == 0
    change(folder, f"update pairsearch_configurations set {column} = ? where rank = 1", value)  # noqa: S608 - as above
    for command in (("status", "tiny"), ("best", "tiny")):
        complaint = programs.run(folder, *command).complaint
        assert complaint.isprintable()
        assert f"has no {expected} as its {column}" in complaint


NAMES = [
    "'; drop table pairsearch_studies; --", "x' or '1'='1", '"; --', "tiny'--", "tiny\0", "tiny;", "%", "_iny",
    "tiny\n", "../tiny", "TINY", "tiny\u200b", "$$", ":name", "\\", "{}", "tiny" * 100,
]  # fmt: skip


def test_a_hostile_name_finds_nothing_and_changes_nothing(folder: Path) -> None:
    for place, name in enumerate(name for name in NAMES if "\0" not in name):
        complaint = programs.run(folder, ("status", "best")[place % 2], "--", name).complaint
        assert complaint.isprintable()
    assert programs.run(folder, "status", "tiny").code == 0


def test_a_hostile_name_is_a_parameter_and_no_sql(database: Database) -> None:
    for name in NAMES:
        assert find_study(database, name) is None
    with database.write() as connection:
        connection.execute(
            insert(study_rows).values(
                name="x' or '1'='1",
                optuna_study_id=1,
                definition="{}",
                choices="{}",
                problem="'\"",
                created_at=0.0,
            )
        )
    with pytest.raises(StudyError, match=re.escape(ascii("x' or '1'='1"))):
        list_studies(database)


@cache
def trees() -> list[tuple[Path, ast.Module]]:
    files = [file for package in PACKAGES for file in sorted((programs.ROOT / package).rglob("*.py"))]
    return [(file, ast.parse(file.read_text(encoding="utf-8"))) for file in files]


def dangers(tree: ast.Module) -> list[str]:
    """What would run or unpickle what it reads."""
    modules = {
        "pickle",
        "cPickle",
        "_pickle",
        "dill",
        "cloudpickle",
        "joblib",
        "shelve",
        "marshal",
        "jsonpickle",
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in modules]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in modules:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            stated = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if name in ("eval", "exec", "compile", "__import__"):
                found.append(name)
            if name.endswith(("read_pickle", "to_pickle", "yaml.load", "yaml.unsafe_load")):
                found.append(name)
            if name == "torch.load" and stated.get("weights_only") != "True":
                found.append(name)
            if stated.get("allow_pickle", "False") != "False" or stated.get("shell", "False") != "False":
                found.append(name)
    return found


def test_no_package_unpickles_or_runs_what_it_reads() -> None:
    found = {file.name: found for file, tree in trees() if (found := dangers(tree))}
    # Numba keeps compiled kernels as pickles, and loads them from trusted folders alone (`jit.cache`).
    assert found == {"cache.py": ["pickle"]}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from joblib import load", "import dill as d", "torch.load(f)", "eval(x)",
        "torch.load(f, weights_only=False)", "numpy.load(f, allow_pickle=True)", "subprocess.run(x, shell=True)",
        "pandas.read_pickle(f)",
    ],
)  # fmt: skip
def test_the_scan_finds_what_it_looks_for(text: str) -> None:
    assert dangers(ast.parse(text))
    assert not dangers(ast.parse("torch.load(f, weights_only=True); numpy.load(f); json.load(f)"))


def called(node: ast.Call) -> str | None:
    """The name of the function or the method."""
    name: str | None = getattr(node.func, "attr", getattr(node.func, "id", None))
    return name


def test_every_piece_of_sql_in_words_is_a_constant() -> None:
    for file, tree in trees():
        if file.parent.name == "setup" and file.name == "upgrading.py":
            # Its statements pass through one function; they are texts, with names of texts in them.
            calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
            given = [
                one.args[1] for one in calls if ast.unparse(one.func).endswith("run") and len(one.args) > 1
            ]
            assert given
            for made in itertools.chain.from_iterable(map(ast.walk, given)):
                assert not isinstance(made, ast.FormattedValue) or isinstance(made.value, ast.Name), file
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and called(node) in ("text", "exec_driver_sql"):
                if "search" not in file.parts or not node.args:
                    continue
                constants = (ast.Constant, ast.IfExp)
                assert isinstance(node.args[0], constants), f"{file}:{node.lineno}: {ast.unparse(node)}"


class Bomb:
    """A pickle that leaves a trace when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


def test_a_pickle_among_the_data_is_not_loaded(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    bomb = pickle.dumps(Bomb(trace))
    pickle.loads(bomb)  # noqa: S301 - our own, to see that it works
    assert trace.exists()
    trace.unlink()
    raw, processed = tmp_path / "MNIST" / "raw", tmp_path / "MNIST" / "processed"
    raw.mkdir(parents=True)
    processed.mkdir()
    for file in DATASETS["mnist"].files:
        (raw / file.name).write_bytes(bomb.ljust(file.extracted, b"\0"))
    # Where torchvision once kept tensors.
    for name in ("training.pt", "test.pt"):
        (processed / name).write_bytes(bomb)
    with pytest.raises(DataError):
        resolve("mnist", tmp_path, download=False)
    assert not trace.exists()


def test_a_pickle_in_a_definition_s_or_a_database_s_place_is_not_loaded(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for name in ("bad.toml", "pairsearch.db", "storage"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb(trace)))
    programs.run(tmp_path, "status", PAIRSEARCH_STORAGE_FILE="storage").complaint  # noqa: B018 - it asserts
    for command in (("status",), ("create", "bad.toml", *DIGITS)):
        assert programs.run(tmp_path, *command).complaint.isprintable()
    assert not trace.exists()
