"""Audits: what a model's answer rested on, and whether that picture can be believed."""

from progloc.lazy import exports

_MODULES = {
    "Account": "account",
    "Audit": "schema",
    "Cost": "schema",
    "NOT_FAITHFUL": "verdict",
    "SUPPORTED": "verdict",
    "TOO_LITTLE": "verdict",
    "VERDICTS": "verdict",
    "WEAK": "verdict",
    "audit": "auditing",
    "late_layers": "auditing",
}

__all__ = list(_MODULES)
__getattr__, __dir__ = exports(__name__, _MODULES)
