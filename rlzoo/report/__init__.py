"""Statistics, pictures and tables of results. It knows arrays, not algorithms."""

from rlzoo.report.plots import curves, heatmap, scatter, sensitivity
from rlzoo.report.record import Figure, record, returns_figures
from rlzoo.report.scenes import animate
from rlzoo.report.sinks import series
from rlzoo.report.statistics import Interval, conditional_value_at_risk, interval, iqm, paired, value_at_risk
from rlzoo.report.tables import grids, risks, table

__all__ = [
    "Figure",
    "Interval",
    "animate",
    "conditional_value_at_risk",
    "curves",
    "grids",
    "heatmap",
    "interval",
    "iqm",
    "paired",
    "record",
    "returns_figures",
    "risks",
    "scatter",
    "sensitivity",
    "series",
    "table",
    "value_at_risk",
]
