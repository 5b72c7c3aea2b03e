"""Describes a study in optuna-dashboard: by attributes, and by a note in Markdown.

The note is stored in the format of `optuna_dashboard.save_note`, so that studies can be created without
optuna-dashboard: in the study's system attributes, with the text in pieces under `dashboard:note_str:N` and an
increasing version under `dashboard:note_ver`. A note that a person has edited is left as it is.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from pairsearch.search.ledger.outcome import steps_are_epochs
from pairsearch.search.mirror.tables import study_notes, study_system, write_notes
from pairsearch.studies.configuration import shown
from pairsearch.studies.definition import Definition
from pairsearch.studies.problem import Traits

NOTE_VERSION = "dashboard:note_ver"
NOTE_PIECE = "dashboard:note_str:"
# The dashboard's name for the axis of values. Optuna's metric names would also rename the column of its data frames.
OBJECTIVE_NAMES = "dashboard:objective_names"
# optuna-dashboard's limit for one piece of a note, in characters.
PIECE_LENGTH = 2045
# SHA-256 of the last note that was written here; a note with another digest was edited by a person.
OURS = "pairsearch:note_sha256"
LONGEST_TITLE = 200

TRIALS = """\
## How to read it

* The **value** of a trial is the mean {metric} over the folds after the last epoch; {better} is better. The
  intermediate values are {steps}.
* **Complete**: a result. **Pruned**: a figure became NaN or infinite (diverged), or the pruner stopped it; that is a
  result too. **Fail**: an attempt without a result, of a worker that was stopped or died or raised an exception; the
  configuration was tried again, or the reason is in `failed_reason`.
* User attributes of a trial: `configuration` is its key in pairsearch's tables, `folds` has the figures of each fold,
  `provenance` the versions and the processor that computed it.

pairsearch's own tables decide what is searched: look here, but do not add, change or delete trials. All figures:
`pairsearch export {name}`; the verdict over fresh rounds: `pairsearch evaluate {name}`.
"""


def describe_study(connection: Connection, study_id: int, definition: Definition, traits: Traits) -> None:
    """Write the attributes and the note of a study, or update them after the definition has changed."""
    write_notes(connection, study_notes, study_id, user_attributes(definition, traits))
    known = read_system(connection, study_id)
    write_notes(connection, study_system, study_id, system_attributes(known, definition, traits))


def user_attributes(definition: Definition, traits: Traits) -> dict[str, Any]:
    """Return what is said about a study in its user attributes."""
    return {
        "title": definition.title,
        "problem": definition.problem,
        "protocol": definition.protocol,
        "metric": f"mean {definition.metric} over folds after the last epoch",
        "data": traits.data,
        "definition": definition.fingerprint[:12],
    }


def system_attributes(known: Mapping[str, Any], definition: Definition, traits: Traits) -> dict[str, Any]:
    """Return the system attributes by which optuna-dashboard names the metric and shows the note.

    Args:
        known: those that the study has.
    """
    return {OBJECTIVE_NAMES: [definition.metric]} | _changed_note(known, note(definition, traits))


def read_system(connection: Connection, study_id: int) -> dict[str, Any]:
    """Return the system attributes of a study by key."""
    c = study_system.c
    rows = connection.execute(select(c.key, c.value_json).where(c.study_id == study_id))
    return {row.key: json.loads(row.value_json) for row in rows}


def note(definition: Definition, traits: Traits) -> str:
    """Compose the note of a study, in Markdown."""
    lines = [f"# {escaped(definition.name)}", ""]
    if definition.title.strip():
        lines += [escaped(definition.title), ""]
    settings = ", ".join(f"{name} {value}" for name, value in definition.settings.items())
    rows = {
        "problem": escaped(definition.problem),
        "settings": escaped(settings),
        "protocol": definition.protocol,
        "data": escaped(traits.data),
        "configurations": f"{len(definition.grid)}, sampler {definition.sampler}, pruner {definition.pruner}",
        "seed": str(definition.seed),
        "definition": f"{definition.fingerprint[:12]}...",
    }
    lines += [
        "A grid search by pairsearch.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items() if value),
        "",
        "## Grid",
        "",
        "| parameter | values |",
        "|---|---|",
    ]
    lines += [
        f"| {escaped(name)} | {', '.join(escaped(v) if isinstance(v, str) else shown(v) for v in values)} |"
        for name, values in definition.grid.choices.items()
    ]
    lines += [f"| where | {escaped(text)} |" for table in definition.grid.root for text in table.where]
    metric = traits.metrics[definition.metric]
    reading = TRIALS.format(
        metric=escaped(metric.label or definition.metric) + (" (a fraction)" if metric.percent else ""),
        better="higher" if metric.maximise else "lower",
        steps="the same mean after earlier epochs"
        if steps_are_epochs(definition, traits)
        else "the figures of the folds, one by one",
        name=definition.name,
    )
    return "\n".join([*lines, "", reading])


def escaped(text: str) -> str:
    """Escape a text for Markdown: one line without markup, HTML, links or control characters, shortened if long."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    if len(line) > LONGEST_TITLE:
        line = line[: LONGEST_TITLE - 1] + "…"
    if re.search(r"://|www\.|@", line, re.IGNORECASE):
        # Addresses become links even if every character is escaped, except inside code.
        fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
        return f"{fence} {line} {fence}"
    return re.sub(f"([{re.escape(string.punctuation)}])", r"\\\1", line)


def stored_note(attributes: Mapping[str, Any]) -> str:
    """Return the note in a study's system attributes; empty if there is none."""
    pieces = sum(key.startswith(NOTE_PIECE) for key in attributes)
    return "".join(str(attributes.get(f"{NOTE_PIECE}{index}", "")) for index in range(pieces))


def _changed_note(attributes: Mapping[str, Any], body: str) -> dict[str, Any]:
    """Return the attributes of a note that is new or ours; none where it is the same or a person edited it."""
    before = stored_note(attributes)
    if before == body or (before and attributes.get(OURS) != _digest(before)):
        return {}
    pieces = [body[start : start + PIECE_LENGTH] for start in range(0, len(body), PIECE_LENGTH)]
    old = sum(key.startswith(NOTE_PIECE) for key in attributes)
    pieces += [""] * (old - len(pieces))
    return {
        OURS: _digest(body),
        **{f"{NOTE_PIECE}{index}": piece for index, piece in enumerate(pieces)},
        NOTE_VERSION: int(attributes.get(NOTE_VERSION, 0)) + 1,
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
