"""A wire between a worker and PostgreSQL that breaks where a test says.

PostgreSQL's protocol (its documentation, "Frontend/Backend Protocol") sends COMMIT as a simple query; a connection that
breaks before that message arrives has committed nothing, and one that breaks after has, and cannot know.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from enum import Enum
from pathlib import Path

from sqlalchemy.engine import URL, make_url

COMMIT = b"COMMIT\0"


class Break(Enum):
    """Where a connection breaks."""

    BEFORE_COMMIT = "before the server gets the COMMIT"
    AFTER_COMMIT = "after the server committed, before the client hears of it"


class Wire:
    """Forwards TCP connections to a server's Unix socket, and breaks a share of them at a COMMIT.

    Attributes:
        broken: connections broken so far.
    """

    def __init__(self, server: Path, where: Break, share: float) -> None:
        self.server = server
        self.where = where
        self.share = share
        self.broken = 0
        # Of chance, for a fixed beat may always meet the same step of the work; the same in every run.
        self._random = random.Random(0)  # noqa: S311 - no secret
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, direct: str) -> str:
        """The URL of a database by way of this wire."""
        given = make_url(direct)
        through: URL = URL.create(
            given.drivername,
            username=given.username,
            host="127.0.0.1",
            port=self._listener.getsockname()[1],
            database=given.database,
        )
        return through.render_as_string(hide_password=False)

    def close(self) -> None:
        """Break all connections and take no more."""
        for end in [self._listener, *self._open]:
            _shut(end)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self.server))
            self._open += [client, server]
            lost = threading.Event()
            threading.Thread(target=self._to_server, args=(client, server, lost), daemon=True).start()
            threading.Thread(target=self._to_client, args=(server, client, lost), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if COMMIT in data and self._is_due():
                    if self.where is Break.BEFORE_COMMIT:
                        break
                    lost.set()
                server.sendall(data)
        _shut(client)
        _shut(server)

    def _to_client(self, server: socket.socket, client: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                # The server answers when it has committed.
                if lost.is_set():
                    break
                client.sendall(data)
        _shut(client)
        _shut(server)

    def _is_due(self) -> bool:
        with self._lock:
            due = self._random.random() < self.share
            self.broken += due
            return due


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
