"""The sample behind the estimate of the whole grid's time includes slow trials, and the program runs."""

from __future__ import annotations

import json
from pathlib import Path

import core_hours
import numpy as np
import pytest
import tiny
from core_hours import Part, Trial, draw, report, studies_to_measure, summary
from training import FLOP_PER_PAIR


def test_every_stratum_of_the_paper_s_grid_has_trials_with_and_without_decay_and_at_the_highest_rate() -> (
    None
):
    parts = draw(studies_to_measure(), 2, np.random.default_rng(0))
    assert sum(len(part.population) for part in parts) == 1408
    strata = {part.stratum for part in parts}
    assert len(strata) == 16
    for stratum in strata:
        drawn = [one for part in parts if part.stratum == stratum for one in part.drawn]
        assert len(set(drawn)) == len(drawn) == 6
        assert sum(one.params["weight_decay"] == 0 for one in drawn) == 2
        assert (
            sum(one.params["weight_decay"] > 0 and one.params["learning_rate"] == 1e-2 for one in drawn) == 2
        )
    for part in parts:
        assert set(part.drawn) <= set(part.population)
    again = draw(studies_to_measure(), 2, np.random.default_rng(0))
    assert [part.drawn for part in again] == [part.drawn for part in parts]
    other = draw(studies_to_measure(), 2, np.random.default_rng(1))
    assert [part.drawn for part in other] != [part.drawn for part in parts]


def test_the_summary_expands_cpu_seconds_and_names_a_slow_trial() -> None:
    definition = tiny.definition()
    parts = draw([definition], 2, np.random.default_rng(0))
    slow = next(one for part in parts for one in part.drawn if one.params["batch_size"] == 10)

    def trial(part: Part, configuration: object) -> Trial:
        cpu = 20.0 if configuration == slow else 10.0
        return Trial(part, configuration, cpu, 2 * cpu)  # type: ignore[arg-type]

    trials = [trial(part, one) for part in parts for one in part.drawn]
    section = summary(parts, trials, gflops=2.0)
    # Eight configurations in six parts of one or two are all trained; one takes twice as long.
    assert section["core_hours"] == round(90 / 3600, 4)
    assert section["core_hours_95"] == [section["core_hours"]] * 2
    dense = 8 * FLOP_PER_PAIR["b1"] * 15 * 2 * 2 / 2e9
    assert section["times_dense"] == round(90 / dense, 3)
    assert section["wall_over_cpu"] == 2.0
    ratios = {row["batch_size"]: row["slowest_over_median"] for row in section["strata"]}
    assert ratios == {10: 2.0, 25: 1.0}
    text = "\n".join(report(section))
    assert f"above 1.3: {slow.key}" in text
    assert text.count("above 1.3") == 1
    assert "other programs were at work here" in text


@pytest.mark.parametrize("quick", [(), ("--quick",)], ids=["whole", "quick"])
def test_the_program_adds_its_section_to_the_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    quick: tuple[str, ...],
) -> None:
    studies = [tiny.definition(), tiny.definition(name="other")]
    monkeypatch.setattr(core_hours, "studies_to_measure", lambda: studies)
    output = tmp_path / "bench.json"
    output.write_text('{"service": {"n": 1}}')
    core_hours.main(["--output", str(output), "--data-dir", str(tmp_path), *quick])
    content = json.loads(output.read_text())
    assert content["service"] == {"n": 1}
    found = content["grid"]
    assert (found["data"], found["whole_trials"], found["trials"]) == ("digits", not quick, 16)
    assert found["core_hours"] >= 0
    printed = capsys.readouterr().out
    assert printed.startswith("data: digits: chosen because MNIST is not at hand")
    assert "the whole grid, 16 configurations: " in printed


def test_bad_input_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench.json").write_text("no JSON")
    with pytest.raises(SystemExit, match="2"):
        core_hours.main(["--output", str(tmp_path / "bench.json"), "--data-dir", str(tmp_path)])
    assert "bench.json: not a JSON file" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        core_hours.main(["--output", str(tmp_path / "absent" / "bench.json"), "--data-dir", str(tmp_path)])
    assert "cannot write to folder" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        core_hours.main(["--each", "1"])
    assert "argument --each: 1 given; expected at least 2" in capsys.readouterr().err
