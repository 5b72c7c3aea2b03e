"""The validated file of claims about studies: what is claimed, where, and what counts as evidence for or against it.

A claims file is TOML; `studies/claims/paper.toml` is shipped:

    rounds = 30

    [[claim]]
    statement = "Weight sharing beats both baselines."
    source = "paper, section 4"

    [[claim.evidence]]
    kind = "compare"
    figure = "test_error"
    first = { study = "ws", paper = true }
    second = { study = "b1", paper = true }

`search.claims` decides each: it holds, does not hold, or is undecided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from pairsearch.studies.definition import (
    FOLDER,
    AnyValue,
    Count,
    Identifier,
    Number,
    Part,
    Values,
    read_toml,
)
from pairsearch.studies.errors import DefinitionError

CLAIMS_FOLDER = FOLDER / "claims"
PAPER = "paper"
"""Name of the claims that are shipped."""

Study = Annotated[str, Field(min_length=1)]
"""A shipped study's name, or the path of a definition, from the folder of the claims file."""
Studies = tuple[Study, ...]
Point = Annotated[dict[Identifier, AnyValue], Field(default_factory=dict)]
"""Values of some parameters, none unless it is said."""
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]
"""One line for people."""


class Choice(Part):
    """Which configuration of a study is meant: by exactly one of `paper`, `best` and `params`."""

    study: Study | None = None
    """None where the evidence names `studies`, each of which is meant in turn."""
    paper: Annotated[bool, Field(strict=True)] = False
    """The configuration that the definition states of a paper."""
    changed: Point
    """Parameters of the paper's configuration that have another value."""
    best: Identifier | None = None
    """The finished configuration with the best mean of this figure over the folds of the search."""
    where: Point
    """Only among the configurations with these values."""
    params: Point
    """The configuration itself; it need not be of the grid."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.paper + (self.best is not None) + bool(self.params) != 1:
            raise ValueError("expected one of paper = true, best = FIGURE and params = {...}")
        if self.changed and not self.paper:
            raise ValueError("changed: expected with paper = true only")
        if self.where and self.best is None:
            raise ValueError("where: expected with best only")
        return self

    @property
    def needs_grid(self) -> bool:
        """Whether the search has to be complete."""
        return self.best is not None


class Evidence(Part):
    """What every kind of evidence has."""

    decides: Annotated[bool, Field(strict=True)] = True
    """Whether the claim stands and falls with it; otherwise it is only reported."""
    about: Text | None = None
    """A line for people: what is asked, and how it is read."""

    def choices(self) -> Iterator[tuple[str, Choice]]:
        """The configurations whose rounds are evidence, each with its study."""
        return iter(())

    def grids(self) -> Iterator[str]:
        """The studies whose search has to be complete."""
        for study, choice in self.choices():
            if choice.needs_grid:
                yield study


def _each(studies: Studies, *choices: Choice) -> Iterator[tuple[str, ...]]:
    """The study of each choice, for each of `studies` in turn where there are some."""
    for study in studies or ("",):
        yield tuple(choice.study or study for choice in choices)


def _check_studies(studies: Studies, *choices: Choice) -> None:
    if any((choice.study is None) != bool(studies) for choice in choices):
        raise ValueError("expected either studies, or a study in each configuration")


class Compare(Evidence):
    """The final rounds of two configurations, paired by round."""

    kind: Literal["compare"]
    figure: Identifier
    """Of rounds."""
    studies: Studies = ()
    """The comparison is made within each of these."""
    first: Choice
    second: Choice
    reads: Literal["better", "no worse"] = "better"
    """What is claimed of the first: it is better by more than `margin`, or worse by no more than it."""
    margin: Annotated[Number, Field(ge=0)] = 0.0
    """In the unit of the figure: 0.05 are five points of an error."""
    pooled: Annotated[bool, Field(strict=True)] = False
    """Whether the mean over `studies` decides instead of each of them."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_studies(self.studies, self.first, self.second)
        if self.pooled and len(self.studies) < 2:
            raise ValueError("pooled: expected several studies")
        return self

    def pairs(self) -> list[tuple[str, str]]:
        """The studies of first and second, of each comparison."""
        return [(first, second) for first, second in _each(self.studies, self.first, self.second)]

    def choices(self) -> Iterator[tuple[str, Choice]]:
        """Both."""
        for first, second in self.pairs():
            yield first, self.first
            yield second, self.second


