"""progloc: progressive localisation for language models.

A transformer's attention is penalised for looking outside a token's block, weakly in early layers and strongly in late
ones, so that the layers that decide can be read, at a price in perplexity that is measured.
"""

from typing import TYPE_CHECKING

from progloc.lazy import exports, follow_moves

if TYPE_CHECKING:
    from progloc.accounts.account import Account as Account
    from progloc.accounts.account import account as account
    from progloc.accounts.auditing import audit as audit
    from progloc.accounts.schema import Audit as Audit
    from progloc.accounts.source_cache import SourceCache as SourceCache
    from progloc.attention.isolation import READER as READER
    from progloc.attention.isolation import SHARED as SHARED
    from progloc.attention.masses import log_masses as log_masses
    from progloc.blocks import Partitioner as Partitioner
    from progloc.blocks import register_partitioner as register_partitioner
    from progloc.config import LocalityConfig as LocalityConfig
    from progloc.dialling import dial as dial
    from progloc.errors import ProglocError as ProglocError
    from progloc.isolating import isolate as isolate
    from progloc.loading import load as load
    from progloc.measures.definitions import register_measure as register_measure
    from progloc.measures.measuring import measure as measure
    from progloc.model import delocalize as delocalize
    from progloc.model import localize as localize
    from progloc.schedules import Schedule as Schedule
    from progloc.schedules import register_schedule as register_schedule
    from progloc.training.trainer import LocalistTrainer as LocalistTrainer

_MODULES = {
    "Account": "accounts.account",
    "Audit": "accounts.schema",
    "LocalistTrainer": "training.trainer",
    "LocalityConfig": "config",
    "Partitioner": "blocks",
    "ProglocError": "errors",
    "READER": "attention.isolation",
    "SHARED": "attention.isolation",
    "Schedule": "schedules",
    "SourceCache": "accounts.source_cache",
    "account": "accounts.account",
    "audit": "accounts.auditing",
    "delocalize": "model",
    "dial": "dialling",
    "isolate": "isolating",
    "load": "loading",
    "localize": "model",
    "log_masses": "attention.masses",
    "measure": "measures.measuring",
    "register_measure": "measures.definitions",
    "register_partitioner": "blocks",
    "register_schedule": "schedules",
}
"""Where a public name is defined; it is loaded with the name (PEP 562), for torch and transformers take seconds."""

__all__ = list(_MODULES)
if not TYPE_CHECKING:  # which knows the names, and then finds those that are misspelt
    __getattr__, __dir__ = exports(__name__, _MODULES)
follow_moves()
