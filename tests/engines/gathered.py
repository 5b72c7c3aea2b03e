"""Which engines there are tests of."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

from pairsearch.search.engines.contract import Engine

MakeEngine = Callable[..., Engine]
Started = Callable[[str], MakeEngine]
BEHIND = {
    "slurm": "slurm_cluster",
    "ray": "ray_head",
    "dask": "dask_scheduler",
    "k8s": "kubernetes_api",
}
"""The module beside this one that starts what is behind an engine, by `engine(folder)`: a context manager that yields
what makes an `Engine` of options. It may have `REFUSED`: options that the engine refuses, and words of its refusal."""
PASSWORD = f"sesame-{uuid.uuid4().hex}"
"""The password in the URL of `postgresql_url`, of this test process alone: others run beside it, and show theirs."""
EXECUTORS = ("threads", "processes")
THERE = tuple(name for name, module in BEHIND.items() if (Path(__file__).parent / f"{module}.py").exists())
