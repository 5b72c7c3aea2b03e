"""Tables and lines for terminals about decided claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

from pairsearch.search.claims.deciding import Decided
from pairsearch.search.claims.sentences import HEADER, RULES, lines_of, row, status
from pairsearch.search.cli.sheet import Sheet
from pairsearch.search.results.fields import Field


def sheets(title: str, decided: Sequence[Decided]) -> list[Sheet[Any]]:
    """Return a table of comparisons and a table of claims."""
    claims: list[Field[Decided]] = [
        Field("claim", lambda one: str(one.number)),
        Field("statement", lambda one: one.claim.statement, right=False, prose=True),
        Field("decision", status, right=False, prose=True),
    ]
    comparisons = [
        Field("claim", itemgetter(0)),
        *(
            Field(name, itemgetter(place), right=False, prose=place == 1)
            for place, name in enumerate(HEADER, 1)
        ),
    ]
    rows = [(str(one.number), *row(finding)) for one in decided for finding in one.findings]
    return [Sheet(comparisons, rows, "evidence"), Sheet(claims, decided, title)]


def lines(decided: Sequence[Decided], *, in_full: bool) -> Iterator[str]:
    """Yield what is missing for claims.

    Args:
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
