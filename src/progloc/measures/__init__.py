"""What is measured of attention, and the pass that measures it."""

from progloc.measures.definitions import Measure, Ratio, measures, register_measure
from progloc.measures.measuring import measure
from progloc.measures.report import Figures, LayerFigures, Report
from progloc.measures.rows import Rows

__all__ = [
    "Figures",
    "LayerFigures",
    "Measure",
    "Ratio",
    "Report",
    "Rows",
    "measure",
    "measures",
    "register_measure",
]
