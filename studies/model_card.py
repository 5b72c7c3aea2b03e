"""The file of a trained model: its tensors in safetensors format, and a `ModelCard` as JSON in the file's metadata.

The format holds numbers and no code. A file may come from anybody, so its metadata are validated before they are used,
and its size is limited.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pairsearch.studies.checkpoint_file import stored_tensor
from pairsearch.studies.configuration import Configuration
from pairsearch.studies.definition import NAME_PATTERN, Count, Setting
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.grid import AnyValue, Identifier
from pairsearch.studies.problem import Digest, Weights

# One entry holds everything: safetensors write several in an order that differs from file to file.
ENTRY = "pairsearch"
# In bytes; the paper's models take 0.2 MB.
LARGEST_FILE = 1024 * 2**20

Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=1000)]


class ModelCard(BaseModel):
    """What the file of a kept model says: where the model comes from, how it was trained, and how good it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    """Version of this card's format."""
    study: Annotated[str, Field(pattern=NAME_PATTERN)]
    """Name of the study."""
    round: Annotated[int, Field(ge=0, strict=True)]
    """Round of the final evaluation that trained the model, from 0."""
    problem: Text
    """The definition's `problem`."""
    settings: dict[str, Setting]
    """The definition's `settings`."""
    params: dict[Identifier, AnyValue]
    """The configuration: parameters by name."""
    epochs: Count
    """How many epochs the round trained for."""
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    """The study's seed."""
    version: int
    """Version of the problem's figures (`Problem.version`)."""
    data: Digest
    """SHA-256 (hexadecimal) over the data; empty where the problem computes none."""
    files: dict[str, Digest]
    """SHA-256 (hexadecimal) of the user's files that the problem consists of, by name."""
    figures: dict[str, Finite | None]
    """The figures of this round after its last epoch, by name; None for one that was not reported then."""
    about: dict[str, Any]
    """What the problem adds (`Problem.card`)."""
    provenance: dict[Text, Text]
    """Versions, git commit, processor, backend and device."""

    @property
    def configuration(self) -> Configuration:
        """The parameters as a configuration of the search."""
        return Configuration(self.params)


def as_bytes(weights: Weights, card: ModelCard) -> bytes:
    """Return the content of a model's file, equal for equal models; raises as `as_tensors`."""
    from safetensors.torch import save  # noqa: PLC0415 - slow to import

    return save(as_tensors(weights), {ENTRY: card.model_dump_json()})


def as_tensors(weights: Weights) -> dict[str, Any]:
    """Return weights as contiguous tensors on the CPU; raises a ProblemError for what is neither array nor tensor."""
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
            found[name] = stored_tensor(torch.as_tensor(value))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ProblemError(f"weights: {name!a}: {error}") from None
    return found


def read_card(path: Path | str) -> ModelCard:
    """Read the card of a kept model: which study, configuration and round it comes from, and its figures.

    A ProblemError says that the file is missing, larger than 1 GiB, or not a model of pairsearch.
    """
    path = Path(path)
    with opened(path) as file:
        return card_of(path, file)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file as safetensors; its errors become a `ProblemError` that names the path."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        # A device or a pipe has no size to check, and reading it may never end.
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
    """Read the card of an opened file; raises a ProblemError where there is none, or one that is not valid."""
    text = (file.metadata() or {}).get(ENTRY)
    if text is None:
        raise ProblemError(f"{path} is not a model of pairsearch: its metadata have no entry {ENTRY!r}")
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        raise not_valid(path, error) from None


def not_valid(path: Path, error: ValidationError, entry: str = "") -> ProblemError:
    """Return the error for metadata of a file, or for an entry of theirs, that Pydantic refuses."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = entry or ".".join(map(str, first["loc"])) or "metadata"
    return ProblemError(f"{path}: its metadata are not those of a model: {field}: {first['msg']}")


def tensors_of(path: Path, file: Any, shapes: Mapping[str, list[int]]) -> dict[str, Any]:
    """Read the tensors of an opened file, which must be finite and have these shapes, as float32 copies."""
    found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    if {name: value.get_shape() for name, value in found.items()} != dict(shapes) or {
        value.get_dtype() for value in found.values()
    } != {"F32"}:
        raise ProblemError(f"{path}: its tensors are not the float32 parameters that its metadata promise")
    tensors = {name: file.get_tensor(name).clone() for name in shapes}
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise ProblemError(f"{path}: a parameter is NaN or infinite")
    return tensors
