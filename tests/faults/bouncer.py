"""A PgBouncer before a server, in the mode that shares connections most: each transaction gets any of a few."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from availability import unavailable
from server import Server
from sqlalchemy.engine import URL, make_url

READY_SECONDS = 30
CLIENTS = 500


@contextmanager
def bouncing(server: Server, direct: str, folder: Path, connections: int) -> Iterator[str]:
    """A URL of the same database by way of a PgBouncer that opens so many connections to the server."""
    program = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if program is None:
        unavailable("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    given = make_url(direct)
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n{given.database} = host={server.socket.parent} user={given.username}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = transaction\ndefault_pool_size = {connections}\nmax_client_conn = {CLIENTS}\n"
        "ignore_startup_parameters = extra_float_digits\n",
        encoding="utf-8",
    )
    # It refuses to be root, and needs to reach the server's socket; its settings go in by standard input, for it may
    # not be able to look into the folder.
    owner = pwd.getpwuid(server.socket.stat().st_uid).pw_name
    other = ["--user", owner] if os.geteuid() == 0 else []
    with settings.open("rb") as given_settings:
        process = subprocess.Popen(
            [program, "--quiet", *other, "/dev/stdin"],
            stdin=given_settings,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        end = time.monotonic() + READY_SECONDS
        while True:
            assert process.poll() is None, process.communicate()
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < end, "pgbouncer does not listen"
                time.sleep(0.05)
        through = URL.create(
            given.drivername, username=given.username, host="127.0.0.1", port=port, database=given.database
        )
        yield through.render_as_string(hide_password=False)
    finally:
        process.terminate()
        process.communicate()
