"""The validated file of claims about studies: what is claimed, by whom, and what counts as evidence.

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
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pairsearch.studies.definition import FOLDER, Count, Number, Part, read_toml
from pairsearch.studies.errors import DefinitionError
from pairsearch.studies.grid import AnyValue, Identifier, Values
from pairsearch.studies.validation import Location, read_fields

CLAIMS_FOLDER = FOLDER / "claims"
PAPER = "paper"
"""Name of the shipped claims."""

Study = Annotated[str, Field(min_length=1)]
"""The name of a shipped study, or the path of a definition relative to the claims file."""
Studies = tuple[Study, ...]
Point = Annotated[dict[Identifier, AnyValue], Field(default_factory=dict)]
"""Values of some parameters by name; empty by default."""
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]
"""One line for people."""


class Choice(Part):
    """A configuration of a study, chosen by exactly one of `paper`, `best` and `params`."""

    study: Study | None = None
    """The study: the name of a shipped one, or the path of a definition relative to the claims file. Leave it out
    where the evidence has `studies`; the choice is then made in each of them."""
    paper: Annotated[bool, Field(strict=True)] = False
    """True for the paper's configuration, which the study's definition states under `[paper]`."""
    changed: Point
    """With `paper` only: parameters of the paper's configuration that get another value, such as
    `{ weight_decay = 0.0 }`."""
    best: Identifier | None = None
    """The finished configuration with the best mean of this figure over the folds, such as `val_loss`. The study's
    search has to be complete."""
    where: Point
    """With `best` only: the configurations that are considered are those with these values of some parameters. By
    default all are."""
    params: Point
    """The configuration itself: a value for each parameter. It need not be one of the grid's points."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.paper + (self.best is not None) + bool(self.params) != 1:
            raise ValueError("expected one of paper = true, best = FIGURE and params = {...}")
        if self.changed and not self.paper:
            raise ValueError("changed: expected with paper = true only")
        if self.where and self.best is None:
            raise ValueError("where: expected with best only")
        return self


class Evidence(Part):
    """The fields that every kind of evidence has."""

    decides: Annotated[bool, Field(strict=True)] = True
    """Whether the claim stands and falls with this evidence. False for evidence that is only reported."""
    about: Text | None = None
    """One line that is shown above the findings of this evidence, and of what follows without a line of its own: what
    is compared, and how the claim is read."""

    def choices(self) -> Iterator[tuple[str, Choice]]:
        """Yield the configurations whose rounds are evidence, each with its study."""
        return iter(())

    def grids(self) -> Iterator[str]:
        """Yield the studies whose search has to be complete."""
        for study, choice in self.choices():
            if choice.best is not None:
                yield study


class Within(Evidence):
    """Evidence about configurations that each name their study, or are chosen in each of some studies."""

    studies: Studies = ()
    """Studies in each of which the claim is made. Without them every configuration names its study."""
    configurations: ClassVar[tuple[str, ...]] = ("configuration",)

    @model_validator(mode="after")
    def _studies_fit(self) -> Self:
        if any((choice.study is None) != bool(self.studies) for choice in self._chosen()):
            raise ValueError("expected either studies, or a study in each configuration")
        return self

    def _chosen(self) -> list[Choice]:
        return [getattr(self, name) for name in self.configurations]

    def each(self) -> list[list[tuple[str, Choice]]]:
        """Return the configurations with their studies, once for each of `studies` where there are some."""
        every = self.studies or ("",)
        return [[(choice.study or study, choice) for choice in self._chosen()] for study in every]

    def choices(self) -> Iterator[tuple[str, Choice]]:
        return chain.from_iterable(self.each())


