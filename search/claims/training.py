"""Collects the results that claims are decided from, and trains missing rounds, each once.

These are rounds of the final evaluation, trained and stored by `search.evaluation` with the settings of their studies,
so that `evaluate` and `claims` share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pairsearch.search.claims.material import Material, Wanted
from pairsearch.search.database.connection import Database
from pairsearch.search.errors import StudyError
from pairsearch.search.evaluation import evaluating
from pairsearch.search.evaluation.evaluating import Chosen, Evaluator
from pairsearch.search.ledger.studies import StoredStudy, StudyArgument, find_study, get_study, look_up
from pairsearch.search.results.evaluations import rounds_within
from pairsearch.search.results.progress import read_progress
from pairsearch.search.results.study_table import Rounds, StudyTable, published_table, read_table
from pairsearch.studies.claims_file import Claims, resolve
from pairsearch.studies.configuration import Configuration, describe
from pairsearch.studies.definition import shipped
from pairsearch.studies.errors import ProblemError, own_code
from pairsearch.studies.problem import Traits

if TYPE_CHECKING:
    from pairsearch.studies.loading import Loaded


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of a claims file's studies, beside the database.

    Args:
        claims: the claims.
        given: definitions by the name of the study in the file.
        published: published tables by the study's name. Their folds take precedence over those of the database; the
            rounds of the database take precedence over theirs.
        without_grid: published tables of further studies that have rounds only, by the study's name.
    """

    claims: Claims
    given: Mapping[str, StudyArgument]
    published: Mapping[str, StudyTable] = field(default_factory=dict)
    without_grid: Mapping[str, StudyTable] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """The studies as STUDY arguments."""
        return [given.text for given in self.given.values()]

    def lacking(self, database: Database | None) -> dict[str, str]:
        """Return why grids are missing or incomplete, and what to run, by the name of the study in the file."""
        unpublished = {
            study: given for study, given in self.given.items() if given.name not in self.published
        }
        reasons = {study: _lacking(database, given) for study, given in unpublished.items()}
        return {study: reason for study, reason in reasons.items() if reason}

    def check_complete(self, database: Database | None) -> None:
        """Check that the grids that the claims need are complete.

        Raises:
            StudyError: some are not; the message names them, and what to run.
        """
        lacking, grids = self.lacking(database), self.claims.grids()
        incomplete = [given for study, given in self.given.items() if study in lacking and study in grids]
        if incomplete:
            ours = not self.published and all(given.name in shipped() for given in incomplete)
            others = "; --published takes it from the shipped results" if ours else ""
            raise StudyError(
                f"the claims need the complete grid of {', '.join(given.name for given in incomplete)}: "
                f"`pairsearch run {' '.join(given.text for given in incomplete)}` trains what is left{others}"
            )

    def material(self, database: Database | None) -> Material:
        """Read the results that exist now."""
        tables = {study: self._table(database, given) for study, given in self.given.items()}
        return Material(
            {study: table for study, table in tables.items() if table is not None}, self.lacking(database)
        )

    def _table(self, database: Database | None, given: StudyArgument) -> StudyTable | None:
        stored = None if database is None else find_study(database, given.name)
        published = self.published.get(given.name) or self.without_grid.get(given.name)
        if published is not None:
            _check_definition(published, given)
        if database is None or stored is None:
            return published
        if published is not None:
            _check_traits(published, stored.traits)
        table = published if published is not None and given.name in self.published else None
        table = table or read_table(database, stored)
        before = {} if published is None else published.rounds
        return replace(table, rounds=merged(before, read_rounds(database, stored)))

    def check_published(self, loaded: Mapping[str, Loaded]) -> None:
        """Check that published tables have the data and the version of the problem that rounds trained here would have.

        Args:
            loaded: definitions and problems by the study's name.

        Raises:
            StudyError: they differ; the message names the study and the difference.
        """
        for name in sorted(self.published.keys() & loaded.keys()):
            _check_traits(self.published[name], loaded[name].traits)


