"""The models of the final evaluation are kept as files that hold the weights which gave the stored figures."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import programs
import pytest
import reference
import tiny
import torch
from PIL import Image
from sqlalchemy import text
from torch import Tensor

from pairsearch.data.pairs import PairSet
from pairsearch.data.sources import Source
from pairsearch.models import fused, single
from pairsearch.models.nets import build, split_logits
from pairsearch.models.trainer import StateDict, TrainingJob
from pairsearch.search.common.errors import InputError, StudyError, WorkError
from pairsearch.search.common.machine import ONE_CORE
from pairsearch.search.database.connection import Database
from pairsearch.search.ledger.jobs import Ledger
from pairsearch.search.ledger.studies import StoredStudy
from pairsearch.search.workers.evaluating import Evaluator
from pairsearch.search.workers.models import (
    ModelFolder,
    best_model,
    rounds_without_model,
    stored_models,
    train_again,
    write_stored,
)
from pairsearch.search.workers.objective import origin
from pairsearch.search.workers.rounds import Rounds
from pairsearch.search.workers.run_files import file_name
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.loading import Loaded
from pairsearch.studies.model_card import read_card
from pairsearch.studies.pairs.prediction import read_model, standardisation_of
from pairsearch.studies.pairs.problem import Pairs
from pairsearch.studies.problem import Run

SOME = tiny.point(batch_size=10, learning_rate=1e-3, weight_decay=0.0)
WILD = tiny.point(batch_size=1, learning_rate=1e30, weight_decay=0.0)
WSAL = {
    "architecture": "wsal",
    "grid": tiny.RAW["grid"] | {"hidden_units": [7], "aux_loss_weight": [2.0]},
}
SHARING = tiny.point(10, 1e-3, 0.0, 7, 2.0)

# Where the kind of database makes no difference.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def train(
    database: Database,
    study: StoredStudy,
    loaded: Loaded,
    folder: ModelFolder,
    configuration: Configuration = SOME,
    rounds: int = 2,
) -> None:
    """Store rounds, and write their models into the folder."""
    Ledger(database, study).insert_rounds(configuration, rounds)
    Evaluator(ONE_CORE, models=folder).rounds(database, study, loaded, configuration, rounds)


def round_pairs(loaded: Loaded, index: int) -> tuple[PairSet, PairSet]:
    """What a round trains on and what it is tested on."""
    assert isinstance(loaded.problem, Pairs)
    return loaded.problem.round_pairs(
        Run("round", index, 2, loaded.definition.epochs, loaded.definition.seed)
    )


def final(database: Database, figure: str) -> list[float]:
    """A figure of every stored round."""
    rows = tiny.rows(database, "runs", "figures", "where kind = 'round' order by run")
    return [json.loads(figures)[figure] for (figures,) in rows]


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """The tiny study's problem."""
    return tiny.loaded()


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    """A folder that does not exist yet."""
    return ModelFolder(tmp_path / "models")


