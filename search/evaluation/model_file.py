"""The file of a trained model: its tensors as safetensors, and what it is as JSON in the file's metadata.

Safetensors hold numbers and nothing that could run. A file may come from anybody: what it says is checked before it is
believed, and memory grows with the file alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pairsearch.models.nets import Architecture, build
from pairsearch.search.errors import InputError
from pairsearch.search.files import whole_file
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import NAME_PATTERN, Count, Rate, StepSize

# The one entry of the file's metadata, whose order would otherwise differ from file to file.
ENTRY = "pairsearch"
# The paper's models take 0.2 MB.
LARGEST_FILE = 256 * 2**20

Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=1000)]


class Part(BaseModel):
    """What every part of the metadata shares."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Hyperparameters(Part):
    """A configuration; None where the architecture has no such parameter."""

    batch_size: Count
    learning_rate: StepSize
    weight_decay: Rate
    hidden_units: Annotated[int, Field(ge=1, le=10**6, strict=True)] | None = None
    aux_loss_weight: Rate | None = None


class Standardisation(Part):
    """What raw intensities 0 to 255 were shifted and scaled by, where the study standardises."""

    mean: Finite
    deviation: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Data(Part):
    """The source of the images, and the SHA-256 over it."""

    name: Text
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelCard(Part):
    """What a model is; losses are mean cross entropies, errors fractions in [0, 1], of its own round."""

    format: Literal[1] = 1
    study: Annotated[str, Field(pattern=NAME_PATTERN)]
    round: Annotated[int, Field(ge=0, strict=True)]
    architecture: Text
    hyperparameters: Hyperparameters
    optimiser: Text
    epochs: Count
    train_pairs: Count
    test_pairs: Count
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    training_version: Count
    data: Data
    standardisation: Standardisation | None
    train_loss: Finite | None
    train_error: Fraction | None
    test_loss: Finite | None
    test_error: Fraction | None
    provenance: dict[Text, Text]
    """Versions, git commit, processor, backend and device."""

    @property
    def configuration(self) -> Configuration:
        """The hyperparameters as the search has them."""
        return Configuration(self.hyperparameters.model_dump(exclude_none=True))


def write_model(path: Path, parameters: Mapping[str, Tensor], card: ModelCard) -> None:
    """Write a model's file, whole or not at all; the same model gives the same bytes.

    Args:
        parameters: state dict, CPU float32.

    Raises:
        InputError, WorkError: as `search.files.whole_file`.
    """
    tensors = {name: value.contiguous() for name, value in parameters.items()}
    with whole_file(path) as file:
        file.write(save(tensors, {ENTRY: card.model_dump_json()}))


def read_card(path: Path) -> ModelCard:
    """What a file says that its model is.

    Raises:
        InputError: no file of a model, or one too large.
    """
    with _opened(path) as file:
        return _card(path, file)


def read_model(path: Path) -> tuple[ModelCard, Architecture]:
    """A file's model, rebuilt as the plain module with its weights, ready to answer.

    Raises:
        InputError: no file of a model; a card that is missing, malformed or of an unknown architecture; tensors that
            are not those of the architecture, or not finite.
    """
    with _opened(path) as file:
        card = _card(path, file)
        try:
            # Shapes without memory: a card may claim any width.
            with torch.device("meta"):
                module = build(card.architecture, card.hyperparameters.hidden_units)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None
        wanted = {name: list(value.shape) for name, value in module.state_dict().items()}
        found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        shapes = {name: value.get_shape() for name, value in found.items()}
        if shapes != wanted or {value.get_dtype() for value in found.values()} != {"F32"}:
            raise InputError(
                f"{path}: its tensors are not the float32 parameters of architecture {card.architecture!a} with "
                f"hidden_units {card.hyperparameters.hidden_units}"
            )
        tensors = {name: file.get_tensor(name).clone() for name in wanted}
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise InputError(f"{path}: a parameter is NaN or infinite")
    module.load_state_dict(tensors, assign=True)
    return card, module.eval()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as safetensors see it; what they raise about it becomes an `InputError`."""
    try:
        # Not a device or a pipe, which have no end or none to be seen.
        if not path.is_file():
            what = "it is no file" if path.exists() else "there is no such file"
            raise InputError(f"model {path}: {what}")
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise InputError(f"model {path}: {size} bytes; expected {LARGEST_FILE} at most")
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from None
    except (OSError, UnicodeError) as error:
        raise InputError(f"model {path} cannot be read: {error}") from None


def _card(path: Path, file: Any) -> ModelCard:
    text = (file.metadata() or {}).get(ENTRY)
    if text is None:
        raise InputError(f"{path} is not a model of pairsearch: its metadata have no entry {ENTRY!r}")
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "metadata"
        raise InputError(f"{path}: its metadata are not those of a model: {field}: {first['msg']}") from None
