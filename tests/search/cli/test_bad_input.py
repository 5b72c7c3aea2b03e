"""Bad input to the real program: one line on standard error, exit code 2, and nothing half-written."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import programs
import pytest
import tiny

GRID = tiny.RAW["grid"]
DIGITS = ("--data", "digits")

# One test process makes the study that they share.
pytestmark = pytest.mark.xdist_group("bad input")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study on the digits in its `pairsearch.db`, nothing of it finished."""
    folder = tmp_path_factory.mktemp("prepared")
    tiny.write_toml(folder / "tiny.toml")
    assert programs.run(folder, "create", "tiny.toml", *DIGITS).code == 0
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    for file in prepared.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


def content(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of our tables."""
    connection = sqlite3.connect(folder / "pairsearch.db")
    tables = [
        name
        for (name,) in connection.execute(
            "select name from sqlite_master where type = 'table' and name like 'pairsearch_%'"
        )
        if not name.endswith("_claim")
    ]
    found = {table: connection.execute(f"select * from {table}").fetchall() for table in tables}  # noqa: S608 - from above
    found["studies"] = connection.execute("select study_name from studies").fetchall()
    connection.close()
    return found


@pytest.mark.parametrize(
    "command",
    ["create", "worker", "run", "status", "best", "evaluate"],
)
def test_an_unknown_study_is_named(folder: Path, command: str) -> None:
    before = content(folder)
    complaint = programs.run(folder, command, "b9").complaint
    assert "b9" in complaint
    assert content(folder) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"problem": "pear"},
            "problem pear: unknown: expected pairs, estimator, command, FILE.py:NAME or MODULE:NAME",
        ),
        ({"architecture": "b9"}, "b9"),
        ({"optimiser": "adamant"}, "adamant"),
        ({"epoch": 3}, "epoch: unknown key"),
        (
            {"settings": tiny.RAW["settings"] | {"sampel_size": 9}},
            "settings.sampel_size: unknown setting: expected",
        ),
        ({"metric": "loss"}, "reports no 'loss': expected one of train_loss, val_loss, val_error"),
        (
            {"grid": GRID | {"momentum": [0.9]}},
            "grid.momentum: neither architecture 'b1' nor optimiser 'adam' takes it: leave it out",
        ),
        ({"grid": GRID | {"batch_size": []}}, "grid.batch_size: expected at least one value"),
        (
            {"grid": GRID | {"batch_size": [10, 10]}},
            "grid.batch_size: expected distinct values, got 10 twice",
        ),
        ({"grid": GRID | {"learning_rate": [-1e-3]}}, "grid.learning_rate"),
        ({"grid": GRID | {"weight_decay": [-0.1]}}, "grid.weight_decay"),
        ({"folds": 0}, "folds"),
        ({"sample_size": 5}, "validation_size"),
        ({"name": "../etc/passwd"}, "name: expected lower-case letters"),
        ({"name": "Größe"}, "name: expected lower-case letters"),
    ],
)
def test_a_bad_definition_is_refused_with_file_and_field(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    before = content(folder)
    tiny.write_toml(folder / "bad.toml", **{"name": "bad"} | changes)
    complaint = programs.run(folder, "create", "bad.toml", *DIGITS).complaint
    assert message in complaint
    assert content(folder) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"name = ", "bad.toml: not valid TOML"),
        (b'title = "\xff"', "bad.toml: expected UTF-8 text"),
        (b"", "bad.toml: name:"),
    ],
)
def test_a_file_that_is_no_definition_is_named(folder: Path, text: bytes, message: str) -> None:
    (folder / "bad.toml").write_bytes(text)
    assert message in programs.run(folder, "create", "bad.toml", *DIGITS).complaint


def test_a_definition_that_is_not_there_is_named(folder: Path) -> None:
    assert "absent.toml: cannot be read" in programs.run(folder, "create", "absent.toml").complaint


def test_more_pairs_than_images_are_refused(folder: Path, mnist_root: Path) -> None:
    before = content(folder)
    tiny.write_toml(folder / "big.toml", name="big", sample_size=40_000)
    ended = programs.run(folder, "create", "big.toml", "--data", "mnist", PAIRSEARCH_DATA=str(mnist_root))
    assert "40000 pairs need 80000 distinct images; mnist has 60000" in ended.complaint
    assert content(folder) == before


def test_two_definitions_under_one_name_are_refused(folder: Path) -> None:
    before = content(folder)
    tiny.write_toml(folder / "other.toml", epochs=9)
    assert (
        "two different definitions are named 'tiny'"
        in programs.run(folder, "create", "tiny.toml", "other.toml", *DIGITS).complaint
    )
    for command in ("create", "worker", "run", "evaluate"):
        assert "epochs is 2 there and 9 here" in programs.run(folder, command, "other.toml").complaint
    assert content(folder) == before


@pytest.mark.parametrize(
    "name", ["../tiny", "/etc/passwd", "a b", "tiny\x1b[31m", "\udcff\udcfe", "x" * 300, "-"]
)
def test_a_hostile_study_name_is_shown_harmlessly(folder: Path, name: str) -> None:
    before = content(folder)
    for command in ("create", "status"):
        complaint = programs.run(folder, command, "--", name).complaint
        assert complaint.isprintable()
    assert content(folder) == before


def test_other_data_than_the_study_s_are_refused(folder: Path, mnist_root: Path) -> None:
    before = content(folder)
    for command in ("create", "worker", "run"):
        ended = programs.run(folder, command, "tiny.toml", "--data", "mnist", PAIRSEARCH_DATA=str(mnist_root))
        assert "its data is digits and that given is mnist" in ended.complaint
    assert content(folder) == before
    assert programs.run(folder, "worker", "tiny.toml", "--max-trials", "1").code == 0
    evaluate = programs.run(folder, "evaluate", "tiny", "--data", "mnist", PAIRSEARCH_DATA=str(mnist_root))
    assert "its data is digits and that given is mnist" in evaluate.complaint


def test_corrupt_data_are_named(folder: Path, mnist_root: Path) -> None:
    raw = folder / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (mnist_root / "MNIST" / "raw").iterdir():
        (raw / file.name).symlink_to(file)
    labels = raw / "t10k-labels-idx1-ubyte"
    content = labels.read_bytes()
    labels.unlink()
    labels.write_bytes(content[:100])
    tiny.write_toml(folder / "new.toml", name="new")
    ended = programs.run(folder, "create", "new.toml", "--data", "mnist", "--data-dir", "root")
    assert "t10k-labels-idx1-ubyte: wrong checksum" in ended.complaint


def test_data_that_cannot_be_had_are_an_error(folder: Path) -> None:
    (folder / "root").write_text("a file, not a folder")
    tiny.write_toml(folder / "new.toml", name="new")
    ended = programs.run(folder, "create", "new.toml", "--data", "mnist", "--data-dir", "root")
    assert f"MNIST could not be downloaded to {folder}/root" in ended.complaint
    ended = programs.run(folder, "create", "new.toml", "--data", "cifar")
    assert "data: 'cifar' given; expected one of mnist, digits, " in ended.complaint


def test_evaluating_a_study_with_nothing_finished_is_refused(folder: Path) -> None:
    before = content(folder)
    assert (
        "study tiny has no finished trial to evaluate"
        in programs.run(folder, "evaluate", "tiny.toml").complaint
    )
    assert "has no [paper] table" in programs.run(folder, "evaluate", "tiny.toml", "--paper").complaint
    assert content(folder) == before


@pytest.mark.parametrize("command", ["status", "best", "worker", "evaluate"])
def test_a_study_that_was_not_created_is_named(folder: Path, command: str) -> None:
    assert "study b1 is not in" in programs.run(folder, command, "b1", *_data(command)).complaint


def _data(command: str) -> tuple[str, ...]:
    return DIGITS if command in ("worker", "evaluate") else ()


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "b9"),
        ("run", "bad.toml"),
        ("create", "tiny.toml", "--data", "cifar"),
        ("evaluate", "b9", "--paper"),
        ("create", "tiny.toml", "--data", "mnist", "--data-dir", "bad.toml"),
        ("create", "tiny.toml", "--data", "mnist", "--data-dir", "no/such/folder"),
        ("create", "tiny.toml", "--data", "mnist", "--data-dir", "cannot-be-downloaded-here"),
        ("evaluate", "tiny.toml", "--paper"),
    ],
    ids=" ".join,
)
def test_what_is_refused_leaves_no_database(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    tiny.write_toml(tmp_path / "tiny.toml")
    tiny.write_toml(tmp_path / "bad.toml", epochs=0)
    before = {path.name for path in tmp_path.iterdir()}
    data = () if "--data" in arguments else ("--data", "digits")
    assert programs.run(tmp_path, *arguments, *data).complaint
    assert {path.name for path in tmp_path.iterdir()} - before == {"out", "err"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("create", "new.toml", "--storage", "sqlite:///no/such/file.db"), "there is no folder"),
        (("run", "new.toml", "--storage", "sqlite:///no/such/file.db"), "there is no folder"),
        (("create", "other.toml"), "epochs is 2 there and 9 here"),
        (("worker", "other.toml"), "epochs is 2 there and 9 here"),
        (("evaluate", "other.toml"), "epochs is 2 there and 9 here"),
        (("create", "tiny.toml"), "its data is digits and that given is mnist"),
        (("worker", "tiny.toml"), "its data is digits and that given is mnist"),
        (("worker", "new.toml"), "study new is not in"),
        (("evaluate", "tiny.toml"), "has no finished trial to evaluate"),
    ],
    ids=str,
)
def test_nothing_is_downloaded_before_all_else_that_was_given_is_checked(
    folder: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    """A download would be tried, and fail here, so that another complaint came first."""
    tiny.write_toml(folder / "new.toml", name="new")
    tiny.write_toml(folder / "other.toml", epochs=9)
    before = content(folder)
    assert (
        complaint in programs.run(folder, *arguments, "--data", "mnist", "--data-dir", "downloads").complaint
    )
    assert content(folder) == before


@pytest.mark.parametrize(
    ("command", "device"),
    [
        ("worker", "cuda:99"),
        ("run", "cuda:99"),
        ("evaluate", "cuda:99"),
        ("worker", "nonsense"),
        ("run", "meta"),
    ],
)
def test_a_device_that_is_not_there_is_refused(folder: Path, command: str, device: str) -> None:
    before = content(folder)
    complaint = programs.run(folder, command, "tiny", "--device", device).complaint
    assert f"--device '{device}' cannot be used here" in complaint
    assert content(folder) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker", "tiny", "--lease", "inf"),
        ("worker", "tiny", "--lease", "nan"),
        ("worker", "tiny", "--patience", "nan"),
        ("worker", "tiny", "--limit", str(10**20)),
        ("best", "tiny", "--top", str(10**20)),
    ],
    ids=" ".join,
)
def test_a_number_out_of_bounds_is_refused(folder: Path, arguments: tuple[str, ...]) -> None:
    ended = programs.run(folder, *arguments)
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert arguments[2] in ended.err
