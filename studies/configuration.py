"""One point of a study's grid: the hyperparameters of a trial, and the key under which it is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

Value = int | float


@dataclass(frozen=True, slots=True, order=True)
class Configuration:
    """The hyperparameters of one trial; the optional ones are None where the architecture has none.

    Field names are the parameter names of the Optuna study.
    """

    batch_size: int
    learning_rate: float
    weight_decay: float
    hidden_units: int | None = None
    aux_loss_weight: float | None = None

    @classmethod
    def of(cls, params: Mapping[str, Value]) -> Configuration:
        """The configuration of a parameter mapping; numbers are brought to the field's type (10 to 10.0)."""
        hidden_units, aux = params.get("hidden_units"), params.get("aux_loss_weight")
        return cls(
            batch_size=int(params["batch_size"]),
            # -0.0 and 0.0 are one number, and one key.
            learning_rate=float(params["learning_rate"]) + 0.0,
            weight_decay=float(params["weight_decay"]) + 0.0,
            hidden_units=None if hidden_units is None else int(hidden_units),
            aux_loss_weight=None if aux is None else float(aux) + 0.0,
        )

    @property
    def params(self) -> dict[str, Value]:
        """The parameters that this configuration has, in the order of the fields."""
        values = {name: getattr(self, name) for name in PARAMETERS}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def key(self) -> str:
        """A readable text that two configurations share only if they are equal.

        Floats are written by `repr`, the shortest text that reads back as the same number.
        """
        return " ".join(f"{name}={value!r}" for name, value in self.params.items())


PARAMETERS: tuple[str, ...] = tuple(field.name for field in fields(Configuration))


def describe(params: Mapping[str, Value]) -> str:
    """A short line for people: `batch_size 25, learning_rate 0.0001`."""
    return ", ".join(f"{name} {value:g}" for name, value in params.items())


def distinct(configurations: Iterable[Configuration]) -> list[Configuration]:
    """The configurations without repetition, in the order in which they came first."""
    return list(dict.fromkeys(configurations))
