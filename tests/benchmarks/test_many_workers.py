"""The programs that measure many workers and large studies run to their end, small here, on a server of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import growth
import pytest
import scale

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("whole", [(), ("--whole",)], ids=["folds apart", "folds together"])
def test_simulated_workers_train_and_none_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: tuple[str, ...]
) -> None:
    output = tmp_path / "bench.json"
    small = ("--workers", "4", "--processes", "2", "--hold", "1", "--duration", "5", "--output", str(output))
    monkeypatch.setattr(sys, "argv", ["scale.py", *small, *whole])
    scale.main()
    found = json.loads(output.read_text("utf-8"))["scale 4"]
    assert {"claim", "store"} <= found["calls"].keys()
    assert found["kept"]["runs"] == found["kept"]["distinct_runs"] > 0
    assert found["statements"]


def test_a_larger_study_is_measured_beside_a_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "bench.json"
    monkeypatch.setattr(
        sys, "argv", ["growth.py", "--configurations", "100", "1000", "--output", str(output)]
    )
    growth.main()
    small, large = json.loads(output.read_text("utf-8"))["growth"]
    assert (small["jobs"], large["jobs"]) == (1000, 10_000)
    for found in (small, large):
        assert min(value for name, value in found.items() if name.endswith("_ms")) > 0
        assert any("pairsearch_jobs_claim" in line for line in found["plan"])
