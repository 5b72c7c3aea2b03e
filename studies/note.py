"""Describes a study in Markdown, for people who look at its trials."""

from __future__ import annotations

import re
import string

from pairsearch.studies.configuration import shown
from pairsearch.studies.definition import Definition
from pairsearch.studies.problem import Traits

LONGEST_TITLE = 200

NOTE = """\
# {heading}

{title}A grid search by pairsearch.

| | |
|---|---|
{facts}

## Grid

| parameter | values |
|---|---|
{grid}

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


def note(definition: Definition, traits: Traits) -> str:
    """Compose the note of a study."""
    facts = {
        "problem": escaped(definition.problem),
        "settings": escaped(", ".join(f"{name} {value}" for name, value in definition.settings.items())),
        "protocol": definition.protocol,
        "data": escaped(traits.data),
        "configurations": f"{len(definition.grid)}, sampler {definition.sampler}, pruner {definition.pruner}",
        "seed": str(definition.seed),
        "definition": f"{definition.fingerprint[:12]}...",
    }
    grid = {
        escaped(name): ", ".join(
            escaped(value) if isinstance(value, str) else shown(value) for value in values
        )
        for name, values in definition.grid.choices.items()
    }
    title, metric = definition.title.strip(), traits.metrics[definition.metric]
    return NOTE.format(
        heading=escaped(definition.name),
        name=definition.name,
        title=f"{escaped(title)}\n\n" if title else "",
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items() if value),
        grid="\n".join(f"| {name} | {values} |" for name, values in grid.items()),
        metric=escaped(metric.label or definition.metric) + (" (a fraction)" if metric.percent else ""),
        better="higher" if metric.maximise else "lower",
        steps="the same mean after earlier epochs"
        if traits.together
        else "the figures of the folds, one by one",
    )


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
