"""The shipped tables without the service, and every line of the page beside them."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from statistics import fmean, stdev
from typing import Any

import pytest
from pyarrow import parquet

from pairsearch.search.results.published import DEFAULT

PAGE = (DEFAULT / "README.md").read_text(encoding="utf-8")
TABLES = {name: parquet.read_table(DEFAULT / f"{name}.parquet") for name in ("folds", "curves", "rounds")}
FACTS = {name.decode(): value.decode() for name, value in TABLES["folds"].schema.metadata.items()}
TYPES = {"string": "text", "int64": "integer", "double": "number", "bool": "boolean"}


def cells(after: str) -> list[list[str]]:
    """The rows of the first table of the page after a line."""
    lines = PAGE.partition(after)[2].lstrip().splitlines()
    rows = list(itertools.takewhile(lambda line: line.startswith("|"), lines))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def without_the_service(program: str) -> str:
    """What a program prints in the folder of the tables, where pairsearch cannot be imported."""
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules['pairsearch'] = None\n{program}"],
        cwd=DEFAULT,
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout


def test_the_three_lines_of_the_page_find_the_ten_best_without_the_service() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len([line for line in program.splitlines() if line]) == 3
    printed = without_the_service(program)
    values: dict[str, list[float]] = {}
    for row in TABLES["folds"].to_pylist():
        values.setdefault(row["configuration"], []).append(row["val_loss"])
    lowest = sorted(map(fmean, values.values()))[:10]
    assert [float(one) for one in re.findall(r"(0\.\d+)$", printed, re.M)] == pytest.approx(lowest, abs=1e-6)


def test_pyarrow_alone_reads_them_with_units() -> None:
    printed = without_the_service(
        "from pyarrow import parquet\n"
        'folds = parquet.read_table("folds.parquet")\n'
        'print(folds.num_rows, folds.schema.field("seconds").metadata[b"unit"])'
    )
    assert printed == f"{TABLES['folds'].num_rows} b's'\n"


@pytest.mark.parametrize("name", TABLES)
def test_the_page_says_every_column_with_its_type_unit_and_meaning(name: str) -> None:
    table = TABLES[name]
    row = table.schema.metadata[b"row"].decode()
    heading = f"`{name}.parquet`, {table.num_rows:,} rows: a row is {row}."
    assert heading in PAGE
    assert cells(heading) == [
        [
            f"`{field.name}`",
            TYPES[str(field.type)],
            field.metadata[b"unit"].decode(),
            field.metadata[b"description"].decode(),
        ]
        for field in table.schema
    ]


def test_the_page_says_where_they_come_from() -> None:
    origin: dict[str, Any] = json.loads(FACTS["provenance"])
    for name, what in (("processors", "processor"), ("versions", "versions"), ("backends", "backend")):
        assert f"* {what}: {'; '.join(origin[name])}\n" in PAGE
    assert f"* commit: {', '.join(origin['git_commits'])}\n" in PAGE
    assert f"* from {origin['first_start']} to {origin['last_finish']}: " in PAGE
    assert f"* workers at once: {origin['workers_at_once']};" in PAGE
    assert f"`{FACTS['data']}`" in PAGE
    for command in ("made_by", "written_by", "checked_by"):
        assert f"\n{FACTS[command]}    # " in PAGE
    # Each row names its processor, one of those of the page.
    for name in ("folds", "rounds"):
        assert set(TABLES[name].column("processor").to_pylist()) == set(origin["processors"])
    keys = {(row["study"], row["configuration"]) for row in TABLES["folds"].to_pylist()}
    for study, definition in json.loads(FACTS["definitions"]).items():
        assert f"{study} ({sum(one == study for one, _ in keys)} configurations)" in PAGE
        assert definition["problem"] == "pairs"


def test_the_table_of_the_page_is_what_its_rounds_give() -> None:
    rounds = TABLES["rounds"].to_pylist()
    for study, chosen, _, count, train, test in cells("final evaluation."):
        mine = [row for row in rounds if row["study"] == study and row["chosen_by"] in (chosen, "both")]
        assert len(mine) == int(count)
        for figure, shown in (("train_error", train), ("test_error", test)):
            values = [100 * row[figure] for row in mine]
            assert shown == f"{fmean(values):.2f} ± {stdev(values):.2f}"
