"""The shipped studies are the paper's (grids, protocol, Table 1, parameter counts), and there is an example."""

from __future__ import annotations

from typing import Any

import pytest
import tiny

from pairsearch.studies import claims_file
from pairsearch.studies.definition import FOLDER, Definition, parse, read, shipped
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.loading import check_points, check_trainable
from pairsearch.studies.reproduction import study_names

STUDIES = {name: read(shipped()[name]) for name in study_names()}


@pytest.fixture(params=STUDIES)
def study(request: pytest.FixtureRequest) -> Definition:
    """Each study of the paper in turn."""
    return STUDIES[request.param]


def test_there_are_the_paper_s_four_in_its_order() -> None:
    assert list(STUDIES) == ["b1", "b2", "ws", "wsal"]
    assert [study.name for study in STUDIES.values()] == list(STUDIES)
    assert set(shipped()) - set(STUDIES) == {"pretrained", "svm-digits"}


@pytest.mark.parametrize(("name", "size"), [("b1", 64), ("b2", 192), ("ws", 192), ("wsal", 960)])
def test_a_grid_has_the_paper_s_size(name: str, size: int) -> None:
    points = STUDIES[name].grid.configurations()
    assert len(points) == len({point.key for point in points}) == size


def test_the_values_are_the_paper_s(study: Definition) -> None:
    expected = {
        "batch_size": (1, 10, 25, 50),
        "learning_rate": (1e-5, 1e-4, 1e-3, 1e-2),
        "weight_decay": (0.0, 0.001, 0.01, 0.1),
        "hidden_units": (10, 50, 100),
        "aux_loss_weight": (0.5, 1.0, 2.0, 5.0, 10.0),
    }
    wanted = {"b1": 3, "b2": 4, "ws": 4, "wsal": 5}[study.name]
    assert study.grid.choices == dict(list(expected.items())[:wanted])


def test_the_protocol_is_the_authors_own(study: Definition) -> None:
    assert study.settings == {
        "architecture": study.name,
        "optimiser": "adam",
        "protocol": "resample",
        "sample_size": 1000,
        "validation_size": 200,
        "train_pairs": 1000,
        "test_pairs": 1000,
    }
    assert (study.problem, study.metric, study.folds, study.epochs) == ("pairs", "val_loss", 10, 30)
    assert (study.sampler, study.pruner) == ("grid", "none")
    assert (study.evaluation.rounds, study.evaluation_epochs) == (10, 30)


def test_raw_intensities_are_trained_on_and_each_fold_draws_a_sample_of_its_own(study: Definition) -> None:
    loaded = tiny.loaded(study)
    assert loaded.problem.settings.standardise is False
    assert loaded.traits.overlap == 0.0


@pytest.mark.parametrize(
    ("name", "train", "test", "params"),
    [
        ("b1", (0.0319, 0.0154), (0.2135, 0.0141), (25, 1e-4, 0.1)),
        ("b2", (0.0120, 0.0162), (0.1982, 0.0223), (25, 1e-3, 0.1, 50)),
        ("ws", (0.0319, 0.0126), (0.1526, 0.0106), (25, 1e-4, 0.1, 50)),
        ("wsal", (0.0, 0.0), (0.0606, 0.0128), (10, 1e-3, 0.0, 100, 10.0)),
    ],
)
def test_table_1_is_stated(
    name: str, train: tuple[float, float], test: tuple[float, float], params: tuple[float, ...]
) -> None:
    paper = STUDIES[name].paper
    assert paper is not None
    assert {figure: (stated.mean, stated.std) for figure, stated in paper.figures.items()} == {
        "train_error": train,
        "test_error": test,
    }
    assert tuple(paper.configuration.params.values()) == params


def test_the_paper_s_configuration_is_in_the_grid_and_has_the_stated_parameters(study: Definition) -> None:
    assert study.paper is not None
    configuration = study.paper.configuration
    assert configuration in study.grid.configurations()
    assert tiny.loaded(study).problem.describe(configuration.params) == study.paper.facts


