"""The paper's task with an architecture, an optimiser or images of a user's own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import programs
import pytest
import reference
import tiny
import torch
from histories import history_of
from torch import nn

from pairsearch.data.sources import resolve
from pairsearch.models import fused, optim, single
from pairsearch.search.workers.objective import CrossValidation
from pairsearch.studies import definition as definitions
from pairsearch.studies import loading, place
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.errors import DefinitionError, ProblemError
from pairsearch.studies.loading import Loaded
from pairsearch.studies.problem import Run

NETWORKS = """
import torch
from torch import nn


class Perceptron(nn.Module):
    def __init__(self, width: int, activation: str = "ReLU", dropout: float = 0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.BatchNorm1d(392),
            nn.Linear(392, width),
            getattr(nn, activation)(),
            nn.Dropout(dropout),
            nn.Linear(width, 2),
        )

    def forward(self, images):
        return self.layers(images)


class Reader(nn.Module):
    uses_aux_loss = True

    def __init__(self):
        super().__init__()
        self.digit = nn.LazyLinear(10)
        self.compared = nn.Linear(20, 2)

    def forward(self, images):
        digits = self.digit(images.flatten(2))
        return self.compared(digits.flatten(1)), digits


def perceptron(**options):
    return Perceptron(width=options.get("breadth", 4))


class Wide(Perceptron):
    def forward(self, images):
        return images.flatten(1)


class Bare(nn.Module):
    def forward(self, images):
        return images.mean((2, 3))


class Batched(nn.Module):
    def __init__(self, batch_size):
        super().__init__()


class Momentous(nn.Module):
    def __init__(self, momentum=1):
        super().__init__()


