"""The sections on coverage (how much of the grid is done, what failed and why) and on provenance of the results."""

from __future__ import annotations

import json

from pairsearch.search.database.states import State
from pairsearch.search.report.content import Block, Notice, Section, Table
from pairsearch.search.report.parameters import number
from pairsearch.search.report.reading import Origin, Reading, Remark
from pairsearch.search.results.fields import Field
from pairsearch.search.results.formatting import DASH, duration, label, words
from pairsearch.studies.grid import Table as GridTable


def section(reading: Reading) -> Section:
    blocks: list[Block] = [_counts(reading)]
    if reading.counts[State.PENDING] or reading.counts[State.RUNNING]:
        left = reading.counts[State.PENDING] + reading.counts[State.RUNNING]
        name = reading.study.name
        folds = "" if reading.folds is None else ", {} of {} folds are trained".format(*reading.folds)
        blocks.append(
            Notice(
                f"The study is unfinished: {left} of {len(reading.points)} configurations have no result yet{folds}; "
                f"`pairsearch worker {name}` goes on. What is shown is about the others."
            )
        )
    if reading.remarks:
        blocks.append(_remarks(reading))
    return Section("Coverage", tuple(blocks))


def _counts(reading: Reading) -> Table:
    # Results that were trained elsewhere and loaded do not say how often they were claimed.
    attempts = (
        f" They were claimed {reading.claims} times, {reading.errors} attempts ended in an exception, and "
        f"{reading.superseded} results came after their lease was lost and count nowhere."
        if reading.claims
        else ""
    )
    every = len(reading.points)
    counts = [("configurations", str(every)), *((state.value, str(reading.counts[state])) for state in State)]
    share = f"{100 * reading.covered / every:.1f} %" if every else DASH
    header, cells = zip(*counts, ("covered", share), strict=True)
    caption = f"Configurations by state; the ledger holds each of the {every} once.{attempts}"
    return Table(caption, header, (cells,), labels=0)


def _remarks(reading: Reading) -> Table:
    more = [
        f"{left} more {state.value}"
        for state in (State.FAILED, State.DIVERGED, State.PRUNED)
        if (
            left := reading.counts[state] - sum(r.configurations for r in reading.remarks if r.state == state)
        )
    ]
    fields: list[Field[Remark]] = [
        Field("state", lambda one: one.state.value, right=False),
        Field("reason", lambda one: one.reason, right=False),
        Field("for example", lambda one: one.example, right=False),
        Field("configurations", lambda one: str(one.configurations)),
    ]
    rarer = f"; {', '.join(more)} for rarer reasons." if more else "."
    return Table.of(f"Why configurations failed, diverged or were pruned{rarer}", fields, reading.remarks)


def provenance(reading: Reading) -> Section:
    study, definition = reading.study, reading.study.definition
    traits, tables = study.traits, definition.grid.root
    facts = (
        ("title", definition.title),
        ("problem", f"{definition.problem}, version {traits.version}"),
        *((words(name), _text(value)) for name, value in definition.settings.items()),
        ("protocol", f"{definition.protocol}, seed {definition.seed}"),
        (
            "metric",
            f"mean {label(definition.metric, study.metric)} over folds after the last epoch, "
            f"{'highest' if study.metric.maximise else 'lowest'} first",
        ),
        ("sampler, pruner", f"{definition.sampler}, {definition.pruner}"),
        *(
            (f"grid {place}" if len(tables) > 1 else "grid", _grid(table))
            for place, table in enumerate(tables, start=1)
        ),
        *((words(name), value) for name, value in traits.remember.items()),
        ("data, SHA-256", traits.fingerprint or "not looked at"),
        *((f"{name}, SHA-256", digest) for name, digest in traits.files.items()),
        ("definition, SHA-256", definition.fingerprint),
    )
    blocks: list[Block] = [Table("What the results depend on.", ("field", "value"), facts, labels=2)]
    if reading.origins:
        blocks.append(_origins(reading))
    return Section("Provenance", tuple(blocks))


def _grid(table: GridTable) -> str:
    values = [f"{words(name)} {', '.join(map(number, values))}" for name, values in table.root.items()]
    return "; ".join([*values, *(f"where {condition}" for condition in table.where)])


def _text(setting: object) -> str:
    return setting if isinstance(setting, str) else json.dumps(setting)


def _origins(reading: Reading) -> Table:
    names = dict.fromkeys(name for origin in reading.origins for name in origin.facts)

    def fact(name: str) -> Field[Origin]:
        return Field(name.replace("_", " "), lambda one: one.facts.get(name, DASH), right=False)

    fields: list[Field[Origin]] = [
        Field("work", lambda one: one.work, right=False),
        *map(fact, names),
        Field("results", lambda one: str(one.results)),
        Field("time", lambda one: duration(one.seconds)),
    ]
    return Table.of(
        "What computed the results; a line for each program and machine.", fields, reading.origins
    )
