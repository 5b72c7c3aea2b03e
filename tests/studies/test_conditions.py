"""Conditions on the points of a grid are computed safely, and what is wrong with one is a line that names the point."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import tiny

from pairsearch.studies.conditions import MOST_CHARACTERS, MOST_NESTED, Condition
from pairsearch.studies.definition import Definition, parse, read
from pairsearch.studies.errors import DefinitionError
from pairsearch.studies.grid import Grid

GRID: dict[str, Any] = {
    "width": [16, 64],
    "depth": [2, 4, 16],
    "optimiser": ["sgd", "adam"],
    "bias": [True, False],
}
POINT = {"width": 16, "depth": 4, "optimiser": "sgd", "bias": True, "net.lr": 0.5}


def definition(grid: object) -> Definition:
    return parse({"name": "some", "problem": "mine.py:Mine", "metric": "loss", "grid": grid}, "some.toml")


def grid(where: object, **tables: Any) -> Grid:
    return definition((tables or GRID) | {"where": where}).grid


def test_a_condition_may_stand_on_several_lines() -> None:
    found = grid("""
        width * depth <= 64
        and optimiser != 'sgd'
    """)
    assert found == grid("width * depth <= 64 and optimiser != 'sgd'")


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("width * depth <= 64 and optimiser != 'adam'", True),
        ("width * depth > 64 or optimiser in ('adam', 'lamb')", False),
        ("not bias", False),
        ("bias == true and bias != false and bias == True", True),
        ("1 < depth <= 4 < width", True),
        ("1 < depth <= 3 < width", False),
        ("min(width, depth, 3) == 3 and max(width, depth) == 16 and abs(-depth) == +4", True),
        (
            "width % 5 == 1 and width // 5 == 3 and width / 5 == 3.2 and depth**2 == width and depth - 5 == -1",
            True,
        ),
        ("(width, depth) not in [(16, 2), (64, 2)]", True),
        ("'gd' in optimiser", True),
        ("net.lr < 1", True),
        ("  depth < 5 ", True),
        ("depth < 5" + " " * (MOST_CHARACTERS - 9), True),
        ("2**1023 > 2**1022", True),
        ("optimiser == 'adam' or depth < 5 or width / 0 > 1", True),
    ],
)
def test_a_condition_is_an_expression_over_the_parameters(text: str, holds: bool) -> None:
    assert Condition(text, tuple(POINT)).holds(POINT) is holds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("widht < 3", "'widht < 3': unknown name 'widht': expected one of width, depth, optimiser"),
        ("depth >", r"'depth >': not a condition \(invalid syntax\): expected parameters, numbers"),
        ("", "'': not a condition"),
        ("depth = 3", "not a condition"),
        ("width.real > 1", "unknown name 'width.real'"),
        ("__import__('os').system('true') == 0", "is not allowed"),
        ("print(width) == 1", r"'print\(width\)' is not allowed: expected parameters, numbers"),
        ("max(width, depth, key=abs) == 1", "is not allowed"),
        ("max(*(1, 2)) == 1", "max takes two numbers or more"),
        ("max(1, *(1, 2)) == 1", "is not allowed"),
        ("abs(1, 2) == 1", "abs takes a number"),
        ("[x for x in (1, 2)] == width", "is not allowed"),
        ("(lambda: 1)() == 1", "is not allowed"),
        ("f'{width}' == '16'", "is not allowed"),
        ("(width := 3) == 3", "is not allowed"),
        ("optimiser[0] == 's'", "is not allowed"),
        ("width if bias else depth", "is not allowed"),
        ("width << 3 == 1", "is not allowed"),
        ("width is None", "is not allowed"),
        ("width == None", "is not allowed"),
        ("1 < width is bias", "is not allowed"),
        ("width == 1j", "is not allowed"),
        ("width == 1\nor depth == 2", "expected a line of at most 1000 printable characters"),
        ("width == 1" + " " * MOST_CHARACTERS, r"'width == 1 +\.\.\.': expected a line of at most 1000"),
        ("-" * (MOST_NESTED + 2) + "1 == 1", "nested too deeply"),
        ("(" * 400 + "1" + ")" * 400 + " == 1", "too many nested parentheses|nested too deeply"),
    ],
)
def test_nothing_else_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Condition(text, tuple(POINT))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimiser < depth", "'<' not supported between instances of 'str' and 'int'"),
        ("depth in width", "not iterable"),
        ("depth / (width - 16) > 1", "division by zero"),
        ("depth", "expected true or false, got 4: compare it with something"),
        ("optimiser == 'adam' or 'lamb'", "expected true or false, got 'lamb'"),
        ("not depth", "expected true or false, got 4"),
        ("'a' * 1000000000 == optimiser", "expected a number, got 'a'"),
        ("'%1000000000d' % 1 == optimiser", "expected a number, got '%1000000000d'"),
        ("optimiser + optimiser == 'x'", "expected a number, got 'sgd'"),
        ("(1, 2) * 1000000000 == 1", r"expected a number, got \(1, 2\)"),
        ("min('ab', 'c') == 'ab'", "expected a number, got 'ab'"),
        ("9**9**9**9 > 1", "a number of more than 1024 bits"),
        ("2**2000 > 1", "a number of more than 1024 bits"),
        ("(2**1000) * (2**1000) > 1", "a number of more than 1024 bits"),
        ("2.0**9999 > 1", "a number that is too large"),
        ("(-depth) ** 0.5 > 1", "expected a real number"),
    ],
)
def test_what_cannot_be_computed_for_a_point_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Condition(text, tuple(POINT)).holds(POINT)


def test_points_that_do_not_fulfil_the_conditions_are_no_points() -> None:
    found = grid(["width * depth <= 64", "optimiser != 'sgd' or not bias"])
    every = definition(GRID).grid.configurations()
    left = [
        point
        for point in every
        if point.params["width"] * point.params["depth"] <= 64  # type: ignore[operator] # both are integers
        and (point.params["optimiser"] != "sgd" or not point.params["bias"])
    ]
    assert found.configurations() == left
    assert (len(found), found.root[0].combinations) == (len(left), 24) == (6, 24)
    assert next(found.root[0].dropped()) == (
        {"width": 16, "depth": 2, "optimiser": "sgd", "bias": True},
        "optimiser != 'sgd' or not bias",
    )


def test_a_value_that_no_point_has_is_no_value_of_the_grid() -> None:
    assert grid("optimiser != 'sgd' and depth < 16").choices == GRID | {
        "optimiser": ("adam",),
        "depth": (2, 4),
    } | {
        "width": (16, 64),
        "bias": (True, False),
    }


def test_each_table_of_a_union_has_conditions_of_its_own() -> None:
    tables = [
        {"a": [1, 2], "b": [1, 2], "where": "a < b"},
        {"a": [1, 2]},
        {"a": [2, 3], "c": [0], "where": "a > 2"},
    ]
    found = definition(tables).grid
    assert [point.key for point in found.configurations()] == ["a=1 b=2", "a=1", "a=2", "a=3 c=0"]
    assert (len(found), found.choices) == (4, {"a": (1, 2, 3), "b": (2,), "c": (0,)})


@pytest.mark.parametrize("where", ["bias", ["width < 64"], ["width < 64", "depth in (2, 4)"]])
def test_conditions_are_stored_and_read_back(where: object) -> None:
    one = definition(GRID | {"where": where})
    again = parse(json.loads(one.model_dump_json()), "stored", stored=True)
    assert (again, repr(again), again.grid.configurations()) == (one, repr(one), one.grid.configurations())
    assert again.grid.root[0].where == ((where,) if isinstance(where, str) else tuple(where))  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301 - made here
    assert one != definition(GRID)


@pytest.mark.parametrize("values", [["encoder", "encoder and decoder"], ["width > 1", "width < 3"]])
def test_a_study_that_has_a_parameter_called_where_keeps_it(values: list[str]) -> None:
    """Studies were stored with one before there were conditions."""
    raw = definition(GRID).model_dump(mode="json")
    raw["grid"][0]["where"] = values
    found = parse(raw, "stored", stored=True)
    assert (found.grid.choices["where"], found.grid.root[0].where) == (tuple(values), ())
    assert parse(json.loads(found.model_dump_json()), "stored", stored=True) == found


@pytest.mark.parametrize("where", ["a" + ".a" * 490 + " > 1", "a" + "()" * 450, "a" + "[0]" * 330])
def test_what_is_nested_without_an_end_is_a_line(where: str) -> None:
    with pytest.raises(DefinitionError, match=r"nested too deeply|not allowed|unknown name"):
        grid(where)


def test_conditions_are_part_of_the_fingerprint_through_the_points_only() -> None:
    assert definition(GRID | {"where": "width < 64"}).fingerprint == definition(GRID).fingerprint


@pytest.mark.parametrize(
    "values", [["left", "right"], ["in", "out"], ["bias"], [1, 2], ["width < 3", 1], [True]]
)
def test_a_parameter_called_where_stays_one(values: list[Any]) -> None:
    found = grid(values)
    assert found.choices["where"] == tuple(values)
    assert (len(found), found.root[0].where) == (24 * len(values), ())


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            ["width < 64", "bias"],
            "'bias' compares nothing: expected conditions only, or values of a parameter called",
        ),
        (["width < 64", "depth >"], "'depth >': not a condition"),
        ("widht < 64", "'widht < 64': unknown name 'widht': expected one of width, depth, optimiser, bias"),
        (3, "expected a list, got 3"),
        ([], "expected at least one value, got an empty list"),
    ],
)
def test_a_wrong_condition_is_named_with_file_and_field(where: object, message: str) -> None:
    with pytest.raises(DefinitionError, match=rf"^some\.toml: grid\.where: {message}"):
        grid(where)
    with pytest.raises(DefinitionError, match=rf"^some\.toml: grid\.1\.where: {message}"):
        definition([GRID, GRID | {"where": where}])


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("optimiser > 3", r"'optimiser > 3': '>' not .* \(width 16, depth 2, optimiser sgd, bias True\)"),
        (
            "width > 64",
            "none of 24 points is left: 'width > 64' drops width 16, depth 2, optimiser sgd, bias True, for example",
        ),
    ],
)
def test_a_file_is_refused_where_a_condition_fails_for_a_point_or_leaves_none(
    tmp_path: Path, where: str, message: str
) -> None:
    path = tiny.write_toml(tmp_path / "some.toml", grid=GRID | {"where": where})
    with pytest.raises(DefinitionError, match=rf"some\.toml: grid\.where: {message}"):
        read(path)


def test_the_table_with_no_point_left_is_named(tmp_path: Path) -> None:
    path = tiny.write_toml(tmp_path / "some.toml", grid={"a": [1]})
    path.write_text(path.read_text().replace("[grid]", '[[grid]]\nb = [1]\n[[grid]]\nwhere = "a > 1"'))
    with pytest.raises(DefinitionError, match=r"grid\.1\.where: none of 1 points is left: 'a > 1' drops a 1"):
        read(path)
