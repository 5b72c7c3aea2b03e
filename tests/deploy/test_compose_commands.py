"""The command lines of the compose file, run against a PostgreSQL that asks for passwords full of pitfalls."""

from __future__ import annotations

import json

import pytest
from stack import PITFALLS, Stack

# One server for all of them.
pytestmark = pytest.mark.xdist_group("deploy")


def test_every_command_line_is_understood(stack: Stack) -> None:
    for service in ("create", "worker", "dashboard", "evaluate"):
        done = stack.run(service, "--help")
        assert (done.code, done.err) == (0, "")
        name = stack.compose["services"][service]["command"].split()[0]
        assert done.out.startswith(f"Usage: pairsearch {name}")


def test_studies_are_the_words_of_one_variable_and_arguments_take_precedence(stack: Stack) -> None:
    several = stack.run("create", command="create", PAIRSEARCH_STUDIES="b1 nothing")
    assert several.err.startswith("error: unknown study 'nothing'")
    one = stack.run("create", command="create something", PAIRSEARCH_STUDIES="b1 nothing")
    assert one.err.startswith("error: unknown study 'something'")
    none = stack.run("create", command="create", PAIRSEARCH_STUDIES="")
    assert (none.code, "Missing argument 'STUDY'" in none.err) == (2, True)


def test_work_look_and_evaluate(stack: Stack) -> None:
    worked = stack.run("worker")
    assert worked.code == 0, worked.err
    assert "worker ends: 2 finished, 0 handed back, 0 superseded, 0 failed" in worked.out
    # The dashboard's role may read, and `status` is content with that.
    looked = stack.run("dashboard", command="status --json")
    (status,) = json.loads(looked.out)
    assert (status["study"], status["covered"], status["total"]) == ("tiny", 2, 2)
    evaluated = stack.run("evaluate", "--json")
    assert evaluated.code == 0, evaluated.err
    (row,) = json.loads(evaluated.out)
    assert (row["study"], row["rounds"]) == ("tiny", 2)
    for done in (worked, looked, evaluated):
        assert PITFALLS not in done.out + done.err


def test_a_wrong_password_is_refused_in_one_line_that_does_not_repeat_it(stack: Stack) -> None:
    wrong = stack.scratch / "wrong"
    wrong.write_text("postgresql://pairsearch_worker:open%20sesame@/pairsearch\n", encoding="utf-8")
    done = stack.run("worker", command="status", PAIRSEARCH_STORAGE_FILE=str(wrong))
    assert done.code == 2
    assert "password authentication failed" in done.err
    assert "sesame" not in done.err
    assert done.err.count("\n") == 1
