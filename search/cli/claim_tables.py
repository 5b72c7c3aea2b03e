"""Tables and lines for terminals about decided claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pairsearch.search.claims.deciding import Decided
from pairsearch.search.claims.sentences import HEADER, RULES, lines_of, row, status
from pairsearch.search.cli.sheet import Field, Sheet


def sheets(title: str, decided: Sequence[Decided]) -> list[Sheet]:
    """Return a table of comparisons and a table of claims."""
    number, prose = Field("claim"), [True, *(False for _ in HEADER[1:])]
    claims = Sheet(
        [number, Field("statement", right=False, prose=True), Field("decision", right=False, prose=True)],
        [[str(one.number), one.claim.statement, status(one)] for one in decided],
        title,
    )
    comparisons = Sheet(
        [number, *(Field(name, right=False, prose=long) for name, long in zip(HEADER, prose, strict=True))],
        [[str(one.number), *row(finding)] for one in decided for finding in one.findings],
        "evidence",
    )
    return [comparisons, claims]


def lines(decided: Sequence[Decided], *, in_full: bool) -> Iterator[str]:
    """Yield what is missing for claims.

    Args:
        decided: the claims.
        in_full: whether to begin with all evidence in sentences, and the rules of the decisions.
    """
    if in_full:
        for one in decided:
            yield from lines_of(one)
        yield RULES
    missing: dict[str, list[str]] = {}
    for one in decided:
        for reason in one.missing:
            missing.setdefault(reason, []).append(str(one.number))
    for reason, numbers in missing.items():
        yield f"missing for claim {', '.join(numbers)}: {reason}"
