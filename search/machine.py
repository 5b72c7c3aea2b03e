"""What this process may use of its machine: cores and memory, by affinity mask and control groups (cgroup v1 and v2).

A container of one CPU on a host of 64 sees all 64; what it may use stands in files of its control groups, each of which
is bound by all those above it. Every function takes the root of the file system, for the tests' own trees. What cannot
be read sets no limit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")

# What a worker takes for itself, beside the libraries that all of them share: its anonymous memory. For the paper's
# four studies its peak was 455 to 468 MiB (`Anonymous` in /proc/PID/smaps_rollup; Linux, torch 2.14).
WORKER_BYTES = 480 * 2**20


def cores(root: Path = ROOT) -> int:
    """How many processes can compute at once: what the affinity mask and the quotas of the control groups allow.

    A part of a core counts as one: workers that share it lose nothing, and one that is left out would.
    """
    return max(1, math.ceil(min([_affinity(), *_quotas(root)])))


def available_memory(root: Path = ROOT) -> int | None:
    """Bytes that new processes can take, None where the system does not say."""
    return min((value for value in (_free(root), *_headroom(root)) if value is not None), default=None)


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
        # `max`, or -1, is none.
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            yield int(quota) / int(period)


def _free(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


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
    """Bytes of cached files that a control group counts as used, and gives up when they are needed."""
    fields = dict(line.split(maxsplit=1) for line in _text(group / "memory.stat").splitlines() if " " in line)
    value = fields.get("total_inactive_file", fields.get("inactive_file", "0"))
    return int(value) if value.isdecimal() else 0


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control groups for a controller, each with all those above it.

    A container sees its own group at the top, while /proc may name it as the host does: what is not there is passed.
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
        # `..` leads out of what a container sees.
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
