"""What `pairsearch reproduce` searches and evaluates: the paper's four studies."""

from __future__ import annotations

# With `--quick`, only the first configurations of each study's order are searched, which contain the paper's
# (`studies.seeds.layout_order`). With this number, search and evaluation take about five minutes on two cores.
QUICK_LIMIT = 8


def study_names() -> list[str]:
    """Return the names of the paper's studies, in the order of its Table 1."""
    return ["b1", "b2", "ws", "wsal"]