class Slow(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum, slowness=1):
        if not 0 <= momentum < 1:
            raise ValueError(f"Invalid momentum {momentum}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "slowness": slowness})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    kept = self.state[parameter].setdefault("kept", torch.zeros_like(parameter))
                    kept.mul_(group["momentum"]).add_(parameter.grad)
                    parameter.sub_(kept, alpha=group["lr"] / group["slowness"])


class Rateless(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {})


NOTHING = 3
"""
BASE = {"batch_size": [10], "learning_rate": [1e-3], "weight_decay": [0.0]}
GRID = BASE | {"width": [4], "activation": ["Tanh"], "dropout": [0.5]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a user's file."""
    (tmp_path / "mynets.py").write_text(NETWORKS)
    return tmp_path


def loaded(folder: Path, options: dict[str, str] | None = None, **changes: Any) -> Loaded:
    """The tiny study in a user's folder, by default with the Perceptron."""
    changes = {"architecture": "mynets.py:Perceptron", "grid": GRID} | changes
    path = tiny.write_toml(folder / "mine.toml", **changes)
    return loading.load(definitions.read(path), folder, {"data": "digits"} if options is None else options)


def first(given: Loaded) -> Configuration:
    return next(given.definition.grid.points())


def figures(given: Loaded, configuration: Configuration | None = None) -> dict[str, Any]:
    """The outcome of cross-validation for a point, by default the first."""
    outcome = CrossValidation(given)(configuration or first(given))
    assert outcome is not None
    return {"figures": outcome.figures, "curves": [dict(fold.curves) for fold in outcome.folds]}


def test_a_perceptron_is_searched_like_the_paper_s_networks(folder: Path) -> None:
    given = loaded(folder)
    loading.check_points(given)
    again = figures(given)
    assert again == figures(given) == figures(loaded(folder))
    assert 0 < again["figures"]["val_error"] < 1
    assert given.problem.describe(first(given).params) == {"parameters": f"{2 * 392 + 393 * 4 + 5 * 2:,}"}
    assert given.problem.backend("cpu") == "torch"
    given.problem.prove("cpu")
    assert given.traits.files == {"mynets.py": hashlib.sha256(NETWORKS.encode()).hexdigest()}
    # The module gets every argument.
    for other in ({"width": [5]}, {"activation": ["ReLU"]}, {"dropout": [0.0]}):
        assert figures(loaded(folder, grid=GRID | other)) != again


def without_decay(grid: dict[str, Any]) -> dict[str, Any]:
    """A grid for an optimiser that takes no weight decay."""
    return {name: values for name, values in grid.items() if name != "weight_decay"}


def test_rounds_keep_weights_that_the_module_takes(folder: Path) -> None:
    given = loaded(folder)
    runs = [Run("round", number, 2, 2, 7) for number in range(2)]
    weights = given.problem.train(first(given).params, runs, lambda *_: None)
    module = given_module(folder, width=4, activation="Tanh", dropout=0.5)
    for kept in weights:
        assert kept is not None
        module.load_state_dict(dict(kept))
    assert not torch.equal(weights[0]["layers.2.weight"], weights[1]["layers.2.weight"])


def given_module(folder: Path, **arguments: Any) -> nn.Module:
    made = place.Place(folder).find("mynets.py:Perceptron")(**arguments)
    assert isinstance(made, nn.Module)
    return made


def test_dropout_rests_while_a_model_is_evaluated(folder: Path) -> None:
    given = loaded(folder, grid=GRID | {"dropout": [0.9]})
    job = given.problem.job(first(given).params, [Run("fold", 0, 2, 2, 7)])  # type: ignore[attr-defined]
    for trainer in (single.train, reference.train, fused.train):
        history = history_of(trainer, job)
        module = given_module(folder, width=4, activation="Tanh", dropout=0.9).eval()
        module.load_state_dict(dict(history.parameters[0]))
        pairs = job.members[0].evaluation["val"]
        with torch.no_grad():
            loss = nn.functional.cross_entropy(module(pairs.images), pairs.target)
        assert history.evaluation["val"].loss[0, -1] == pytest.approx(float(loss), rel=1e-4)


def test_what_dropout_draws_depends_on_the_model_alone(folder: Path) -> None:
    given = loaded(folder)
    params = first(given).params
    runs = [Run("fold", fold, 2, 2, 7) for fold in range(2)]
    job = given.problem.job(params, runs)  # type: ignore[attr-defined]
    before = torch.random.get_rng_state()
    together = history_of(single.train, job)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    for fold, run in enumerate(runs):
        alone = history_of(single.train, given.problem.job(params, [run]))  # type: ignore[attr-defined]
        assert np.array_equal(alone.train_loss[0], together.train_loss[fold])


def test_an_architecture_may_read_digits_and_have_lazy_layers(folder: Path) -> None:
    grid = BASE | {"aux_loss_weight": [0.0, 2.0]}
    given = loaded(folder, architecture="mynets.py:Reader", grid=grid)
    loading.check_points(given)
    one, two = given.definition.grid.points()
    assert figures(given, one) != figures(given, two)
    assert given.problem.describe(one.params) == {"parameters": f"{197 * 10 + 21 * 2:,}"}
    with pytest.raises(
        ProblemError, match=r"grid\.aux_loss_weight: architecture 'mynets.py:Reader' needs it"
    ):
        loading.check_points(loaded(folder, architecture="mynets.py:Reader", grid=BASE))


def test_a_function_may_make_the_module_and_take_any_name(folder: Path) -> None:
    given = loaded(folder, architecture="mynets.py:perceptron", grid=BASE | {"breadth": [3]})
    loading.check_points(given)
    expected = loaded(folder, grid=BASE | {"width": [3]})
    assert figures(given) == figures(expected)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"grid": BASE}, "grid.width: architecture 'mynets.py:Perceptron' needs it"),
        (
            {"grid": GRID | {"depth": [2]}},
            "grid.depth: neither architecture 'mynets.py:Perceptron' nor optimiser 'adam' takes it: leave it out; they "
            "take batch_size, learning_rate, weight_decay, width, activation, dropout",
        ),
        (
            {"grid": GRID | {"depth": [2], "momentum": [0.5]}, "optimiser": "torch.optim:SGD"},
            "grid.depth: neither architecture 'mynets.py:Perceptron' nor optimiser 'torch.optim:SGD' takes it",
        ),
        (
            {"grid": GRID | {"aux_loss_weight": [1.0]}},
            "grid.aux_loss_weight: neither architecture 'mynets.py:Perc",
        ),
        ({"grid": GRID | {"batch_size": [0]}}, "grid.batch_size: expected an integer >= 1, got 0"),
        (
            {"grid": GRID | {"learning_rate": ["much"]}},
            "grid.learning_rate: expected a number > 0, got 'much'",
        ),
        (
            {"grid": GRID | {"activation": ["Relu"]}},
            "architecture 'mynets.py:Perceptron' of width 4, activation Relu, dropout 0.5: AttributeError: module "
            "'torch.nn' has no attribute 'Relu' (mynets.py, line 13)",
        ),
        (
            {"architecture": "mynets.py:Wide"},
            "forward: expected logits (3, 2) of images (3, 2, 14, 14), as floats, got torch.float32 (3, 392)",
        ),
        (
            {"architecture": "mynets.py:Bare", "grid": BASE},
            "architecture 'mynets.py:Bare': the module has no parameters to train",
        ),
        (
            {"architecture": "mynets.py:Bare", "grid": BASE | {"width": [1]}},
            "grid.width: neither architecture 'mynets.py:Bare' nor",
        ),
        (
            {"optimiser": "mynets.py:Slow", "grid": without_decay(GRID)},
            "grid.momentum: optimiser 'mynets.py:Slow' needs it",
        ),
        (
            {"optimiser": "mynets.py:Slow", "grid": GRID | {"momentum": [0.5]}},
            "grid.weight_decay: neither architecture",
        ),
        (
            {"optimiser": "mynets.py:Slow", "grid": without_decay(GRID) | {"momentum": [2.0]}},
            "optimiser 'mynets.py:Slow' with momentum 2: ValueError: Invalid momentum 2.0 (mynets.py, line 62)",
        ),
        (
            {"optimiser": "torch.optim:LBFGS", "grid": without_decay(GRID)},
            "optimiser 'torch.optim:LBFGS': TypeError",
        ),
        (
            {
                "architecture": "mynets.py:Momentous",
                "optimiser": "torch.optim:SGD",
                "grid": BASE | {"momentum": [1]},
            },
            "grid.momentum: architecture 'mynets.py:Momentous' and optimiser 'torch.optim:SGD' both take it",
        ),
    ],
)
def test_a_point_that_cannot_be_trained_is_one_line(
    folder: Path, changes: dict[str, Any], fault: str
) -> None:
    given = loaded(folder, **changes)
    with pytest.raises(ProblemError) as caught:
        loading.check_points(given)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"architecture": "others.py:Perceptron"}, "settings.architecture: there is no file"),
        ({"architecture": "mynets.py:Transformer"}, "settings.architecture: mynets.py has no 'Transformer'"),
        (
            {"architecture": "mynets.py:NOTHING"},
            "settings.architecture: mynets.py:NOTHING: expected a class or a fun",
        ),
        (
            {"architecture": "mynets.py:Batched"},
            "mynets.py:Batched needs batch_size, which is the training's: rename",
        ),
        (
            {"architecture": "transformer"},
            "unknown architecture 'transformer': expected one of b1, b2, ws, wsal",
        ),
        ({"optimiser": "torch.optim:Lion"}, "settings.optimiser: torch.optim has no 'Lion'"),
        ({"optimiser": "mynets.py:Rateless"}, "settings.optimiser: mynets.py:Rateless takes no lr"),
    ],
)
def test_settings_that_name_nothing_usable_are_one_line(
    folder: Path, changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        loaded(folder, **changes)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_user_s_code_is_not_run_because_a_database_names_it(folder: Path) -> None:
    given = loaded(folder)
    with pytest.raises(ProblemError, match=r"is code of yours.*name the definition's \.toml file"):
        loading.load(given.definition, None, {"data": "digits"})
    # PyTorch's own optimisers do not count as a user's code.
    theirs = tiny.definition(optimiser="torch.optim:RMSprop")
    assert loading.load(theirs, None, {"data": "digits"}).traits.files == {}


@pytest.mark.parametrize("architecture", ["b1", "mynets.py:Perceptron"])
def test_any_optimiser_of_pytorch_trains(folder: Path, architecture: str) -> None:
    grid = (BASE if architecture == "b1" else GRID) | {"momentum": [0.9], "nesterov": [True]}
    given = loaded(folder, architecture=architecture, optimiser="torch.optim:SGD", grid=grid)
    loading.check_points(given)
    assert given.problem.backend("cpu") == "torch"
    got = figures(given)
    job = given.problem.job(first(given).params, [Run("fold", 0, 2, 2, 7)])  # type: ignore[attr-defined]
    assert isinstance(job.optimiser, optim.Plain)
    made = job.optimiser.plain(nn.Linear(1, 1).parameters(), 0.5, 0.25)
    defaults = {name: made.defaults[name] for name in ("lr", "weight_decay", "momentum", "nesterov")}
    assert defaults == {"lr": 0.5, "weight_decay": 0.25, "momentum": 0.9, "nesterov": True}
    # The shipped SGD has a momentum of 0.9 too, but without Nesterov's change.
    shipped = {name: values for name, values in grid.items() if name not in ("momentum", "nesterov")}
    assert got != figures(loaded(folder, architecture=architecture, optimiser="sgd", grid=shipped))
    plain = {**grid, "nesterov": [False]}
    same = figures(loaded(folder, architecture=architecture, optimiser="torch.optim:SGD", grid=plain))
    expected = figures(loaded(folder, architecture=architecture, optimiser="sgd", grid=shipped))
    assert same["figures"]["val_loss"] == pytest.approx(expected["figures"]["val_loss"], rel=1e-3)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's digits as a user's file."""
    source, _ = resolve("digits")
    path = tmp_path_factory.mktemp("images") / "mine.npz"
    arrays = {
        name: getattr(source, name).numpy()
        for name in ("train_images", "train_labels", "test_images", "test_labels")
    }
    np.savez_compressed(path, **arrays)
    return path


def test_images_lie_beside_the_definition_that_names_them(
    folder: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.npz").write_bytes(images.read_bytes())
    monkeypatch.chdir(images.parent.parent)
    given = loaded(folder, {}, data="mine.npz")
    loading.check_points(given)
    assert figures(given) == figures(loaded(folder))
    assert given.traits.remember == {}
    assert given.traits.fingerprint != loaded(folder).traits.fingerprint
    with pytest.raises(ProblemError, match="lies beside the study's definition"):
        loading.load(tiny.definition(data="mine.npz"), None)


def test_images_that_are_given_beside_it_lie_where_the_program_runs(
    folder: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    given = loaded(folder, {"data": "mine.npz"})
    assert given.traits.remember == {"data": str(images)}
    # From then on they are found from any working directory, and in another place on another machine.
    monkeypatch.chdir(folder)
    remembered = given.traits.remember
    found = loading.load(given.definition, folder, {}, remembered)
    (folder / "copy.npz").write_bytes(images.read_bytes())
    copied = loading.load(given.definition, folder, {"data": "copy.npz"}, remembered)
    assert found.traits.fingerprint == copied.traits.fingerprint == given.traits.fingerprint
    with pytest.raises(ProblemError, match=r"its data is .*mine\.npz and that given is digits"):
        loading.load(given.definition, folder, {"data": "digits"}, remembered)


def test_images_that_change_while_a_study_is_loaded_are_refused(folder: Path, images: Path) -> None:
    (folder / "mine.npz").write_bytes(images.read_bytes())
    given = loaded(folder, {}, data="mine.npz")
    figures(given)
    arrays = dict(np.load(images))
    arrays["test_images"] ^= 1
    np.savez(folder / "mine.npz", **arrays)
    with pytest.raises(ValueError, match="has changed since the study was loaded"):
        given.problem.prepare([Run("round", 0, 2, 2, 7)])


def test_programs_search_such_a_study_and_give_the_figures_of_this_process(
    folder: Path, images: Path
) -> None:
    changes = {
        "architecture": "mynets.py:Perceptron",
        "optimiser": "mynets.py:Slow",
        "grid": without_decay(GRID) | {"momentum": [0.0, 0.5]},
        "evaluation": {"rounds": 1},
    }
    tiny.write_toml(folder / "mine.toml", name="mine", **changes)
    (folder / "mine.npz").write_bytes(images.read_bytes())

    def said(*arguments: str) -> str:
        done = programs.run(folder, *arguments, PAIRSEARCH_STORAGE="sqlite:///mine.db")
        assert done.code == 0, done.err
        return done.out

    said("create", "mine.toml", "--data", "mine.npz")
    said("worker", "mine.toml")
    best = json.loads(said("best", "mine", "--json"))["ranked"]
    # The file holds scikit-learn's images, so the figures equal those of `digits`.
    given = loaded(folder, name="mine", **changes)
    points = list(given.definition.grid.points())
    found = sorted((figures(given, point)["figures"]["val_loss"], point.text) for point in points)
    assert [(one["figures"]["val_loss"], json.dumps(one["params"])) for one in best] == found
    said("evaluate", "mine.toml", "--models", "models", "--json")
    (model,) = (folder / "models").rglob("*.safetensors")
    complaint = programs.run(folder, "predict", str(model), "one.png", "two.png").complaint
    assert (
        "'mynets.py:Perceptron', which is code of its author's: only models of b1, b2, ws, wsal" in complaint
    )