def logits(module: torch.nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return split_logits(module(images))[0]


def take(backend: str, monkeypatch: pytest.MonkeyPatch) -> list[list[StateDict]]:
    """Have evaluations train by a backend; the list gets what it gave."""
    given: list[list[StateDict]] = []
    trainers: dict[str, Callable[..., list[StateDict]]] = {
        "compiled": fused.train,
        "torch": lambda job, on_epoch, **_: single.train(job, on_epoch=on_epoch),
        "reference": lambda job, on_epoch, **_: reference.train(job, on_epoch=on_epoch),
    }

    def recorded(job: TrainingJob, **options: Any) -> list[StateDict]:
        given.append(trainers[backend](job, **options))
        return given[-1]

    monkeypatch.setattr(fused, "train", recorded)
    return given


@pytest.mark.parametrize("backend", ["compiled", "torch", "reference"])
def test_a_file_rebuilds_the_model_that_gave_the_stored_figures_whatever_trained_it(
    database: Database,
    make_study: Any,
    mnist_source: Source,
    folder: ModelFolder,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
) -> None:
    given = take(backend, monkeypatch)
    changes = WSAL | {"train_pairs": 200, "test_pairs": 300}
    study = make_study(**changes)
    # Created with the digits; the pairs of these rounds are MNIST's.
    loaded = tiny.loaded(source=mnist_source, **changes)
    train(database, study, loaded, folder, SHARING)
    [weights] = given
    errors = final(database, "test_error")
    for index in range(2):
        card, module = read_model(folder.file(study, SHARING, index))
        trained = build("wsal", hidden_units=7)
        trained.load_state_dict(weights[index])
        _, test = round_pairs(loaded, index)
        assert torch.equal(logits(module, test.images), logits(trained, test.images))
        wrong = logits(module, test.images).argmax(1) != test.target
        assert float(wrong.double().mean()) == errors[index]
        assert card.figures["test_error"] == errors[index]
        assert card.configuration == SHARING


def test_a_file_says_what_the_model_is_and_nothing_of_the_machine_s_name_or_the_time(
    database: Database, study: StoredStudy, loaded: Loaded, folder: ModelFolder
) -> None:
    train(database, study, loaded, folder, rounds=1)
    path = folder.path / ("tiny-batch_size=10-learning_rate=0.001-weight_decay=0.0-round=0.safetensors")
    card = read_card(path)
    assert (card.study, card.round, card.problem, card.params) == ("tiny", 0, "pairs", SOME.params)
    assert card.settings == tiny.RAW["settings"]
    assert (card.epochs, card.seed, card.version) == (2, 7, loaded.problem.version)
    assert (card.data, card.files, card.about) == (loaded.traits.fingerprint, {}, {})
    assert set(card.provenance) == {"versions", "processor", "backend", "device", "git_commit"}
    assert [path.name for path in folder.path.iterdir()] == [path.name]


def test_a_round_trained_again_gives_the_same_bytes(
    database: Database, study: StoredStudy, loaded: Loaded, folder: ModelFolder
) -> None:
    train(database, study, loaded, folder)
    paths = [folder.file(study, SOME, index) for index in range(2)]
    before = [path.read_bytes() for path in paths]
    rows = tiny.rows(database, "runs")
    for path in paths:
        path.unlink()
    assert rounds_without_model(database, study, SOME, 2, folder) == (0, 1)
    assert train_again(database, study, Rounds(loaded), SOME, (1, 0), folder) == 0
    assert [path.read_bytes() for path in paths] == before
    assert tiny.rows(database, "runs") == rows
    assert rounds_without_model(database, study, SOME, 2, folder) == ()


def test_other_figures_than_the_stored_are_an_error_unless_the_processor_or_a_version_is_another(
    database: Database, study: StoredStudy, loaded: Loaded, folder: ModelFolder
) -> None:
    train(database, study, loaded, ModelFolder(folder.path.with_name("elsewhere")))
    (stored,) = tiny.rows(database, "runs", "figures", "where run = 1")
    other = json.loads(stored[0])
    other["test_loss"] += 1e-9
    with database.write() as connection:
        connection.execute(
            text("update pairsearch_runs set figures = :other where run = 1"), {"other": json.dumps(other)}
        )
    with pytest.raises(WorkError, match=r"round 1 of .* should not happen; no model was written"):
        train_again(database, study, Rounds(loaded), SOME, (0, 1), folder)
    assert not folder.path.exists()
    with database.write() as connection:
        connection.execute(
            text("update pairsearch_provenances set facts = :other"),
            # One difference is enough.
            {"other": json.dumps(origin(loaded, "cpu") | {"processor": "an abacus"})},
        )
    assert train_again(database, study, Rounds(loaded), SOME, (0, 1), folder) == 1
    assert rounds_without_model(database, study, SOME, 2, folder) == ()


def test_a_round_that_diverged_has_no_model_and_misses_none(
    database: Database, study: StoredStudy, loaded: Loaded, folder: ModelFolder
) -> None:
    train(database, study, loaded, folder, WILD)
    assert not folder.path.exists()
    assert rounds_without_model(database, study, WILD, 2, folder) == ()


def test_a_file_that_is_damaged_or_of_another_study_of_the_name_does_not_count(
    database: Database, study: StoredStudy, loaded: Loaded, folder: ModelFolder
) -> None:
    train(database, study, loaded, folder)
    assert folder.holds(study, SOME, 0)
    namesake = dataclasses.replace(study, definition=tiny.definition(seed=8))
    assert not folder.holds(namesake, SOME, 0)
    elsewhere = dataclasses.replace(study.traits, fingerprint="ab" * 32)
    assert not folder.holds(dataclasses.replace(study, traits=elsewhere), SOME, 0)
    folder.file(study, SOME, 0).rename(folder.file(study, SOME, 1))
    folder.file(study, SOME, 0).write_bytes(b"\0" * 8)
    assert rounds_without_model(database, study, SOME, 2, folder) == (0, 1)


def test_names_of_files_are_safe_and_no_two_alike(study: StoredStudy, make_study: Any) -> None:
    studies = [study, make_study(name="tiny-2"), make_study(name="tiny-batch_size")]
    names = {
        file_name(some, configuration.key, index)
        for some in studies
        for configuration in some.definition.grid.configurations()
        for index in range(12)
    }
    assert len(names) == 3 * 8 * 12
    assert set("".join(names)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_=.+")


def test_a_standardised_study_s_models_see_what_they_were_trained_on(
    database: Database, make_study: Any, folder: ModelFolder
) -> None:
    study, loaded = make_study(standardise=True), tiny.loaded(standardise=True)
    train(database, study, loaded, folder, rounds=1)
    path = folder.file(study, SOME, 0)
    scale = standardisation_of(path, read_card(path))
    assert scale is not None
    for plain, standardised in zip(round_pairs(tiny.loaded(), 0), round_pairs(loaded, 0), strict=True):
        assert torch.equal(scale.apply(plain.images), standardised.images)
    assert rounds_without_model(database, study, SOME, 1, folder) == ()


def test_figures_are_stored_even_where_a_model_cannot_be_written(
    database: Database, study: StoredStudy, loaded: Loaded, folder: ModelFolder
) -> None:
    folder.path.mkdir()
    folder.file(study, SOME, 1).mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        train(database, study, loaded, folder)
    assert tiny.rows(database, "runs", "run", "where kind = 'round' order by run") == [(0,), (1,)]
    assert rounds_without_model(database, study, SOME, 2, folder) == (1,)


def without_models(database: Database) -> None:
    """As of rounds that were loaded, or whose models are too large for the database."""
    tiny.execute(database, "delete from pairsearch_models")


def test_a_model_that_the_folder_lacks_is_taken_from_the_database(
    database: Database, study: StoredStudy, loaded: Loaded, folder: ModelFolder
) -> None:
    train(database, study, loaded, folder)
    paths = [folder.file(study, SOME, index) for index in range(2)]
    before = [path.read_bytes() for path in paths]
    paths[0].write_bytes(b"damaged")
    paths[1].unlink()
    train(database, study, loaded, folder)
    assert [path.read_bytes() for path in paths] == before


def test_a_stop_while_models_are_made_again_keeps_what_is_there(
    database: Database, study: StoredStudy, loaded: Loaded, folder: ModelFolder
) -> None:
    train(database, study, loaded, folder)
    without_models(database)
    folder.file(study, SOME, 1).unlink()
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(KeyboardInterrupt):
        Evaluator(ONE_CORE, stopping, models=folder, again=True).rounds(database, study, loaded, SOME, 2)
    assert rounds_without_model(database, study, SOME, 2, folder) == (1,)
    assert rounds_without_model(database, study, SOME, 1, folder) == ()


def test_names_of_files_are_short_and_plain_and_differ_where_configurations_do(study: StoredStudy) -> None:
    assert file_name(study, SOME.key, 3) == (
        "tiny-batch_size=10-learning_rate=0.001-weight_decay=0.0-round=3.safetensors"
    )
    odd = [Configuration({"x": value}) for value in ("a/b", "a\nb", "é", "x" * 300, "y" * 300)]
    names = {file_name(study, one.key, 0) for one in odd}
    assert len(names) == len(odd)
    for name in names:
        assert re.fullmatch(r"tiny-[0-9a-f]{32}-round=0\.safetensors", name)


def test_an_evaluation_says_what_became_of_the_models(
    database: Database, study: StoredStudy, loaded: Loaded, folder: ModelFolder
) -> None:
    def lines(again: bool) -> str:
        said: list[str] = []
        evaluator = Evaluator(ONE_CORE, say=said.append, models=folder, again=again)
        Ledger(database, study).insert_rounds(SOME, 2)
        evaluator.rounds(database, study, loaded, SOME, 2)
        return "\n".join(said)

    assert re.search(rf"2 trained in [0-9.]+ s, models in {folder.path}$", lines(False))
    assert lines(True).endswith("all stored before")
    folder.file(study, SOME, 1).unlink()
    assert lines(True).endswith(f"all stored before, models in {folder.path}")
    without_models(database)
    folder.file(study, SOME, 1).unlink()
    assert f"1 without a model in {folder.path} (--models {folder.path} trains them again)" in lines(False)
    assert "1 trained again for their models, with the stored figures bit for bit" in lines(True)
    assert lines(False).endswith("all stored before")


def test_the_commands_keep_models_unless_they_are_told_not_to(tmp_path: Path, database_url: str) -> None:
    tiny.write_toml(tmp_path / "tiny.toml", paper=tiny.PAPER)
    arguments = ("evaluate", "tiny.toml", "--paper", "--data", "digits", "--rounds", "1")
    refused = programs.run(tmp_path, *arguments, "--models", "a/b")
    assert refused.complaint == "error: cannot write to " + str(tmp_path / "a") + ": there is no such folder"
    both = programs.run(tmp_path, *arguments, "--models", "a", "--no-models")
    assert "give one of them" in both.complaint
    without = programs.run(tmp_path, *arguments, "--no-models")
    assert (without.code, "model" in without.out.splitlines()[0]) == (0, False)
    assert list(tmp_path.rglob("*.safetensors")) == []
    kept = programs.run(tmp_path, *arguments)
    assert "all stored before, models in pairsearch-models" in kept.out
    assert len(list((tmp_path / "pairsearch-models").glob("*.safetensors"))) == 1


def test_models_in_the_database_become_files_and_answer(
    database: Database, study: StoredStudy, loaded: Loaded, make_worker: Any, tmp_path: Path
) -> None:
    def program(*arguments: str) -> programs.Ended:
        url = database.url.render_as_string(hide_password=False)
        return programs.run(tmp_path, *arguments, PAIRSEARCH_STORAGE=url)

    picture = np.zeros((28, 28), np.uint8)
    picture[8:20, 13:15] = 255
    Image.fromarray(picture).save(tmp_path / "one.png")
    asking = ("one.png", "one.png", "--json")
    assert "study tiny has no model" in program("predict", "tiny", *asking).complaint
    make_worker(tiny.Answering(), study).run()
    ranked = sorted(study.definition.grid.configurations(), key=tiny.value_of)
    for configuration in (WILD, ranked[3], ranked[2]):
        train(database, study, loaded, ModelFolder(tmp_path / "evaluated"), configuration)
    ended = program("models", "tiny", "--out", "here")
    assert (ended.err, ended.out) == ("", "tiny: 4 models in here; 2 rounds have none in the database\n")
    files = {file.name: file.read_bytes() for file in (tmp_path / "here").iterdir()}
    assert files == {file.name: file.read_bytes() for file in (tmp_path / "evaluated").iterdir()}
    assert json.loads(program("models", "tiny", "--out", "here", "--json").out)[0]["without"] == 2
    (tmp_path / "tiny").mkdir()
    for index in (0, 1):
        asked = program("predict", "tiny", *asking, "--round", str(index))
        of_file = program("predict", f"here/{file_name(study, ranked[2].key, index)}", *asking)
        assert (asked.code, asked.out) == (0, of_file.out)
        assert json.loads(asked.out)["model"]["round"] == index
    assert f"round 2 of {ranked[2].key} has no model in the database: expected one of 0, 1" in (
        program("predict", "tiny", *asking, "--round", "2").complaint
    )
    assert (
        "model tino: there is no such file; study tino is not in"
        in program("predict", "tino", *asking).complaint
    )


def test_models_in_the_database_are_found_by_study_configuration_and_round(
    database: Database, study: StoredStudy, make_study: Any, loaded: Loaded, make_worker: Any, tmp_path: Path
) -> None:
    other, own = make_study(name="other", seed=8), tiny.loaded(name="other", seed=8)
    (first, second, third, *_) = study.definition.grid.configurations()
    kept, elsewhere = ModelFolder(tmp_path / "kept"), ModelFolder(tmp_path / "elsewhere")
    for configuration in (second, first, third):
        train(database, study, loaded, kept, configuration)
    train(database, other, own, elsewhere, first)
    names = [kept.file(study, one, index).name for one in (first, second, third) for index in range(2)]
    contents = {file.name: file.read_bytes() for file in kept.path.iterdir()}
    assert stored_models(database, study, first.key, [1]) == {1: contents[names[1]]}
    assert stored_models(database, study, first.key, [0, 1]) == {0: contents[names[0]], 1: contents[names[1]]}
    files, without = write_stored(database, study, ModelFolder(tmp_path / "written"))
    assert ([file.name for file in files], without) == (sorted(names), 0)
    assert {file.name: file.read_bytes() for file in files} == contents
    tiny.execute(
        database,
        "delete from pairsearch_models where run_id in (select id from pairsearch_runs where run = 1)",
    )
    assert write_stored(database, study, ModelFolder(tmp_path / "written"))[1] == 3
    empty = ModelFolder(tmp_path / "empty")
    assert rounds_without_model(database, study, first, 1, empty) == (0,)
    assert rounds_without_model(database, study, first, 2, empty) == (0, 1)
    for some in (study, other):
        make_worker(tiny.Answering(), some).run()

    def best(values: dict[Configuration, float], state: str = "finished") -> str:
        """The file of the best, where others of the study and of another one have other values."""
        for configuration, value in values.items():
            tiny.execute(
                database,
                f"update pairsearch_configurations set value = {value}, state = '{state}' "  # noqa: S608 - our own
                f"where study_id = {study.id} and key = '{configuration.key}'",
            )
        return best_model(database, study, 0)[0]

    tiny.execute(
        database,
        f"update pairsearch_configurations set value = 0.0 where study_id = {other.id} and key = '{third.key}'",  # noqa: S608
    )
    assert best({first: 0.4, second: 0.4, third: 0.5}) == names[0]
    assert best({second: 0.3}) == names[2]
    assert best_model(database, study, 0)[1] == contents[names[2]]
    assert best({second: 0.3}, "pruned") == names[0]
    with pytest.raises(StudyError, match=r"round 1 of .* expected one of 0$"):
        best_model(database, study, 1)


def test_a_default_folder_that_cannot_be_written_to_costs_no_figures(
    tmp_path: Path, database_url: str
) -> None:
    tiny.write_toml(tmp_path / "tiny.toml", paper=tiny.PAPER)
    (tmp_path / "pairsearch-models").write_text("a file")
    ended = programs.run(tmp_path, "evaluate", "tiny.toml", "--paper", "--data", "digits", "--rounds", "1")
    assert ended.code == 0
    assert "trained models are not kept: cannot write to pairsearch-models: it is a file" in ended.out
    assert "Table 1" in ended.out
