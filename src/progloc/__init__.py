"""progloc: progressive localisation for language models.

A transformer's attention is penalised for looking outside a token's block, weakly in early layers and strongly in late
ones, so that the layers that decide can be read, at a price in perplexity that is measured.
"""

from progloc.attention import log_masses
from progloc.auditing import Audit, audit
from progloc.blocks import Partitioner, register_partitioner
from progloc.config import LocalityConfig
from progloc.dialling import dial
from progloc.errors import ProglocError
from progloc.measures import measure, register_measure
from progloc.model import delocalize, load, localize
from progloc.schedules import Schedule, register_schedule
from progloc.training import LocalistTrainer

__all__ = [
    "Audit",
    "LocalistTrainer",
    "LocalityConfig",
    "Partitioner",
    "ProglocError",
    "Schedule",
    "audit",
    "delocalize",
    "dial",
    "load",
    "localize",
    "log_masses",
    "measure",
    "register_measure",
    "register_partitioner",
    "register_schedule",
]
