"""Describes published results: facts for the metadata of files, and a README."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from pairsearch.search.cli.reproduce import study_names
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.measure.published.reading import Reading, Work
from pairsearch.search.provenance import package_version
from pairsearch.search.results.export_columns import ColumnTable
from pairsearch.search.results.formatting import duration, headed, label, spread
from pairsearch.studies.claims_file import CLAIMS_FOLDER
from pairsearch.studies.configuration import describe

PROGRAM = "python -m pairsearch.search.measure.published"


def facts(reading: Reading) -> dict[str, str]:
    """Return the metadata of the files; the same database gives the same texts."""
    first = reading.studies[0]
    return {
        "program": f"pairsearch {package_version('pairsearch')}",
        "data": data_of(first),
        "definitions": json.dumps(
            {one.name: one.definition.model_dump(mode="json") for one in reading.studies}
        ),
        "problems": json.dumps({one.name: one.traits.to_json() for one in reading.studies}),
        "round_figures": json.dumps(reading.layout.round_figures),
        "provenance": json.dumps(provenance(reading.work)),
        "made_by": _made_by(reading),
        "written_by": _written_by(reading),
        "checked_by": _checked_by(reading),
    }


def data_of(study: StoredStudy) -> str:
    """Describe the data of a study, with the complete fingerprint."""
    return " ".join([*study.traits.remember.values(), study.traits.fingerprint]).strip()


def _made_by(reading: Reading) -> str:
    names = [one.name for one in reading.studies]
    if names == study_names():
        return "pairsearch reproduce"
    paths = {path.stem: f"studies/claims/{path.name}" for path in CLAIMS_FOLDER.glob("*.toml")}
    given = " ".join(paths.get(name, name) for name in names)
    return f"pairsearch run {given} && pairsearch evaluate {' '.join(names)}"


def _written_by(reading: Reading) -> str:
    names = [one.name for one in reading.studies]
    if names == study_names():
        return f"{PROGRAM} --write studies/results"
    return f"{PROGRAM} --write FOLDER{''.join(f' --study {name}' for name in names)}"


def _checked_by(reading: Reading) -> str:
    ours = [one.name for one in reading.studies] == study_names()
    return f"{PROGRAM} --check 20{'' if ours else ' --results FOLDER'}"


def provenance(work: Sequence[Work]) -> dict[str, Any]:
    """Summarise what computed the results, when, and in how much time; times are UTC, seconds are wall-clock time."""
    search = [one for one in work if one.started is not None]
    start = min((one.started for one in search if one.started is not None), default=0.0)
    searched = max((one.finished for one in search), default=start)
    end = max((one.finished for one in work), default=start)

    def several(name: str) -> list[str]:
        return sorted({one.origin.get(name, "unknown") for one in work})

    return {
        "processors": several("processor"),
        "versions": several("versions"),
        "git_commits": several("git_commit"),
        "backends": several("backend"),
        "first_start": _utc(start),
        "last_finish": _utc(end),
        "seconds_from_first_start_to_last_finish": end - start,
        "seconds_of_the_search": searched - start,
        "seconds_of_training_in_the_search": sum(one.seconds for one in search),
        "seconds_of_training_in_the_evaluation": sum(one.seconds for one in work if one.started is None),
        "worker_processes": len({one.worker for one in search}),
        "workers_at_once": _most_at_once(search),
    }


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(round(seconds), UTC).isoformat()


def _most_at_once(search: Iterable[Work]) -> int:
    """Return the largest number of configurations that were trained at the same time."""
    # At equal times, an end (-1) sorts before a start (1).
    events = sorted(event for one in search for event in ((one.started or 0.0, 1), (one.finished, -1)))
    now = most = 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most


def readme(reading: Reading, rows: dict[str, int]) -> str:
    """Compose the README of the folder, in Markdown.

    Args:
        reading: the published results.
        rows: the number of rows of each table, by name.
    """
    known = provenance(reading.work)
    studies = ", ".join(f"{one.name} ({_count(reading, one.name)} configurations)" for one in reading.studies)
    first = reading.studies[0]
    metric, largest = first.definition.metric, first.metric.maximise
    parts = [
        "# Results",
        f"Studies: {studies}. Problem: {first.definition.problem}, version {first.traits.version}. Data, with their "
        f"SHA-256: `{data_of(first)}`. This folder is written by a program; nothing in it is edited by hand.",
        "```sh\n"
        f"{_made_by(reading)}    # trains all of it into a database; run again, it goes on where it stopped\n"
        f"{_written_by(reading)}    # writes this folder from the database\n"
        f"{_checked_by(reading)}    # trains a random sample again and demands the same bits\n"
        "```",
        f"Each table is read in one line; the ten configurations with the {'highest' if largest else 'lowest'} mean "
        f"{label(metric, first.metric)}, for example:",
        "```python\n"
        "import pandas\n\n"
        'folds = pandas.read_parquet("folds.parquet")\n'
        f'print(folds.groupby(["study", "configuration"])["{reading.layout.folds.figures[metric]}"].mean()'
        f".n{'largest' if largest else 'smallest'}(10))\n"
        "```",
        "## Where they come from",
        "\n".join(
            [
                f"* processor: {'; '.join(known['processors'])}",
                f"* versions: {'; '.join(known['versions'])}",
                f"* commit: {', '.join(known['git_commits'])}",
                f"* backend: {', '.join(known['backends'])}",
                f"* from {known['first_start']} to {known['last_finish']}: "
                f"{duration(known['seconds_from_first_start_to_last_finish'])}, of which the search "
                f"{duration(known['seconds_of_the_search'])}",
                f"* workers at once: {known['workers_at_once']}; time of training, summed over configurations: "
                f"{duration(known['seconds_of_training_in_the_search'])}, over rounds: "
                f"{duration(known['seconds_of_training_in_the_evaluation'])}",
            ]
        ),
        "## Table 1",
        "Mean ± sample standard deviation over the rounds of the final evaluation.",
        _table_1(reading),
        "## Tables",
        "A missing value is null. Numbers keep every bit; units and meanings are metadata of the columns too.",
        *(_described(table, rows[table.name]) for table in reading.layout.tables),
    ]
    return "\n\n".join(parts) + "\n"


def _count(reading: Reading, study: str) -> int:
    return len({row["configuration"] for row in reading.folds if row["study"] == study})


def _table_1(reading: Reading) -> str:
    metrics = {
        name: row.study.traits.metrics[name] for row in reading.table_1 for name in row.evaluated.figures
    }
    rows = [
        [
            row.study.name,
            row.chosen_by,
            describe(row.params),
            str(row.evaluated.rounds),
            *(spread(metric, row.evaluated.figures.get(name)) for name, metric in metrics.items()),
        ]
        for row in reading.table_1
    ]
    figures = [headed(name, metric) for name, metric in metrics.items()]
    return markdown(["model", "chosen by", "configuration", "n", *figures], rows)


def _described(table: ColumnTable, rows: int) -> str:
    columns = [(f"`{column.name}`", column.kind, column.unit, column.meaning) for column in table.columns]
    return f"`{table.name}.parquet`, {rows:,} rows: a row is {table.row}.\n\n" + markdown(
        ("column", "type", "unit", "meaning"), columns
    )


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
