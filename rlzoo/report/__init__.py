"""Statistics, pictures and tables of results. It knows arrays, not algorithms."""

import importlib
from typing import TYPE_CHECKING, Any

from rlzoo.report.record import Figure, record, returns_figures
from rlzoo.report.sinks import series
from rlzoo.report.statistics import (
    Interval,
    conditional_value_at_risk,
    hierarchical,
    interval,
    iqm,
    paired,
    value_at_risk,
)
from rlzoo.report.tables import grids, risks, table

if TYPE_CHECKING:
    from rlzoo.report.plots import curves, heatmap, scatter, sensitivity
    from rlzoo.report.scenes import animate

__all__ = [
    "Figure",
    "Interval",
    "animate",
    "conditional_value_at_risk",
    "curves",
    "grids",
    "heatmap",
    "hierarchical",
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

# What draws is loaded when it is asked for: matplotlib takes longer than all of this package.
_DRAWN = {name: "plots" for name in ("curves", "heatmap", "scatter", "sensitivity")} | {"animate": "scenes"}


def __getattr__(name: str) -> Any:
    if name in _DRAWN:
        return getattr(importlib.import_module(f"rlzoo.report.{_DRAWN[name]}"), name)
    if name in _DRAWN.values():
        return importlib.import_module(f"rlzoo.report.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_DRAWN, *_DRAWN.values()})
