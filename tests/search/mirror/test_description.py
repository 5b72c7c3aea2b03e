"""Optuna's study says what it is; what comes from a definition's author cannot act in a reader's browser."""

from __future__ import annotations

import dataclasses

import optuna
import pytest
import tiny
from availability import needed
from optuna.storages import RDBStorage

from pairsearch.data.sources import Source
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.mirror.description import PIECE_LENGTH, stored_note
from pairsearch.search.mirror.projecting import describe_study
from pairsearch.search.mirror.trials import open_view
from pairsearch.studies.note import escaped, note
from pairsearch.studies.problem import Metric, Traits

GRID = tiny.RAW["grid"]
TRAITS = Traits(version=1, fingerprint="ab" * 32, metrics={"val_loss": Metric()})


def shown(storage: RDBStorage, study: StoredStudy) -> str:
    """The note as optuna-dashboard reads it."""
    dashboard = needed("optuna_dashboard")
    text: str = dashboard.get_note(optuna.load_study(study_name=study.name, storage=storage))
    return text


@pytest.mark.usefixtures("either_optuna")
def test_a_new_study_has_a_note_that_the_dashboard_shows(
    database: Database, storage: RDBStorage, make_study, digits_source: Source
) -> None:
    study = make_study(name="mine")
    open_view(database, study)
    text = shown(storage, study)
    assert text == note(study.definition, study.traits)
    for part in (
        "# mine",
        "learning\\_rate | 0.0001, 0.001",
        f"| data | digits {digits_source.fingerprint[:12]} |",
        "| problem | pairs |",
        f"| definition | {study.definition.fingerprint[:12]}... |",
        "| protocol | 2 folds, 2 epochs |",
        "| configurations | 8, sampler grid, pruner none |",
        "| seed | 7 |",
        "architecture b1",
        "validation loss",
        "lower is better",
    ):
        assert part in text
    theirs = storage.get_study_id_from_name("mine")
    assert stored_note(storage.get_study_system_attrs(theirs)) == text
    assert storage.get_study_user_attrs(theirs) == {
        "title": "",
        "problem": "pairs",
        "protocol": "2 folds, 2 epochs",
        "metric": "mean val_loss over folds after the last epoch",
        "data": f"digits {digits_source.fingerprint[:12]}",
        "definition": study.definition.fingerprint[:12],
    }


@pytest.mark.usefixtures("either_optuna")
def test_a_larger_grid_brings_the_note_up_to_date_unless_a_person_has_changed_it(
    database: Database, storage: RDBStorage, make_study
) -> None:
    dashboard = needed("optuna_dashboard")
    study = make_study(name="mine", grid=GRID | {"batch_size": [5, 10, 25]})
    ledger = Ledger(database, study, view=open_view(database, study))
    assert "| 5, 10, 25 |" in shown(storage, study)
    claim = ledger.claim("ann")
    assert claim is not None
    tiny.finish(ledger, claim, tiny.outcome(claim.configuration))
    dashboard.save_note(optuna.load_study(study_name="mine", storage=storage), "mine")
    larger = make_study(name="mine", grid=GRID | {"batch_size": [1, 5, 10, 25]})
    open_view(database, larger)
    assert shown(storage, study) == "mine"
    (trial,) = optuna.load_study(study_name="mine", storage=storage).trials
    assert trial.distributions["batch_size"].choices == (5, 10, 25, 1)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_note_of_several_pieces_and_a_shorter_one_after_it_read_whole(
    database: Database, storage: RDBStorage, study: StoredStudy
) -> None:
    for count in (900, 3):
        values = [index / 1000 for index in range(count)]
        definition = tiny.definition(grid=GRID | {"weight_decay": values})
        with database.write() as connection:
            describe_study(connection, study.optuna_study_id, definition, study.traits)
        assert shown(storage, study) == note(definition, study.traits)
        assert (len(shown(storage, study)) > 2 * PIECE_LENGTH) == (count == 900)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("plain words", "plain words"),
        ("<b>*x*</b> [l](j) $m$ | `c`", r"\<b\>\*x\*\<\/b\> \[l\]\(j\) \$m\$ \| \`c\`"),
        ("two\n\n# lines\t\x07", "two \\# lines \N{REPLACEMENT CHARACTER}"),
        ("see http://evil.example `now`", "`` see http://evil.example `now` ``"),
        ("WWW.evil.example", "` WWW.evil.example `"),
        ("www.a ``b`` `c`", "``` www.a ``b`` `c` ```"),
        ("x" * 999, "x" * 199 + "…"),
        ("x" * 200, "x" * 200),
    ],
)
def test_what_an_author_wrote_is_shown_as_it_is(title: str, expected: str) -> None:
    assert escaped(title) == expected
    assert expected in note(tiny.definition(title=title), TRAITS)


def test_names_texts_and_settings_of_an_author_are_shown_as_they_are() -> None:
    definition = tiny.definition(
        grid=[{"a_b": ["<i>", "www.evil.example"]}, {"c": [0.5, True]}],
        settings={"x": "<b>|"},
        problem="<p>:q",
    )
    text = note(definition, TRAITS)
    for part in (
        "| a\\_b | \\<i\\>, ` www.evil.example ` |",
        "| c | 0.5, True |",
        "| settings | x \\<b\\>\\| |",
        "| problem | \\<p\\>\\:q |",
    ):
        assert part in text
    assert "<" not in text.partition("## Trials")[0].replace("\\<", "")


def test_the_note_says_which_way_the_metric_is_better_and_what_the_steps_are() -> None:
    metrics = {"val_loss": Metric("val*loss", percent=True, maximise=True)}
    text = note(tiny.definition(), dataclasses.replace(TRAITS, metrics=metrics, together=False))
    assert "val\\*loss (a fraction)" in text
    assert "higher is better" in text
    assert "the figures of the folds, one by one" in text
