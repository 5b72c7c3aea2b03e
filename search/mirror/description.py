"""Describes a study in optuna-dashboard: by attributes, and by a note in Markdown.

The note is stored in the format of `optuna_dashboard.save_note`, so that studies can be created without
optuna-dashboard: in the study's system attributes, with the text in pieces under `dashboard:note_str:N` and an
increasing version under `dashboard:note_ver`. A note that a person has edited is left as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pairsearch.studies.definition import Definition
from pairsearch.studies.note import note
from pairsearch.studies.problem import Traits

NOTE_VERSION = "dashboard:note_ver"
NOTE_PIECE = "dashboard:note_str:"
# The dashboard's name for the axis of values. Optuna's metric names would also rename the column of its data frames.
OBJECTIVE_NAMES = "dashboard:objective_names"
# optuna-dashboard's limit for one piece of a note, in characters.
PIECE_LENGTH = 2045
# SHA-256 of the last note that was written here; a note with another digest was edited by a person.
OURS = "pairsearch:note_sha256"


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
    """Return the system attributes for the metric and the note of optuna-dashboard, beside those that are known."""
    named: dict[str, Any] = {OBJECTIVE_NAMES: [definition.metric]}
    before, body = stored_note(known), note(definition, traits)
    if before == body or (before and known.get(OURS) != _digest(before)):
        return named
    pieces = [body[start : start + PIECE_LENGTH] for start in range(0, len(body), PIECE_LENGTH)]
    pieces += [""] * (_pieces(known) - len(pieces))
    written = {f"{NOTE_PIECE}{index}": piece for index, piece in enumerate(pieces)}
    return named | written | {OURS: _digest(body), NOTE_VERSION: int(known.get(NOTE_VERSION, 0)) + 1}


def stored_note(attributes: Mapping[str, Any]) -> str:
    """Return the note in a study's system attributes; empty if there is none."""
    return "".join(str(attributes.get(f"{NOTE_PIECE}{index}", "")) for index in range(_pieces(attributes)))


def _pieces(attributes: Mapping[str, Any]) -> int:
    return sum(key.startswith(NOTE_PIECE) for key in attributes)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
