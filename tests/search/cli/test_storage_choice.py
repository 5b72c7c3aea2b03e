"""Where the storage URL comes from: option, environment, or a file that the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import programs
import pytest

from pairsearch.search.common.errors import StorageError, WorkError
from pairsearch.search.setup.storage_url import LARGEST_FILE, read_storage_file
from pairsearch.search.workers import program
from pairsearch.search.workers.pool import Pool

MADE = "no database at {}: `pairsearch create` makes one"


@pytest.mark.parametrize(
    "content",
    [
        b"sqlite:///a.db",
        b"sqlite:///a.db\n",
        b"sqlite:///a.db\r\n",
        b"\xef\xbb\xbfsqlite:///a.db\n",
    ],
)
def test_a_file_may_end_in_a_newline(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "url").write_bytes(content)
    assert read_storage_file(tmp_path / "url") == "sqlite:///a.db"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"   \n", "is empty"),
        (b"open-sesame\xff", "is not UTF-8 text"),
        (b"\xff\xfeo\0p\0e\0n\0-\0s\0e\0s\0a\0m\0e\0", "is not UTF-8 text"),
        (b"sqlite:///a.db\nopen-sesame\n", "has several lines or control characters"),
        (b"open-sesame\n\n", "has several lines or control characters"),
        (b"open-sesame\0", "has several lines or control characters"),
        (b"\x1b[31mopen-sesame", "has several lines or control characters"),
        (b"open-sesame" + b"x" * LARGEST_FILE, f"is larger than {LARGEST_FILE} bytes"),
    ],
)
def test_a_file_that_holds_no_url_is_named_and_not_repeated(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "url").write_bytes(content)
    complaint = programs.run(tmp_path, "status", PAIRSEARCH_STORAGE_FILE="url").complaint
    assert f"PAIRSEARCH_STORAGE_FILE names 'url', which {message}" in complaint
    assert "sesame" not in complaint


@pytest.mark.parametrize("file", ["absent", ".", "/dev/zero", "x" * 5000, "a\nb"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, file: str) -> None:
    complaint = programs.run(tmp_path, "status", PAIRSEARCH_STORAGE_FILE=file).complaint
    assert "PAIRSEARCH_STORAGE_FILE names" in complaint
    assert complaint.isprintable()


def test_a_file_nobody_may_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # An administrator, as in a container of CI, may read every file.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match=r"cannot be read \(Permission denied\)"):
        read_storage_file(tmp_path / "url")


def test_the_file_is_read_where_nothing_else_names_a_database(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("sqlite:///from-file.db\n")
    ended = programs.run(tmp_path, "status", PAIRSEARCH_STORAGE_FILE="url")
    assert MADE.format(tmp_path / "from-file.db") in ended.complaint
    both = programs.run(
        tmp_path, "status", PAIRSEARCH_STORAGE="sqlite:///b.db", PAIRSEARCH_STORAGE_FILE="url"
    )
    assert "PAIRSEARCH_STORAGE and PAIRSEARCH_STORAGE_FILE are both set" in both.complaint
    for empty in ({"PAIRSEARCH_STORAGE": ""}, {"PAIRSEARCH_STORAGE": "sqlite:///from-file.db"}):
        kept = {"PAIRSEARCH_STORAGE_FILE": "" if empty["PAIRSEARCH_STORAGE"] else "url"}
        assert (
            MADE.format(tmp_path / "from-file.db")
            in programs.run(tmp_path, "status", **(empty | kept)).complaint
        ), "an empty variable is one that is not set"


def test_the_option_goes_before_the_environment(tmp_path: Path) -> None:
    given = {"PAIRSEARCH_STORAGE": "sqlite:///b.db", "PAIRSEARCH_STORAGE_FILE": "absent"}
    ended = programs.run(tmp_path, "status", "--storage", "sqlite:///option.db", **given)
    assert MADE.format(tmp_path / "option.db") in ended.complaint


def test_help_reads_neither_variable(tmp_path: Path) -> None:
    ended = programs.run(
        tmp_path,
        "status",
        "--help",
        PAIRSEARCH_STORAGE="postgresql://ann:open-sesame@host/db",
        PAIRSEARCH_STORAGE_FILE="absent",
    )
    assert (ended.code, ended.err) == (0, "")
    assert "sesame" not in ended.out


def test_workers_of_a_run_get_the_url_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, str]] = []

    class Process:
        def __init__(self, _: list[str], *, env: dict[str, str], **rest: object) -> None:
            given.append(env)

        def poll(self) -> int:
            return 0

        def wait(self, timeout: float | None = None) -> int:
            return 0

    monkeypatch.setenv("PAIRSEARCH_STORAGE_FILE", "url")
    monkeypatch.setattr(subprocess, "Popen", Process)
    with Pool(["b1"], 2, "sqlite:///pool.db"):
        pass
    assert [env["PAIRSEARCH_STORAGE"] for env in given] == ["sqlite:///pool.db"] * 2
    assert not any("PAIRSEARCH_STORAGE_FILE" in env for env in given), "both would be refused"


def test_workers_that_cannot_all_be_started_are_not_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []

    class Process:
        pid = 1

        def __init__(self, *_: object, **__: object) -> None:
            if len(started) == 2:
                raise OSError(24, "Too many open files")
            started.append(self)
            self.ended = False

        def poll(self) -> int | None:
            return 0 if self.ended else None

        def terminate(self) -> None:
            self.ended = True

        def wait(self, timeout: float | None = None) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Process)
    with pytest.raises(WorkError, match="cannot start 3 workers: Too many open files: ask for fewer"):
        Pool(["b1"], 3, "sqlite:///pool.db").__enter__()
    assert [process.ended for process in started] == [True, True]


def test_of_a_log_without_an_end_the_last_lines_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    prints = "import sys; print(*range(300_000), 'the last line', sep='\\n', file=sys.stderr); sys.stdin.read(); {}"
    ends = ["sys.exit(1)", "print('x' * 10**6 + ' and more', file=sys.stderr); sys.exit(3)"]
    commands = [[sys.executable, "-c", prints.format(end)] for end in ends]
    monkeypatch.setattr(program, "command", lambda *_: commands.pop(0))
    with Pool([], 2, "sqlite:///pool.db") as pool:
        logs = [worker.log for worker in pool.workers]
        for log in logs:
            programs.wait_for(lambda log=log: program.last_line(log) == "the last line", "all lines")
        assert pool.alive() == 2
        assert [os.fstat(log.fileno()).st_size for log in logs] == [program.TAIL_BYTES] * 2
        pool._writing.close()
        programs.wait_for(lambda: not pool.alive(), "their ends")
        first, second = pool.complaints()
    assert first.endswith("ended (exit code 1): the last line")
    assert second.endswith("x and more")
    assert len(second) < 1100


def test_workers_that_do_not_end_when_they_are_asked_to_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = "import signal, sys; sys.stdin.read()"
    deaf = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', file=sys.stderr)"
    commands = [[sys.executable, "-c", f"{deaf}; {waits}"], [sys.executable, "-c", waits]]
    monkeypatch.setattr(program, "command", lambda *_: commands.pop(0))
    monkeypatch.setattr("pairsearch.search.workers.pool.STOP_SECONDS", 0.2)
    pool = Pool([], 2, "sqlite:///pool.db")
    with pool:
        programs.wait_for(lambda: program.last_line(pool.workers[0].log) == "deaf", "its handler")
        pool.stop()
        assert [worker.process.returncode for worker in pool.workers] == [-9, -15]
        assert [line.partition("ended ")[2] for line in pool.complaints()] == [
            "(killed by signal 9): deaf",
            "(killed by signal 15)",
        ]
    assert all(worker.log.closed for worker in pool.workers)
