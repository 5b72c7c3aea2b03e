"""Definitions are validated, invalid ones are refused in one line, and fingerprints cover what results depend on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import Definition, parse, read
from pairsearch.studies.errors import DefinitionError

GRID: dict[str, Any] = {"width": [10, 25], "rate": [1e-4], "activation": ["ReLU", "Tanh"]}
RAW: dict[str, Any] = {"name": "some", "problem": "mine.py:Mine", "metric": "loss", "grid": GRID}
PAPER = {
    "params": {"width": 25, "rate": 1e-4, "activation": "Tanh"},
    "figures": {"loss": {"mean": 0.2, "std": 0.01}},
}


def definition(**changes: object) -> Definition:
    return parse({name: value for name, value in (RAW | changes).items() if value is not None}, "some.toml")


def test_what_may_be_left_out_is_as_documented() -> None:
    plain = definition()
    assert (plain.title, plain.settings, plain.metrics, plain.seed) == ("", {}, {}, 0)
    assert (plain.folds, plain.epochs, plain.sampler, plain.pruner) == (10, 1, "grid", "none")
    assert (plain.time_limit, plain.allow_changed_files, plain.paper) == (None, False, None)
    assert (plain.evaluation.rounds, plain.evaluation_epochs) == (10, 1)
    assert definition(epochs=30).evaluation_epochs == 30
    assert definition(epochs=30, evaluation={"epochs": 40}).evaluation_epochs == 40


def test_the_protocol_is_a_few_words() -> None:
    assert [definition(**changes).protocol for changes in ({}, {"folds": 1}, {"folds": 3, "epochs": 5})] == [
        "10 folds",
        "1 fold",
        "3 folds, 5 epochs",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "No Capitals"}, "name: expected lower-case letters, digits, - and _ .*got 'No Capitals'"),
        ({"name": "../up"}, "name: expected lower-case letters"),
        ({"name": "-x"}, "name: expected lower-case letters"),
        ({"name": "some\n"}, "name: expected lower-case letters"),
        ({"name": "x" * 64}, "name: expected lower-case letters"),
        ({"name": 3}, "name: .*got 3"),
        ({"epoch": 3}, "epoch: unknown key: remove it or mend its spelling; .* under \\[settings\\]"),
        ({"problem": None}, "problem: Field required"),
        ({"problem": ""}, "problem: .*got ''"),
        ({"metric": None}, "metric: Field required"),
        ({"metric": "log loss"}, "metric: expected a name: a letter, then .*got 'log loss'"),
        ({"metric": "x" * 64}, "metric: expected a name"),
        ({"settings": 3}, "settings: .*got 3"),
        ({"settings": {"share": float("nan")}}, "settings.share: expected texts, finite numbers.*got nan"),
        ({"metrics": {"error": {}}}, "metrics: expected 'loss', the metric, among them"),
        ({"metrics": {"loss": {"maximize": True}}}, "metrics.loss.maximize: unknown key"),
        ({"evaluation": {"round": 3}}, "evaluation.round: unknown key"),
        ({"grid": None}, "grid: Field required"),
        ({"grid": {}}, "grid: expected at least one parameter with its values"),
        ({"grid": []}, "grid: expected at least one parameter with its values"),
        ({"grid": [GRID, {}]}, "grid: expected at least one parameter with its values"),
        ({"grid": GRID | {"width": []}}, "grid.width: expected at least one value, got an empty list"),
        ({"grid": GRID | {"width": [10, 10]}}, "grid.width: expected distinct values, got 10 twice"),
        ({"grid": GRID | {"activation": ["a", "a"]}}, "grid.activation: expected distinct values, got 'a'"),
        ({"grid": GRID | {"width": 10}}, "grid.width: expected a list, got 10"),
        ({"grid": GRID | {"a b": [1]}}, "grid.a b: expected a name: a letter, then .*got 'a b'"),
        ({"grid": GRID | {"2nd": [1]}}, "grid.2nd: expected a name"),
        ({"grid": GRID | {"x" * 64: [1]}}, "grid.x{64}: expected a name"),
        ({"grid": [GRID, {"width": []}]}, "grid.1.width: expected at least one value, got an empty list"),
        ({"grid": [GRID, {"width": [[]]}]}, r"grid.1.width.0: expected a boolean, .*got \[\]"),
        ({"folds": 0}, "folds: .*greater than or equal to 1, got 0"),
        ({"folds": True}, "folds: .*got True"),
        ({"epochs": 0}, "epochs: .*got 0"),
        ({"epochs": "30"}, "epochs: .*got '30'"),
        ({"seed": -1}, "seed: .*got -1"),
        ({"seed": 2**63}, "seed: .*less than"),
        ({"sampler": "cmaes"}, "sampler: .*got 'cmaes'"),
        ({"pruner": "asha"}, "pruner: .*got 'asha'"),
        ({"time_limit": 0}, "time_limit: .*greater than 0, got 0"),
        ({"allow_changed_files": 1}, "allow_changed_files: .*got 1"),
        (
            {"paper": PAPER | {"params": {"width": 25}}},
            "paper: its hyperparameters are not those of the grid",
        ),
        (
            {"paper": PAPER | {"figures": {"loss": {"mean": "x", "std": 0.1}}}},
            "paper.figures.loss.mean: .*got 'x'",
        ),
        (
            {"paper": PAPER | {"figures": {"loss": {"mean": 0.1, "std": -0.1}}}},
            "paper.figures.loss.std: .*got -0.1",
        ),
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


UNION = [{"kernel": ["rbf"], "gamma": [0.1, 1.0]}, {"kernel": ["rbf", "linear"], "c": [1, 1.0, True]}]


def test_a_definition_round_trips_through_json_with_the_types_of_its_values() -> None:
    metrics = {"loss": {"maximise": True, "percent": True, "label": "log loss"}}
    for changes in (
        {},
        {"grid": UNION},
        {"paper": PAPER},
        {"metrics": metrics, "settings": {"a": [1, {"b": 1.0}]}},
    ):
        one = definition(**changes)
        again = parse(json.loads(one.model_dump_json()), "stored")
        assert again == one
        assert repr(again) == repr(one)


@pytest.mark.parametrize(
    "changes",
    [
        {"problem": "mine.py:Other"},
        {"epochs": 31},
        {"seed": 1},
        {"folds": 9},
        {"metric": "error"},
        {"pruner": "median"},
        {"settings": {"held_out": 0.2}},
        {"evaluation": {"epochs": 31}},
    ],
    ids=str,
)
def test_results_depend_on(changes: dict[str, object]) -> None:
    assert definition(**changes).results_depend_on != definition().results_depend_on
    assert definition(**changes).fingerprint != definition().fingerprint


def test_results_depend_on_the_value_and_type_of_each_setting() -> None:
    found = {definition(settings={"x": value}).fingerprint for value in (1, 1.0, True, "1", [1])}
    assert len(found) == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"title": "Another"},
        {"sampler": "tpe"},
        {"time_limit": 60},
        {"allow_changed_files": True},
        {"metrics": {"loss": {"percent": True}}},
        {"grid": GRID | {"width": [1, 10, 25]}},
        {"grid": [GRID, {"depth": [1]}]},
        {"evaluation": {"rounds": 20}},
        {"evaluation": {"epochs": 1}},
        {"paper": PAPER},
    ],
    ids=str,
)
def test_results_do_not_depend_on(changes: dict[str, object]) -> None:
    assert definition(**changes).fingerprint == definition().fingerprint


def test_a_grid_is_every_combination_the_last_parameter_varying_fastest() -> None:
    points = definition().grid.configurations()
    assert [tuple(point.params.values()) for point in points] == [
        (10, 1e-4, "ReLU"),
        (10, 1e-4, "Tanh"),
        (25, 1e-4, "ReLU"),
        (25, 1e-4, "Tanh"),
    ]


def test_a_union_of_grids_gives_each_point_the_parameters_of_its_table() -> None:
    grid = definition(grid=UNION).grid
    assert [point.key for point in grid.configurations()] == [
        "gamma=0.1 kernel='rbf'",
        "gamma=1.0 kernel='rbf'",
        "c=1 kernel='rbf'",
        "c=1.0 kernel='rbf'",
        "c=True kernel='rbf'",
        "c=1 kernel='linear'",
        "c=1.0 kernel='linear'",
        "c=True kernel='linear'",
    ]
    assert len(grid) == 8
    assert repr(grid.choices) == repr({"kernel": ("rbf", "linear"), "gamma": (0.1, 1.0), "c": (1, 1.0, True)})


def test_a_point_that_two_tables_share_is_one_point() -> None:
    grid = definition(grid=[{"a": [1, 2], "b": [0]}, {"b": [0, 1], "a": [2]}, {"a": [2]}]).grid
    assert [point.key for point in grid.configurations()] == ["a=1 b=0", "a=2 b=0", "a=2 b=1", "a=2"]
    assert len(grid) == 4
    assert len(list(grid.points())) == 5


def test_the_paper_may_state_a_point_of_any_table() -> None:
    stated = {"params": {"kernel": "linear", "c": True}, "figures": {}}
    paper = definition(grid=UNION, paper=stated).paper
    assert paper is not None
    assert paper.configuration == Configuration({"c": True, "kernel": "linear"})
    with pytest.raises(DefinitionError, match="paper: its hyperparameters are not those of the grid"):
        definition(grid=UNION, paper=stated | {"params": {"kernel": "rbf", "c": 1, "gamma": 0.1}})


def test_one_and_one_point_nought_and_true_and_their_texts_are_distinct_values() -> None:
    values = (1, 1.0, True, "1", "1.0", "True", 0, 0.0, False)
    grid = definition(grid={"x": list(values)}).grid
    assert repr(grid.choices["x"]) == repr(values)
    assert len({point.key for point in grid.configurations()}) == len(grid) == len(values)


def test_definitions_are_equal_only_where_the_types_of_values_are() -> None:
    grids = [definition(grid={"x": [value], "y": [1]}) for value in (1, 1.0, True, "1")]
    settings = [definition(settings={"x": value, "y": 1}) for value in (1, 1.0, True, "1")]
    for several in (grids, settings):
        assert [one == other for one in several for other in several].count(True) == len(several)
    assert definition(settings={"y": 1, "x": 1}) == settings[0]
    assert [one.grid == grids[0].grid for one in grids] == [True, False, False, False]
    assert hash(definition(grid={"x": [1], "y": [1]}).grid) == hash(grids[0].grid)


def test_minus_zero_is_zero() -> None:
    plain, signed = (definition(grid={"decay": [zero, 0.1]}) for zero in (0.0, -0.0))
    assert repr(signed) == repr(plain)
    assert "-0.0" not in "".join(point.key for point in signed.grid.configurations())
    assert Configuration({"decay": -0.0}).key.endswith("=0.0")
    with pytest.raises(DefinitionError, match=r"grid\.decay: expected distinct values, got 0\.0 twice"):
        definition(grid={"decay": [0.0, -0.0]})


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"grid": {"x": [float("nan")]}}, r"grid\.x\.0: expected a boolean, .* got nan"),
        ({"grid": {"x": [1, float("inf")]}}, r"grid\.x\.1: .* got inf"),
        (
            {"grid": {"x": [2**63]}},
            r"grid\.x\.0: .* an integer of at most 64 bits, .* got 9223372036854775808",
        ),
        ({"grid": {"x": [-(2**63)]}}, r"grid\.x\.0: .* an integer of at most 64 bits"),
        ({"grid": {"x": ["two\nlines"]}}, r"grid\.x\.0: .* a printable text, got 'two\\nlines'"),
        ({"grid": {"x": ["\x1b[2J"]}}, r"grid\.x\.0: .* a printable text, got '\\x1b"),
        ({"grid": {"x": [{"y": 1}]}}, r"grid\.x\.0: .* got {'y': 1}"),
        ({"epochs": True}, "epochs: .* got True"),
        ({"epochs": 2**31}, "epochs: .* 2147483647"),
        ({"title": "a\0b"}, "title: "),
    ],
)
def test_what_fits_no_column_is_refused_by_name(changes: dict[str, object], place: str) -> None:
    with pytest.raises(DefinitionError, match=place):
        definition(**changes)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tiny.write_toml(tmp_path / "tiny.toml")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path) == tiny.definition()


def test_a_number_of_thousands_of_digits_is_one_line(tmp_path: Path) -> None:
    path = tiny.write_toml(tmp_path / "tiny.toml")
    path.write_text(path.read_text().replace("seed = 7", f"seed = {'7' * 5000}"))
    with pytest.raises(DefinitionError, match="not valid TOML"):
        read(path)
