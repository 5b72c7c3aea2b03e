"""The comparison counts what became of points by what they wrote; its program runs, kills and rewrites its page."""

from __future__ import annotations

import json
import os
from pathlib import Path

import compared
import comparison
import pytest
from compared import Log

NOBODY = 2**22 + 1  # No process of Linux has such a number.


def test_points_are_counted_by_what_they_wrote(tmp_path: Path) -> None:
    path = tmp_path / "log"
    own = os.getpid()
    lines = (
        f"begin 1.0 {own} 0 0",
        f"begin 1.0 {NOBODY} 0 1",
        f"end 1.2 {own} 0 0",
        f"begin 1.3 {own} 0 1",
    )
    path.write_text("\n".join(lines), "utf-8")
    log = Log(path)
    assert (len(log.begun), log.ended) == (3, [(1.2, own, (0, 0))])
    assert (log.at_work(), log.trained_twice()) == (own, 0)
    path.write_text(
        "\n".join((*lines, f"end 1.5 {own} 0 1", f"begin 1.6 {own} 0 0", f"end 1.8 {own} 0 0")), "utf-8"
    )
    log = Log(path)
    assert (log.at_work(), log.trained_twice()) == (None, 1)
    assert Log(tmp_path / "absent").begun == []


@pytest.mark.soak
def test_a_small_comparison_kills_counts_and_rewrites_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comparison, "KILLS", (0.1, 0.2))
    monkeypatch.setattr(compared, "DEAD", 1)

    def settle(side: int, seconds: float) -> None:
        """Tell points what they need, in this test alone, and leave this process its cores."""
        told = {compared.SIDE: side, compared.SECONDS: seconds, compared.LOG: "", "OMP_NUM_THREADS": 1}
        for name, value in told.items():
            monkeypatch.setenv(name, str(value))

    monkeypatch.setattr(comparison, "settle", settle)
    monkeypatch.setattr(comparison, "installed", lambda system: system.module != "ray.tune")
    output, page = tmp_path / "bench.json", tmp_path / "page.md"
    page.write_text(f"before\n{comparison.BEGIN}\nold\n{comparison.END}\nafter\n", "utf-8")
    options = ("--systems", "pairsearch-sqlite", "ray", "--repeats", "0", "--killed", "1", "--side", "2")
    comparison.main([*options, "--seconds", "0.3", "--output", str(output), "--page", str(page)])
    found = json.loads(output.read_text("utf-8"))["comparison"]
    [run] = found["systems"]["pairsearch-sqlite"]["killed"]
    assert (run["kills"], run["lost"], run["trained_twice"], run["running"]) == (2, 0, 0, 0)
    assert run["started_again"] == 1
    assert run["cut"] >= 2
    text = page.read_text("utf-8")
    assert "old" not in text
    assert "| pairsearch, SQLite | 0 | 0 |" in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "ray: left out: ray.tune is not installed" in capsys.readouterr().out