def find_sources(claims: Claims, file: Path, database: Database | None, published: Path | None) -> Sources:
    """Find the studies of a claims file.

    Args:
        claims: the claims.
        file: their file, to which paths of definitions are relative.
        database: where studies may be; None if there is no database.
        published: a folder of published results, or None.

    Raises:
        StudyError: a study is unknown, or two different definitions have the same name.
        DefinitionError: a definition is invalid.
        InputError: the published results cannot be read.
    """
    given = {study: look_up(resolve(study, file), database) for study in claims.studies()}
    by_name: dict[str, StudyArgument] = {}
    for one in given.values():
        if by_name.setdefault(one.name, one).definition != one.definition:
            raise StudyError(f"two different definitions are named {one.name!r}: rename one")
    if published is None:
        return Sources(claims, given)
    from pairsearch.search.claims import rounds_table  # noqa: PLC0415 - which imports Arrow
    from pairsearch.search.results.published import load_all  # noqa: PLC0415

    tables = {
        name: published_table(one, name)
        for one in load_all(published)
        for name in one.definitions
        if name in by_name
    }
    rounds = rounds_table.read_rounds(published)
    for name in tables.keys() & rounds.keys():
        tables[name] = replace(tables[name], rounds=merged(tables[name].rounds, rounds[name].rounds))
    return Sources(claims, given, tables, rounds)


def read_rounds(database: Database, study: StoredStudy) -> Rounds:
    """Read the figures of a study's finished rounds, in the form of `StudyTable.rounds`."""
    rounds: dict[str, dict[int, Mapping[str, float | None]]] = {}
    with database.read() as connection:
        for one in rounds_within(connection, study):
            rounds.setdefault(one.key, {})[one.index] = one.figures
    return rounds


def merged(*several: Rounds) -> Rounds:
    """Merge rounds; later arguments take precedence."""
    return {
        key: {index: figures for rounds in several for index, figures in rounds.get(key, {}).items()}
        for key in dict.fromkeys(key for rounds in several for key in rounds)
    }


def _lacking(database: Database | None, given: StudyArgument) -> str:
    """Return why the grid of a study is missing or incomplete; empty if it is complete."""
    # A database's name does not suffice to run code of the user's.
    own = given.folder is None and not given.definition.problem.isidentifier()
    named = "FILE.toml" if own else given.text
    advice = f"`pairsearch run {named}` trains it"
    known = None if database is None else find_study(database, given.name)
    if database is None or known is None:
        return f"study {given.name} is not there: {advice}"
    progress = read_progress(database, known)
    if progress.open:
        left = f"{progress.open} of {progress.total} configurations are left"
        return f"study {given.name} is not complete, {left}: {advice}"
    return ""


def _check_definition(published: StudyTable, given: StudyArgument) -> None:
    """Check that a published table has the definition of the study with its name."""
    ours, theirs = given.definition.results_depend_on, published.definition.results_depend_on
    differences = [
        f"{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if differences:
        raise StudyError(f"study {given.name} differs from the published one: {'; '.join(differences)}")


def _check_traits(published: StudyTable, here: Traits) -> None:
    """Check that a published table has these data and this version of the problem."""
    there = published.traits
    if (there.fingerprint, there.version) != (here.fingerprint, here.version):
        raise StudyError(
            f"study {published.name}: its published results are of data {there.data} and version "
            f"{there.version} of the problem, and here are {here.data} and {here.version}: leave out "
            "--published, or use what they were made with"
        )


def train_missing(
    database: Database,
    sources: Sources,
    loaded: Mapping[str, Loaded],
    wanted: Wanted,
    evaluator: Evaluator,
) -> None:
    """Train the missing rounds, configuration by configuration; finished rounds are kept.

    Args:
        database: where rounds are stored.
        sources: the studies of the claims.
        loaded: definitions and problems by the study's name.
        wanted: the rounds that the claims compare.
        evaluator: trains the rounds.

    Raises:
        ProblemError: a problem refuses a configuration; nothing was trained.
        WorkError: this process cannot train, or a problem raised an exception.
    """
    for study, configuration in wanted:
        name = sources.given[study].name
        with own_code(f"study {name}: check of {describe(configuration.params)}"):
            try:
                loaded[name].restored().check(dict(configuration.params))
            except ValueError as error:
                raise ProblemError(f"study {name}: {error} ({describe(configuration.params)})") from error
    # Grouped by study and number of rounds, so that a process tests only once for each that it can train.
    together: dict[tuple[int, str], list[Configuration]] = {}
    for (study, configuration), rounds in wanted.items():
        together.setdefault((rounds, sources.given[study].name), []).append(configuration)
    for (rounds, name), configurations in together.items():
        chosen = Chosen("search", get_study(database, name), configurations)
        evaluating.evaluate_studies(database, [chosen], loaded, evaluator, rounds)
