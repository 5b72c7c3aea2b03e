"""The main job: search the paper's four studies, evaluate the best of each and the paper's own, give Table 1."""

from __future__ import annotations

# The first configurations of each study's order, the paper's among them (`search.ledger.studies.layout_order`): few
# enough that the four studies and their evaluation take about five minutes on two cores.
QUICK_LIMIT = 8


def study_names() -> list[str]:
    """The paper's studies, in the order of its Table 1."""
    return ["b1", "b2", "ws", "wsal"]
