"""What a user's problem says of the machines that it needs reaches the commands."""

from __future__ import annotations

from project import Project

NEEDING = """
from pairsearch import OneByOne

class Mine(OneByOne):
    worker_bytes = {bytes}

    def fit(self, params, run, report):
        report(1, loss=params["x"])
"""


def test_run_warns_of_memory_where_a_problem_says_what_its_workers_take(on_sqlite: Project) -> None:
    on_sqlite.write(NEEDING.format(bytes=0), problem="mine.py:Mine", epochs=1)
    assert on_sqlite.create().traits.worker_bytes == 0
    on_sqlite.write(NEEDING.format(bytes=2**50), problem="mine.py:Mine", epochs=1)
    ended = on_sqlite.run("run", "mine.toml", "--workers", "1")
    assert ended.code == 0, ended.err
    assert ended.err.startswith("note: memory may not hold 1 workers: ")
    assert "each takes some 1048576.0 GiB" in ended.err
    # Another figure makes no other study.
    assert on_sqlite.study().traits.worker_bytes == 2**50
    on_sqlite.write(NEEDING.format(bytes=1), problem="mine.py:Mine", epochs=1, allow_changed_files=True)
    again = on_sqlite.run("create", "mine.toml")
    assert again.code == 0, again.err
    assert on_sqlite.study().traits.worker_bytes == 1
