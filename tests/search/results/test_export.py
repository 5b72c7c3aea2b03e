"""Exports hold every row and every bit of a study, in any format, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny
from pyarrow import csv, parquet

from pairsearch.search.common.errors import InputError, WorkError
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.outcome import Outcome, RunResult
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.export import CHUNK, TYPES, WRITERS, export, layout, read_table
from pairsearch.search.results.tables import CONFIGURATIONS, CURVES, SHORT
from pairsearch.search.setup.creation import create_study
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.problem import Traits

# Where the kind of database makes no difference.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

Rows = list[dict[str, Any]]


def read_csv(path: Path, table: Any) -> Rows:
    types = {column.name: TYPES[column.kind] for column in table.columns}
    options = csv.ConvertOptions(
        column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    return csv.read_csv(path, convert_options=options).to_pylist()


READERS: dict[str, Callable[[Path, Any], Rows]] = {
    "csv": read_csv,
    "parquet": lambda path, _: parquet.read_table(path).to_pylist(),
    "json": lambda path, _: json.loads(path.read_text(encoding="utf-8")),
}

DIVERGED, FAILED, PENDING = (
    tiny.point(batch_size, 1e-4, weight_decay)
    for batch_size, weight_decay in ((10, 0.1), (25, 0.0), (25, 0.1))
)


def answer(configuration: Configuration) -> Outcome:
    """Figures with all the bits that a float has, one diverged and one failed configuration."""
    if configuration == DIVERGED:
        return tiny.diverged(configuration)
    if configuration == FAILED:
        raise RuntimeError("no room")
    random = np.random.default_rng(list(configuration.key.encode()))
    curves = [(random.random((2, 2)) ** 99).tolist() for _ in range(3)]
    return tiny.outcome_of(*curves, value=math.pi * curves[1][0][0], provenance={"host": "here"})


@pytest.fixture
def searched(database: Database, study: StoredStudy, make_worker: Any) -> StoredStudy:
    """The tiny study with a configuration in every state that a search leaves behind."""
    make_worker(tiny.Answering(answer), study).run()
    with database.write() as connection:
        connection.exec_driver_sql(
            f"update pairsearch_configurations set state = 'pending' where \"key\" = '{PENDING.key}'"  # noqa: S608
        )
        connection.exec_driver_sql(
            "update pairsearch_configurations set reason = 'it said \"no,\nnever\"' where state = 'failed'"
        )
    return study


def stored(database: Database, study: StoredStudy, table: Any) -> Rows:
    """What the database holds, read without the program's own export."""
    plain = (
        "state",
        "value",
        "seconds",
        "errors",
        "lapses",
        "claims",
        "started_at",
        "finished_at",
        "worker",
        "reason",
    )
    found = []
    if table is CONFIGURATIONS:
        origin = "(select facts from pairsearch_provenances where id = provenance_id)"
        columns = ", ".join(("key", "rank", "params", "figures", origin, *plain))
        for key, rank, params, figures, provenance, *rest in tiny.rows(
            database, "configurations", columns, "order by rank"
        ):
            row = {"study": study.name, "configuration": key, "position": rank, "provenance": provenance}
            means = dict.fromkeys(("train_loss", "val_loss", "val_error")) | json.loads(figures or "{}")
            found.append(row | json.loads(params) | means | dict(zip(plain, rest, strict=True)))
    else:
        points: dict[tuple[str, int, int], dict[str, Any]] = {}
        for key, run, figure, text in tiny.rows(
            database,
            "curves",
            "c.key, r.run, p.figure, p.points",
            "p join pairsearch_runs r on r.id = p.run_id join pairsearch_configurations c "
            "on c.study_id = r.study_id and c.key = r.key order by c.rank, r.run",
        ):
            for epoch, point in enumerate(json.loads(text), start=1):
                points.setdefault((key, run, epoch), {})[figure] = point
        found = [
            {"study": study.name, "configuration": key, "fold": run, "epoch": epoch} | figures
            for (key, run, epoch), figures in points.items()
        ]
    return [{name: row[name] for name in names(table, study)} for row in found]


