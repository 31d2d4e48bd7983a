"""What is measured of attention, and the pass that measures it."""

from progloc.lazy import exports

_MODULES = {
    "Figures": "report",
    "LayerFigures": "report",
    "Measure": "definitions",
    "Ratio": "definitions",
    "Report": "report",
    "Rows": "rows",
    "measure": "measuring",
    "measures": "definitions",
    "register_measure": "definitions",
}

__all__ = list(_MODULES)
__getattr__, __dir__ = exports(__name__, _MODULES)
