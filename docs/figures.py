"""Figures of the pages, made from the published results."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import plotly.graph_objects as go

FIGURES: Mapping[str, Callable[[], go.Figure]] = {}
