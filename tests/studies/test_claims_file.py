"""Files of claims are read, and invalid ones are refused in one line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pairsearch.studies import claims_file
from pairsearch.studies.claims_file import Compare, parse, resolve
from pairsearch.studies.definition import read, shipped
from pairsearch.studies.errors import DefinitionError

FIRST, SECOND = {"study": "a", "paper": True}, {"study": "b", "best": "loss", "where": {"x": 1}}
COMPARE = {"kind": "compare", "figure": "error", "first": FIRST, "second": SECOND}


def claims(*evidence: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "claim": [{"statement": "A beats B.", "source": "ours", "evidence": list(evidence) or [COMPARE]}]
    } | fields


def complaint(raw: dict[str, Any]) -> str:
    with pytest.raises(DefinitionError) as raised:
        parse(raw, "mine.toml")
    (line,) = str(raised.value).splitlines()
    assert line.startswith("mine.toml: ")
    return line.removeprefix("mine.toml: ")


def test_a_file_says_which_studies_and_which_complete_grids_it_needs() -> None:
    within = {"kind": "in_set", "studies": ["c", "a"], "configuration": {"paper": True}}
    found = parse(claims(COMPARE, within, rounds=5), "mine.toml")
    assert found.studies() == ["b", "a", "c"]
    assert found.grids() == {"a", "b", "c"}
    assert found.rounds_of(found.claim[0]) == 5
    only = found.only(1).claim[0].evidence[0]
    assert isinstance(only, Compare)
    assert (only.reads, only.margin, only.decides) == ("better", 0.0, True)
    with pytest.raises(DefinitionError, match="there is no claim 2: the file has 1"):
        found.only(2)


def test_definitions_lie_beside_the_file_and_other_studies_are_names() -> None:
    assert resolve("mine.toml", Path("claims/all.toml")) == "claims/mine.toml"
    assert resolve("b1", Path("claims/all.toml")) == "b1"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({}, "claim: Field required"),
        (claims(rounds=0), "rounds: Input should be greater than or equal to 1, got 0"),
        (claims(runds=3), "runds: unknown key: remove it or mend its spelling"),
        (claims(COMPARE | {"kind": "guess"}), "claim 1, evidence 1: Input tag 'guess' found"),
        (claims({"figure": "error"}), "claim 1, evidence 1: Unable to extract tag"),
        (
            claims(COMPARE | {"margin": -1}),
            "claim 1, evidence 1: margin: Input should be greater than or equal to 0, got -1",
        ),
        (
            claims(COMPARE | {"first": {"study": "a"}}),
            "claim 1, evidence 1: first: expected one of paper = true, best = FIGURE and params = {...}",
        ),
        (
            claims(COMPARE | {"first": {"study": "a", "paper": True, "best": "loss"}}),
            "claim 1, evidence 1: first: expected one of paper = true, best = FIGURE and params = {...}",
        ),
        (
            claims(COMPARE | {"first": FIRST | {"where": {"x": 1}}}),
            "claim 1, evidence 1: first: where: expected with best only",
        ),
        (
            claims(COMPARE | {"second": SECOND | {"changed": {"x": 1}}}),
            "claim 1, evidence 1: second: changed: expected with paper = true only",
        ),
        (
            claims(COMPARE | {"studies": ["a", "b"]}),
            "claim 1, evidence 1: expected either studies, or a study in each configuration",
        ),
        (claims(COMPARE | {"pooled": True}), "claim 1, evidence 1: pooled: expected several studies"),
        (
            claims(COMPARE, COMPARE | {"second": {"study": "b", "params": {"x": [1]}}}),
            "claim 1, evidence 2: second.params.x: expected a boolean, an integer",
        ),
        (
            claims({"kind": "effect", "figure": "f", "studies": ["a"], "parameter": "x", "values": [1]}),
            "claim 1, evidence 1: values: Value should have at least 2 items after validation, not 1, got [1]",
        ),
        (claims(COMPARE | {"decides": False}), "claim 1: evidence: expected at least one that decides"),
        (claims(title="two\nlines"), "title: expected a name or a line of text, got 'two\\nlines'"),
    ],
)
def test_what_is_wrong_is_one_line_that_counts_claims_as_people_do(raw: dict[str, Any], words: str) -> None:
    assert complaint(raw).startswith(words)
    assert "more)" not in complaint(raw)


def test_a_file_that_is_no_file_of_claims_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(DefinitionError, match=r"mine\.toml: cannot be read \(No such file"):
        claims_file.read(path)
    path.write_text("claim = ")
    with pytest.raises(DefinitionError, match=r"mine\.toml: not valid TOML"):
        claims_file.read(path)


def test_the_shipped_claims_are_the_eight_and_name_studies_parameters_and_values_that_exist() -> None:
    path = claims_file.find(claims_file.PAPER)
    found = claims_file.read(path)
    assert len(found.claim) == 8
    definitions = {
        study: read(shipped().get(study) or Path(resolve(study, path))) for study in found.studies()
    }
    for claim in found.claim:
        for evidence in claim.evidence:
            for study, choice in evidence.choices():
                choices = definitions[study].grid.choices
                assert not choice.paper or definitions[study].paper is not None
                assert choice.changed.keys() <= choices.keys()
                for name, value in choice.where.items():
                    assert repr(value) in map(repr, choices[name]), (study, name, value)
    assert tomllib.loads(path.read_text(encoding="utf-8"))["rounds"] == found.rounds == 30
