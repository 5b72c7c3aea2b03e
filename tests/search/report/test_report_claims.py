"""What the report shows of a decided claim: effects, intervals, bounds, decisions, and what is missing."""

from __future__ import annotations

from dataclasses import replace

from pairsearch.search.claims.deciding import Decided
from pairsearch.search.claims.findings import Decision, Finding, Weighed
from pairsearch.search.claims.sentences import opening, row, status
from pairsearch.search.report.claims import part, section
from pairsearch.search.report.content import Figure, Notice, Paragraph, Table
from pairsearch.studies.claims_file import parse
from pairsearch.studies.intervals import Interval
from pairsearch.studies.problem import Metric

HOLDS, FAILS, UNDECIDED = Decision
ERROR, LOSS = Metric("error", percent=True), Metric("log loss")


def finding(what: str, effect: Interval | None, decision: Decision, **more: object) -> Finding:
    fields = {"name": "error", "metric": ERROR, "threshold": 0.0, "n": 3, "unit": "rounds", "decides": True}
    return Finding(what=what, effect=effect, decision=decision, **(fields | more))


BETTER = finding("a against b", Interval(0.03, 0.01, 0.04), HOLDS)
WORSE = finding("a against <c>", Interval(-0.02, -0.05, -0.01), FAILS, threshold=0.005)
OPEN = finding("a against d", Interval(0.01, -0.01, 0.02), UNDECIDED, threshold=None, decides=False)
OTHER = finding("a against e", Interval(0.5, 0.25, 1.0), HOLDS, name="loss", metric=LOSS)
NOTHING = finding("a against f", None, UNDECIDED, missing=("rounds of f",))


def claim(*findings: Finding, remark: str = "Far apart.") -> Decided:
    sides = {side: {"study": "mine", "params": {"x": x}} for x, side in enumerate(("first", "second"))}
    evidence = {"kind": "compare", "figure": "error", "about": "Is it so?"} | sides
    raw = {"statement": "So it is.", "source": "ours", "evidence": [evidence]}
    (parsed,) = parse({"rounds": 3, "claim": [raw]}, "claims").claim
    weighed = Weighed(parsed.evidence[0], findings, (remark,) if remark else ())
    return Decided(2, parsed, 3, (weighed,), UNDECIDED)


def test_a_claim_is_shown_with_its_evidence_and_what_is_missing() -> None:
    given = claim(BETTER, WORSE, NOTHING)
    shown = section(given)
    assert shown.title == "2. So it is."
    said, comparisons, forest, evidence, remark, missing = shown.blocks
    assert said == Paragraph(f"Undecided (provisional). {opening(given)}")
    assert isinstance(comparisons, Table)
    assert comparisons.rows == (row(BETTER), row(WORSE), row(NOTHING))
    assert isinstance(forest, Figure)
    assert forest.name == "claim-2"
    assert isinstance(evidence, Table)
    assert (evidence.caption, [one[0] for one in evidence.rows]) == (
        "Is it so?",
        ["a against b", "a against <c>", "a against f"],
    )
    assert (remark, missing) == (Paragraph("Far apart."), Notice("Missing: rounds of f."))
    # Nothing is shown of what there is not.
    bare = section(claim(NOTHING, remark=""))
    assert [type(block) for block in bare.blocks] == [Paragraph, Table, Table, Notice]
    whole = section(claim(BETTER, remark=""))
    assert [type(block) for block in whole.blocks] == [Paragraph, Table, Figure, Table]


def test_all_claims_stand_in_one_table_before_their_sections() -> None:
    given = [claim(BETTER), claim(NOTHING)]
    shown = part("Claims of this test", given)
    decisions, *sections = shown.sections
    table = decisions.blocks[0]
    assert isinstance(table, Table)
    assert table.rows == (
        ("2", "So it is.", "ours", status(given[0])),
        ("2", "So it is.", "ours", status(given[1])),
    )
    assert sections == [section(one) for one in given]


def test_effects_are_drawn_with_their_intervals_and_bounds_a_view_for_each_figure() -> None:
    forest = section(claim(BETTER, WORSE, OPEN, OTHER, NOTHING)).blocks[2]
    assert isinstance(forest, Figure)
    assert [view.label for view in forest.views] == ["error, %", "log loss"]
    errors, losses = (view.spec for view in forest.views)
    points = {trace["name"]: trace for trace in errors["data"]}
    assert {name: (trace["x"], trace["y"]) for name, trace in points.items()} == {
        "holds": ([3.0], [0]),
        "does not hold": ([-2.0], [1]),
        "undecided": ([1.0], [2]),
        "claimed": ([0.0, 0.5], [0, 1]),
    }
    reach = {name: trace["error_x"] for name, trace in points.items() if name != "claimed"}
    assert {name: (one["arrayminus"], one["array"]) for name, one in reach.items()} == {
        "holds": ([2.0], [1.0]),
        "does not hold": ([3.0], [1.0]),
        "undecided": ([2.0], [1.0]),
    }
    assert [points[name]["marker"]["symbol"] for name in ("holds", "undecided")] == [
        ["circle"],
        ["circle-open"],
    ]
    assert points["does not hold"]["text"] == ["-2.00 (-5.00 to -1.00)"]
    axis = errors["layout"]["yaxis"]
    assert axis["ticktext"] == ["a against b", "a against &lt;c&gt;", "a against d"]
    assert axis["tickvals"] == [0, 1, 2]
    # The first is above the others.
    low, high = axis["range"]
    assert low > 2
    assert high < 0
    (point, bound) = losses["data"]
    assert (point["name"], point["x"], bound["x"]) == ("holds", [0.5], [0.0])
    assert forest.alt == (
        "Forest plot of 4 effects. "
        + "; ".join(
            f"{what}: {effect}, claimed {claimed}, {says}"
            for what, _, effect, claimed, _, says in map(row, (BETTER, WORSE, OPEN, OTHER))
        )
    )
    assert [spec["layout"]["xaxis"]["title"]["text"] for spec in (errors, losses)] == [
        "effect, error, %", "effect, log loss",
    ]  # fmt: skip
    assert bound["y"] == [0]
    assert (point["hovertemplate"], bound["hovertemplate"]) == (
        "%{text}<extra></extra>", "claimed: beyond %{x:.4g}<extra></extra>",
    )  # fmt: skip


def test_a_long_comparison_is_shortened_and_without_bounds_none_are_drawn() -> None:
    long, fits = (replace(OPEN, what="x" * count) for count in (61, 60))
    forest = section(claim(long, fits)).blocks[2]
    assert isinstance(forest, Figure)
    spec = forest.views[0].spec
    assert spec["layout"]["yaxis"]["ticktext"] == ["x" * 59 + "…", "x" * 60]
    assert [trace["name"] for trace in spec["data"]] == ["undecided"]
    assert spec["layout"]["yaxis"]["range"] == [1.6, -0.6]
