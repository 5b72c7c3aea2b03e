"""What people read, on terminals and pipes that are not UTF-8, closed or full."""

from __future__ import annotations

import codecs
import subprocess
import sys
from pathlib import Path

import programs
import pytest
import tiny

from pairsearch.search.cli.streams import PLAIN, plain

DIGITS = ("--data", "digits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study."""
    made = tmp_path_factory.mktemp("streams")
    tiny.write_toml(made / "tiny.toml", title="first ≤ second, naïve")
    assert programs.run(made, "create", "tiny.toml", *DIGITS).code == 0
    return made


def told(folder: Path, command: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command line of the shell, as a process of its own."""
    return subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m pairsearch {command}'],
        cwd=folder,
        env=programs.environment(**variables),
        capture_output=True,
        check=False,
    )


def test_what_an_encoding_lacks_is_shown_in_plain_characters(folder: Path) -> None:
    """As the interpreter sets its streams up; the next test's are set up as it does."""
    shown = told(folder, "status", PYTHONIOENCODING="latin-1")
    assert (shown.returncode, shown.stderr) == (0, b"")
    lines = shown.stdout.decode("ascii").splitlines()
    assert "| -           |" in lines[3]
    assert len({len(line) for line in lines}) == 1
    refused = told(folder, "status größer≤", PYTHONIOENCODING="ascii")
    assert (refused.returncode, refused.stderr.count(b"\n")) == (2, 1)


def test_a_whole_evaluation_keeps_its_table(folder: Path) -> None:
    shown = programs.run(folder, "evaluate", "tiny", "--paper", "--no-models", PYTHONIOENCODING="latin-1")
    assert "has no [paper] table" in shown.complaint
    worked = programs.run(folder, "worker", "tiny.toml", "--max-trials", "1", PYTHONIOENCODING="ascii")
    assert worked.code == 0
    shown = programs.run(folder, "evaluate", "tiny", "--no-models", "--rounds", "2", PYTHONIOENCODING="ascii")
    assert (shown.code, shown.err) == (0, "")
    assert "mean +- sample standard deviation" in shown.out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "iso8859-15", "cp1252", "koi8-r"])
def test_every_plain_form_fits_every_encoding(encoding: str) -> None:
    text = "".join(PLAIN) + "━⠋\U0001f600é"
    assert plain(text, encoding).encode(encoding)
    assert plain("naïve – ≤", "latin-1") == "naïve - <="
    assert plain(text, "utf-8") == text
    with pytest.raises(UnicodeDecodeError):
        codecs.lookup_error("pairsearch.plain")(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text"))


@pytest.mark.parametrize("command", ["status", "status --json", "--help"])
def test_a_full_standard_output_is_one_line(folder: Path, command: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    shown = told(folder, f"{command} > /dev/full")
    assert (shown.returncode, shown.stderr.count(b"\n")) == (1, 1), shown.stderr
    assert shown.stderr.startswith(b"error: standard output cannot be written to (No space left on device)")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_reason_not_to_work(folder: Path, closed: str) -> None:
    assert told(folder, f"status {closed}").returncode == 0
    if closed != ">&-":
        assert told(folder, f"status nonsense {closed}").returncode == 2
