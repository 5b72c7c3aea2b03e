"""The part on claims: for each the statement, the evidence with its intervals, and the decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pairsearch.search.claims import sentences
from pairsearch.search.claims.deciding import Decided
from pairsearch.search.claims.findings import Decision, Finding
from pairsearch.search.claims.training import find_sources
from pairsearch.search.database.connection import Database
from pairsearch.search.report import drawing
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
from pairsearch.search.results.formatting import headed
from pairsearch.studies.intervals import LEVEL


def decided_part(database: Database, file: str, tell: Callable[[str], None]) -> Part:
    """Decide the claims of a file by what is there, and compose the part about them."""
    sources = find_sources(file, database)
    tell(f"deciding {len(sources.claims.claim)} claims")
    return part(sources.claims.title, sources.decide(database))


def part(title: str, decided: Sequence[Decided]) -> Part:
    """Compose the part: a table of all claims of a file, then a section for each."""
    rows = tuple(map(sentences.overview, decided))
    table = Table("Each claim with its source.", sentences.OVERVIEW, rows, labels=4)
    decisions = Section("Decisions", (table, Paragraph(sentences.RULES)))
    return Part("Claims", title, (decisions, *map(section, decided)))


def section(decided: Decided) -> Section:
    compared = f"{decided.rounds} rounds of each configuration are compared."
    rows = tuple(map(sentences.row, decided.findings))
    blocks: list[Block] = [
        Paragraph(f"{sentences.status(decided).capitalize()}. {sentences.opening(decided)}"),
        Table(f"{sentences.SIGNS} {compared}", sentences.HEADER, rows, labels=2),
        *_forest(decided),
    ]
    for group in sentences.groups(decided):
        results = tuple((finding.what, sentences.outcome(finding)) for finding in group.findings)
        blocks.append(Table(group.about, ("comparison", "what was found"), results, labels=2))
        if group.remarks:
            blocks.append(Paragraph(" ".join(group.remarks)))
    if decided.missing:
        blocks.append(Notice(f"Missing: {'; '.join(decided.missing)}."))
    return Section(f"{decided.number}. {decided.claim.statement}", tuple(blocks))


def _forest(decided: Decided) -> list[Figure]:
    """Draw each effect with its interval and threshold; an empty list if there is no effect yet."""
    groups: dict[str, list[Finding]] = {}
    for finding in decided.findings:
        if finding.effect is not None:
            groups.setdefault(headed(finding.name, finding.metric), []).append(finding)
    if not groups:
        return []
    drawn = [finding for findings in groups.values() for finding in findings]
    figure = Figure(
        f"claim-{decided.number}",
        "Effects with their intervals",
        f"Points are effects, lines their {100 * LEVEL:g} % intervals, short upright strokes what an effect is claimed "
        "to be above; hollow points are reported and decide nothing. To the right is better for the claim.",
        f"Forest plot of {len(drawn)} effects. {'; '.join(map(_spoken, drawn))}",
        tuple(View(header, _view(header, findings)) for header, findings in groups.items()),
        height=150 + 30 * max(map(len, groups.values())),
        least_width=640,
        choice="Figure",
    )
    return [figure]


def _spoken(finding: Finding) -> str:
    what, _, effect, claimed, _, says = sentences.row(finding)
    return f"{what}: {effect}, claimed {claimed}, {says}"


def _view(header: str, findings: Sequence[Finding]) -> Spec:
    names = drawing.labelled([drawing.shortened(finding.what, 60) for finding in findings])
    return drawing.chart(
        effects(dict(enumerate(findings))),
        xaxis=drawing.axis(f"effect, {header}", zeroline=True, zerolinecolor=drawing.MUTED),
        yaxis=drawing.axis(range=[len(findings) - 0.4, -0.6], **names),
    )


def effects(
    findings: Mapping[int, Finding], undecided: str = drawing.MUTED, bounds: str = drawing.INK
) -> list[Spec]:
    """Return the points of a forest plot with their intervals, and strokes at what the effects are claimed to exceed.

    All findings have an effect; their keys are places on the vertical axis.
    """
    colours = {
        Decision.HOLDS: drawing.BLUE,
        Decision.FAILS: drawing.VERMILLION,
        Decision.UNDECIDED: undecided,
    }
    chosen = {
        decision: {place: one for place, one in findings.items() if one.decision is decision}
        for decision in colours
    }
    data = [_points(decision, colours[decision], some) for decision, some in chosen.items() if some]
    bounded = {place: one for place, one in findings.items() if one.threshold is not None}
    if bounded:
        data.append(
            drawing.scatter(
                "markers",
                [drawing.scaled(one.metric, one.threshold or 0.0) for one in bounded.values()],
                list(bounded),
                name="claimed",
                marker={"symbol": "line-ns-open", "size": 18, "color": bounds, "line": {"width": 2}},
                hovertemplate="claimed: beyond %{x:.4g}<extra></extra>",
            )
        )
    return data


def _points(decision: Decision, colour: str, findings: Mapping[int, Finding]) -> Spec:
    measured = [(one.metric, one.effect) for one in findings.values() if one.effect is not None]
    above = [drawing.scaled(metric, effect.high - effect.estimate) for metric, effect in measured]
    below = [drawing.scaled(metric, effect.estimate - effect.low) for metric, effect in measured]
    symbols = ["circle" if one.decides else "circle-open" for one in findings.values()]
    return drawing.scatter(
        "markers",
        [drawing.scaled(metric, effect.estimate) for metric, effect in measured],
        list(findings),
        name=str(decision),
        error_x=drawing.whiskers(above, below, color=colour),
        marker={"size": 9, "color": colour, "symbol": symbols},
        text=[sentences.with_interval(metric, effect) for metric, effect in measured],
        hovertemplate="%{text}<extra></extra>",
    )
