"""Coverage and provenance: how much of the grid is done, what failed and why, and what computed the results."""

from __future__ import annotations

from pairsearch.search.database.states import State
from pairsearch.search.report.content import Block, Notice, Section, Table
from pairsearch.search.report.drawing import LABELS, number
from pairsearch.search.report.reading import Reading
from pairsearch.search.results.formatting import duration


def section(reading: Reading) -> Section:
    """Counts by state, reasons, and what the results were computed from and by."""
    blocks: list[Block] = [_counts(reading)]
    if reading.counts[State.PENDING] or reading.counts[State.RUNNING]:
        left = reading.counts[State.PENDING] + reading.counts[State.RUNNING]
        name = reading.study.name
        blocks.append(
            Notice(
                f"The study is unfinished: {left} of {len(reading.points)} configurations have no result yet; "
                f"`pairsearch worker {name}` goes on. What is shown is about the others."
            )
        )
    if reading.remarks:
        blocks.append(_remarks(reading))
    return Section("Coverage", tuple(blocks))


def _counts(reading: Reading) -> Table:
    states = list(State)
    return Table(
        f"Configurations by state; the ledger holds each of the {len(reading.points)} once. "
        f"They were claimed {reading.claims} times, {reading.errors} attempts ended in an exception, and "
        f"{reading.superseded} results came after their lease was lost and count nowhere.",
        ("configurations", *(state.value for state in states), "covered"),
        (
            (
                str(len(reading.points)),
                *(str(reading.counts[state]) for state in states),
                f"{100 * reading.covered / len(reading.points):.1f} %" if reading.points else "–",
            ),
        ),
        labels=0,
    )


def _remarks(reading: Reading) -> Table:
    more = [
        f"{left} more {state.value}"
        for state in (State.FAILED, State.DIVERGED, State.PRUNED)
        if (
            left := reading.counts[state] - sum(r.configurations for r in reading.remarks if r.state == state)
        )
    ]
    return Table(
        "Why configurations failed, diverged or were pruned"
        + (f"; {', '.join(more)} for rarer reasons." if more else "."),
        ("state", "reason", "for example", "configurations"),
        tuple(
            (remark.state.value, remark.reason, remark.example, str(remark.configurations))
            for remark in reading.remarks
        ),
        labels=3,
    )


def provenance(reading: Reading) -> Section:
    """What the results depend on, and what computed them."""
    study, definition = reading.study, reading.study.definition
    validation = (
        f", {definition.validation_size} of them for validation" if definition.validation_size else ""
    )
    grid = "; ".join(
        f"{LABELS[name]} {', '.join(number(value) for value in values)}"
        for name, values in study.choices.items()
    )
    facts = (
        ("title", definition.title),
        ("architecture, optimiser", f"{definition.architecture}, {definition.optimiser}"),
        (
            "protocol",
            f"{definition.protocol}, {definition.folds} folds of {definition.sample_size} pairs{validation}, "
            f"{definition.epochs} epochs, seed {definition.seed}",
        ),
        ("metric", f"mean {definition.metric} over folds after the last epoch"),
        ("sampler, pruner", f"{definition.sampler}, {definition.pruner}"),
        ("grid", grid),
        ("data", study.source_name),
        ("data, SHA-256", study.source_fingerprint),
        ("definition, SHA-256", definition.fingerprint),
        ("training version", str(study.training_version)),
    )
    blocks: list[Block] = [Table("What the results depend on.", ("field", "value"), facts, labels=2)]
    if reading.origins:
        blocks.append(_origins(reading))
    return Section("Provenance", tuple(blocks))


def _origins(reading: Reading) -> Table:
    names = list(dict.fromkeys(name for origin in reading.origins for name in origin.facts))
    return Table(
        "What computed the results; a line for each program and machine.",
        ("work", *(name.replace("_", " ") for name in names), "results", "time"),
        tuple(
            (
                origin.work,
                *(origin.facts.get(name, "–") for name in names),
                str(origin.results),
                duration(origin.seconds),
            )
            for origin in reading.origins
        ),
        labels=1 + len(names),
    )
