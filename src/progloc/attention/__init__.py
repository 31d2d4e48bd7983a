"""Attention that also says where it looked."""

from progloc.lazy import exports

_MODULES = {
    "CHANNELS": "masses",
    "EXTRA_CHANNELS": "masses",
    "IMPLEMENTATION": "plugin",
    "MARGIN_CHANNELS": "margins",
    "MEASURED_CHANNELS": "masses",
    "PLAIN": "plugin",
    "REFERENCE": "plugin",
    "log_masses": "masses",
    "reference_attention": "reference",
}

__all__ = list(_MODULES)
__getattr__, __dir__ = exports(__name__, _MODULES)
