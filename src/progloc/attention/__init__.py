"""Attention that also says where it looked."""

from progloc.attention.margins import MARGIN_CHANNELS
from progloc.attention.masses import CHANNELS, EXTRA_CHANNELS, MEASURED_CHANNELS, log_masses
from progloc.attention.plugin import IMPLEMENTATION, PLAIN, REFERENCE, Probe
from progloc.attention.reference import reference_attention

__all__ = [
    "CHANNELS",
    "EXTRA_CHANNELS",
    "IMPLEMENTATION",
    "MARGIN_CHANNELS",
    "MEASURED_CHANNELS",
    "PLAIN",
    "REFERENCE",
    "Probe",
    "log_masses",
    "reference_attention",
]
