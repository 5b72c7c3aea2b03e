"""The file of measurements keeps what other programs wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchfile import describe_machine, write


def record(method: str, ms: float) -> dict[str, object]:
    return {
        "architecture": "ws", "batch_size": 1, "method": method, "ms_per_model_step": ms, "gflops": 1.0,
    }  # fmt: skip


def test_a_second_writer_keeps_the_first_ones_sections_and_replaces_equal_records(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    write(path, [record("eager", 2.0), record("core", 0.2)], {"n": 5, "hardware": {"cores": 2}})
    write(path, [record("core", 0.1)], {"service": {"sqlite_ms": 30}})
    content = json.loads(path.read_text("utf-8"))
    assert content["records"] == [record("eager", 2.0), record("core", 0.1)]
    assert (content["n"], content["hardware"], content["service"]) == (5, {"cores": 2}, {"sqlite_ms": 30})
    assert [entry.name for entry in tmp_path.iterdir()] == ["bench.json"]


@pytest.mark.parametrize("text", ["no json", "[1, 2]"])
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"bench\.json: "):
        write(path, [], {})
    assert path.read_text("utf-8") == text


def test_the_machine_and_the_versions_are_told() -> None:
    assert describe_machine().keys() == {"hardware", "versions"}
    assert describe_machine()["hardware"]["processor"]
