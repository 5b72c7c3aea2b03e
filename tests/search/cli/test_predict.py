"""A model from a file answers about image files; what is hostile in either is refused in one line."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import programs
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import save, save_file

from pairsearch.data.errors import DataError
from pairsearch.data.pictures import MOST_PIXELS, read_picture
from pairsearch.data.sources import Source
from pairsearch.models.nets import build, split_logits
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.model_card import ENTRY, ModelCard, as_bytes
from pairsearch.studies.pairs.prediction import ask, read_model
from pairsearch.studies.pairs.problem import Pairs
from pairsearch.studies.problem import Run

PARAMS = {
    "batch_size": 10,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "hidden_units": 7,
    "aux_loss_weight": 2.0,
}


def card(**changes: Any) -> ModelCard:
    """The card of a tiny model."""
    fields = {
        "study": "tiny",
        "round": 0,
        "problem": "pairs",
        "settings": {"architecture": "wsal"},
        "params": PARAMS,
        "epochs": 2,
        "seed": 7,
        "version": 1,
        "data": "ab" * 32,
        "files": {},
        "figures": {"train_loss": 0.5, "train_error": 0.25, "test_loss": 0.5, "test_error": 0.25},
        "about": {},
        "provenance": {},
    }
    return ModelCard.model_validate(fields | changes)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model with its initial weights."""
    torch.manual_seed(1)
    path = tmp_path / "model.safetensors"
    path.write_bytes(as_bytes(build("wsal", hidden_units=7).state_dict(), card()))
    return path


