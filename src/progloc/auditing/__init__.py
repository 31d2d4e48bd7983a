"""What an answer rested on, and whether the picture of it may be believed."""

from progloc.auditing.audit import audit, late_layers
from progloc.auditing.report import Audit, Cost
from progloc.auditing.verdict import NOT_FAITHFUL, SUPPORTED, TOO_LITTLE, VERDICTS, WEAK

__all__ = ["NOT_FAITHFUL", "SUPPORTED", "TOO_LITTLE", "VERDICTS", "WEAK", "Audit", "Cost", "audit", "late_layers"]