class Compare(Within):
    """A comparison of two configurations by their rounds of the final evaluation, paired by the round's number."""

    configurations = ("first", "second")
    kind: Literal["compare"]
    """Always `compare`: it tells this kind of evidence from the others."""
    figure: Identifier
    """The figure that is compared, one that rounds report, such as `test_error`."""
    first: Choice
    """The configuration that is claimed to be better, or no worse."""
    second: Choice
    """The configuration that it is compared with."""
    reads: Literal["better", "no worse"] = "better"
    """What is claimed of the first: that it is better by more than `margin`, or worse by no more than `margin`."""
    margin: Annotated[Number, Field(ge=0)] = 0.0
    """The smallest difference that counts, in the unit of the figure: 0.05 is five points of an error."""
    pooled: Annotated[bool, Field(strict=True)] = False
    """Whether the mean over `studies` decides, of which there must be several, instead of each of them."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.pooled and len(self.studies) < 2:
            raise ValueError("pooled: expected several studies")
        return self


class Effect(Evidence):
    """The effect of a parameter: each of its values is claimed to be better than the one before it, by a margin.

    Without `at` the effect is measured over the complete grid, on each fold, as the mean over all pairs of
    configurations that differ in nothing else. With `at` it is measured at one configuration, by its final rounds.
    """

    kind: Literal["effect"]
    """Always `effect`: it tells this kind of evidence from the others."""
    figure: Identifier
    """The figure that is compared: one that folds report, such as `val_error`, or with `at` one that rounds report."""
    studies: Annotated[Studies, Field(min_length=1)]
    """Studies whose grids are taken together; a point that several of them have counts for the first. With `at` only
    the first study counts."""
    parameter: Identifier
    """The parameter whose effect is asked for."""
    values: Annotated[Values, Field(min_length=2)]
    """At least two values of the parameter, each claimed to be better than the one before it."""
    where: Point
    """Without `at` only: the configurations that count are those with these values of other parameters. By default all
    do."""
    at: Choice | None = None
    """The configuration at which the parameter takes its values, by `paper` or `params` and without a study. Without it
    the effect is that over the complete grid."""
    margin: Annotated[Number, Field(ge=0)] = 0.0
    """The difference that each step has to exceed, in the unit of the figure: 0.01 is one point of an error."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.at is not None and (self.at.study is not None or self.at.best is not None):
            raise ValueError("at: expected paper = true or params = {...}, and no study")
        if self.where and self.at is not None:
            raise ValueError("where: expected over the grid only, without an at")
        return self

    def at_each(self) -> list[Choice]:
        """Return the configuration with each of the values, or nothing where the whole grid is asked about."""
        if self.at is None:
            return []
        name = "changed" if self.at.paper else "params"
        return [
            self.at.model_copy(update={name: getattr(self.at, name) | {self.parameter: value}})
            for value in self.values
        ]

    def choices(self) -> Iterator[tuple[str, Choice]]:
        return ((self.studies[0], choice) for choice in self.at_each())

    def grids(self) -> Iterator[str]:
        return iter(self.studies if self.at is None else ())


class Reaches(Within):
    """The share of a configuration's final rounds whose figure reaches a bound; a round that diverged does not."""

    kind: Literal["reaches"]
    """Always `reaches`: it tells this kind of evidence from the others."""
    figure: Identifier
    """The figure, one that rounds report, such as `train_error`."""
    configuration: Choice
    """The configuration whose rounds are counted."""
    bound: Number
    """What the figure has to be at most, or at least if it is maximised, in its own unit."""
    share: Annotated[Number, Field(gt=0, lt=1)] = 0.8
    """The claim is that at least this share of the rounds reaches the bound."""


class InSet(Within):
    """Whether a configuration may be the best of the complete grid: whether it is in the verdict's set."""

    kind: Literal["in_set"]
    """Always `in_set`: it tells this kind of evidence from the others."""
    configuration: Choice
    """The configuration that is claimed to be in the set, a finished one of the grid."""

    def choices(self) -> Iterator[tuple[str, Choice]]:
        # Folds are its evidence, and no rounds.
        return iter(())

    def grids(self) -> Iterator[str]:
        return (study for ((study, _),) in self.each())


AnyEvidence = Annotated[Compare | Effect | Reaches | InSet, Field(discriminator="kind")]


