"""Training: the two stages, the Trainer subclass, and one run from configuration to result."""

from progloc.training.stages import Stages
from progloc.training.trainer import LocalistTrainer, StageTwoEarlyStopping, training_arguments

__all__ = ["LocalistTrainer", "StageTwoEarlyStopping", "Stages", "training_arguments"]
