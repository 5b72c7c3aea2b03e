"""Every processor gives the same bits: digests of short jobs agree, and so do kernels of eight and sixteen lanes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import golden
import pytest
from benchfile import describe_machine
from numba.core.registry import cpu_target

from pairsearch.models.kernels.emit import LANES, WIDE

HERE = Path(__file__).parent


def test_short_jobs_give_the_bits_on_file() -> None:
    """If this fails on a processor with AVX2 and FMA, the promise of equal bits is broken there."""
    different = golden.differences()
    assert not different, f"other bits on {describe_machine()['hardware']['processor']}: {different}"


@pytest.mark.skipif(LANES != WIDE, reason="this processor has no vectors of sixteen lanes")
def test_kernels_of_eight_lanes_give_the_bits_on_file_too() -> None:
    """Numba keeps them beside those of this processor: its name and its features are in their keys."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    narrow = [f"-{name[1:]}" if "avx512" in name or "avx10" in name else name for name in features.split(",")]
    program = (
        "import golden, pairsearch.models.kernels.emit as emit\n"
        "print('lanes', emit.LANES)\n"
        "print('different', golden.differences())\n"
    )
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": ",".join(narrow),
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["lanes 8", "different []"], done.stderr
