"""A point of a study's grid: a value for each of its parameters, and the key that identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

Value = int | float | str | bool
Params = Mapping[str, Value]

LONGEST_KEY = 2000
"""Bytes of the longest key that is written out. PostgreSQL's indexes hold no value of more than 2,704 bytes."""
BEGINNING = 200
"""Characters of a longer key that stand before its SHA-256."""


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """The parameters of a trial, by the names that they have in the definition and in the Optuna study.

    Two configurations are equal if they have the same names with values of the same types: 1, 1.0 and true are three
    values, -0.0 and 0.0 are one.
    """

    params: Params
    """Values by name; parameters of other tables of the grid are absent."""
    key: str = field(init=False)
    """A readable text that identifies the configuration, with parameters sorted by name and values by `repr`. For a
    float that is the shortest text that reads back as the same number. A text of more than `LONGEST_KEY` bytes is cut,
    and ends in its SHA-256."""

    def __post_init__(self) -> None:
        """Make the values canonical, and compute the key."""
        params = {name: canonical(value) for name, value in self.params.items()}
        object.__setattr__(self, "params", params)
        key = " ".join(f"{name}={params[name]!r}" for name in sorted(params))
        if len(encoded := key.encode()) > LONGEST_KEY:
            key = f"{key[:BEGINNING]}... sha256:{hashlib.sha256(encoded).hexdigest()}"
        object.__setattr__(self, "key", key)

    def __eq__(self, other: object) -> bool:
        """Whether both are the same point."""
        return self.key == other.key if isinstance(other, Configuration) else NotImplemented

    def __hash__(self) -> int:
        """Return the hash of the key."""
        return hash(self.key)

    @property
    def text(self) -> str:
        """The parameters as JSON, which `of_text` reads back without a difference."""
        return json.dumps(self.params, allow_nan=False)

    @classmethod
    def of_text(cls, text: str) -> Configuration:
        """Make a configuration from the JSON object in `text`."""
        return cls(json.loads(text))


def canonical(value: Value) -> Value:
    """Return the value as it enters keys, with 0.0 for -0.0."""
    return value + 0.0 if type(value) is float else value


def shown(value: Value) -> str:
    """Format a value for people: numbers with six significant digits, texts unchanged."""
    return f"{value:g}" if type(value) in (int, float) else str(value)


def describe(params: Params) -> str:
    """Format parameters as a line for people: `batch_size 25, learning_rate 0.0001`."""
    return ", ".join(f"{name} {shown(value)}" for name, value in params.items())