def png(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_mnist_as_png_files_gives_the_pixels_and_the_logits_of_the_round(
    model: Path, mnist_source: Source, tmp_path: Path
) -> None:
    card, module = read_model(model)
    problem = tiny.loaded(source=mnist_source).problem
    assert isinstance(problem, Pairs)
    _, pairs = problem.round_pairs(Run("round", 0, 1, 2))
    with torch.no_grad():
        main, digits = split_logits(module(pairs.images))
    assert digits is not None
    for index in range(5):
        pictures = [
            read_picture(png(tmp_path / f"{place}.png", mnist_source.test_images[position].numpy()))
            for place, position in enumerate(pairs.indices[index])
        ]
        assert torch.equal(torch.stack([p.pixels for p in pictures]), pairs.images[index])
        assert not any(p.inverted or p.fitted for p in pictures)
        answer = ask(model, card, module, *pictures)
        with torch.no_grad():
            alone, _ = split_logits(module(pairs.images[index : index + 1]))
        assert answer.logits == tuple(alone[0].tolist())
        assert answer.at_most == bool(main[index].argmax() == 1)
        assert answer.digits is not None
        assert [seen.digit for seen in answer.digits] == digits[index].argmax(1).tolist()


def test_only_a_model_that_was_taught_digits_says_which_it_saw(tmp_path: Path) -> None:
    grey = np.zeros((28, 28), np.uint8)
    grey[8:20, 13:15] = 255
    picture = read_picture(png(tmp_path / "one.png", grey))
    without = {name: value for name, value in PARAMS.items() if name != "aux_loss_weight"}
    for architecture, params, taught in (
        ("wsal", PARAMS, True),
        ("wsal", PARAMS | {"aux_loss_weight": 0.0}, False),
        ("ws", without, False),
        ("b2", without, False),
        ("pretrained", without | {"frozen": "all"}, True),
        ("pretrained", without | {"frozen": "convolutions"}, False),
    ):
        path = tmp_path / "any.safetensors"
        described = card(settings={"architecture": architecture}, params=params)
        path.write_bytes(as_bytes(build(architecture, hidden_units=7).state_dict(), described))
        answer = ask(path, *read_model(path), picture, picture)
        assert (answer.digits is not None) == taught, architecture
        assert 0.5 <= answer.probability <= 1


def photograph(path: Path, digit: np.ndarray) -> Path:
    """The digit seven times as large, off the centre, in grey ink on yellowish paper."""
    light = np.kron(digit.astype(float), np.ones((7, 7))) / 255
    paper = np.full((600, 400, 3), (210.0, 205.0, 150.0))
    paper[300:496, 20:216] -= light[..., None] * (120, 120, 90)
    return png(path, paper.round().astype(np.uint8))


def test_photographs_of_dark_digits_become_what_mnist_s_look_like(
    mnist_source: Source, tmp_path: Path
) -> None:
    likeness = []
    for digit in mnist_source.test_images[:20].numpy():
        expected = read_picture(png(tmp_path / "digit.png", digit))
        found = read_picture(photograph(tmp_path / "photograph.png", digit))
        assert (found.inverted, found.fitted) == (True, True)
        likeness.append(np.corrcoef(found.pixels.flatten(), expected.pixels.flatten())[0, 1])
    assert np.median(likeness) > 0.98


def test_ink_on_a_transparent_ground_is_ink_on_white_paper(tmp_path: Path) -> None:
    layer = np.zeros((60, 60, 4), np.uint8)
    layer[10:50, 28:32, 3] = 255
    found = read_picture(png(tmp_path / "ink.png", layer))
    assert found.inverted
    assert found.pixels.max() > 100
    assert found.pixels[:, :4].max() == 0


def test_the_guess_about_dark_and_light_can_be_overruled(tmp_path: Path) -> None:
    grey = np.full((28, 28), 250, np.uint8)
    grey[8:20, 13:15] = 0
    path = png(tmp_path / "dark.png", grey)
    guessed, told = read_picture(path), read_picture(path, invert=False)
    assert (guessed.inverted, told.inverted) == (True, False)
    assert torch.equal(255 - told.pixels, guessed.pixels)


def test_sixteen_bits_count_by_their_upper_eight(tmp_path: Path) -> None:
    grey = np.zeros((28, 28), np.uint8)
    grey[8:20, 13:15] = 200
    eight = read_picture(png(tmp_path / "8.png", grey))
    sixteen = read_picture(png(tmp_path / "16.png", grey.astype(np.uint16) << 8))
    assert torch.equal(eight.pixels, sixteen.pixels)


def bomb(path: Path, side: int) -> Path:
    """A PNG of a few hundred bytes that claims `side` pixels square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )
    return path


def test_what_is_no_picture_of_a_digit_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\n")
    whole = png(
        tmp_path / "whole.png", np.random.default_rng(0).integers(0, 255, (28, 28), np.uint8)
    ).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for path, message in (
        (tmp_path / "missing.png", "there is no such file"),
        (tmp_path, "it is no file"),
        (tmp_path / "pipe", "it is no file"),
        (tmp_path / "text.png", "cannot identify image file"),
        (tmp_path / "script.eps", "cannot identify image file"),
        (tmp_path / "cut.png", "cannot be read"),
        (bomb(tmp_path / "large.png", int(MOST_PIXELS**0.5) + 1), "pixels; expected 50,000,000 at most"),
        (bomb(tmp_path / "bomb.png", 60_000), "cannot be read: DecompressionBombError"),
        (png(tmp_path / "blank.png", np.zeros((28, 28), np.uint8)), "all its pixels are of one shade"),
    ):
        with pytest.raises(DataError, match=message):
            pytest.fail(f"{path.name} was taken: {read_picture(path)}")


def entry(**changes: Any) -> dict[str, str]:
    return {ENTRY: json.dumps(card().model_dump(mode="json") | changes)}


def of(architecture: str, **changes: Any) -> dict[str, str]:
    return entry(settings={"architecture": architecture}, params=PARAMS | changes)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "its metadata have no entry 'pairsearch'"),
        ({ENTRY: "no JSON"}, "its metadata are not those of a model"),
        ({ENTRY: "[" * 100_000}, "its metadata are not those of a model"),
        ({ENTRY: "[]"}, "its metadata are not those of a model"),
        (entry(format=1), "format: Input should be 2"),
        (entry(study="\x1b[2J"), "study: String should match pattern"),
        (of("b9\x1b"), r"unknown architecture 'b9\\x1b'"),
        (of("b1"), "architecture 'b1' takes no hidden_units"),
        (of("ws", hidden_units=8), "not the float32 parameters"),
        (of("pretrained", frozen="some"), "frozen: expected 'convolutions' or 'all', got 'some'"),
        (of("wsal", hidden_units=10**6), "not the float32 parameters"),
        (of("wsal", hidden_units=10**15), "hidden_units: expected an integer of 1 to 1000000"),
        (of("wsal", hidden_units=7.0), "hidden_units: expected an integer of 1 to 1000000"),
        (of("wsal", learning_rate=[]), "params.learning_rate: Value error, expected"),
        (entry(settings={}), "unknown architecture 'None'"),
        (
            entry(about={"standardisation": {"mean": 1, "deviation": 0}}),
            "standardisation: Input should be greater",
        ),
        (entry(about={"standardisation": 1}), "standardisation: Input should be a valid dictionary"),
        (entry(further=1), "further: Extra inputs are not permitted"),
    ],
)
def test_what_a_file_claims_is_checked(model: Path, metadata: dict[str, str] | None, message: str) -> None:
    save_file(build("wsal", hidden_units=7).state_dict(), model, metadata)
    with pytest.raises(ProblemError, match=message):
        read_model(model)


def test_tensors_that_are_not_the_architecture_s_are_refused(model: Path) -> None:
    whole = dict(build("wsal", hidden_units=7).state_dict())
    name = "head.fc2.bias"
    for tensors, message in (
        ({}, "not the float32 parameters"),
        ({**whole, "more": torch.zeros(1)}, "not the float32 parameters"),
        ({**whole, name: torch.zeros(3)}, "not the float32 parameters"),
        ({**whole, name: torch.zeros(2, dtype=torch.float64)}, "not the float32 parameters"),
        ({**whole, name: torch.tensor([0.0, torch.nan])}, "NaN or infinite"),
    ):
        model.write_bytes(save(tensors, entry()))
        with pytest.raises(ProblemError, match=message):
            read_model(model)


class Trap:
    """A pickle that leaves a trace where it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.trace,)