class Effect(Evidence):
    """Each value of a parameter against the one before it, of which it is claimed to be better by more than `margin`.

    Over the whole grid, by the means over folds of all pairs of configurations that differ in nothing else; or at one
    configuration, by its final rounds.
    """

    kind: Literal["effect"]
    figure: Identifier
    """Of folds, or of rounds where there is an `at`."""
    studies: Annotated[Studies, Field(min_length=1)]
    """Their grids together; of several with a point, and of rounds, the first counts."""
    parameter: Identifier
    values: Annotated[Values, Field(min_length=2)]
    where: Point
    """Only over the configurations with these values of other parameters."""
    at: Choice | None = None
    """The configuration whose parameter is changed, by `paper` or `params`; None for the whole grid."""
    margin: Annotated[Number, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.at is not None and (self.at.study is not None or self.at.best is not None):
            raise ValueError("at: expected paper = true or params = {...}, and no study")
        if self.where and self.at is not None:
            raise ValueError("where: expected over the grid only, without an at")
        return self

    def at_each(self) -> list[Choice]:
        """The configurations that have the values in turn; none for the whole grid."""
        if self.at is None:
            return []
        name = "changed" if self.at.paper else "params"
        return [
            self.at.model_copy(update={name: getattr(self.at, name) | {self.parameter: value}})
            for value in self.values
        ]

    def choices(self) -> Iterator[tuple[str, Choice]]:
        """One for each value."""
        return ((self.studies[0], choice) for choice in self.at_each())

    def grids(self) -> Iterator[str]:
        """All studies, for the whole grid."""
        return iter(self.studies if self.at is None else ())


class Reaches(Evidence):
    """How many of a configuration's final rounds have a figure that reaches a bound; one that diverged does not."""

    kind: Literal["reaches"]
    figure: Identifier
    """Of rounds."""
    studies: Studies = ()
    configuration: Choice
    bound: Number
    """At most so much, of a figure that is maximised at least."""
    share: Annotated[Number, Field(gt=0, lt=1)] = 0.8
    """What is claimed: at least this share of rounds."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_studies(self.studies, self.configuration)
        return self

    def choices(self) -> Iterator[tuple[str, Choice]]:
        """One of each study."""
        return ((study, self.configuration) for (study,) in _each(self.studies, self.configuration))


class InSet(Evidence):
    """Whether a configuration may be the best of the complete grid: whether it is in the verdict's set."""

    kind: Literal["in_set"]
    studies: Studies = ()
    configuration: Choice

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_studies(self.studies, self.configuration)
        return self

    def each(self) -> list[str]:
        """The studies."""
        return [study for (study,) in _each(self.studies, self.configuration)]

    def grids(self) -> Iterator[str]:
        """All."""
        return iter(self.each())


AnyEvidence = Annotated[Compare | Effect | Reaches | InSet, Field(discriminator="kind")]


class Claim(Part):
    """One claim. It holds where all evidence that decides does."""

    statement: Text
    source: Text
    """Who says so, and where."""
    advice: Mapping[Literal["holds", "does not hold", "undecided"], Text] = Field(default_factory=dict)
    """What a reader should do, by the decision."""
    rounds: Count | None = None
    """None for as many as the file says."""
    evidence: Annotated[tuple[AnyEvidence, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _decided(self) -> Self:
        if not any(one.decides for one in self.evidence):
            raise ValueError("evidence: expected at least one that decides")
        return self


class Claims(Part):
    """A claims file."""

    title: Text = "Claims"
    rounds: Count = 30
    """Rounds of the final evaluation that a configuration has to have where it is compared."""
    claim: Annotated[tuple[Claim, ...], Field(min_length=1)]

    def rounds_of(self, claim: Claim) -> int:
        """Rounds of each configuration that a claim compares."""
        return claim.rounds or self.rounds

    def studies(self) -> list[str]:
        """The studies as the file names them, in the order in which they come."""
        evidence = [one for claim in self.claim for one in claim.evidence]
        named = (
            study for one in evidence for study in (*one.grids(), *(study for study, _ in one.choices()))
        )
        return list(dict.fromkeys(named))

    def grids(self) -> set[str]:
        """The studies whose search has to be complete, as the file names them."""
        return {study for claim in self.claim for one in claim.evidence for study in one.grids()}

    def only(self, number: int) -> Claims:
        """The file with one of its claims, by its number from 1.

        Raises:
            DefinitionError: there are not so many.
        """
        if number > len(self.claim):
            raise DefinitionError(f"there is no claim {number}: the file has {len(self.claim)}")
        return self.model_copy(update={"claim": self.claim[number - 1 : number]})


def find(given: str) -> Path:
    """The claims file of that name, the shipped one's or a path."""
    return CLAIMS_FOLDER / f"{PAPER}.toml" if given == PAPER else Path(given)


def resolve(study: str, file: Path) -> str:
    """A study of a claims file as a STUDY argument of the commands."""
    return str(file.parent / study) if study.endswith(".toml") else study


def read(path: Path) -> Claims:
    """The claims in a TOML file.

    Raises:
        DefinitionError: the file cannot be read, is not UTF-8 TOML, or does not hold valid claims.
    """
    return parse(read_toml(path), str(path))


def parse(raw: Any, origin: str) -> Claims:
    """Claims from parsed TOML or JSON.

    Raises:
        DefinitionError: naming `origin`, the first offending field, what was given and what was expected.
    """
    try:
        return Claims.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_url=False)
    first = found[0]
    # A list of which an element is invalid may count as empty: that is no further error.
    count = sum(first["loc"][: len(other["loc"])] != other["loc"] for other in found) + 1
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key: remove it or mend its spelling"
    elif first["type"] == "string_pattern_mismatch":
        message = f"expected a name or a line of text, got {first['input']!r}"
    elif first["type"] not in ("missing", "value_error", "union_tag_not_found"):
        message = f"{message}, got {first['input']!r}"
    more = "" if count == 1 else f" (and {count - 1} more)"
    raise DefinitionError(f"{origin}: {_place(first['loc'])}{message}{more}")


def _place(location: tuple[int | str, ...]) -> str:
    """Where a field stands in the file: `claim 1, evidence 2: first.study: `, counted from 1 as people do."""
    found = list(location)
    numbered = []
    while len(found) > 1 and found[0] in ("claim", "evidence") and isinstance(found[1], int):
        numbered.append(f"{found[0]} {found[1] + 1}")
        # Pydantic names the kind of evidence too.
        found = found[3:] if found[0] == "evidence" else found[2:]
    field = ".".join(str(part) for part in found if part != "[key]")
    parts = [", ".join(numbered), field]
    return "".join(f"{part}: " for part in parts if part)
