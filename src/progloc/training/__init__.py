"""Training: the two stages, the Trainer subclass, and one run from configuration to result."""

from progloc.lazy import exports

_MODULES = {
    "LocalistTrainer": "trainer",
    "StageTwoEarlyStopping": "callbacks",
    "Stages": "stages",
    "training_arguments": "trainer",
}

__all__ = list(_MODULES)
__getattr__, __dir__ = exports(__name__, _MODULES)
