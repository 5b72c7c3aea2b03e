"""The part on claims: for each the statement, the evidence with its intervals, and the decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pairsearch.search.claims.deciding import Decided
from pairsearch.search.claims.decisions import Decision
from pairsearch.search.claims.findings import Finding
from pairsearch.search.claims.sentences import (
    HEADER,
    OVERVIEW,
    RULES,
    SIGNS,
    Group,
    claimed,
    groups,
    opening,
    outcome,
    overview,
    row,
    status,
    with_interval,
)
from pairsearch.search.claims.training import find_sources
from pairsearch.search.database.connection import Database
from pairsearch.search.report.content import (
    Block,
    Figure,
    Notice,
    Paragraph,
    Part,
    Section,
    Spec,
    Table,
    View,
)
from pairsearch.search.report.drawing import (
    BLUE,
    INK,
    MUTED,
    VERMILLION,
    axis,
    chart,
    labelled,
    scaled,
    scatter,
    shortened,
    whiskers,
)
from pairsearch.search.results.formatting import headed
from pairsearch.studies.intervals import LEVEL


def decided_part(database: Database, file: str, tell: Callable[[str], None]) -> Part:
    """Decide the claims of a file by what is there, and compose the part about them."""
    sources = find_sources(file, database)
    tell(f"deciding {len(sources.claims.claim)} claims")
    return part(sources.claims.title, sources.decide(database))


def part(title: str, decided: Sequence[Decided]) -> Part:
    """Compose the part: a table of all claims of a file, then a section for each."""
    table = Table("Each claim with its source.", OVERVIEW, tuple(map(overview, decided)), labels=4)
    return Part(
        "Claims", title, (Section("Decisions", (table, Paragraph(RULES))), *(section(one) for one in decided))
    )


def section(decided: Decided) -> Section:
    table = Table(
        f"{SIGNS} {decided.rounds} rounds of each configuration are compared.",
        HEADER,
        tuple(row(finding) for finding in decided.findings),
        labels=2,
    )
    drawn = _forest(decided)
    return Section(
        f"{decided.number}. {decided.claim.statement}",
        (
            Paragraph(f"{status(decided).capitalize()}. {opening(decided)}"),
            table,
            *([] if drawn is None else [drawn]),
            *(block for group in groups(decided) for block in _evidence(group)),
            *([Notice(f"Missing: {'; '.join(decided.missing)}.")] if decided.missing else []),
        ),
    )


def _evidence(group: Group) -> Iterator[Block]:
    yield Table(
        group.about,
        ("comparison", "what was found"),
        tuple((finding.what, outcome(finding)) for finding in group.findings),
        labels=2,
    )
    if group.remarks:
        yield Paragraph(" ".join(group.remarks))


def _forest(decided: Decided) -> Figure | None:
    """Draw each effect with its interval and threshold; None if there is no effect yet."""
    groups: dict[str, list[Finding]] = {}
    for finding in decided.findings:
        if finding.effect is not None:
            groups.setdefault(headed(finding.name, finding.metric), []).append(finding)
    if not groups:
        return None
    most = max(map(len, groups.values()))
    return Figure(
        f"claim-{decided.number}",
        "Effects with their intervals",
        f"Points are effects, lines their {100 * LEVEL:g} % intervals, short upright strokes what an effect is claimed "
        "to be above; hollow points are reported and decide nothing. To the right is better for the claim.",
        f"Forest plot of {sum(map(len, groups.values()))} effects. "
        + "; ".join(_spoken(finding) for found in groups.values() for finding in found),
        tuple(View(header, _view(header, found)) for header, found in groups.items()),
        height=150 + 30 * most,
        least_width=640,
        choice="Figure",
    )


def _spoken(finding: Finding) -> str:
    cells = row(finding)
    return f"{cells[0]}: {cells[2]}, claimed {claimed(finding)}, {cells[-1]}"


def _view(header: str, findings: Sequence[Finding]) -> Spec:
    names = labelled([shortened(finding.what, 60) for finding in findings])
    return chart(
        effects(dict(enumerate(findings))),
        xaxis=axis(f"effect, {header}", zeroline=True, zerolinecolor=MUTED),
        yaxis=axis(range=[len(findings) - 0.4, -0.6], **names),
    )


def effects(findings: Mapping[int, Finding], undecided: str = MUTED, bounds: str = INK) -> list[Spec]:
    """Return the points of a forest plot with their intervals, and strokes at what the effects are claimed to exceed.

    Args:
        findings: those with an effect, by their place on the vertical axis.
    """
    colours = {Decision.HOLDS: BLUE, Decision.FAILS: VERMILLION, Decision.UNDECIDED: undecided}
    data: list[Spec] = []
    for decision, colour in colours.items():
        chosen = {place: one for place, one in findings.items() if one.decision is decision}
        if chosen:
            data.append(_points(decision, colour, chosen))
    bounded = [(place, one) for place, one in findings.items() if one.threshold is not None]
    if bounded:
        data.append(
            scatter(
                "markers",
                [scaled(one.metric, one.threshold or 0.0) for _, one in bounded],
                [place for place, _ in bounded],
                name="claimed",
                marker={"symbol": "line-ns-open", "size": 18, "color": bounds, "line": {"width": 2}},
                hovertemplate="claimed: beyond %{x:.4g}<extra></extra>",
            )
        )
    return data


def _points(decision: Decision, colour: str, findings: Mapping[int, Finding]) -> Spec:
    measured = [(one.metric, one.effect) for one in findings.values() if one.effect is not None]
    return scatter(
        "markers",
        [scaled(metric, effect.estimate) for metric, effect in measured],
        list(findings),
        name=str(decision),
        error_x=whiskers(
            [scaled(metric, effect.high - effect.estimate) for metric, effect in measured],
            [scaled(metric, effect.estimate - effect.low) for metric, effect in measured],
            color=colour,
        ),
        marker={
            "size": 9,
            "color": colour,
            "symbol": ["circle" if one.decides else "circle-open" for one in findings.values()],
        },
        text=[with_interval(metric, effect) for metric, effect in measured],
        hovertemplate="%{text}<extra></extra>",
    )
