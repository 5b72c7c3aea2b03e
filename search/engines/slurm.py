"""Workers on Slurm: an array of tasks from the shipped script, by Slurm's own commands."""

from __future__ import annotations

import re
import socket
import subprocess
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar

from pairsearch.search.common.errors import InputError
from pairsearch.search.engines.contract import Count, Engine, EngineError, Order
from pairsearch.search.workers import program

SCRIPT = Path(program.MAIN).parent / "studies" / "deploy" / "worker.slurm"
TIMEOUT = 120.0
"""Seconds after which a command counts as not answered; Slurm's own give up after some 20."""
REFUSED = re.compile(
    "array|chdir|clusters|export|export-file|get-user-env|help|parsable|test-only|usage|version|wait|wrap"
)
"""Options of sbatch by which it would not do what is asked of it here."""
WAITING = re.compile("PENDING|CONFIGURING|REQUEUED|REQUEUE_(FED|HOLD)|RESV_DEL_HOLD|SPECIAL_EXIT")
"""States of tasks that have no process. One that is COMPLETING may have some yet, and may come back."""
FORGOTTEN = re.compile("invalid job id|already (completing|completed|finished)", re.IGNORECASE)
PASSED_ON = (
    *("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "NUMBA_CACHE_DIR"),
    *("HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL"),
    *("PGPASSFILE", "PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"),
    *("SLURM_CONF", "SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_QOS", "SBATCH_RESERVATION"),
)
"""Variables of this process that tasks get too. Slurm stores and shows them, so none may be secret."""


class Slurm(Engine):
    """Submits one array for each call; its id is Slurm's.

    Args:
        address: the path of a `slurm.conf`; None for the one that Slurm's commands find.
        options: long options of sbatch without their hyphens; an empty value is none.
    """

    name: ClassVar[str] = "slurm"

    def __init__(self, address: str | None, options: Mapping[str, str]) -> None:
        if address is not None and not Path(address).is_file():
            raise InputError(f"--at {address}: no such file: expected the path of a slurm.conf")
        super().__init__(address and str(Path(address).absolute()), options)
        if refused := [name for name in options if REFUSED.fullmatch(name)]:
            raise InputError(
                f"--option {refused[0]}: pairsearch decides this one: expected another long option of sbatch, such as "
                "time=04:00:00"
            )
        self._arrays: dict[str, tuple[Path, int]] = {}

    @property
    def local(self) -> bool:
        """Whether all nodes are this machine; raises EngineError where Slurm does not answer."""
        nodes = self._call("sinfo", "-h", "-N", "-o", "%n").split()
        return {node.partition(".")[0] for node in nodes} == {socket.gethostname().partition(".")[0]}

    def check(self, order: Order, workers: int) -> None:
        """Have sbatch try the submission."""
        self._sbatch(order, workers, "--test-only")

    def submit(self, order: Order, workers: int) -> dict[str, int]:
        native = self._sbatch(order, workers, "--parsable").strip()
        if not native.isdecimal():
            raise EngineError(f"sbatch printed {native!r}: expected the id of a job")
        self._arrays[native] = order.folder, workers
        return {native: workers}

    def count(self, ids: Collection[str]) -> dict[str, Count]:
        """Count the tasks of arrays; one that is requeued is pending."""
        found = Counter(
            (task.partition("_")[0], WAITING.fullmatch(state) is not None)
            for task, state in self._tasks(ids).items()
        )
        return {one: Count(pending=found[one, True], running=found[one, False]) for one in ids}

    def stop(self, ids: Collection[str]) -> None:
        """Cancel tasks that wait, and send SIGTERM to the scripts of those that run."""
        alive = [one for one, count in self.count(ids).items() if count.alive]
        if not alive:
            return
        # Nobody requeues them from now on: neither their script at a time limit, nor Slurm after a preemption.
        self._call("scontrol", "update", f"JobId={','.join(alive)}", "Requeue=0", forgiving=True)
        self._call("scancel", "--state=PENDING", *alive, forgiving=True)
        self._call("scancel", "--batch", "--signal=TERM", *alive, forgiving=True)

    def last_line(self, ids: Collection[str]) -> str:
        """Return the last line of the log, of the tasks that have ended, that was written last."""
        alive = self._tasks(ids)
        output = self.options.get("output", "pairsearch-%A_%a.log")
        logs = [
            folder / output.replace("%A", one).replace("%a", str(task))
            for one, (folder, workers) in self._arrays.items()
            for task in range(1, workers + 1)
            if one in ids and f"{one}_{task}" not in alive
        ]
        written = [log for log in logs if log.is_file()]
        if not written:
            return ""
        with max(written, key=lambda log: log.stat().st_mtime).open("rb") as file:
            return program.last_line(file)

    def _tasks(self, ids: Collection[str]) -> dict[str, str]:
        """Return the state of each task that has not ended; not by `sacct`, which many clusters do not have."""
        if not ids:
            return {}
        lines = self._call(
            "squeue", "-h", "-r", "-j", ",".join(ids), "-o", "%i %T", forgiving=True
        ).splitlines()
        return dict(line.split(maxsplit=1) for line in lines)

    def _sbatch(self, order: Order, workers: int, *how: str) -> str:
        own = [f"--{name}={value}" if value else f"--{name}" for name, value in self.options.items()]
        # sbatch gets few variables itself and exports all of them: values given by `--export` stand in its arguments.
        fixed = [*how, f"--array=1-{workers}", f"--chdir={order.folder}", "--export=ALL"]
        words = ["--", *program.command(*order.words)]
        return self._call(
            "sbatch", f"--job-name={order.name}", *own, *fixed, str(SCRIPT), *words, more=order.environment
        )

    def _call(self, *command: str, more: Mapping[str, str] | None = None, forgiving: bool = False) -> str:
        """Return what a command prints; `forgiving` takes jobs that have ended, or are forgotten, for no error."""
        known = program.environment()
        environment = {name: known[name] for name in PASSED_ON if name in known} | dict(more or {})
        if self.address is not None:
            environment["SLURM_CONF"] = self.address
        try:
            done = subprocess.run(  # noqa: S603 - the user's own Slurm
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
                check=False,
            )
        except OSError as error:
            raise EngineError(
                f"cannot run {command[0]} ({error.strerror}): --on slurm runs where Slurm's commands are on PATH, such "
                "as a login node"
            ) from None
        except subprocess.TimeoutExpired:
            raise EngineError(f"{command[0]} has not answered in {TIMEOUT:.0f} s") from None
        message = "; ".join(line.strip() for line in done.stderr.splitlines() if line.strip())
        if done.returncode and not (forgiving and FORGOTTEN.search(message)):
            raise EngineError(message or f"{command[0]} ended with exit code {done.returncode}")
        return done.stdout
