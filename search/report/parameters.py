"""The parameters of a study as a report sorts and names their values; a point of a union of grids may lack some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pairsearch.search.results.formatting import words
from pairsearch.studies.configuration import Configuration, Value

Level = Value | None
"""A value of a parameter; None stands for points that do not have it."""
ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter with its levels: numbers in ascending order, others as defined, the absence of the parameter last."""

    name: str
    levels: tuple[Level, ...]

    @classmethod
    def of(cls, name: str, values: Sequence[Value], *, absent: bool) -> Parameter:
        """A parameter by its values; `absent` says whether points lack it."""
        levels: list[Level] = list(values)
        if all(map(_is_number, values)):
            levels.sort(key=lambda value: (value, repr(value)))
        return cls(name, (*levels, None) if absent else tuple(levels))

    @property
    def label(self) -> str:
        """Its name for people."""
        return words(self.name)

    @property
    def varies(self) -> bool:
        """Whether it has several levels."""
        return len(self.levels) > 1

    @property
    def continuous(self) -> bool:
        """Whether its values are numbers of which some are no whole ones."""
        values = [level for level in self.levels if level is not None]
        return all(map(_is_number, values)) and any(type(value) is float for value in values)

    @property
    def texts(self) -> tuple[str, ...]:
        """Its levels for people, no two the same: 1 and 1.0 are written out where both are there."""
        texts = [number(level) for level in self.levels]
        count = Counter(texts)
        return tuple(
            repr(level) if level is not None and count[text] > 1 else text
            for level, text in zip(self.levels, texts, strict=True)
        )


def number(level: Level) -> str:
    """A level for people: `0.001` as `1e-3`, `0.01` as it is."""
    if level is None:
        return ABSENT
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
    """The parameters of a study, in the order of its definition."""
    given = [configuration.params.keys() for configuration in configurations]
    return tuple(
        Parameter.of(name, values, absent=any(name not in names for names in given))
        for name, values in choices.items()
    )


Places = tuple[int, ...]
"""Of a point: the place of its level among those of each parameter; 1, 1.0 and true have places of their own."""


def places_of(
    parameters: Sequence[Parameter], configurations: Iterable[Configuration]
) -> Iterator[Places | None]:
    """The places of each configuration; None for one with a value that is none of its parameter's."""
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
