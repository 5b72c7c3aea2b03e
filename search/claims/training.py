"""Collects the results that claims are decided from, and trains missing rounds, each once.

These are rounds of the final evaluation (`search.workers.evaluating`), trained and stored with the settings of their
studies, so that `evaluate` and `claims` share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pairsearch.search.claims.deciding import Decided, decide
from pairsearch.search.claims.material import Material, Wanted, wanted_rounds
from pairsearch.search.common.errors import StudyError
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.studies import check_same, find_study, get_study
from pairsearch.search.results.progress import read_progress
from pairsearch.search.results.study_table import read_table
from pairsearch.search.setup.arguments import StudyArgument, each_once, look_up
from pairsearch.search.workers import evaluating
from pairsearch.search.workers.evaluating import Chosen, Evaluator
from pairsearch.studies import claims_file
from pairsearch.studies.claims_file import Claims
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import shipped
from pairsearch.studies.loading import Loaded, check_point


@dataclass(frozen=True, slots=True)
class Sources:
    """The claims of a file, numbered from `first`, and their studies by the names that it gives them."""

    claims: Claims
    given: Mapping[str, StudyArgument]
    first: int = 1

    def check_complete(self, database: Database | None) -> None:
        """Raise StudyError where grids that the claims need are missing or incomplete; it says what to run."""
        grids = self.claims.grids()
        needed = [given for study, given in self.given.items() if study in grids]
        incomplete = [given for given in needed if _lacking(database, given)]
        if incomplete:
            ours = all(given.name in shipped() for given in incomplete)
            others = "; `pairsearch load paper` takes it from the shipped results" if ours else ""
            raise StudyError(
                f"the claims need the complete grid of {', '.join(given.name for given in incomplete)}: "
                f"`pairsearch run {' '.join(given.text for given in incomplete)}` trains what is left{others}"
            )

    def material(self, database: Database | None) -> Material:
        """Read the results that exist now; raises StudyError where a study there differs from its definition here."""
        tables = {}
        for study, given in self.given.items():
            stored = None if database is None else find_study(database, given.name)
            if database is not None and stored is not None:
                check_same(stored, given.definition)
                tables[study] = read_table(database, stored)
        reasons = {study: _lacking(database, given) for study, given in self.given.items()}
        return Material(tables, {study: reason for study, reason in reasons.items() if reason})

    def decide(self, database: Database | None) -> list[Decided]:
        """Decide the claims by the results that exist now; raises what `material` and `deciding.decide` raise."""
        return decide(self.claims, self.material(database), self.first)

    def missing(self, database: Database | None) -> bool:
        """Whether studies or rounds that the claims compare are not in the database."""
        material = self.material(database)
        if material.tables.keys() != self.given.keys():
            return True
        return any(
            not set(range(rounds)) <= material.tables[study].rounds.get(configuration.key, {}).keys()
            for (study, configuration), rounds in wanted_rounds(self.claims, material).items()
        )


def find_sources(file: str, database: Database | None, only: int | None = None) -> Sources:
    """Read a claims file, or the shipped one by its name, and find its studies; `only` leaves the claim of a number.

    Raises:
        StudyError: a study is unknown, or two different definitions have the same name.
        DefinitionError: the file or a definition is invalid.
    """
    path = claims_file.find(file)
    claims = claims_file.read(path)
    if only is not None:
        claims = claims.only(only)
    given = {study: look_up(claims_file.resolve(study, path), database) for study in claims.studies()}
    each_once(given.values())
    return Sources(claims, given, only or 1)


def _lacking(database: Database | None, given: StudyArgument) -> str:
    """Return why the grid of a study is missing or incomplete; empty if it is complete."""
    # A database's name does not suffice to run code of the user's.
    own = given.folder is None and not given.definition.problem.isidentifier()
    advice = f"`pairsearch run {'FILE.toml' if own else given.text}` trains it"
    known = None if database is None else find_study(database, given.name)
    if database is None or known is None:
        return f"study {given.name} is not there: {advice}"
    progress = read_progress(database, known)
    left = f"{progress.open} of {progress.total} configurations are left"
    return f"study {given.name} is not complete, {left}: {advice}" if progress.open else ""


def train_missing(
    database: Database, sources: Sources, loaded: Mapping[str, Loaded], wanted: Wanted, evaluator: Evaluator
) -> None:
    """Train the missing rounds, configuration by configuration; finished rounds are kept.

    Raises:
        ProblemError: a problem refuses a configuration; nothing was trained.
        WorkError: this process cannot train, or a problem raised an exception.
    """
    for study, configuration in wanted:
        check_point(loaded[sources.given[study].name], configuration.params)
    # Grouped by study and number of rounds, so that a process tests only once for each that it can train.
    together: dict[tuple[int, str], list[Configuration]] = {}
    for (study, configuration), rounds in wanted.items():
        together.setdefault((rounds, study), []).append(configuration)
    for (rounds, study), configurations in together.items():
        given = sources.given[study]
        chosen = Chosen("search", get_study(database, given.name), configurations)
        evaluating.evaluate(database, [chosen], [given], loaded, evaluator, rounds)
