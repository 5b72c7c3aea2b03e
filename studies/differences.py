"""What differs between two definitions, or two problems, so that results of both would not belong to one study."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pairsearch.studies.configuration import describe, shown
from pairsearch.studies.definition import Definition
from pairsearch.studies.problem import Traits


def other_results(stored: Definition, given: Definition) -> Iterator[str]:
    """Say what the results of two definitions depend on that differs, with both values; a grid may grow."""
    if stored.grid != given.grid:
        yield from _lost_points(stored, given)
    there, here = stored.results_depend_on, given.results_depend_on
    for name in sorted(there.keys() | here.keys()):
        # Compared as JSON texts, in which 1, 1.0 and true differ.
        if json.dumps(there.get(name), sort_keys=True) != json.dumps(here.get(name), sort_keys=True):
            yield f"{name} is {there.get(name)!r} there and {here.get(name)!r} here"


def _lost_points(stored: Definition, given: Definition) -> list[str]:
    """Say which values, or else which points, the given grid lacks."""
    dropped = {
        name: [value for value in values if repr(value) not in map(repr, given.grid.choices.get(name, ()))]
        for name, values in stored.grid.choices.items()
    }
    lost = [
        f"grid.{name} no longer has {', '.join(map(shown, values))} (a grid only grows)"
        for name, values in dropped.items()
        if values
    ]
    points = set(given.grid.points())
    if not lost and (left := [point for point in stored.grid.points() if point not in points]):
        example = describe(left[0].params)
        return [f"grid no longer has {len(left)} points, for example {example} (a grid only grows)"]
    return lost


def other_problem(stored: Traits, given: Traits, *, changed_files: bool) -> Iterator[str]:
    """Say how the data or the problem differ, whose files may differ if `changed_files`."""
    if stored.fingerprint != given.fingerprint:
        yield f"its data are {stored.data} and those given are {given.data}"
    if stored.version != given.version:
        yield f"its problem's version is {stored.version}, that of the problem here {given.version}"
    if not changed_files:
        for name in sorted(stored.files.keys() | given.files.keys()):
            there, here = stored.files.get(name, "absent"), given.files.get(name, "absent")
            if there != here:
                yield f"{name} is {there} there and {here} here (allow_changed_files = true lets results mix)"
    for name in sorted(stored.metrics.keys() & given.metrics.keys()):
        if stored.metrics[name].maximise != given.metrics[name].maximise:
            yield f"{name} is {'maximised' if stored.metrics[name].maximise else 'minimised'} there"
