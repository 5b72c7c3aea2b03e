"""What belongs to this machine: how it trains, and how many cores and how much memory this process may use.

Limits are those of the affinity mask and of control groups (cgroup v1 and v2). A container limited to one CPU on a
host with 64 sees all 64. Its limits are in the files of its control groups, and those of every parent group apply too.
A file that cannot be read sets no limit. The functions take the root of the file system as an argument, so that tests
can make their own.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

ROOT = Path("/")
# A lease survives a few lost heartbeats, and the configuration of a dead worker is free again after a minute.
LEASE_SECONDS = 60.0
# A worker may hold a finished result.
PATIENCE_SECONDS = 300.0


def cores(root: Path = ROOT) -> int:
    """Count the cores that this process may use, by its affinity mask and the quotas of its control groups.

    The number is rounded up: workers that share a fraction of a core lose nothing, while leaving it idle would.
    """
    return max(1, math.ceil(min([_affinity(), *_quotas(root)])))


def available_memory(root: Path = ROOT) -> int | None:
    """Return how many bytes new processes can use, or None where the system does not say."""
    return min((value for value in (_free(root), *_headroom(root)) if value is not None), default=None)


@dataclass(frozen=True, slots=True)
class Machine:
    """How this machine trains. No result depends on it.

    Args:
        device: the device to train on, as PyTorch names it.
        settings: settings of this machine for the problems, such as where their data are.
        lease: seconds without a heartbeat after which a worker's configuration is free again.
        patience: seconds for which a worker repeats its calls while the database is unavailable.
        threads: how many rounds of an evaluation are trained at a time.
        checkpoints: folder for large checkpoints, which workers share; None for none. It is absolute, as `models` is:
            problems may change the working directory.
        models: folder for models that are too large for the database, likewise.
        gpus: the GPU of each worker that is started here (`search.common.gpus`); empty where all see the same.
    """

    device: str = "cpu"
    settings: Mapping[str, str] = field(default_factory=dict)
    lease: float = LEASE_SECONDS
    patience: float = PATIENCE_SECONDS
    threads: int = field(default_factory=cores)
    checkpoints: Path | None = None
    models: Path | None = None
    gpus: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """Device, settings and folders as words of a command line."""
        settings = [word for name, value in self.settings.items() for word in ("--set", f"{name}={value}")]
        folders = {"--checkpoints": self.checkpoints, "--models": self.models}
        named = [word for option, folder in folders.items() if folder for word in (option, str(folder))]
        return ["--device", self.device, *settings, *named]


ONE_CORE = Machine(threads=1)


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    for group in _groups(root, "cpu"):
        quota, period, *_ = *_text(group / "cpu.max").split(), "", ""
        if not quota:
            quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
        # `max` (version 2) and -1 (version 1) mean that there is no quota.
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            yield int(quota) / int(period)


def _free(root: Path) -> int | None:
    found = re.search(r"^MemAvailable:\s*(\d+)", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _headroom(root: Path) -> Iterator[int]:
    for group in _groups(root, "memory"):
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            bound, taken = _text(group / limit), _text(group / used)
            if bound.isdecimal() and taken.isdecimal():
                yield max(0, int(bound) - int(taken) + _reclaimable(group))


def _reclaimable(group: Path) -> int:
    """Return how many bytes of a control group's used memory are cached files, which the kernel frees at need."""
    found: dict[str, str] = dict(re.findall(r"^(\w+) (\d+)$", _text(group / "memory.stat"), re.MULTILINE))
    return int(found.get("total_inactive_file", found.get("inactive_file", "0")))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups for a controller, each followed by its parents.

    Inside a container the mounted tree begins at the container's own group, while /proc may show the host's path:
    folders that do not exist are skipped.
    """
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            tops = [mounted, mounted / "unified"]
        elif controller in names.split(","):
            tops = [mounted / names, mounted / controller]
        else:
            continue
        # `..` would lead out of the tree that a container sees.
        inside = PurePosixPath(*[part for part in PurePosixPath(path).parts if part not in ("/", "..")])
        for top in tops:
            for folder in (inside, *inside.parents):
                if (top / folder).is_dir():
                    yield top / folder


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