def test_all_of_them_can_be_trained(study: Definition) -> None:
    check_points(tiny.loaded(study))


# Further studies by name: the architecture, the optimiser, and how the grid differs from that of the paper's study.
FURTHER: dict[str, tuple[str, str, int, dict[str, tuple[Any, ...]]]] = {
    "pretrained": ("pretrained", "adam", 384, {"frozen": ("convolutions", "all")}),
    "claims/b1-sgd": ("b1", "sgd", 64, {}),
    "claims/b2-sgd": ("b2", "sgd", 64, {"hidden_units": (50,)}),
    "claims/ws-sgd": ("ws", "sgd", 64, {"hidden_units": (50,)}),
    "claims/wsal-sgd": ("wsal", "sgd", 64, {"hidden_units": (100,), "aux_loss_weight": (10.0,)}),
    "claims/wsal-weights": (
        "wsal",
        "adam",
        192,
        {"hidden_units": (100,), "aux_loss_weight": (20.0, 50.0, 100.0)},
    ),
}


def test_every_definition_of_the_claims_is_known_here() -> None:
    there = {f"claims/{path.stem}" for path in (FOLDER / "claims").iterdir()}
    # The file of claims is not a study.
    there.remove(f"claims/{claims_file.PAPER}")
    assert there == {name for name in FURTHER if name.startswith("claims/")}
    assert not {name.removeprefix("claims/") for name in there} & set(shipped())


@pytest.mark.parametrize("name", FURTHER)
def test_a_study_of_a_claim_shares_images_and_random_numbers_with_the_paper_s(name: str) -> None:
    architecture, optimiser, size, changes = FURTHER[name]
    study, like = read(FOLDER / f"{name}.toml"), STUDIES["ws" if name == "pretrained" else architecture]
    assert study.name == name.removeprefix("claims/")
    assert study.settings == like.settings | {"architecture": architecture, "optimiser": optimiser}
    assert study.grid.choices == like.grid.choices | changes
    assert len(study.grid.configurations()) == size
    changeable = {"name", "title", "settings", "grid", "paper"}
    assert study.model_dump(exclude=changeable) == like.model_dump(exclude=changeable)
    loaded = tiny.loaded(study)
    check_points(loaded)
    assert loaded.problem.backend("cpu") == "compiled"


def test_a_pre_trained_model_has_the_parameters_of_the_one_with_the_auxiliary_loss() -> None:
    params = {
        "batch_size": 10,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "hidden_units": 100,
        "frozen": "all",
    }
    assert tiny.loaded(read(shipped()["pretrained"])).problem.describe(params) == {"parameters": "51,604"}


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (["some"], "grid.frozen: expected 'convolutions' or 'all', got 'some'"),
        ([True], "grid.frozen: expected 'convolutions' or 'all', got True"),
        (None, "grid.frozen: architecture 'pretrained' needs it"),
    ],
)
def test_what_cannot_be_frozen_is_refused_by_name(frozen: list[Any] | None, message: str) -> None:
    grid = tiny.RAW["grid"] | {"hidden_units": [10]} | ({} if frozen is None else {"frozen": frozen})
    with pytest.raises(ProblemError, match=f"^study tiny: {message}"):
        check_points(tiny.loaded(architecture="pretrained", grid=grid))


