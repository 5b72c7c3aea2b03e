"""Keeps the trained models of the final evaluation, in the database and as files, and finds those that are missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Select, select

from pairsearch.search.common.errors import StudyError, WorkError
from pairsearch.search.common.files import made_folder, usable_folder, whole_file
from pairsearch.search.database.connection import Database
from pairsearch.search.database.states import State
from pairsearch.search.database.tables import configurations, models, runs
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.results.evaluations import Round, rounds_within
from pairsearch.search.results.ranking import best_first
from pairsearch.search.workers.rounds import ORIGIN, OnEpoch, Rounds, model_content, model_identity
from pairsearch.search.workers.run_files import file_name
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.model_card import ModelCard, read_card


class ModelFolder:
    """A folder of models, which is created with the first model.

    Raises:
        InputError: the folder is not writable or cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = usable_folder(path)
        # A problem may change the working directory.
        self.absolute = path.absolute()

    def file(self, study: StoredStudy, configuration: Configuration, index: int) -> Path:
        """Return the path of the model of a round, which need not exist."""
        return self.absolute / file_name(study, configuration.key, index)

    def holds(self, study: StoredStudy, configuration: Configuration, index: int) -> bool:
        """Whether the folder has the model of a round: a complete file from this study, definition and data."""
        try:
            card = read_card(self.file(study, configuration, index))
        except ProblemError:
            return False
        like = card.model_dump() | model_identity(study, configuration, index)
        return card == ModelCard.model_validate(like)

    def write(self, study: StoredStudy, key: str, index: int, content: bytes) -> Path:
        """Write the model of a round of a configuration, and return its path; an existing file is replaced.

        It raises what `made_folder` and `whole_file` do.
        """
        path = made_folder(self.absolute) / file_name(study, key, index)
        with whole_file(path) as file:
            file.write(content)
        return path


def stored_models(
    database: Database, study: StoredStudy, key: str, rounds: Collection[int]
) -> dict[int, bytes]:
    """Read the models of rounds of a configuration that the database has, by the number of the round."""
    mine = (runs.c.key == key, runs.c.run.in_(rounds))
    wanted = _with_models(study, runs.c.run, models.c.content).where(*mine)
    with database.read() as connection:
        return {row.run: bytes(row.content) for row in connection.execute(wanted)}


def _with_models(study: StoredStudy, *columns: Any, every: bool = False) -> Select[Any]:
    """Select columns of a study's rounds and their models: of rounds with a model, or of every round."""
    mine = (runs.c.study_id == study.id, runs.c.kind == "round")
    return select(*columns).join(models, models.c.run_id == runs.c.id, isouter=every).where(*mine)


def write_stored(database: Database, study: StoredStudy, folder: ModelFolder) -> tuple[list[Path], int]:
    """Write the models of a study's rounds that the database has; raises what `ModelFolder.write` raises.

    Returns:
        Their paths, ordered by configuration and round; and how many rounds have no model in the database.
    """
    of = runs.c
    found = _with_models(study, of.key, of.run, models.c.run_id, every=True).order_by(of.key, of.run)
    with database.read() as connection:
        rows = connection.execute(found).all()
    files = []
    for row in rows:
        if row.run_id is not None:
            # One at a time: all of them may not fit into memory.
            content = stored_models(database, study, row.key, [row.run])[row.run]
            files.append(folder.write(study, row.key, row.run, content))
    return files, len(rows) - len(files)


def best_model(database: Database, study: StoredStudy, number: int) -> tuple[str, bytes]:
    """Return file name and content of the model of a round of the best configuration that has models in the database.

    Raises:
        StudyError: there is none.
    """
    c, of = configurations.c, runs.c
    with_model = _with_models(study, of.key)
    best = (
        select(c.key)
        .where(c.study_id == study.id, c.state == State.FINISHED, c.key.in_(with_model))
        .order_by(best_first(study), c.id)
        .limit(1)
    )
    with database.read() as connection:
        key = connection.execute(best).scalar()
        known = connection.execute(with_model.where(of.key == key).add_columns(of.run).order_by(of.run)).all()
        numbers = [row.run for row in known]
    if key is None:
        raise StudyError(
            f"study {study.name} has no model of a configuration that its search has finished: `pairsearch evaluate "
            f"{study.name}` trains some; those above {study.definition.evaluation.model_megabytes:g} MB are files"
        )
    if number not in numbers:
        raise StudyError(
            f"study {study.name}: round {number} of {key} has no model in the database: expected one of "
            f"{', '.join(map(str, numbers))}"
        )
    return file_name(study, key, number), stored_models(database, study, key, [number])[number]


def stored_rounds(
    database: Database, study: StoredStudy, configuration: Configuration
) -> Mapping[int, Round]:
    """Read the finished rounds of a configuration, by index."""
    with database.read() as connection:
        return {entry.index: entry for entry in rounds_within(connection, study, configuration.key)}


def rounds_without_model(
    database: Database, study: StoredStudy, configuration: Configuration, rounds: int, folder: ModelFolder
) -> tuple[int, ...]:
    """List the stored rounds below `rounds` whose model is not in the folder, without those that diverged."""
    stored = stored_rounds(database, study, configuration)
    return tuple(
        index
        for index in stored
        if index < rounds and stored[index].diverged is None and not folder.holds(study, configuration, index)
    )


def train_again(
    database: Database,
    study: StoredStudy,
    rounds: Rounds,
    configuration: Configuration,
    numbers: Sequence[int],
    folder: ModelFolder,
    on_epoch: OnEpoch = lambda _: True,
) -> int | None:
    """Train stored rounds again for their models, and compare the figures; the database is not changed.

    Returns:
        The number of rounds whose figures differ from the stored ones because processor, device or versions differ;
        their files contain the new figures. None if `on_epoch` stopped the training.

    Raises:
        WorkError: figures differ although processor, device and versions are the same; no file is written.
        ProblemError: weights cannot be stored.
    """
    trained = rounds(configuration, numbers, on_epoch)
    if not trained:
        return None
    stored = stored_rounds(database, study, configuration)
    others = [finished for finished in trained if finished.result.final != stored[finished.index].figures]
    for finished in others:
        before = stored[finished.index]
        if all(before.provenance.get(name) == finished.provenance[name] for name in ORIGIN):
            raise WorkError(
                f"study {study.name}, round {finished.index} of {configuration.key}: trained again it gave "
                f"{finished.result.final}, stored is {before.figures}, from the same processor and versions: this "
                "should not happen; no model was written"
            )
    contents = {one.index: model_content(study, configuration, one) for one in trained}
    for index, content in contents.items():
        if content is not None:
            folder.write(study, configuration.key, index, content)
    return len(others)
