"""What goes where: results on standard output, alone with --json; progress as lines in a log; no colours."""

from __future__ import annotations

import io
import json
from pathlib import Path

import programs
import pytest
import tiny
from rich.console import Console

from pairsearch.search.cli.progress import SearchProgress
from pairsearch.search.cli.terminal import console
from pairsearch.search.results.progress import Progress

DIGITS = ("--data", "digits")


def progress(covered: int) -> Progress:
    return Progress("tiny", "val_loss", 8, {"finished": covered, "pending": 8 - covered}, None, {}, 0.0)


def test_quiet_leaves_results_and_errors_and_json_nothing_but_json(tmp_path: Path) -> None:
    tiny.write_toml(tmp_path / "tiny.toml", paper=tiny.PAPER)

    def run(*arguments: str) -> str:
        ended = programs.run(tmp_path, *arguments)
        assert (ended.code, ended.err) == (0, ""), ended
        return ended.out

    assert run("create", "tiny.toml", "--quiet", *DIGITS) == ""
    made = programs.run(
        tmp_path, "create", "tiny.toml", "--json", "--data", "auto", "--data-dir", "tiny.toml"
    )
    assert json.loads(made.out) == [{"study": "tiny", "created": False, "inserted": 0, "restored": 0}]
    assert made.err == "tiny: was there, 0 configurations inserted\n"
    assert run("worker", "tiny", "--quiet", "--max-trials", "2") == ""
    # Both are searched already: no worker has to be started.
    found = run("run", "tiny", "--quiet", "--limit", "2")
    assert found.splitlines()[0].strip() == "tiny: best by val_loss, means over folds after the last epoch"
    [study] = json.loads(run("run", "tiny", "--json", "--limit", "2"))
    assert (study["study"], study["covered"], len(study["top"])) == ("tiny", 2, 2)
    assert [entry["rank"] for entry in study["top"]] == [1, 2]
    evaluated = programs.run(tmp_path, "evaluate", "tiny", "--json", "--rounds", "1")
    assert json.loads(evaluated.out)[0]["rounds"] == 1
    assert "1 trained in" in evaluated.err
    assert run("evaluate", "tiny", "--quiet", "--rounds", "1").startswith("Table 1")
    assert run("export", "tiny", "--quiet") == ""
    exported = json.loads(run("export", "tiny", "--json"))
    folds, rounds, epochs = 2 * 2, 1, 2
    assert {entry["table"]: entry["rows"] for entry in exported} == {
        "configurations": 8,
        "folds": folds,
        "rounds": rounds,
        "curves": (folds + rounds) * epochs,
        "provenance": 1,
        "studies": 1,
    }
    refused = programs.run(tmp_path, "export", "nothing", "--quiet")
    assert "study nothing is not in" in refused.complaint


@pytest.mark.parametrize("terminal", ["log", "dumb"])
def test_a_log_and_a_dumb_terminal_get_plain_lines_and_not_too_many(terminal: str) -> None:
    now = [0.0]
    environment = {"TERM": "dumb"} if terminal == "dumb" else {}
    screen = Console(
        file=io.StringIO(), force_terminal=terminal == "dumb" or None, width=200, _environ=environment
    )
    with SearchProgress(screen, clock=lambda: now[0]) as shown:
        for second, covered in enumerate([0, 1, 2, 2, 3]):
            now[0] = float(second)
            shown.update([progress(covered)])
        shown.update([progress(3)], last=True)
    written = str(screen.file.getvalue())
    assert "\x1b" not in written
    assert [line.partition(",")[0] for line in written.splitlines()] == ["tiny: 0/8 done", "tiny: 3/8 done"]


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    for colourless in (False, True):
        if colourless:
            monkeypatch.setenv("NO_COLOR", "1")
        console().print("a warning", style="yellow")
        assert ("\x1b[33m" in capsys.readouterr().out) != colourless


def test_the_shell_can_complete_commands(tmp_path: Path) -> None:
    script = programs.run(tmp_path, "--show-completion", "bash", _PAIRSEARCH_COMPLETE="source_bash")
    assert (script.code, "complete -o default -F _pairsearch_completion pairsearch" in script.out) == (
        0,
        True,
    )
    answer = programs.run(
        tmp_path, _PAIRSEARCH_COMPLETE="complete_bash", COMP_WORDS="pairsearch ev", COMP_CWORD="1"
    )
    assert answer.out.split() == ["evaluate"]