def names(table: Any, study: StoredStudy) -> list[str]:
    """The columns of a table of the short form."""
    return [column.name for column in layout(table, [study]).table.columns]


def bits(rows: Rows) -> list[list[object]]:
    """The rows with each float as its eight bytes: -0.0 is not 0.0 here."""
    return [
        [struct.pack("<d", value) if isinstance(value, float) else value for value in row.values()]
        for row in rows
    ]


def test_every_format_gives_back_what_the_database_holds_bit_for_bit_and_always_the_same_bytes(
    database: Database, searched: StoredStudy, tmp_path: Path
) -> None:
    for kind in WRITERS:
        written = export(database, searched, kind, tmp_path)
        for table, file in zip(SHORT, written, strict=True):
            assert file.path == tmp_path / f"tiny-{table.name}.{kind}"
            found, expected = (
                READERS[kind](file.path, layout(table, [searched]).table),
                stored(database, searched, table),
            )
            assert [list(row) for row in found] == [names(table, searched)] * len(expected), kind
            assert bits(found) == bits(expected), kind
            assert file.rows == len(expected)
        before = [file.path.read_bytes() for file in written]
        assert [file.path.read_bytes() for file in export(database, searched, kind, tmp_path)] == before


def test_a_row_for_each_configuration_in_any_state_and_for_each_point_of_its_curves(
    database: Database, searched: StoredStudy, tmp_path: Path
) -> None:
    export(database, searched, "json", tmp_path)
    configurations = READERS["json"](tmp_path / "tiny-configurations.json", CONFIGURATIONS)
    assert [row["position"] for row in configurations] == list(range(8))
    by_key = {row["configuration"]: row for row in configurations}
    assert set(by_key) == {c.key for c in searched.definition.grid.configurations()}
    assert (by_key[DIVERGED.key]["state"], by_key[DIVERGED.key]["value"]) == (State.DIVERGED, None)
    assert by_key[FAILED.key]["state"] == State.FAILED
    assert by_key[FAILED.key]["reason"] == 'it said "no,\nnever"'
    assert by_key[PENDING.key]["state"] == State.PENDING
    points = READERS["json"](tmp_path / "tiny-curves.json", CURVES)
    order = [row["configuration"] for row in configurations if row["configuration"] != FAILED.key]
    assert [(row["configuration"], row["fold"], row["epoch"]) for row in points] == [
        (key, fold, epoch) for key in order for fold in (0, 1) for epoch in (1, 2)
    ]
    [last] = [
        row for row in points if (row["configuration"], row["fold"], row["epoch"]) == (DIVERGED.key, 1, 2)
    ]
    assert last["val_loss"] is None


@ON_SQLITE
def test_parquet_columns_carry_their_units_and_the_file_its_study(
    database: Database, searched: StoredStudy, tmp_path: Path
) -> None:
    export(database, searched, "parquet", tmp_path)
    found = parquet.read_schema(tmp_path / "tiny-curves.parquet")
    assert found.field("val_loss").metadata[b"unit"] == b"nats"
    assert found.field("val_loss").type == pa.float64()
    assert json.loads(found.metadata[b"definition"])["name"] == "tiny"
    assert Traits.from_json(json.loads(found.metadata[b"problem"])) == searched.traits
    assert found.names == names(CURVES, searched)


@ON_SQLITE
def test_parameters_that_a_point_lacks_are_missing_and_types_that_a_column_mixes_are_json(
    database: Database, storage: Any, make_worker: Any, tmp_path: Path
) -> None:
    grid = [
        {"kernel": ["rbf"], "gamma": [0.5, 2], "value": [1, 1.0, True, "1"]},
        {"kernel": ["linear"], "on": [True]},
    ]
    study = create_study(database, tiny.anything(grid=grid)).study
    make_worker(tiny.Answering(lambda _: tiny.outcome_of(*[[[0.5, 0.25]] * 2] * 3)), study).run()
    for kind in WRITERS:
        export(database, study, kind, tmp_path)
        described = layout(CONFIGURATIONS, [study]).table
        rows = READERS[kind](tmp_path / f"tiny-configurations.{kind}", described)
        names = ("kernel", "gamma", "param:value", "on")
        found = {row["configuration"]: tuple(row[name] for name in names) for row in rows}
        assert found == {
            **{
                f"gamma={gamma} kernel='rbf' value={value!r}": ("rbf", float(gamma), json.dumps(value), None)
                for gamma in (0.5, 2)
                for value in (1, 1.0, True, "1")
            },
            "kernel='linear' on=True": ("linear", None, None, True),
        }, kind
        assert {row["value"] for row in rows} == {0.25}
    assert read_table(database, study, CURVES).num_rows == 9 * 2 * 2


