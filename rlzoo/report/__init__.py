"""Statistics, pictures and tables of results. It knows arrays, not algorithms."""

from rlzoo.report.plots import curves, heatmap, sensitivity
from rlzoo.report.record import Figure, record, returns_figures
from rlzoo.report.sinks import series
from rlzoo.report.statistics import Interval, interval, iqm
from rlzoo.report.tables import table

__all__ = [
    "Figure",
    "Interval",
    "curves",
    "heatmap",
    "interval",
    "iqm",
    "record",
    "returns_figures",
    "sensitivity",
    "series",
    "table",
]
