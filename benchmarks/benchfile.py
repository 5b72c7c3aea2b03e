"""What the programs share: lines that they print, and the file `bench.json`, to which several add their sections."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pairsearch.search.common.files import whole_file

Record = Mapping[str, Any]

# Two records with the same values here are the same measurement; the newer one stays.
_KEYS = ("architecture", "batch_size", "method")


def write(path: Path, records: Sequence[Record], sections: Mapping[str, Any]) -> None:
    """Add records and sections to the file, which is made if necessary.

    Args:
        path: the JSON file, which is written as a whole or not at all.
        records: measurements with the keys architecture, batch_size, method, ms_per_model_step, gflops; each
            replaces the one with the same architecture, batch size and method, and the others stay.
        sections: top-level entries to set; the others stay.

    Raises:
        ValueError: the file exists and is not a JSON object.
        InputError: the folder is missing or not writable.
    """
    content: dict[str, Any] = {}
    if path.exists():
        try:
            content = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not a JSON file ({error}); move it away or name another") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path}: expected a JSON object, got a {type(content).__name__}")
    kept = {tuple(record.get(key) for key in _KEYS): record for record in content.get("records", [])}
    kept.update({tuple(record.get(key) for key in _KEYS): dict(record) for record in records})
    content.update(sections)
    content["records"] = list(kept.values())
    with whole_file(path) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def describe_machine() -> dict[str, Any]:
    """Return the sections `hardware` and `versions`."""
    return {
        "hardware": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numba", "llvmlite", "numpy")},
        },
    }


def _processor() -> str:
    """Return the processor's name, on Linux with family and model."""
    table = Path("/proc/cpuinfo")
    if table.exists():
        lines = (line.partition(":") for line in table.read_text("utf-8").splitlines())
        fields = {name.strip(): value.strip() for name, _, value in lines}
        named = (f"family {fields.get('cpu family')}", f"model {fields.get('model')}")
        return f"{fields.get('model name', platform.processor())} ({', '.join(named)})"
    return platform.processor() or platform.machine()
