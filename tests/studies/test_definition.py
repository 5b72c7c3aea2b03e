"""Definitions: what is accepted, the one line that tells what is not, and what results depend on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition, parse, read
from pairsearch.studies.errors import DefinitionError

GRID: dict[str, Any] = {"batch_size": [10, 25], "learning_rate": [1e-4], "weight_decay": [0.0, 0.1]}
RAW: dict[str, Any] = {"name": "some", "architecture": "b1", "validation_size": 200, "grid": GRID}
KFOLD = {"protocol": "kfold", "validation_size": None}
PAPER = {
    "parameters": 1,
    "train_error": 1.0,
    "train_std": 1.0,
    "test_error": 1.0,
    "test_std": 1.0,
    "batch_size": 25,
    "learning_rate": 1e-4,
    "weight_decay": 0.1,
}


def definition(**changes: object) -> Definition:
    return parse(RAW | changes, "some.toml")


def test_what_is_left_out_takes_the_paper_s_values() -> None:
    plain = definition()
    assert (plain.epochs, plain.folds, plain.sample_size) == (30, 10, 1000)
    assert (plain.protocol, plain.metric, plain.optimiser) == ("resample", "val_loss", "adam")
    assert (plain.sampler, plain.pruner, plain.standardise) == ("grid", "none", False)
    evaluation = plain.evaluation
    assert (evaluation.rounds, evaluation.train_pairs, evaluation.test_pairs, evaluation.epochs) == (
        10,
        1000,
        1000,
        30,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "No Capitals"}, "name: expected lower-case letters, digits, - and _ .*got 'No Capitals'"),
        ({"name": "../up"}, "name: expected lower-case letters"),
        ({"name": "-x"}, "name: expected lower-case letters"),
        ({"name": "some\n"}, "name: expected lower-case letters"),
        ({"name": "x" * 64}, "name: expected lower-case letters"),
        ({"name": 3}, "name: .*got 3"),
        ({"epoch": 3}, "epoch: unknown key: remove it or mend its spelling"),
        ({"grid": GRID | {"momentum": [0.9]}}, "grid.momentum: unknown key"),
        ({"evaluation": {"round": 3}}, "evaluation.round: unknown key"),
        ({"grid": {"batch_size": [1]}}, r"grid.learning_rate: Field required \(and 1 more\)"),
        (
            {"grid": GRID | {"batch_size": []}},
            "grid.batch_size: expected at least one value, got an empty list",
        ),
        (
            {"grid": GRID | {"batch_size": [10, 10]}},
            "grid.batch_size: expected distinct values, got 10 twice",
        ),
        (
            {"grid": GRID | {"weight_decay": [0, 0.0]}},
            "grid.weight_decay: expected distinct values, got 0.0 twice",
        ),
        ({"grid": GRID | {"batch_size": [0]}}, "grid.batch_size.0: .*greater than or equal to 1, got 0"),
        ({"grid": GRID | {"batch_size": [2.5]}}, "grid.batch_size.0: .*integer, got 2.5"),
        ({"grid": GRID | {"batch_size": 10}}, "grid.batch_size: .*got 10"),
        ({"grid": GRID | {"learning_rate": [-1e-3]}}, "grid.learning_rate.0: .*greater than 0, got -0.001"),
        ({"grid": GRID | {"learning_rate": [0.0]}}, "grid.learning_rate.0: .*greater than 0"),
        ({"grid": GRID | {"learning_rate": [float("nan")]}}, "grid.learning_rate.0: .*got nan"),
        (
            {"grid": GRID | {"learning_rate": [float("inf")]}},
            "grid.learning_rate.0: .*finite number, got inf",
        ),
        ({"grid": GRID | {"weight_decay": [-0.1]}}, "grid.weight_decay.0: .*got -0.1"),
        ({"folds": 0}, "folds: .*greater than or equal to 1, got 0"),
        ({"folds": True}, "folds: .*got True"),
        ({"epochs": 0}, "epochs: .*got 0"),
        ({"epochs": "30"}, "epochs: .*got '30'"),
        ({"seed": -1}, "seed: .*got -1"),
        ({"seed": 2**63}, "seed: .*less than"),
        ({"sample_size": 1}, "sample_size: .*got 1"),
        ({"protocol": "loo"}, "protocol: .*'resample' or 'kfold', got 'loo'"),
        ({"metric": "accuracy"}, "metric: .*got 'accuracy'"),
        ({"sampler": "cmaes"}, "sampler: .*got 'cmaes'"),
        ({"pruner": "asha"}, "pruner: .*got 'asha'"),
        ({"time_limit": 0}, "time_limit: .*greater than 0, got 0"),
        ({"validation_size": None}, "validation_size: protocol 'resample' needs it"),
        ({"validation_size": 1000}, r"validation_size: expected less than sample_size \(1000\), got 1000"),
        ({"protocol": "kfold"}, "validation_size: protocol 'kfold' takes none"),
        (KFOLD | {"folds": 1}, r"folds: protocol 'kfold' needs 2 to sample_size \(1000\), got 1"),
        (KFOLD | {"folds": 1001}, "folds: protocol 'kfold' needs 2 to"),
        ({"paper": PAPER | {"hidden_units": 50}}, "paper: its hyperparameters are not those of the grid"),
        ({"paper": PAPER | {"test_error": 101.0}}, "paper.test_error: .*got 101.0"),
        ({"evaluation": {"rounds": 0}}, "evaluation.rounds: .*got 0"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_file_and_field(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DefinitionError, match=f"^some.toml: {message}") as caught:
        definition(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = ", "not valid TOML"),
        (b'title = "\xe9"', "expected UTF-8 text, got other bytes"),
        (b"", "name: Field required"),
    ],
)
def test_a_file_that_is_no_definition_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(DefinitionError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_or_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(DefinitionError, match="cannot be read"):
            read(path)


def test_a_definition_round_trips_through_json() -> None:
    for one in (definition(), definition(**KFOLD), definition(paper=PAPER)):
        assert parse(json.loads(one.model_dump_json()), "stored") == one


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 31},
        {"seed": 1},
        {"folds": 9},
        {"sample_size": 999},
        {"validation_size": 199},
        {"architecture": "b2"},
        {"optimiser": "sgd"},
        {"metric": "val_error"},
        {"standardise": True},
        {"pruner": "median"},
        KFOLD,
        {"evaluation": {"epochs": 31}},
        {"evaluation": {"train_pairs": 999}},
        {"grid": GRID | {"hidden_units": [10]}},
    ],
    ids=str,
)
def test_results_depend_on(changes: dict[str, object]) -> None:
    assert definition(**changes).results_depend_on != definition().results_depend_on
    assert definition(**changes).fingerprint != definition().fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"title": "Another"},
        {"sampler": "tpe"},
        {"time_limit": 60},
        {"grid": GRID | {"batch_size": [1, 10, 25]}},
        {"evaluation": {"rounds": 20}},
        {"paper": PAPER},
    ],
    ids=str,
)
def test_results_do_not_depend_on(changes: dict[str, object]) -> None:
    assert definition(**changes).fingerprint == definition().fingerprint


def test_a_grid_is_every_combination_the_last_parameter_varying_fastest() -> None:
    points = definition().grid.configurations()
    assert [(point.params["batch_size"], point.params["weight_decay"]) for point in points] == [
        (10, 0.0),
        (10, 0.1),
        (25, 0.0),
        (25, 0.1),
    ]


def test_minus_zero_is_zero() -> None:
    grid = tiny.RAW["grid"]
    plain = tiny.definition(grid=grid | {"weight_decay": [0.0, 0.1]})
    signed = tiny.definition(grid=grid | {"weight_decay": [-0.0, 0.1]})
    assert repr(signed) == repr(plain)
    assert "-0.0" not in "".join(point.key for point in signed.grid.configurations())
    assert Configuration({"batch_size": 1, "learning_rate": 0.1, "weight_decay": -0.0}).key.endswith("=0.0")
    with pytest.raises(
        DefinitionError, match=r"grid\.weight_decay: expected distinct values, got 0\.0 twice"
    ):
        tiny.definition(grid=grid | {"weight_decay": [0.0, -0.0]})


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"grid": {"learning_rate": [True]}}, r"grid\.learning_rate\.0: .* got True"),
        ({"grid": {"weight_decay": [False]}}, r"grid\.weight_decay\.0: .* got False"),
        ({"grid": {"learning_rate": ["0.1"]}}, r"grid\.learning_rate\.0: .* got '0\.1'"),
        ({"grid": {"batch_size": [True]}}, r"grid\.batch_size\.0: .* got True"),
        ({"grid": {"batch_size": [3_000_000_000]}}, r"grid\.batch_size\.0: .* 2147483647, got 3000000000"),
        ({"grid": {"batch_size": [2**63]}}, r"grid\.batch_size\.0: .* 2147483647"),
        ({"epochs": True}, "epochs: .* got True"),
        ({"epochs": 2**31}, "epochs: .* 2147483647"),
        ({"sample_size": 2**64}, "sample_size: .* 2147483647"),
        ({"standardise": 1}, "standardise: .* got 1"),
        ({"title": "a\0b"}, "title: "),
    ],
)
def test_what_is_no_number_or_fits_no_column_is_refused_by_name(
    changes: dict[str, object], place: str
) -> None:
    if isinstance(grid := changes.get("grid"), dict):
        changes = {"grid": tiny.RAW["grid"] | grid}
    with pytest.raises(DefinitionError, match=place):
        tiny.definition(**changes)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tiny.write_toml(tmp_path / "tiny.toml")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path) == tiny.definition()


def test_a_number_of_thousands_of_digits_is_one_line(tmp_path: Path) -> None:
    path = tiny.write_toml(tmp_path / "tiny.toml")
    path.write_text(path.read_text().replace("seed = 7", f"seed = {'7' * 5000}"))
    with pytest.raises(DefinitionError, match="not valid TOML"):
        read(path)
