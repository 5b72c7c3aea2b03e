"""Sorts and names the values of a study's parameters; a point of a union of grids may lack some parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pairsearch.search.results.formatting import words
from pairsearch.studies.configuration import Configuration, Value

Level = Value | None
"""A value of a parameter; None for points without the parameter."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter with its levels: numbers ascending, others in the definition's order, None at the end."""

    name: str
    levels: tuple[Level, ...]

    @classmethod
    def of(cls, name: str, values: Sequence[Value], *, absent: bool) -> Parameter:
        """Make a parameter from its values; `absent` says whether some points lack it."""
        levels: list[Level] = list(values)
        if all(map(_is_number, values)):
            levels.sort(key=lambda value: (value, repr(value)))
        return cls(name, (*levels, None) if absent else tuple(levels))

    @property
    def label(self) -> str:
        return words(self.name)

    @property
    def varies(self) -> bool:
        return len(self.levels) > 1

    @property
    def continuous(self) -> bool:
        """Whether its values are numbers, at least one of them a float."""
        values = [level for level in self.levels if level is not None]
        return all(map(_is_number, values)) and any(type(value) is float for value in values)

    @property
    def texts(self) -> tuple[str, ...]:
        """Distinct texts of the levels: if 1 and 1.0 both occur, they are written as such."""
        texts = [number(level) for level in self.levels]
        count = Counter(texts)
        return tuple(
            repr(level) if level is not None and count[text] > 1 else text
            for level, text in zip(self.levels, texts, strict=True)
        )


def number(level: Level) -> str:
    """Format a level: `0.001` as `1e-3`, `0.01` as it is."""
    if level is None:
        return "absent"
    if isinstance(level, bool | str):
        return str(level)
    text = f"{level:g}"
    if level and abs(level) < 0.01:
        mantissa, _, exponent = f"{level:.6e}".partition("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    return text


def parameters_of(
    choices: Mapping[str, Sequence[Value]], configurations: Iterable[Configuration]
) -> tuple[Parameter, ...]:
    """Return the parameters of a study, in the order of its definition."""
    keys = [configuration.params.keys() for configuration in configurations]
    return tuple(
        Parameter.of(name, values, absent=any(name not in names for names in keys))
        for name, values in choices.items()
    )


Places = tuple[int, ...]
"""For each parameter, the index of a point's level; 1, 1.0 and true are different levels."""


def places_of(
    parameters: Sequence[Parameter], configurations: Iterable[Configuration]
) -> Iterator[Places | None]:
    """Yield the places of each configuration, None if one of its values is not among the parameter's levels."""
    known = [
        (parameter.name, {repr(level): place for place, level in enumerate(parameter.levels)})
        for parameter in parameters
    ]
    for configuration in configurations:
        params = configuration.params
        try:
            yield tuple(places[repr(params.get(name))] for name, places in known)
        except KeyError:
            yield None


def _is_number(value: Value) -> bool:
    return type(value) in (int, float)