def changed(name: str, **settings: object) -> Definition:
    """A shipped study with other settings."""
    fields = STUDIES[name].model_dump(exclude={"paper"}, exclude_none=True)
    return parse(tiny.raw(fields, **settings), "changed")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "b9"}, "study wsal: problem pairs: .*'b9'.*b1, b2, ws, wsal, pretrained"),
        ({"architecture": None}, "study wsal: problem pairs: settings.architecture: missing"),
        ({"optimiser": "adamant"}, "study wsal: .*'adamant'.*adam"),
        ({"sample_size": 1}, "settings.sample_size: .*got 1"),
        ({"sample_size": 2**64}, "settings.sample_size: .*"),
        ({"train_pairs": 0}, "settings.train_pairs: .*got 0"),
        ({"standardise": 1}, "settings.standardise: .*got 1"),
        ({"protocol": "loo"}, "settings.protocol: .*'resample' or 'kfold', got 'loo'"),
        ({"validation_size": None}, "problem pairs: .*validation_size: protocol 'resample' needs it"),
        ({"validation_size": 1000}, r"validation_size: expected less than sample_size \(1000\), got 1000"),
        ({"protocol": "kfold"}, "validation_size: protocol 'kfold' takes none"),
    ],
    ids=str,
)
def test_settings_that_the_problem_does_not_take_are_one_line(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ProblemError, match=message) as caught:
        tiny.loaded(changed("wsal", **settings))
    assert "\n" not in str(caught.value)


def test_an_unknown_setting_is_named_with_the_known_ones() -> None:
    given = STUDIES["b1"].model_copy(update={"settings": STUDIES["b1"].settings | {"sample": 3}})
    with pytest.raises(
        ProblemError, match=r"settings\.sample: unknown setting: expected one of architecture, "
    ):
        tiny.loaded(given)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("ws", "grid.aux_loss_weight: neither architecture 'ws' nor optimiser 'adam' takes it: leave it out"),
        ("b1", "grid.hidden_units: neither architecture 'b1' nor optimiser 'adam' takes it: leave it out"),
    ],
)
def test_what_an_architecture_has_not_is_refused(architecture: str, message: str) -> None:
    with pytest.raises(ProblemError, match=f"^study wsal: {message}"):
        check_points(tiny.loaded(changed("wsal", architecture=architecture)))


def test_what_an_architecture_needs_has_to_be_there() -> None:
    with pytest.raises(ProblemError, match=r"^study b1: grid\.hidden_units: architecture 'b2' needs it"):
        check_points(tiny.loaded(changed("b1", architecture="b2")))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            {"momentum": [0.9]},
            "grid.momentum: neither architecture 'b1' nor optimiser 'adam' takes it: leave it out; they take ",
        ),
        ({"batch_size": [0]}, "grid.batch_size: expected an integer >= 1, got 0"),
        ({"batch_size": [2.5]}, "grid.batch_size: expected an integer >= 1, got 2.5"),
        ({"batch_size": [True]}, "grid.batch_size: expected an integer >= 1, got True"),
        ({"batch_size": [3_000_000_000]}, "grid.batch_size: expected an integer .*got 3000000000"),
        ({"learning_rate": [-1e-3]}, "grid.learning_rate: expected a number > 0, got -0.001"),
        ({"learning_rate": [0.0]}, "grid.learning_rate: expected a number > 0, got 0.0"),
        ({"learning_rate": ["0.1"]}, "grid.learning_rate: expected a number > 0, got '0.1'"),
        ({"learning_rate": [True]}, "grid.learning_rate: expected a number > 0, got True"),
        ({"weight_decay": [-0.1]}, "grid.weight_decay: expected a number >= 0, got -0.1"),
        ({"weight_decay": [0.0, False]}, "grid.weight_decay: expected a number >= 0, got False"),
    ],
    ids=str,
)
def test_values_that_cannot_be_trained_with_are_refused_by_name(grid: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=f"^study tiny: {message}") as caught:
        check_points(tiny.loaded(grid=tiny.RAW["grid"] | grid))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("folds", "message"),
    [(1, "folds: 1 given; kfold needs at least 2"), (12, "folds: 12 given; .* at most")],
)
def test_folds_that_a_sample_does_not_give_are_refused(folds: int, message: str) -> None:
    with pytest.raises(ProblemError, match=f"^study tiny: {message}"):
        check_trainable(tiny.loaded(protocol="kfold", validation_size=None, folds=folds))
