"""Training: the two stages, the Trainer subclass, and one run from configuration to result."""