class Claim(Part):
    """One claim. It holds where all of its evidence that decides supports it."""

    statement: Text
    """What is claimed, in one line."""
    source: Text
    """Who claims it and where, such as `paper, section 4`."""
    advice: Mapping[Literal["holds", "does not hold", "undecided"], Text] = Field(default_factory=dict)
    """What a reader should do, one line for each decision (`holds`, `does not hold`, `undecided`) that needs one."""
    rounds: Count | None = None
    """Rounds of each configuration that this claim compares. Without it they are as many as the file's `rounds`."""
    evidence: Annotated[tuple[AnyEvidence, ...], Field(min_length=1)]
    """What the claim is decided by: at least one table, and at least one that decides. Its `kind` is `compare`,
    `effect`, `reaches` or `in_set`."""

    @model_validator(mode="after")
    def _decided(self) -> Self:
        if not any(one.decides for one in self.evidence):
            raise ValueError("evidence: expected at least one that decides")
        return self


class Claims(Part):
    """A claims file: claims about studies, each with the evidence that decides it."""

    title: Text = "Claims"
    """The title above the decisions, in one line."""
    rounds: Count = 30
    """Rounds of the final evaluation that each compared configuration needs. `pairsearch claims` trains those that are
    missing, and further ones do not count."""
    claim: Annotated[tuple[Claim, ...], Field(min_length=1)]
    """The claims, each a `[[claim]]` table; at least one."""

    def rounds_of(self, claim: Claim) -> int:
        """Return how many rounds a claim needs of each configuration that it compares."""
        return claim.rounds or self.rounds

    def studies(self) -> list[str]:
        """Return the studies by the names that the file gives them, in the order of their first use."""
        named: dict[str, None] = {}
        for one in (one for claim in self.claim for one in claim.evidence):
            named |= dict.fromkeys((*one.grids(), *(study for study, _ in one.choices())))
        return list(named)

    def grids(self) -> set[str]:
        """Return the studies whose search has to be complete, by the names that the file gives them."""
        return {study for claim in self.claim for one in claim.evidence for study in one.grids()}

    def only(self, number: int) -> Claims:
        """Return the file with one of its claims alone, by number from 1; raises a DefinitionError if it has fewer."""
        if number > len(self.claim):
            raise DefinitionError(f"there is no claim {number}: the file has {len(self.claim)}")
        return self.model_copy(update={"claim": self.claim[number - 1 : number]})


def find(given: str) -> Path:
    """Return the path of a claims file: of the shipped one by its name, else the path that was given."""
    return CLAIMS_FOLDER / f"{PAPER}.toml" if given == PAPER else Path(given)


def resolve(study: str, file: Path) -> str:
    """Return a study of a claims file as the STUDY argument of a command."""
    return str(file.parent / study) if study.endswith(".toml") else study


def read(path: Path) -> Claims:
    """Read the claims in a TOML file; raises a DefinitionError where it cannot be read or is not valid."""
    return parse(read_toml(path), str(path))


def parse(raw: Any, origin: str) -> Claims:
    """Validate parsed claims; raises a DefinitionError that names `origin` and the first wrong field."""
    return read_fields(Claims, raw, origin, _EXPECTED, _place)


_EXPECTED = {
    "extra_forbidden": "unknown key: remove it or mend its spelling",
    "string_pattern_mismatch": "expected a name or a line of text",
}


def _place(location: Location) -> str:
    """Where a field stands in the file, counted from 1 as people do: `claim 1, evidence 2: first.study: `."""
    found = list(location)
    numbered = []
    while len(found) > 1 and found[0] in ("claim", "evidence") and isinstance(found[1], int):
        numbered.append(f"{found[0]} {found[1] + 1}")
        # Pydantic puts the kind of evidence after its number; the file has no such level.
        found = found[3:] if found[0] == "evidence" else found[2:]
    field = ".".join(str(part) for part in found if part != "[key]")
    parts = [", ".join(numbered), field]
    return "".join(f"{part}: " for part in parts if part)
