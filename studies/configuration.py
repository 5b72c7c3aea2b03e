"""One point of a study's grid: a value for each of its parameters, and the key under which it is known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Value = int | float | str | bool
Params = Mapping[str, Value]


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """The parameters of one trial, by the names that they have in the definition and in the Optuna study.

    Two configurations are equal where names, values and types are: 1, 1.0 and true are three values, -0.0 and 0.0 one.
    """

    params: Params
    """A parameter that the point does not have is absent."""
    key: str = field(init=False)
    """A readable text that two configurations share only if they are equal: parameters by name, values by `repr`, which
    for a float is the shortest text that reads back as the same number."""

    def __post_init__(self) -> None:
        """Make values canonical, and the key of them."""
        params = {name: canonical(value) for name, value in self.params.items()}
        object.__setattr__(self, "params", params)
        object.__setattr__(self, "key", " ".join(f"{name}={params[name]!r}" for name in sorted(params)))

    def __eq__(self, other: object) -> bool:
        """Whether both are the same point."""
        return self.key == other.key if isinstance(other, Configuration) else NotImplemented

    def __hash__(self) -> int:
        """Of the key."""
        return hash(self.key)

    @property
    def text(self) -> str:
        """The parameters as JSON, which `of_text` reads back bit for bit."""
        return json.dumps(self.params, allow_nan=False)

    @classmethod
    def of_text(cls, text: str) -> Configuration:
        """The configuration of a JSON object."""
        return cls(json.loads(text))


def canonical(value: Value) -> Value:
    """The value as it enters keys: 0.0 for -0.0, which is the same number."""
    return value + 0.0 if type(value) is float else value


def shown(value: Value) -> str:
    """A value for people: numbers by six digits, texts as they are."""
    return f"{value:g}" if type(value) in (int, float) else str(value)


def describe(params: Params) -> str:
    """A short line for people: `batch_size 25, learning_rate 0.0001`."""
    return ", ".join(f"{name} {shown(value)}" for name, value in params.items())


def distinct(configurations: Iterable[Configuration]) -> list[Configuration]:
    """The configurations without repetition, in the order in which they came first."""
    return list(dict.fromkeys(configurations))
