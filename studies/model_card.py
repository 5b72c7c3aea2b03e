"""The file of a trained model: its tensors as safetensors, and what it is as JSON in the file's metadata.

Safetensors hold numbers and nothing that could run. A file may come from anybody: what it says is checked before it is
believed, and memory grows with the file alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import NAME_PATTERN, AnyValue, Count, Identifier, Setting
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.problem import Weights

# The one entry of the file's metadata, whose order would otherwise differ from file to file.
ENTRY = "pairsearch"
# The paper's models take 0.2 MB.
LARGEST_FILE = 1024 * 2**20

Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=1000)]
Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class ModelCard(BaseModel):
    """What a model is; figures are those of its own round."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    study: Annotated[str, Field(pattern=NAME_PATTERN)]
    round: Annotated[int, Field(ge=0, strict=True)]
    problem: Text
    settings: dict[str, Setting]
    params: dict[Identifier, AnyValue]
    epochs: Count
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    version: int
    """Of the problem."""
    data: Digest
    """SHA-256 over the data; empty where the problem gives none."""
    files: dict[str, Digest]
    """SHA-256 of the user's files that the problem is made of."""
    figures: dict[str, Finite | None]
    about: dict[str, Any]
    """What the problem says beside this (`studies.problem.Problem.card`)."""
    provenance: dict[Text, Text]
    """Versions, git commit, processor, backend and device."""

    @property
    def configuration(self) -> Configuration:
        """The parameters as the search has them."""
        return Configuration(self.params)


def as_bytes(weights: Weights, card: ModelCard) -> bytes:
    """A model's file; the same model gives the same bytes.

    Args:
        weights: arrays of NumPy or tensors of PyTorch.

    Raises:
        ProblemError: something else is among them.
    """
    from safetensors.torch import save  # noqa: PLC0415 - slow to import

    return save(as_tensors(weights), {ENTRY: card.model_dump_json()})


def as_tensors(weights: Weights) -> dict[str, Any]:
    """A problem's weights as tensors of PyTorch that a file can hold.

    Raises:
        ProblemError: something else is among them.
    """
    import torch  # noqa: PLC0415 - slow to import

    if not isinstance(weights, Mapping):
        raise ProblemError(
            f"weights: expected arrays or tensors by name, or None, got {type(weights).__name__}"
        )
    found = {}
    for name, value in weights.items():
        if not isinstance(name, str) or not hasattr(value, "shape") or not hasattr(value, "dtype"):
            raise ProblemError(
                f"weights: expected arrays or tensors by name, or None, got {type(value).__name__} for {name!a}"
            )
        try:
            # A copy, as two tensors of a module may share their memory, which a file refuses.
            found[name] = torch.as_tensor(value).detach().cpu().clone(memory_format=torch.contiguous_format)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ProblemError(f"weights: {name!a}: {error}") from None
    return found


def read_card(path: Path) -> ModelCard:
    """What a file says that its model is.

    Raises:
        ProblemError: no file of a model, or one too large.
    """
    with opened(path) as file:
        return card_of(path, file)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file as safetensors see it; what they raise about it becomes a `ProblemError`."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        # Not a device or a pipe, which have no end or none to be seen.
        if not path.is_file():
            what = "it is no file" if path.exists() else "there is no such file"
            raise ProblemError(f"model {path}: {what}")
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise ProblemError(f"model {path}: {size} bytes; expected {LARGEST_FILE} at most")
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ProblemError(f"{path} is not a safetensors file: {error}") from None
    except (OSError, UnicodeError) as error:
        raise ProblemError(f"model {path} cannot be read: {error}") from None


def card_of(path: Path, file: Any) -> ModelCard:
    """The card of an opened file."""
    text = (file.metadata() or {}).get(ENTRY)
    if text is None:
        raise ProblemError(f"{path} is not a model of pairsearch: its metadata have no entry {ENTRY!r}")
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "metadata"
        raise ProblemError(
            f"{path}: its metadata are not those of a model: {field}: {first['msg']}"
        ) from None


def tensors_of(path: Path, file: Any, shapes: Mapping[str, list[int]]) -> dict[str, Any]:
    """The float32 tensors of an opened file, copied.

    Args:
        shapes: those that it has to have, by name.

    Raises:
        ProblemError: it has others, or one is not finite.
    """
    found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    if {name: value.get_shape() for name, value in found.items()} != dict(shapes) or {
        value.get_dtype() for value in found.values()
    } != {"F32"}:
        raise ProblemError(f"{path}: its tensors are not the float32 parameters that its metadata promise")
    tensors = {name: file.get_tensor(name).clone() for name in shapes}
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise ProblemError(f"{path}: a parameter is NaN or infinite")
    return tensors
