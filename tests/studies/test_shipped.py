"""The four shipped studies are the paper's: grids, protocol, Table 1, parameter counts."""

from __future__ import annotations

import pytest

from pairsearch.studies.architecture import check, parameter_count
from pairsearch.studies.definition import Definition, parse, read, shipped
from pairsearch.studies.errors import DefinitionError

STUDIES = {name: read(path) for name, path in shipped().items()}


@pytest.fixture(params=STUDIES)
def study(request: pytest.FixtureRequest) -> Definition:
    """Each shipped study in turn."""
    return STUDIES[request.param]


def test_there_are_the_paper_s_four_in_its_order() -> None:
    assert list(STUDIES) == ["b1", "b2", "ws", "wsal"]
    assert [study.name for study in STUDIES.values()] == list(STUDIES)


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
    assert (study.protocol, study.folds, study.sample_size, study.validation_size) == (
        "resample",
        10,
        1000,
        200,
    )
    assert (study.epochs, study.optimiser, study.metric, study.standardise) == (30, "adam", "val_loss", False)
    assert (study.sampler, study.pruner) == ("grid", "none")
    assert study.evaluation.model_dump() == {
        "rounds": 10,
        "train_pairs": 1000,
        "test_pairs": 1000,
        "epochs": 30,
    }


@pytest.mark.parametrize(
    ("name", "train", "test", "params"),
    [
        ("b1", (3.19, 1.54), (21.35, 1.41), (25, 1e-4, 0.1)),
        ("b2", (1.20, 1.62), (19.82, 2.23), (25, 1e-3, 0.1, 50)),
        ("ws", (3.19, 1.26), (15.26, 1.06), (25, 1e-4, 0.1, 50)),
        ("wsal", (0.00, 0.00), (6.06, 1.28), (10, 1e-3, 0.0, 100, 10.0)),
    ],
)
def test_table_1_is_stated(
    name: str, train: tuple[float, float], test: tuple[float, float], params: tuple[float, ...]
) -> None:
    paper = STUDIES[name].paper
    assert paper is not None
    assert (paper.train_error, paper.train_std) == train
    assert (paper.test_error, paper.test_std) == test
    assert tuple(paper.configuration.params.values()) == params


def test_the_paper_s_configuration_is_in_the_grid_and_has_the_stated_parameters(study: Definition) -> None:
    assert study.paper is not None
    configuration = study.paper.configuration
    assert configuration in study.grid.configurations()
    assert (
        parameter_count(study.architecture, configuration.params.get("hidden_units"))
        == study.paper.parameters
    )


def test_all_of_them_can_be_trained(study: Definition) -> None:
    check(study)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "b9"}, "study wsal: .*'b9'.*b1, b2, ws, wsal"),
        ({"optimiser": "adamant"}, "study wsal: .*'adamant'.*adam"),
        ({"architecture": "ws"}, "grid.aux_loss_weight: architecture 'ws' has none: leave it out"),
        ({"architecture": "b1"}, "grid.hidden_units: architecture 'b1' has none: leave it out"),
    ],
)
def test_what_the_models_do_not_know_is_refused(changes: dict[str, object], message: str) -> None:
    changed = STUDIES["wsal"].model_dump(exclude={"paper"}, exclude_none=True) | changes
    with pytest.raises(DefinitionError, match=message):
        check(parse(changed, "changed"))


def test_what_an_architecture_needs_has_to_be_there() -> None:
    changed = STUDIES["b1"].model_dump(exclude={"paper"}, exclude_none=True) | {"architecture": "b2"}
    with pytest.raises(DefinitionError, match=r"grid\.hidden_units: architecture 'b2' needs it"):
        check(parse(changed, "changed"))
