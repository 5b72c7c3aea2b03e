"""Publishes decided claims: the rounds that they compare as `claims.parquet`, the decisions as `claims.md`.

The decisions depend on the Parquet files alone, together with the published folds beside them:
`pairsearch claims --published --stored` makes the same decisions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from pairsearch.search.claims.deciding import Decided, decide
from pairsearch.search.claims.material import Wanted, wanted_rounds
from pairsearch.search.claims.rounds_table import CLAIM_ROUNDS, FILE, columns_of
from pairsearch.search.claims.sentences import HEADER, RULES, groups, opening, row, sentences, status
from pairsearch.search.claims.training import Sources, find_sources
from pairsearch.search.database.connection import Database
from pairsearch.search.errors import StudyError
from pairsearch.search.files import made_folder, usable_folder, whole_file
from pairsearch.search.ledger.studies import StoredStudy, get_study
from pairsearch.search.measure.published.about import data_of, markdown, provenance
from pairsearch.search.measure.published.reading import Work
from pairsearch.search.provenance import package_version
from pairsearch.search.results.evaluations import Round, rounds_within
from pairsearch.search.results.export import fields
from pairsearch.search.results.formatting import duration
from pairsearch.studies.configuration import Configuration

PAGE = "claims.md"

Compared = list[tuple[StoredStudy, Configuration, Round]]
"""Rounds that are compared, in the order of the claims."""


def write_claims(database: Database, given: str, folder: Path) -> list[Path]:
    """Write the rounds that a claims file compares, and the decisions, into a folder of published results.

    Args:
        database: the database with the rounds.
        given: the claims file: `paper`, or a path.
        folder: where to write; existing files are replaced. Published folds in it take precedence over those of the
            database.

    Returns:
        The files.

    Raises:
        StudyError: rounds are missing, or the grid of a study is not complete.
        InputError: the folder is not writable or cannot be created.
        WorkError: writing failed.
    """
    from pairsearch.studies import claims_file  # noqa: PLC0415

    usable_folder(folder)
    path = claims_file.find(given)
    claims = claims_file.read(path)
    published = folder if (folder / "folds.parquet").exists() else None
    sources = find_sources(claims, path, database, published)
    sources.check_complete(database)
    material = sources.material(database)
    compared = _compared(database, sources, wanted_rounds(claims, material))
    about = _facts(sources, compared, given)
    written = [made_folder(folder) / FILE, folder / PAGE]
    with whole_file(written[0]) as file, whole_file(written[1]) as page:
        parquet.write_table(_arrow(compared, about), file, compression="zstd", compression_level=9)
        page.write(_page(claims.title, decide(claims, material), about).encode())
    return written


def _compared(database: Database, sources: Sources, wanted: Wanted) -> Compared:
    compared: Compared = []
    for (study, configuration), count in wanted.items():
        stored = get_study(database, sources.given[study].name)
        with database.read() as connection:
            rounds = [
                one for one in rounds_within(connection, stored, configuration.key) if one.index < count
            ]
        if len(rounds) < count:
            raise StudyError(
                f"study {stored.name}: {count - len(rounds)} of {count} rounds of {configuration.key} are missing: "
                "`pairsearch claims` trains them"
            )
        compared += [(stored, configuration, one) for one in rounds]
    # A study may have several names in a file, and a configuration may be in several claims.
    return list(
        {(study.name, one.key, entry.index): (study, one, entry) for study, one, entry in compared}.values()
    )


def _facts(sources: Sources, compared: Compared, given: str) -> dict[str, str]:
    """Return the metadata of the file; the same database gives the same texts."""
    studies = {study.name: study for study, _, _ in compared}
    reported = {name for _, _, entry in compared for name in entry.figures}
    metrics = dict.fromkeys(name for study in studies.values() for name in study.traits.metrics)
    work = [
        Work(entry.worker, None, entry.finished_at, entry.seconds, dict(entry.provenance))
        for _, _, entry in compared
    ]
    known = provenance(work)
    kept = ("processors", "versions", "git_commits", "backends", "last_finish")
    return {
        "program": f"pairsearch {package_version('pairsearch')}",
        "data": "; ".join(dict.fromkeys(data_of(study) for study in studies.values())),
        "claims": sources.claims.model_dump_json(),
        "definitions": json.dumps(
            {name: study.definition.model_dump(mode="json") for name, study in studies.items()}
        ),
        "problems": json.dumps({name: study.traits.to_json() for name, study in studies.items()}),
        "round_figures": json.dumps([name for name in metrics if name in reported]),
        "provenance": json.dumps(
            {name: known[name] for name in kept} | {"seconds_of_training": sum(one.seconds for one in work)}
        ),
        "made_by": f"pairsearch claims {given} --published",
        "written_by": f"python -m pairsearch.search.measure.published --write studies/results --claims {given}",
        "checked_by": f"pairsearch claims {given} --published --stored",
    }


def _arrow(compared: Compared, about: dict[str, str]) -> pa.Table:
    traits = {study.name: study.traits for study, _, _ in compared}
    columns = columns_of(traits, json.loads(about["round_figures"]))
    rows: list[dict[str, Any]] = [
        {
            "study": study.name,
            "configuration": configuration.key,
            "params": configuration.text,
            "round": entry.index,
            "diverged_epoch": entry.diverged,
            "seconds": entry.seconds,
            "processor": entry.provenance.get("processor"),
        }
        | columns.values(entry.figures)
        for study, configuration, entry in compared
    ]
    schema = pa.schema(fields(columns.table), metadata={"row": CLAIM_ROUNDS.row} | about)
    return pa.Table.from_pylist(rows, schema=schema)


def _page(title: str, decided: Sequence[Decided], about: dict[str, str]) -> str:
    known = json.loads(about["provenance"])
    table = [
        (str(one.number), one.claim.statement, one.claim.source, f"**{status(one)}**") for one in decided
    ]
    parts = [
        "# Claims",
        f"{title}. This page is written by a program; nothing in it is edited by hand. Data, with their SHA-256: "
        f"`{about['data']}`.",
        "```sh\n"
        f"{about['made_by']}    # trains the rounds that are compared, and decides\n"
        f"{about['written_by']}    # writes this page and {FILE}\n"
        f"{about['checked_by']}    # decides again from the published tables alone\n"
        "```",
        markdown(("claim", "statement", "source", "decision"), table),
        f"{RULES} Effects are signed so that more is better for the claim; of fractions they are in points of a per "
        "cent.",
        *(part for one in decided for part in _claim(one)),
        "## Where the rounds come from",
        "\n".join(
            [
                f"* processor: {'; '.join(known['processors'])}",
                f"* versions: {'; '.join(known['versions'])}",
                f"* commit: {', '.join(known['git_commits'])}",
                f"* backend: {', '.join(known['backends'])}",
                f"* trained until {known['last_finish']}, in {duration(known['seconds_of_training'])} of training",
            ]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _claim(decided: Decided) -> Iterator[str]:
    yield f"## {decided.number}. {decided.claim.statement}"
    yield f"**{status(decided).capitalize()}.** {opening(decided)}"
    yield markdown(HEADER, [row(finding) for finding in decided.findings])
    for group in groups(decided):
        yield from filter(None, [group.about])
        yield "\n".join(f"* {sentence}" for sentence in sentences(group))
