"""The figures, one kind a module."""

from pcbench.report.figures.bars import Bar, grouped, stacked
from pcbench.report.figures.choices import Spot, choices
from pcbench.report.figures.forest import Estimated, forest
from pcbench.report.figures.heat import heat
from pcbench.report.figures.lengths import Curve, Point, Scale, against_length
from pcbench.report.figures.order import Run, in_order
from pcbench.report.figures.scatter import Dot, scatter

__all__ = [
    "Bar",
    "Curve",
    "Dot",
    "Estimated",
    "Point",
    "Run",
    "Scale",
    "Spot",
    "against_length",
    "choices",
    "forest",
    "grouped",
    "heat",
    "in_order",
    "scatter",
    "stacked",
]
