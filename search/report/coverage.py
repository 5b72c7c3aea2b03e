"""The sections on coverage (how much of the grid is done, what failed and why) and on provenance of the results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pairsearch.search.database.states import State
from pairsearch.search.report.content import Block, Notice, Section, Table
from pairsearch.search.report.parameters import number
from pairsearch.search.report.reading import Origin, Reading, Remark
from pairsearch.search.results.fields import Field
from pairsearch.search.results.formatting import DASH, duration, label, words
from pairsearch.studies.configuration import Value


def section(reading: Reading) -> Section:
    blocks: list[Block] = [_counts(reading)]
    if left := reading.counts[State.PENDING] + reading.counts[State.RUNNING]:
        folds = "" if reading.folds is None else ", {} of {} folds are trained".format(*reading.folds)
        blocks.append(
            Notice(
                f"The study is unfinished: {left} of {len(reading.points)} configurations have no result yet{folds}; "
                f"`pairsearch worker {reading.study.name}` goes on. What is shown is about the others."
            )
        )
    if reading.remarks:
        blocks.append(_remarks(reading))
    return Section("Coverage", tuple(blocks))


def _counts(reading: Reading) -> Table:
    every = len(reading.points)
    counts = {state.value: str(count) for state, count in reading.counts.items()}
    cells = (
        {"configurations": str(every)}
        | counts
        | {"covered": f"{100 * reading.covered / every:.1f} %" if every else DASH}
    )
    caption = f"Configurations by state; the ledger holds each of the {every} once."
    # Results that were trained elsewhere and loaded do not say how often they were claimed.
    if reading.claims:
        caption += (
            f" They were claimed {reading.claims} times, {reading.errors} attempts ended in an exception, and "
            f"{reading.superseded} results came after their lease was lost and count nowhere."
        )
    return Table(caption, tuple(cells), (tuple(cells.values()),), labels=0)


def _remarks(reading: Reading) -> Table:
    more = dict(reading.counts)
    for remark in reading.remarks:
        more[remark.state] -= remark.configurations
    unsaid = [
        f"{more[one]} more {one.value}" for one in (State.FAILED, State.DIVERGED, State.PRUNED) if more[one]
    ]
    rarer = f"; {', '.join(unsaid)} for rarer reasons." if unsaid else "."
    fields: list[Field[Remark]] = [
        Field("state", lambda one: one.state.value, right=False),
        Field("reason", lambda one: one.reason, right=False),
        Field("for example", lambda one: one.example, right=False),
        Field("configurations", lambda one: str(one.configurations)),
    ]
    return Table.of(f"Why configurations failed, diverged or were pruned{rarer}", fields, reading.remarks)


def provenance(reading: Reading) -> Section:
    study, definition = reading.study, reading.study.definition
    traits, tables, settings = study.traits, definition.grid.root, definition.settings.items()
    facts = (
        ("title", definition.title),
        ("problem", f"{definition.problem}, version {traits.version}"),
        *((words(name), value if isinstance(value, str) else json.dumps(value)) for name, value in settings),
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


def _grid(table: Mapping[str, Sequence[Value]]) -> str:
    return "; ".join(f"{words(name)} {', '.join(map(number, values))}" for name, values in table.items())


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
    caption = "What computed the results; a line for each program and machine."
    return Table.of(caption, fields, reading.origins)
