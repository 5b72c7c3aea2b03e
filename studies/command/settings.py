"""The settings of the problem `command`, in a definition's `[settings]`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pairsearch.studies.validation import demands

Words = Annotated[list[Annotated[str, Field(pattern=r"^[^\x00]*$")]], Field(min_length=1)]
EXPECTED = (
    'a list of words, such as ["python", "train.py", "--lr", "{lr}"], of which a shell reads none unless it is asked '
    'for by ["sh", "-c", "..."]'
)


class Settings(BaseModel):
    """The settings of `problem = "command"`, a program of yours in any language, in a definition's `[settings]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    command: Annotated[Any, demands(Words, EXPECTED)]
    """The program and its arguments, a list of texts with placeholders. It is started in the definition's folder, once
    for each fold and round. `python` and `python3` as the first word mean the Python that runs pairsearch, so that it
    is the same on every worker, and the one whose versions are stored with the results; others are looked up as a shell
    does it. No shell reads the words."""
    figures: str | None = None
    """Where the figures stand. By default they are JSON objects, each a line on the program's standard output. Else it
    is a file that the program writes, under `{out}` or `{checkpoint}`, whose name ends in `.jsonl` or `.csv`; or a
    regular expression of Python's for lines on standard output, with a named group for each figure."""
    epoch: str = "epoch"
    """Name of the key, column or group that holds the number of the epoch."""
    first_epoch: Literal[0, 1] = 1
    """The number that the program gives to its first epoch."""
    overlap: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Validation examples over training examples of a fold, by which the verdict widens its intervals. The default is
    that of k-fold cross-validation, 1 / (folds - 1); a program that holds a random fifth out has 0.25."""
    grace: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 10.0
    """Seconds that the program has for a last checkpoint after SIGTERM; then it is killed, with all that it started."""
