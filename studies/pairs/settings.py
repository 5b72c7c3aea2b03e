"""The settings of the problem `pairs`, in a definition's `[settings]`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pairsearch.studies.definition import LARGEST, Count


def own(name: str) -> bool:
    """Whether a name is that of a user's code, FILE.py:NAME or MODULE:NAME."""
    return ":" in name


class Settings(BaseModel):
    """The settings of `problem = "pairs"`, the digit pairs of Poulsen & Chambras, in a definition's `[settings]`.

    The grid has `batch_size`, `learning_rate` and `weight_decay`, and `aux_loss_weight` for an architecture with digit
    outputs that are trained on. Its further names are arguments of the architecture or of the optimiser.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    architecture: str
    """The network: a shipped one (`b1`, `b2`, `ws`, `wsal`, `pretrained`), or `FILE.py:NAME` or `MODULE:NAME` of a
    class of modules, or a function that makes one, that takes images `(B, 2, 14, 14)` and returns logits `(B, 2)`. It
    may return digit logits `(B, 2, 10)` too, as a tuple; they are trained on where its `uses_aux_loss` is true."""
    optimiser: str = "adam"
    """The optimiser: `adam`, `sgd` (with momentum 0.9), or `FILE.py:NAME` or `MODULE:NAME` of a class of
    `torch.optim.Optimizer`, such as `torch.optim:RMSprop`. It is made with the parameters, `lr`, and `weight_decay`
    if it takes one."""
    protocol: Literal["resample", "kfold"] = "resample"
    """How folds are made. With `resample` each fold draws a sample of its own and holds a random part of it out; with
    `kfold` one sample is divided into the folds, stratified on the target."""
    sample_size: Annotated[int, Field(ge=2, le=LARGEST)] = 1000
    """Pairs of images in a sample, training and validation together."""
    validation_size: Count | None = None
    """Pairs of each sample that are held out for validation, fewer than `sample_size`. `resample` needs it; `kfold`
    takes none, as the number of folds decides it."""
    standardise: bool = False
    """Whether images are shifted and scaled by the mean and the standard deviation of the training images' pixels. By
    default networks see the raw intensities, 0 to 255."""
    train_pairs: Count = 1000
    """Pairs of training images that each round of the final evaluation trains on."""
    test_pairs: Count = 1000
    """Pairs of test images that each round of the final evaluation is tested on. No fold sees test images."""

    @model_validator(mode="after")
    def _protocol_fits(self) -> Self:
        if self.protocol == "kfold":
            if self.validation_size is not None:
                raise ValueError("validation_size: protocol 'kfold' takes none, it follows from the folds")
        elif self.validation_size is None:
            raise ValueError("validation_size: protocol 'resample' needs it, for example 200")
        elif self.validation_size >= self.sample_size:
            raise ValueError(
                f"validation_size: expected less than sample_size ({self.sample_size}), got {self.validation_size}"
            )
        return self