@ON_SQLITE
def test_a_figure_that_was_not_reported_in_an_epoch_is_missing(database: Database, storage: Any) -> None:
    study = create_study(database, tiny.anything(grid={"x": [1]})).study
    folds = (
        RunResult(0, {"val_loss": [0.5, 0.25], "train_loss": [math.nan, 1.0]}),
        RunResult(1, {"val_loss": [0.5]}),
    )
    whole = tiny.outcome_of(*[[[0.5, 0.25]] * 2] * 3)
    ledger = Ledger(database, study)
    claim = ledger.claim("ann")
    assert claim is not None
    assert tiny.finish(ledger, claim, dataclasses.replace(whole, folds=folds))
    rows = read_table(database, study, CURVES).to_pylist()
    assert [
        tuple(row[name] for name in ("fold", "epoch", "train_loss", "val_loss", "val_error")) for row in rows
    ] == [
        (0, 1, None, 0.5, None),
        (0, 2, 1.0, 0.25, None),
        (1, 1, None, 0.5, None),
    ]


@ON_SQLITE
def test_a_study_without_results_has_curves_without_rows(
    database: Database, study: StoredStudy, tmp_path: Path
) -> None:
    for kind in WRITERS:
        configurations, curves = export(database, study, kind, tmp_path)
        assert (configurations.rows, curves.rows) == (8, 0), kind
        assert READERS[kind](curves.path, CURVES) == [], kind


def test_chunks_do_not_show(
    database: Database, searched: StoredStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [file.path.read_bytes() for file in export(database, searched, "csv", tmp_path)]
    monkeypatch.setattr("pairsearch.search.results.export.CHUNK", 3)
    assert CHUNK > len(stored(database, searched, CURVES)) > 3
    assert [file.path.read_bytes() for file in export(database, searched, "csv", tmp_path)] == whole


@ON_SQLITE
def test_a_write_that_fails_leaves_the_old_files_and_nothing_else(
    database: Database, searched: StoredStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(database, searched, "json", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("tiny-*")}

    class Full:
        def __init__(self, file: Any, schema: pa.Schema) -> None:
            self.file, self.names = file, schema.names

        def write_batch(self, batch: pa.RecordBatch) -> None:
            self.file.write(b"half")
            if "fold" in self.names:
                raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    monkeypatch.setitem(WRITERS, "json", Full)
    with pytest.raises(WorkError, match=r"tiny-curves.json: No space left on device: free some room"):
        export(database, searched, "json", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("tiny-*")} == before
    assert list(tmp_path.glob(".*")) == []


@ON_SQLITE
def test_what_cannot_be_written_to_is_refused_and_named(
    database: Database, study: StoredStudy, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"missing: there is no such folder"):
        export(database, study, "csv", tmp_path / "missing" / "folder")
    (tmp_path / "file").write_text("here")
    with pytest.raises(InputError, match=r"file: it is a file"):
        export(database, study, "csv", tmp_path / "file")
    (tmp_path / "tiny-curves.csv").mkdir()
    with pytest.raises(InputError, match=r"tiny-curves.csv: it is a folder"):
        export(database, study, "csv", tmp_path)
    with pytest.raises(InputError, match=r"unknown format 'xls\\x1b': expected one of csv, parquet, json"):
        export(database, study, "xls\x1b", tmp_path)
    assert not list(tmp_path.glob("*.part"))


@ON_SQLITE
def test_a_folder_that_takes_no_files_is_refused(database: Database, study: StoredStudy) -> None:
    # Not even root may make a file there.
    with pytest.raises(InputError, match="cannot write to folder /proc"):
        export(database, study, "csv", Path("/proc"))