def test_what_is_no_safetensors_file_is_refused_and_nothing_is_unpickled(model: Path, tmp_path: Path) -> None:
    whole, trace = model.read_bytes(), tmp_path / "trace"
    torch.save({"head.fc2.bias": Trap(trace)}, tmp_path / "checkpoint")
    for data in (
        b"",
        b"\xff" * 100,
        whole[:50],
        whole[:-1],
        whole + b"\0",
        pickle.dumps(Trap(trace)),
        (tmp_path / "checkpoint").read_bytes(),
    ):
        model.write_bytes(data)
        with pytest.raises(ProblemError, match="is not a safetensors file"):
            read_model(model)
    assert not trace.exists()
    for path in (tmp_path, tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(ProblemError, match=r"no file|no such file"):
            read_model(path)


def test_the_command_answers_and_refuses_in_one_line(model: Path, tmp_path: Path) -> None:
    grey = np.full((28, 28), 255, np.uint8)
    grey[8:20, 13:15] = 0
    png(tmp_path / "one.png", grey)
    ended = programs.run(tmp_path, "predict", model.name, "one.png", "one.png")
    assert ended.code == 0, ended.err
    assert "first image: taken as dark on light and inverted" in ended.out
    assert "digit is smaller than" in ended.out
    assert "model: tiny, round 0, test error 25.00 %" in ended.out
    told = programs.run(tmp_path, "predict", model.name, "one.png", "one.png", "--invert", "--json")
    answer = json.loads(told.out)
    assert answer["images"] == [{"path": "one.png", "inverted": True, "fitted": False}] * 2
    assert f"probability {answer['probability']:.4f}" in ended.out
    refused = programs.run(tmp_path, "predict", "one.png", "one.png", "one.png")
    assert "one.png is not a safetensors file" in refused.complaint
    assert "cannot identify" in programs.run(tmp_path, "predict", model.name, model.name, "one.png").complaint


@pytest.mark.parametrize("problem", ["estimator", "mine.py:Mine"])
def test_models_of_other_problems_answer_no_questions(tmp_path: Path, problem: str) -> None:
    (tmp_path / "other.safetensors").write_bytes(as_bytes({"x": torch.zeros(1)}, card(problem=problem)))
    complaint = programs.run(tmp_path, "predict", "other.safetensors", "one.png").complaint
    assert f"is a model of problem '{problem}', which answers no questions here" in complaint
