"""The parameters of a study as Optuna's distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optuna.distributions import BaseDistribution, CategoricalDistribution

from pairsearch.studies.configuration import Params, Value


class Space:
    """The parameters of a study as Optuna's categorical distributions, values in the order of their addition.

    Optuna takes 1, 1.0 and true for one category. A parameter that has several of these is stored as text, in which
    they differ.
    """

    def __init__(self, choices: Mapping[str, Sequence[Value]]) -> None:
        self.choices = choices
        self._as_text = {name for name, values in choices.items() if len(set(values)) < len(values)}
        self.distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution([self._category(name, value) for value in values])
            for name, values in choices.items()
        }

    def _category(self, name: str, value: Value) -> Value:
        return repr(value) if name in self._as_text else value

    def of(self, params: Params) -> dict[str, BaseDistribution]:
        """Return the distributions of a point's parameters."""
        return {name: self.distributions[name] for name in params}

    def categories(self, params: Params) -> dict[str, Value]:
        """Convert the values of a point to categories."""
        return {name: self._category(name, value) for name, value in params.items()}

    def values(self, categories: Params) -> dict[str, Value]:
        """Convert the categories of a point to values."""
        return {
            name: next(value for value in self.choices[name] if self._category(name, value) == category)
            if name in self._as_text
            else category
            for name, category in categories.items()
        }
